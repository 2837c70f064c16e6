//! What a run took: time, tokens, memory, kernels; and the machine's read bandwidth, which is the roof above it. Whatever could
//! not be measured is absent, never zero.
//!
//! [`Run::measure`] measures one generation, [`validate`](mod@validate) holds a model on this machine against its targets.

mod available;
mod bandwidth;
mod latency;
mod machine;
mod memory;
mod run;
pub mod validate;

use std::time::Duration;

pub(crate) use available::available_memory_bytes;
pub use bandwidth::{Bandwidth, read_bandwidth};
pub use latency::{Latency, Spread};
pub use machine::Machine;
pub use memory::{huge_page_bytes, peak_memory_bytes, resident_memory_bytes};
pub use run::{Measurement, Run, Workload};

pub use crate::backend::{KernelCount, Reads, Work};

/// Time and tokens of a generation: computing the prompt (prefill) and making tokens (decode) apart.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Timings {
    /// Prompt tokens that were computed; those found in the cache are not counted.
    pub prefill_tokens: usize,
    /// Time until the first token.
    pub prefill: Duration,
    /// Tokens made after the first of each sequence.
    pub decode_tokens: usize,
    /// Time for those.
    pub decode: Duration,
}

impl Timings {
    /// Adds one step. The time of one that has rows of both is shared out by their numbers.
    pub(crate) fn add_step(&mut self, prompt_rows: usize, decode_rows: usize, time: Duration) {
        let prefill = time.mul_f64(prompt_rows as f64 / (prompt_rows + decode_rows).max(1) as f64);
        self.prefill_tokens += prompt_rows;
        self.prefill += prefill;
        self.decode_tokens += decode_rows;
        self.decode += time.saturating_sub(prefill);
    }

    /// What came after an earlier look.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            prefill_tokens: self.prefill_tokens - earlier.prefill_tokens,
            prefill: self.prefill - earlier.prefill,
            decode_tokens: self.decode_tokens - earlier.decode_tokens,
            decode: self.decode - earlier.decode,
        }
    }

    /// Prompt tokens a second; `None` before any were computed.
    pub fn prefill_per_second(&self) -> Option<f64> {
        rate(self.prefill_tokens, self.prefill)
    }

    /// Made tokens a second, all sequences together; `None` before any were made.
    pub fn decode_per_second(&self) -> Option<f64> {
        rate(self.decode_tokens, self.decode)
    }
}

fn rate(count: usize, time: Duration) -> Option<f64> {
    (count > 0 && !time.is_zero()).then(|| count as f64 / time.as_secs_f64())
}

/// A line of one of Linux's lists of sizes in kB, such as proc_pid_status(5), in bytes; none elsewhere.
fn bytes_of(path: &str, name: &str) -> Option<u64> {
    let list = std::fs::read_to_string(path).ok()?;
    let line = list.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_absent_until_something_was_measured() {
        let mut timings = Timings::default();
        assert_eq!((timings.prefill_per_second(), timings.decode_per_second()), (None, None));
        timings.add_step(10, 0, Duration::from_secs(2));
        timings.add_step(0, 3, Duration::from_secs(1));
        assert_eq!((timings.prefill_per_second(), timings.decode_per_second()), (Some(5.0), Some(3.0)));
        let before = timings;
        timings.add_step(3, 1, Duration::from_secs(4));
        let mixed = timings.since(before);
        assert_eq!((mixed.prefill, mixed.decode), (Duration::from_secs(3), Duration::from_secs(1)));
    }
}
