//! A histogram that many threads add to.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts by bounds that do not change.
pub struct Histogram {
    bounds: &'static [f64],
    counts: Box<[AtomicU64]>, // one for each bound, and one for what is beyond all
    billionths: AtomicU64,    // of the sum of all values
}

impl Histogram {
    /// An empty one. `bounds` grow.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), billionths: AtomicU64::new(0) }
    }

    pub fn add(&self, value: f64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        self.counts[bucket].fetch_add(1, Relaxed);
        self.billionths.fetch_add((value * 1e9) as u64, Relaxed);
    }

    /// Its lines, each bucket with all that is below it.
    pub fn write(&self, out: &mut String, name: &str, labels: &str) {
        let (mut below, mut line) = (0, |name: &str, bound: &str, value: &dyn std::fmt::Display| {
            let _ = writeln!(out, "{name}{{{labels}{bound}}} {value}");
        });
        for (place, count) in self.counts.iter().enumerate() {
            below += count.load(Relaxed);
            let bound = self.bounds.get(place).map_or("+Inf".to_owned(), f64::to_string);
            line(&format!("{name}_bucket"), &format!(",le=\"{bound}\""), &below);
        }
        line(&format!("{name}_sum"), "", &(self.billionths.load(Relaxed) as f64 / 1e9));
        line(&format!("{name}_count"), "", &below);
    }
}
