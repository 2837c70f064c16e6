//! Prompts of wanted lengths, no two alike: a cache that knows one knows nothing of another.

use anyhow::{Context, ensure};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::server::Server;

const WORDS: &[&str] = &[
    "king", "daughter", "forest", "golden", "bird", "river", "old", "woman", "castle", "three", "brothers", "went",
    "and", "the", "of", "said", "once", "little", "house", "wolf", "mountain", "bread", "stone", "night", "morning",
    "long", "road", "away",
];

/// Random numbers of one seed.
pub struct Random(Xoshiro256PlusPlus);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// 0 to 1, without 1.
    pub fn share(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// 0 to `count`, without it.
    pub fn below(&mut self, count: usize) -> usize {
        (self.share() * count as f64) as usize
    }

    /// The time between two arrivals of which `rate` come in a second, as they come by themselves (a Poisson process).
    pub fn gap(&mut self, rate: f64) -> f64 {
        -(1.0 - self.share()).ln() / rate
    }
}

/// Makes texts of so many tokens.
pub struct Texts {
    pub random: Random,
    tokens_per_word: f64,
    /// Of a chat with an empty message.
    around: f64,
}

impl Texts {
    /// Learns from the server how long words are.
    pub fn new(server: &Server, seed: u64) -> anyhow::Result<Self> {
        const SAMPLE: usize = 200;
        let mut texts = Self { random: Random::new(seed), tokens_per_word: 0.0, around: 0.0 };
        let around = server.ids(&messages(""))?.len() as f64;
        let sample = server.ids(&messages(&texts.words(SAMPLE)))?.len() as f64;
        texts.around = around;
        texts.tokens_per_word = (sample - around) / SAMPLE as f64;
        ensure!(texts.tokens_per_word > 0.0, "words have tokens");
        Ok(texts)
    }

    fn words(&mut self, count: usize) -> String {
        (0..count).map(|_| WORDS[self.random.below(WORDS.len())]).collect::<Vec<_>>().join(" ")
    }

    /// A message of about so many tokens.
    pub fn message(&mut self, tokens: usize) -> String {
        let words = tokens as f64 / self.tokens_per_word;
        self.words((words.round() as usize).max(1))
    }

    /// A chat whose prompt has about so many tokens.
    pub fn chat(&mut self, tokens: usize) -> Value {
        let tokens = (tokens as f64 - self.around).max(1.0) as usize;
        messages(&self.message(tokens))
    }

    /// A chat of so many tokens at least, but hardly more, and its ids.
    pub fn chat_of(&mut self, server: &Server, tokens: usize) -> anyhow::Result<(Value, Vec<u32>)> {
        let mut chat = self.chat(tokens);
        let mut ids = server.ids(&chat)?;
        while ids.len() < tokens {
            let text = chat[0]["content"].as_str().context("a text")?.to_owned() + " " + &self.words(1);
            chat = messages(&text);
            ids = server.ids(&chat)?;
        }
        Ok((chat, ids))
    }
}

fn messages(text: &str) -> Value {
    json!([{ "role": "user", "content": text }])
}
