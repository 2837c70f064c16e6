//! What a request used, and how long that took.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sterna::generate::{Finish, Piece, Usage};

/// Tokens of one sequence.
#[derive(Clone, Copy, Default)]
struct Made {
    usage: Usage,
    ends: usize, // tokens that ended it and are no part of it
    reasoning: usize,
}

/// Tokens and times of all sequences of a request. Each prompt has `n` of them, one after the other, and is counted once.
pub struct Used {
    sequences: Vec<Made>,
    n: usize,
    begun: Instant,
    first: Option<Instant>,
    last: Instant,
}

impl Used {
    pub fn new(sequences: usize, n: usize) -> Self {
        let now = Instant::now();
        Self { sequences: vec![Made::default(); sequences], n, begun: now, first: None, last: now }
    }

    /// There is a slot.
    pub fn begin(&mut self) {
        self.begun = Instant::now();
    }

    /// What was made at this time.
    pub fn take(&mut self, number: usize, piece: &Piece, at: Instant) {
        self.last = at;
        self.first.get_or_insert(self.last);
        let sequence = &mut self.sequences[number];
        sequence.usage = piece.usage;
        sequence.ends = usize::from(matches!(piece.finish, Some(Finish::EndOfGeneration(_) | Finish::StopId(_))));
    }

    /// A token was of a thought.
    pub fn count_reasoning(&mut self, number: usize) {
        self.sequences[number].reasoning += 1;
    }

    /// A prompt that was read without making anything of it.
    pub fn set_prompt(&mut self, number: usize, tokens: usize) {
        self.sequences[number].usage.prompt = tokens;
    }

    /// Of all sequences together.
    pub fn total(&self) -> Usage {
        let firsts = || self.sequences.iter().step_by(self.n.max(1)).map(|sequence| sequence.usage);
        let all = || self.sequences.iter().map(|sequence| sequence.usage);
        let mut total = Usage::default();
        total.prompt = firsts().map(|usage| usage.prompt).sum();
        total.cached = firsts().map(|usage| usage.cached).sum();
        total.computed = all().map(|usage| usage.computed).sum();
        total.made = self.sequences.iter().map(|sequence| sequence.usage.made + sequence.ends).sum();
        total
    }

    /// As OpenAI tells it.
    pub fn json(&self) -> Value {
        let total = self.total();
        let reasoning: usize = self.sequences.iter().map(|sequence| sequence.reasoning).sum();
        json!({
            "prompt_tokens": total.prompt,
            "completion_tokens": total.made,
            "total_tokens": total.prompt + total.made,
            "prompt_tokens_details": { "cached_tokens": total.cached },
            "completion_tokens_details": { "reasoning_tokens": reasoning },
        })
    }

    /// As llama.cpp tells it.
    pub fn timings(&self) -> Value {
        let total = self.total();
        let first = self.first.unwrap_or(self.last);
        let (prompt, made) = (first - self.begun.min(first), self.last - first);
        let read = total.prompt - total.cached;
        // The first token of each sequence comes with its prompt.
        let after = total.made.saturating_sub(self.sequences.len());
        json!({
            "prompt_n": read,
            "prompt_ms": millis(prompt),
            "prompt_per_second": rate(read, prompt),
            "predicted_n": total.made,
            "predicted_ms": millis(made),
            "predicted_per_second": rate(after, made),
            "cache_n": total.cached,
        })
    }
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn rate(count: usize, time: Duration) -> f64 {
    match time.is_zero() {
        true => 0.0,
        false => (count as f64 / time.as_secs_f64() * 1e3).round() / 1e3,
    }
}
