//! Draws the next token of one sequence. Each sequence has its own random stream, so that what it says does not depend
//! on who shares its batch.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::engine::not_finite;
use crate::error::Result;
use crate::generate::Sampling;
use crate::ranking::{Candidate, Ranking};
use crate::transformer::MOST_CANDIDATES;

/// The state of one sequence's draws.
pub(super) struct Sampler {
    options: Sampling,
    random: Xoshiro256PlusPlus,
    ranking: Ranking, // reused from token to token
    recent: Vec<u32>, // the distinct tokens of the penalty's window, ascending; reused
}

/// What a draw needs to know of the logits, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// The most likely token alone, and no draw.
    Best,
    /// So many of the most likely tokens.
    Candidates(usize),
    /// All.
    Logits,
}

impl Sampler {
    /// A sampler for histories of at most `most` tokens.
    pub(super) fn new(options: &Sampling, most: usize) -> Result<Self> {
        options.check()?;
        let random = Xoshiro256PlusPlus::seed_from_u64(options.seed);
        let mut sampler = Self { options: options.clone(), random, ranking: Ranking::new(), recent: Vec::new() };
        // So that no later draw allocates. (One from all logits makes its room the first time.)
        sampler.ranking.reserve(MOST_CANDIDATES);
        sampler.recent.reserve(options.repetition_window.min(most));
        Ok(sampler)
    }

    /// What the draw after `history` needs.
    ///
    /// A penalty of 1 or more only lowers recent tokens. Whatever is among the best `keep` after it had, before it, fewer
    /// than `keep` other tokens ahead of it, and at most all recent ones besides: so the best `keep + recent` hold it. A
    /// penalty below 1 raises tokens from anywhere.
    pub(super) fn needs(&self, history: &[u32]) -> Need {
        if self.options.takes_best() {
            return Need::Best;
        }
        let recent = match self.options.repetition_penalty {
            1.0 => 0,
            penalty if penalty > 1.0 => self.options.repetition_window.min(history.len()),
            _ => return Need::Logits,
        };
        match self.keep() {
            Some(keep) if keep.saturating_add(recent) <= MOST_CANDIDATES => Need::Candidates(keep + recent),
            _ => Need::Logits,
        }
    }

    /// How many of the best tokens the draw is between; none for all.
    fn keep(&self) -> Option<usize> {
        match (self.options.temperature, self.options.top_k) {
            (0.0, _) => Some(1),
            (_, 0) => None,
            (_, k) => Some(k),
        }
    }

    /// Draws a token. `logits: [vocabulary]` are changed by the penalty; `history` holds the sequence's tokens so far.
    ///
    /// # Errors
    /// [`Error::Model`] if no logit is a number.
    pub(super) fn draw(&mut self, logits: &mut [f32], history: &[u32]) -> Result<u32> {
        self.note_recent(history);
        for &id in &self.recent {
            let logit = &mut logits[id as usize];
            *logit = penalised(*logit, self.options.repetition_penalty);
        }
        self.ranking.begin(self.keep().unwrap_or(logits.len()));
        self.ranking.offer_all(logits);
        self.pick()
    }

    /// Draws the token that [`Sampler::draw`] would, from as many candidates as [`Sampler::needs`] says, or more.
    ///
    /// # Errors
    /// [`Error::Model`] if no logit is a number.
    pub(super) fn draw_candidate(&mut self, ids: &[u32], logits: &[f32], history: &[u32]) -> Result<u32> {
        self.note_recent(history);
        self.ranking.begin(self.keep().unwrap_or(ids.len()));
        for (&id, &logit) in ids.iter().zip(logits) {
            let is_recent = self.recent.binary_search(&id).is_ok();
            let logit = if is_recent { penalised(logit, self.options.repetition_penalty) } else { logit };
            self.ranking.offer(id, logit);
        }
        self.pick()
    }

    fn note_recent(&mut self, history: &[u32]) {
        self.recent.clear();
        self.recent.extend_from_slice(&history[history.len().saturating_sub(self.options.repetition_window)..]);
        self.recent.sort_unstable();
        self.recent.dedup();
    }

    /// Draws from what was ranked.
    fn pick(&mut self) -> Result<u32> {
        let keep = self.keep();
        let candidates = self.ranking.finish();
        let best = *candidates.first().filter(|best| best.logit.is_finite()).ok_or_else(not_finite)?;
        if keep == Some(1) {
            return Ok(best.id);
        }
        let likely = &candidates[..count_likely(candidates, &self.options)];
        Ok(pick_likely(likely, self.options.temperature, &mut self.random))
    }
}

/// How many of the candidates, best first, are left when top-p and min-p cut the unlikely tail, at temperature 1. At
/// least the best one stays.
fn count_likely(mut candidates: &[Candidate], options: &Sampling) -> usize {
    let best = candidates[0].logit;
    if options.top_p < 1.0 {
        let total: f64 = candidates.iter().map(|c| odds(c.logit, best, 1.0)).sum();
        let mut reached = 0.0;
        let kept = candidates.iter().take_while(|c| {
            let before = reached;
            reached += odds(c.logit, best, 1.0) / total;
            before < f64::from(options.top_p)
        });
        candidates = &candidates[..kept.count().max(1)];
    }
    if options.min_p > 0.0 {
        candidates.partition_point(|c| odds(c.logit, best, 1.0) >= f64::from(options.min_p)).max(1)
    } else {
        candidates.len()
    }
}

/// Draws one of the candidates by its probability at the temperature.
fn pick_likely(candidates: &[Candidate], temperature: f32, random: &mut Xoshiro256PlusPlus) -> u32 {
    let best = candidates[0].logit;
    let total: f64 = candidates.iter().map(|c| odds(c.logit, best, temperature)).sum();
    // 53 random bits: a uniform f64 in [0, 1).
    let mut left = (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64 * total;
    for candidate in candidates {
        left -= odds(candidate.logit, best, temperature);
        if left < 0.0 {
            return candidate.id;
        }
    }
    // Rounding can leave a crumb beyond the last candidate.
    candidates[candidates.len() - 1].id
}

/// A recent token's logit: nearer to −∞ for penalties above 1.
fn penalised(logit: f32, penalty: f32) -> f32 {
    if logit > 0.0 { logit / penalty } else { logit * penalty }
}

/// How likely a logit is, in units of the best one's probability.
fn odds(logit: f32, best: f32, temperature: f32) -> f64 {
    ((f64::from(logit) - f64::from(best)) / f64::from(temperature)).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(options: Sampling, logits: &[f32], history: &[u32], draws: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(&options, history.len()).unwrap();
        (0..draws).map(|_| sampler.draw(&mut logits.to_vec(), history).unwrap()).collect()
    }

    fn plain() -> Sampling {
        Sampling { temperature: 1.0, top_k: 0, repetition_penalty: 1.0, ..Sampling::default() }
    }

    #[test]
    fn temperature_zero_takes_the_first_of_the_largest() {
        let options = Sampling { temperature: 0.0, ..plain() };
        assert_eq!(draw(options, &[0.0, 3.0, 1.0, 3.0], &[], 3), [1, 1, 1]);
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let logits: Vec<f32> = [0.5f32, 0.25, 0.125, 0.125].iter().map(|p| p.ln()).collect();
        let ids = draw(plain(), &logits, &[], 40_000);
        for (id, probability) in [0.5, 0.25, 0.125, 0.125].into_iter().enumerate() {
            let share = ids.iter().filter(|&&i| i as usize == id).count() as f64 / ids.len() as f64;
            assert!((share - probability).abs() < 0.01, "token {id} was drawn {share}, not {probability}");
        }
    }

    #[test]
    fn top_k_keeps_exactly_the_k_best() {
        let logits: Vec<f32> = (0..1000).map(|i| ((i * 617) % 1000) as f32 * 1e-3).collect();
        let mut wanted: Vec<u32> = (0..1000).collect();
        wanted.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
        let mut drawn = draw(Sampling { top_k: 7, ..plain() }, &logits, &[], 2000);
        drawn.sort_unstable();
        drawn.dedup();
        wanted.truncate(7);
        wanted.sort_unstable();
        assert_eq!(drawn, wanted);
    }

    #[test]
    fn top_p_and_min_p_cut_the_tail() {
        let logits: Vec<f32> = [0.5f32, 0.3, 0.15, 0.05].iter().map(|p| p.ln()).collect();
        let most = |options| draw(options, &logits, &[], 2000).into_iter().max().unwrap();
        assert_eq!(most(Sampling { top_p: 0.7, ..plain() }), 1, "0.5 + 0.3 reach 0.7");
        assert_eq!(most(Sampling { top_p: 0.5, ..plain() }), 0, "0.5 alone reaches 0.5");
        assert_eq!(most(Sampling { min_p: 0.25, ..plain() }), 2, "0.15 is at least a quarter of 0.5");
        assert_eq!(most(Sampling { min_p: 1.0, ..plain() }), 0, "the best one always stays");
    }

    #[test]
    fn penalty_lowers_recent_tokens_of_either_sign() {
        let options = Sampling { temperature: 0.0, repetition_penalty: 2.0, repetition_window: 2, ..plain() };
        assert_eq!(draw(options.clone(), &[1.0, 1.5], &[1], 1), [0], "1.5 / 2 is below 1");
        assert_eq!(draw(options.clone(), &[-1.0, -0.6], &[1], 1), [0], "-0.6 * 2 is below -1");
        assert_eq!(draw(options, &[1.0, 1.5], &[1, 0, 0], 1), [1], "token 1 lies before the window");
    }

    #[test]
    fn equal_seeds_draw_equally_and_others_differ() {
        let logits = vec![0.0; 50];
        let with = |seed| draw(Sampling { seed, ..plain() }, &logits, &[], 20);
        assert_eq!(with(7), with(7));
        assert_ne!(with(7), with(8));
    }

    #[test]
    fn logits_that_are_no_numbers_are_an_error() {
        let mut sampler = Sampler::new(&plain(), 0).unwrap();
        assert!(matches!(sampler.draw(&mut [f32::NAN; 4], &[]), Err(crate::Error::Model(_))));
    }

    #[test]
    fn options_out_of_range_are_refused_by_name() {
        for (options, name) in [
            (Sampling { temperature: -1.0, ..plain() }, "temperature"),
            (Sampling { temperature: f32::NAN, ..plain() }, "temperature"),
            (Sampling { top_p: 0.0, ..plain() }, "top-p"),
            (Sampling { min_p: 1.5, ..plain() }, "min-p"),
            (Sampling { repetition_penalty: 0.0, ..plain() }, "repetition penalty"),
        ] {
            let error = Sampler::new(&options, 0).err().expect("refused").to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
