//! What changes the logits of single tokens before a draw: the repetition penalty over the latest tokens, presence and
//! frequency penalties over those that were made, and biases.

use crate::allocation::reserve;
use crate::error::Result;
use crate::generate::Sampling;
use crate::generate::sampler::History;

/// The tokens whose logits are changed, and how.
pub(super) struct Penalties {
    repetition: f32,
    window: usize,
    presence: f32,
    frequency: f32,
    bias: Vec<(u32, f32)>, // by ascending tokens, each once

    recent: Vec<u32>,      // the distinct tokens of the window, ascending; reused
    made: Vec<(u32, u32)>, // those that were made and how often, ascending
    noted: usize,          // how many that were made are counted
}

impl Penalties {
    /// Penalties for histories of at most `most` tokens.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if there is no memory for those.
    pub(super) fn new(options: &Sampling, most: usize) -> Result<Self> {
        let mut bias = options.logit_bias.clone();
        bias.sort_by_key(|&(id, _)| id);
        bias.dedup_by(|later, first| {
            let same = later.0 == first.0;
            if same {
                first.1 += later.1;
            }
            same
        });
        let mut penalties = Self {
            repetition: options.repetition_penalty,
            window: if options.repetition_penalty == 1.0 { 0 } else { options.repetition_window },
            presence: options.presence_penalty,
            frequency: options.frequency_penalty,
            bias,
            recent: Vec::new(),
            made: Vec::new(),
            noted: 0,
        };
        // So that no later draw allocates.
        reserve(&mut penalties.recent, penalties.window.min(most))?;
        if penalties.counts_made() {
            reserve(&mut penalties.made, most)?;
        }
        Ok(penalties)
    }

    fn counts_made(&self) -> bool {
        self.presence != 0.0 || self.frequency != 0.0
    }

    /// How many tokens are lowered at most; none if some may be raised.
    pub(super) fn most_lowered(&self, history: &History<'_>) -> Option<usize> {
        let raises = self.window > 0 && self.repetition < 1.0
            || self.presence < 0.0
            || self.frequency < 0.0
            || self.bias.iter().any(|&(_, bias)| bias > 0.0);
        let made = if self.counts_made() { history.made().len() } else { 0 };
        (!raises).then(|| self.window.min(history.ids.len()) + made + self.bias.len())
    }

    /// Takes note of a history: the one of the last draw, and what was made since.
    pub(super) fn note(&mut self, history: &History<'_>) {
        self.recent.clear();
        self.recent.extend_from_slice(&history.ids[history.ids.len().saturating_sub(self.window)..]);
        self.recent.sort_unstable();
        self.recent.dedup();
        if self.counts_made() {
            for &id in &history.made()[self.noted..] {
                match self.made.binary_search_by_key(&id, |&(id, _)| id) {
                    Ok(place) => self.made[place].1 += 1,
                    Err(place) => self.made.insert(place, (id, 1)),
                }
            }
            self.noted = history.made().len();
        }
    }

    /// A token's logit with what is taken from it and added to it.
    pub(super) fn of(&self, id: u32, mut logit: f32) -> f32 {
        if self.recent.binary_search(&id).is_ok() {
            // Nearer to −∞ for penalties above 1.
            logit = if logit > 0.0 { logit / self.repetition } else { logit * self.repetition };
        }
        if let Ok(place) = self.made.binary_search_by_key(&id, |&(id, _)| id) {
            logit -= self.presence + self.frequency * self.made[place].1 as f32;
        }
        match self.bias.binary_search_by_key(&id, |&(id, _)| id) {
            Ok(place) => logit + self.bias[place].1,
            Err(_) => logit,
        }
    }

    /// The same for all logits, `[vocabulary]`.
    pub(super) fn apply(&self, logits: &mut [f32]) {
        let changed = self.recent.iter().copied();
        let made = self.made.iter().map(|&(id, _)| id).filter(|id| self.recent.binary_search(id).is_err());
        let biased = self.bias.iter().map(|&(id, _)| id).filter(|id| {
            self.recent.binary_search(id).is_err() && self.made.binary_search_by_key(id, |&(id, _)| id).is_err()
        });
        for id in changed.chain(made).chain(biased) {
            logits[id as usize] = self.of(id, logits[id as usize]);
        }
    }
}
