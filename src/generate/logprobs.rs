//! How likely tokens were, by the network alone: before penalties, biases, temperature and cuts.

/// The natural logarithm of the probability of a token, and of the most likely ones beside it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Logprobs {
    /// Of the token that was drawn.
    pub chosen: f32,
    /// Of the most likely tokens, best first: as many as were [asked for](crate::generate::GenerateOptions::logprobs).
    pub best: Vec<(u32, f32)>,
}

impl Logprobs {
    /// Of the most likely tokens; that of the one that was drawn is not known yet. `log_total` is the log-sum-exp of all logits.
    pub(super) fn new(ids: &[u32], logits: &[f32], log_total: f64) -> Self {
        let numbers = ids.iter().zip(logits).filter(|(_, logit)| **logit > f32::NEG_INFINITY);
        let best = numbers.map(|(&id, &logit)| (id, (f64::from(logit) - log_total) as f32)).collect();
        Self { chosen: f32::NAN, best }
    }
}
