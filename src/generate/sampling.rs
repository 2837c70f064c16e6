//! The built-in way to draw a token: penalties and biases, top-k, top-p, min-p, temperature.
//!
//! A draw over the whole vocabulary needs neither a sort of it nor all of its logits: the best few hundred and the sum of all
//! odds decide almost always. The draw goes through the tokens from the most likely on; only where it falls beyond those that
//! are known, more are looked at.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::backend::MOST_CANDIDATES;
use crate::error::{Error, Result};
use crate::generate::sampler::{Candidates, Draw, History, Logits, Need, Sampler, Totals};
use crate::ranking::{Candidate, Ranking, total_odds};

mod penalties;

use penalties::Penalties;

/// How the next token is drawn from the logits. The steps run in this order: penalties and biases, top-k, top-p, min-p,
/// temperature, draw.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits before the draw; 0 takes the most likely token. Default 0.7.
    pub temperature: f32,
    /// Keeps the `k` most likely tokens; 0 keeps all. Default 40.
    pub top_k: usize,
    /// Keeps the fewest most likely tokens whose probabilities reach this sum; 1 keeps all. Default 1.
    /// (Nucleus sampling, arXiv 1904.09751.)
    pub top_p: f32,
    /// Keeps tokens at least this fraction as likely as the most likely one; 0 keeps all. Default 0. (arXiv 2407.01082.)
    pub min_p: f32,
    /// Makes tokens of the last `repetition_window` less likely: positive logits are divided by it, negative ones
    /// multiplied. 1 does nothing. Default 1.1. (CTRL, arXiv 1909.05858.)
    pub repetition_penalty: f32,
    /// How many of the latest tokens, prompt included, the penalty looks at. Default 64.
    pub repetition_window: usize,
    /// Taken off the logit of every token that was made, the prompt not included, −2 to 2. Default 0. (As in OpenAI's API.)
    pub presence_penalty: f32,
    /// Taken off the logit of every token that was made, once for each time, −2 to 2. Default 0. (As in OpenAI's API.)
    pub frequency_penalty: f32,
    /// Added to the logits of these tokens. −∞ rules a token out.
    pub logit_bias: Vec<(u32, f32)>,
    /// Starts the random stream: the same seed gives the same tokens on every run and with any number of threads.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.7,
            top_k: 40,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.1,
            repetition_window: 64,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}

impl Sampling {
    /// The most likely token each time, without a penalty.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, repetition_penalty: 1.0, ..Self::default() }
    }

    /// A sampler for one sequence that grows to at most `most` tokens, of a vocabulary of this many.
    ///
    /// # Errors
    /// [`Error::Input`] naming the first value that is out of range.
    pub fn sampler(&self, most: usize, vocabulary: usize) -> Result<Box<dyn Sampler>> {
        Ok(Box::new(Sampled::new(self, most, vocabulary)?))
    }

    fn check(&self, vocabulary: usize) -> Result<()> {
        let checks = [
            ("temperature", self.temperature, 0.0, 100.0, "0 to 100"),
            ("top-p", self.top_p, f32::MIN_POSITIVE, 1.0, "above 0 and at most 1"),
            ("min-p", self.min_p, 0.0, 1.0, "0 to 1"),
            ("repetition penalty", self.repetition_penalty, 0.01, 100.0, "0.01 to 100, where 1 does nothing"),
            ("presence penalty", self.presence_penalty, -2.0, 2.0, "−2 to 2"),
            ("frequency penalty", self.frequency_penalty, -2.0, 2.0, "−2 to 2"),
        ];
        for (what, value, least, most, bounds) in checks {
            if !(least..=most).contains(&value) {
                return Err(Error::Input(format!("a {what} of {value}; it must be {bounds}")));
            }
        }
        for &(id, bias) in &self.logit_bias {
            if id as usize >= vocabulary {
                return Err(Error::Input(format!("a logit bias for token {id}; the vocabulary has {vocabulary}")));
            }
            if bias.is_nan() || bias == f32::INFINITY {
                return Err(Error::Input(format!("a logit bias of {bias} for token {id}; it must be finite or −∞")));
            }
        }
        Ok(())
    }
}

/// The state of one sequence's draws.
struct Sampled {
    options: Sampling,
    penalties: Penalties,
    random: Xoshiro256PlusPlus,
    uniform: Option<f64>, // drawn, and not used yet: the draw that needed it was told too little
    ranking: Ranking,     // reused from token to token
}

/// How many times as many tokens are looked at where those before were too few.
const MORE: usize = 8;

impl Sampled {
    fn new(options: &Sampling, most: usize, vocabulary: usize) -> Result<Self> {
        options.check(vocabulary)?;
        let mut ranking = Ranking::new();
        // So that no later draw allocates.
        let most_kept = if options.top_k == 0 { vocabulary } else { options.top_k.min(vocabulary) };
        ranking.reserve(most_kept.max(MOST_CANDIDATES))?;
        Ok(Self {
            penalties: Penalties::new(options, most)?,
            random: Xoshiro256PlusPlus::seed_from_u64(options.seed),
            uniform: None,
            ranking,
            options: options.clone(),
        })
    }

    /// How many of the best tokens the draw is between; none for all.
    fn keep(&self) -> Option<usize> {
        match (self.options.temperature, self.options.top_k) {
            (0.0, _) => Some(1),
            (_, 0) => None,
            (_, k) => Some(k),
        }
    }

    /// Draws from the best tokens, which are all that the draw is between unless there are totals of more.
    fn draw_best(&mut self, best: Candidates<'_>, history: &History<'_>) -> Result<Draw> {
        self.penalties.note(history);
        self.ranking.begin(self.keep().unwrap_or(best.ids.len()));
        for (&id, &logit) in best.ids.iter().zip(best.logits) {
            self.ranking.offer(id, self.penalties.of(id, logit));
        }
        self.pick(best.totals)
    }

    /// Draws from all tokens.
    fn draw_all(&mut self, logits: &mut [f32], history: &History<'_>) -> Result<Draw> {
        self.penalties.note(history);
        self.penalties.apply(logits);
        if let Some(keep) = self.keep() {
            self.ranking.begin(keep);
            self.ranking.offer_all(logits);
            return self.pick(None);
        }
        let (mut totals, mut look_at) = (None, MOST_CANDIDATES);
        loop {
            self.ranking.begin(look_at.min(logits.len()));
            self.ranking.offer_all(logits);
            if look_at >= logits.len() {
                return self.pick(None);
            }
            let best = self.ranking.finish().first().map_or(f32::NEG_INFINITY, |best| best.logit);
            let temperature = self.options.temperature;
            let totals = *totals.get_or_insert_with(|| Totals {
                at_one: if self.options.top_p < 1.0 { total_odds(logits, best, 1.0) } else { 1.0 },
                at_temperature: if self.options.cuts() { 1.0 } else { total_odds(logits, best, 1.0 / temperature) },
            });
            match self.pick(Some(totals))? {
                Draw::NeedsAll => look_at = look_at.saturating_mul(MORE),
                drawn => return Ok(drawn),
            }
        }
    }

    /// Draws from what was ranked. With `totals`, those are the best of more.
    fn pick(&mut self, totals: Option<Totals>) -> Result<Draw> {
        let keep = self.keep();
        let candidates = self.ranking.finish();
        let best = *candidates.first().filter(|best| best.logit.is_finite()).ok_or_else(Error::not_finite)?;
        if keep == Some(1) {
            return Ok(Draw::Token(best.id));
        }
        let kept = match count_likely(candidates, &self.options, totals) {
            Some(kept) => kept,
            None if self.options.cuts() => return Ok(Draw::NeedsAll),
            None => candidates.len(),
        };
        let likely = &candidates[..kept];
        // 53 random bits: a uniform f64 in [0, 1).
        let random = &mut self.random;
        let uniform = self.uniform.take().unwrap_or_else(|| (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64);
        let total = totals.filter(|_| !self.options.cuts()).map(|totals| totals.at_temperature);
        match pick_likely(likely, self.options.temperature, uniform, total) {
            Some(id) => Ok(Draw::Token(id)),
            None => {
                self.uniform = Some(uniform);
                Ok(Draw::NeedsAll)
            }
        }
    }
}

impl Sampling {
    /// Whether top-p or min-p cut the unlikely tail.
    fn cuts(&self) -> bool {
        self.top_p < 1.0 || self.min_p > 0.0
    }
}

impl Sampler for Sampled {
    /// Penalties that only lower tokens do not hide the best: whatever is among the best `keep` after them had, before them,
    /// fewer than `keep` other tokens ahead of it, and at most all lowered ones besides. So the best `keep + lowered` hold it.
    /// What raises tokens may raise them from anywhere.
    fn needs(&self, history: &History<'_>) -> Need {
        let Some(lowered) = self.penalties.most_lowered(history) else { return Need::Logits };
        match self.keep() {
            Some(1) if lowered == 0 => Need::Best,
            Some(keep) if keep.saturating_add(lowered) <= MOST_CANDIDATES => Need::Candidates(keep + lowered),
            None if lowered == 0 => Need::Totals { candidates: MOST_CANDIDATES, temperature: self.options.temperature },
            _ => Need::Logits,
        }
    }

    fn draw(&mut self, logits: Logits<'_>, history: &History<'_>) -> Result<Draw> {
        match logits {
            Logits::Best(candidates) => self.draw_best(candidates, history),
            Logits::All(logits) => self.draw_all(logits, history),
        }
    }
}

/// How many of the candidates, best first, are left when top-p and min-p cut the unlikely tail, at temperature 1. At
/// least the best one stays. None if the cut lies beyond the candidates, which are the best of more if there are `totals`.
fn count_likely(candidates: &[Candidate], options: &Sampling, totals: Option<Totals>) -> Option<usize> {
    let best = candidates[0].logit;
    let mut kept = candidates.len();
    if options.top_p < 1.0 {
        let total = match totals {
            Some(totals) => totals.at_one,
            None => candidates.iter().map(|c| odds(c.logit, best, 1.0)).sum(),
        };
        let mut reached = 0.0;
        let likely = candidates.iter().take_while(|c| {
            let before = reached;
            reached += odds(c.logit, best, 1.0) / total;
            before < f64::from(options.top_p)
        });
        kept = likely.count().max(1);
        if kept == candidates.len() && reached >= f64::from(options.top_p) {
            // The last of them reached it: nothing beyond them is missing.
            return Some(count_at_least(&candidates[..kept], options.min_p));
        }
    }
    let left = count_at_least(&candidates[..kept], options.min_p);
    (totals.is_none() || left < candidates.len()).then_some(left)
}

/// How many are at least so likely, as a share of the first; at least one.
fn count_at_least(candidates: &[Candidate], min_p: f32) -> usize {
    match min_p > 0.0 {
        true => {
            let best = candidates[0].logit;
            candidates.partition_point(|c| odds(c.logit, best, 1.0) >= f64::from(min_p)).max(1)
        }
        false => candidates.len(),
    }
}

/// Draws one of the candidates by its probability at the temperature; `total` are the odds of all tokens, if the candidates
/// are the best of more. None if the draw falls on one of those.
fn pick_likely(candidates: &[Candidate], temperature: f32, uniform: f64, total: Option<f64>) -> Option<u32> {
    let best = candidates[0].logit;
    let odds = |candidate: &Candidate| odds(candidate.logit, best, temperature);
    let mut left = uniform * total.unwrap_or_else(|| candidates.iter().map(odds).sum());
    for candidate in candidates {
        left -= odds(candidate);
        if left < 0.0 {
            return Some(candidate.id);
        }
    }
    // Rounding can leave a crumb beyond the last candidate.
    total.is_none().then(|| candidates[candidates.len() - 1].id)
}

/// How likely a logit is, in units of the best one's probability.
fn odds(logit: f32, best: f32, temperature: f32) -> f64 {
    ((f64::from(logit) - f64::from(best)) / f64::from(temperature)).exp()
}

#[cfg(test)]
mod tests;
