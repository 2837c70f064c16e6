//! One measured generation: real prompts, real steps, and what proves that the figures are of those steps.
//!
//! The time is taken outside of the library's own clock, so that the two can be held against each other; the counts of the
//! kernels say what was computed in that time.

use std::ops::ControlFlow;
use std::time::Duration;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::error::{Error, Result};
use crate::generate::{GenerateOptions, Prompt, PromptLookup, Session, StepBudget};
use crate::measure::{Latency, Reads, Spread, Timings, Work};
use crate::model::Config;
use crate::time::Instant;

/// What is generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Tokens of the longest prompt. Those of a batch are ragged: down to half of it.
    pub prompt: usize,
    /// Sequences at once.
    pub batch: usize,
    /// Tokens made of each sequence.
    pub tokens: usize,
}

/// What a generation took and made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Run {
    /// The tokens of each sequence.
    pub ids: Vec<Vec<u32>>,
    /// Tokens of all prompts.
    pub prompt_tokens: usize,
    /// From the call to the last token, without what `tick` took.
    pub wall: Duration,
    /// From the call to the first token of every sequence.
    pub first_token: Duration,
    /// Each later step, which makes a token of each sequence.
    pub steps: Vec<Duration>,
    /// What the library's own clock says.
    pub timings: Timings,
    /// What the device did, prompt and tokens together.
    pub work: Work,
    /// Bytes of weights that a step after the first had to read.
    pub bytes_per_step: f64,
}

/// Repeated runs of one workload on one device.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Measurement {
    /// The device, as [`Session::device`] names it.
    pub device: String,
    /// The model and its form, for people.
    pub model: String,
    /// What was generated.
    pub workload: Workload,
    /// Each run, in order.
    pub runs: Vec<Run>,
    /// What speaks against believing these figures; none if nothing does.
    pub flaw: Option<String>,
}

/// The least of the outer clock that the library's own must have seen. Between the two is only the caller's loop.
const LEAST_SHARE_SEEN: f64 = 0.7;

impl Workload {
    /// Seeded prompts: the same ids every time, ragged lengths, and greedy options that go on past every end.
    pub fn prompts(&self, seed: u64, vocabulary: usize) -> Vec<Prompt> {
        // A step makes one token, however often random weights repeat themselves.
        let lookup = PromptLookup::Never;
        let options =
            GenerateOptions { max_tokens: self.tokens, ignore_end: true, lookup, ..GenerateOptions::greedy() };
        let prompt = |sequence: usize| {
            let mut random = Xoshiro256PlusPlus::seed_from_u64(seed.wrapping_add(sequence as u64 * 0x9e37_79b9));
            let shorter = (sequence * 3) % (self.prompt / 2).max(1);
            let ids = (0..self.prompt - shorter).map(|_| (random.next_u64() % vocabulary as u64) as u32).collect();
            Prompt { ids, options: options.clone() }
        };
        (0..self.batch).map(prompt).collect()
    }
}

impl Run {
    /// Generates from an empty cache. `tick` is asked after every step whether to go on; none is returned if not.
    ///
    /// # Errors
    /// Those of [`Session::generate_batch`].
    pub fn measure(
        session: &mut Session,
        prompts: &[Prompt],
        tick: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<Self>> {
        session.clear();
        let before = session.work();
        let mut ids = vec![Vec::new(); prompts.len()];
        let mut marks = Vec::new(); // when each step was done
        let mut first_work = Work::default();
        let mut outside = Duration::ZERO; // spent by `tick`
        let start = Instant::now();
        let mut batch = session.generate_batch(prompts)?.with_budget(StepBudget::side_by_side());
        while let Some(piece) = batch.next().transpose()? {
            let steps = ids[piece.sequence].len();
            ids[piece.sequence].extend(piece.id);
            if steps == marks.len() {
                let mark = start.elapsed();
                marks.push(mark - outside);
                if steps == 0 {
                    first_work = batch.work();
                }
                if tick().is_break() {
                    return Ok(None);
                }
                outside += start.elapsed() - mark;
            }
        }
        let (wall, timings, work) = (start.elapsed() - outside, batch.timings(), batch.work());
        let decoding = work.since(&first_work);
        let first_token = *marks.first().ok_or_else(|| Error::Input("a run makes at least one token".into()))?;
        Ok(Some(Self {
            ids,
            prompt_tokens: prompts.iter().map(|prompt| prompt.ids.len()).sum(),
            wall,
            first_token,
            steps: marks.windows(2).map(|pair| pair[1] - pair[0]).collect(),
            timings,
            bytes_per_step: decoding.weight_bytes() as f64 / decoding.steps.max(1) as f64,
            work: work.since(&before),
        }))
    }

    /// Tokens a second after the first of each sequence, all sequences together; none if there was only one each.
    pub fn decode_per_second(&self) -> Option<f64> {
        let made: usize = self.ids.iter().map(|ids| ids.len().saturating_sub(1)).sum();
        let time: Duration = self.steps.iter().sum();
        (made > 0 && !time.is_zero()).then(|| made as f64 / time.as_secs_f64())
    }

    /// Prompt tokens a second, until the first token.
    pub fn prefill_per_second(&self) -> f64 {
        self.prompt_tokens as f64 / self.first_token.as_secs_f64()
    }

    /// What speaks against this run: kernels that did not run, weights that were not read, clocks that disagree.
    fn flaw(&self, config: &Config) -> Option<String> {
        let (seen, wall) = ((self.timings.prefill + self.timings.decode).as_secs_f64(), self.wall.as_secs_f64());
        let steps = self.work.steps;
        let made: usize = self.ids.iter().map(Vec::len).sum();
        let rows = (self.prompt_tokens + made - self.ids.len()) as u64;
        let trit_bytes = steps * config.ternary_weights_used() / 4;
        if self.work.bytes(Reads::Trits) < trit_bytes {
            let read = self.work.bytes(Reads::Trits);
            return Some(format!(
                "{steps} steps must read {trit_bytes} bytes of trits, but the kernels counted {read}"
            ));
        }
        let attended = self.work.calls(Reads::Cache);
        if attended < steps * config.layers as u64 {
            return Some(format!("{steps} steps of {} layers attended {attended} times", config.layers));
        }
        if self.work.calls(Reads::Head) == 0 {
            return Some("tokens were chosen, but no kernel of the head ran".into());
        }
        if self.work.rows != rows {
            return Some(format!("{rows} rows were to be computed, but the device counted {}", self.work.rows));
        }
        if seen > wall || seen < LEAST_SHARE_SEEN * wall {
            return Some(format!("two clocks disagree: {seen:.6} s inside the library, {wall:.6} s outside"));
        }
        let steps = self.first_token.as_secs_f64() + self.steps.iter().sum::<Duration>().as_secs_f64();
        if steps > wall || steps < LEAST_SHARE_SEEN * wall {
            return Some(format!("the steps took {steps:.6} s together, but the whole run {wall:.6} s"));
        }
        None
    }
}

impl Measurement {
    /// Takes runs together and looks for what speaks against them. `config` is that of the model.
    pub fn new(device: String, model: String, workload: Workload, runs: Vec<Run>, config: &Config) -> Self {
        let mut flaw = runs.iter().find_map(|run| run.flaw(config));
        let differs = |run: &Run| runs[0].ids != run.ids;
        if runs.iter().any(differs) {
            flaw.get_or_insert("runs of one seed made different ids".into());
        }
        let same_time = |run: &Run| run.wall == runs[0].wall || run.decode_per_second() == runs[0].decode_per_second();
        if runs.len() > 1 && runs[0].decode_per_second().is_some() && runs.iter().all(same_time) {
            flaw.get_or_insert("all runs took the same time to the nanosecond: that is no measurement".into());
        }
        Self { device, model, workload, runs, flaw }
    }

    /// Tokens a second after the first of each sequence, all sequences together.
    pub fn decode(&self) -> Option<Spread> {
        Spread::of(self.runs.iter().filter_map(Run::decode_per_second))
    }

    /// Prompt tokens a second, until the first token.
    pub fn prefill(&self) -> Option<Spread> {
        Spread::of(self.runs.iter().map(Run::prefill_per_second))
    }

    /// Seconds from the call to the first token of every sequence.
    pub fn first_token(&self) -> Option<Spread> {
        Spread::of(self.runs.iter().map(|run| run.first_token.as_secs_f64()))
    }

    /// The steps after the first of all runs together.
    pub fn latency(&self) -> Option<Latency> {
        Latency::of(self.runs.iter().flat_map(|run| run.steps.iter().copied()))
    }

    /// Bytes of weights that a decoding step had to read, and bytes of weights a second.
    pub fn weight_traffic(&self) -> Option<(f64, f64)> {
        let bytes = Spread::of(self.runs.iter().map(|run| run.bytes_per_step))?.mean;
        Some((bytes, bytes * self.decode()?.mean / self.workload.batch as f64))
    }
}
