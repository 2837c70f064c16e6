//! Times one case after another: a warm-up, then samples of many calls each, and their median. A case's rate stands beside
//! what this machine reads from memory.
//!
//! With `--beside PROGRAM`, which is another build of this benchmark, the two take their samples of each case by turns, some
//! thirty milliseconds each: whatever slows the machine meanwhile slows both, and the ratio of neighbours stays.

use std::fmt::{self, Display};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;

use crate::rival::{self, Rival};

/// Calls before the first sample: they find the pages, wake the threads, and tell how many calls a sample takes.
const WARM_UP: Duration = Duration::from_millis(200);
/// How long a sample lasts, or one call if that takes longer.
const SAMPLE: Duration = Duration::from_millis(30);

/// Times the verbs that a model's time goes into.
#[derive(Clone, Debug, Parser)]
pub struct Args {
    /// Times only the cases whose name contains this.
    #[arg(default_value = "")]
    pub filter: String,
    /// Samples of each case; the median is of these.
    #[arg(long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u16).range(1..))]
    pub sample_size: u16,
    /// Another build of this benchmark: both take their samples by turns, and the ratio of the times is printed.
    #[arg(long, value_name = "PROGRAM", conflicts_with = "answer")]
    pub beside: Option<PathBuf>,
    /// Samples when it is asked to, for the program that has this one beside it.
    #[arg(long, hide = true)]
    pub answer: bool,
    /// What Cargo calls a benchmark with.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What one call moves or computes.
#[derive(Clone, Copy)]
pub enum Amount {
    /// Bytes, which the machine's memory limits.
    Bytes(usize),
    /// Multiplications or values.
    Count(usize),
}

/// Runs the cases that were asked for.
pub struct Timer {
    args: Args,
    rival: Option<Rival>,
    /// Bytes a second that are read with the present number of threads.
    pub roof: f64,
}

impl Timer {
    pub fn new(args: Args) -> Self {
        Self { args, rival: None, roof: f64::NAN }
    }

    /// Times `call` and prints a line about it.
    pub fn case(&mut self, name: &str, amount: Amount, mut call: impl FnMut()) {
        if !name.contains(&self.args.filter) {
            return;
        }
        if self.args.answer {
            let calls = warm_up(&mut call);
            return rival::answer(name, || sample(calls, &mut call));
        }
        // The other program sets its case up while this one waits, so that neither disturbs the other's samples.
        if let Some(program) = &self.args.beside {
            self.rival.get_or_insert_with(|| Rival::new(program, &self.args)).next_case(name);
        }
        let calls = warm_up(&mut call);
        let (mut own, mut ratios) = (Vec::new(), Vec::new());
        for turn in 0..self.args.sample_size {
            let Some(rival) = &mut self.rival else {
                own.push(sample(calls, &mut call));
                continue;
            };
            // Who goes first changes, so that a drift favours neither.
            let (ours, theirs) = if turn % 2 == 0 {
                let ours = sample(calls, &mut call);
                (ours, rival.sample())
            } else {
                let theirs = rival.sample();
                (sample(calls, &mut call), theirs)
            };
            own.push(ours);
            ratios.push(ours / theirs);
        }
        let time = Median::of(own);
        println!("{name:<58} {}, {}", time.display(Seconds), self.rate(amount, time.middle));
        if !ratios.is_empty() {
            println!("{:<58} {} of the other program's time", "", Median::of(ratios).display(Ratio));
        }
    }

    fn rate(&self, amount: Amount, seconds: f64) -> String {
        match amount {
            Amount::Bytes(bytes) => {
                let rate = bytes as f64 / seconds;
                format!("{:.2} GB/s = {:.0} % of the roof", rate / 1e9, 100.0 * rate / self.roof)
            }
            Amount::Count(count) => format!("{:.2} G/s", count as f64 / seconds / 1e9),
        }
    }
}

/// Calls until the time is over: how many calls a sample takes.
fn warm_up(call: &mut impl FnMut()) -> u32 {
    let start = Instant::now();
    let mut calls = 0;
    while start.elapsed() < WARM_UP {
        call();
        calls += 1;
    }
    let each = start.elapsed().as_secs_f64() / f64::from(calls);
    (SAMPLE.as_secs_f64() / each).ceil() as u32
}

/// The seconds of one call, as the mean of several. Another goes before: meanwhile, caches may have been someone else's. No
/// compiler can leave a call out, since verbs call their kernels through pointers.
fn sample(calls: u32, call: &mut impl FnMut()) -> f64 {
    call();
    let start = Instant::now();
    for _ in 0..calls {
        call();
    }
    start.elapsed().as_secs_f64() / f64::from(calls)
}

/// A median and its 95 % interval, as far as samples are independent.
struct Median {
    least: f64,
    middle: f64,
    most: f64,
}

impl Median {
    fn of(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        let last = samples.len() - 1;
        // Each sample lies below the true median as often as a coin shows heads: of n, within n/2 ± 1.96 √n/2 in 95 of 100 runs.
        let count = samples.len() as f64;
        let low = (0.5 * (count - 1.96 * count.sqrt())).max(0.0) as usize;
        let middle = 0.5 * (samples[last / 2] + samples[last.div_ceil(2)]);
        Self { least: samples[low], middle, most: samples[last - low] }
    }

    fn display<U: Display>(&self, unit: impl Fn(f64) -> U) -> String {
        format!("{} ({} to {})", unit(self.middle), unit(self.least), unit(self.most))
    }
}

/// Prints with the unit that leaves one to three digits before the point.
struct Seconds(f64);

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (factor, unit) = match self.0 {
            ..1e-6 => (1e9, "ns"),
            ..1e-3 => (1e6, "µs"),
            ..1.0 => (1e3, "ms"),
            _ => (1.0, "s"),
        };
        write!(f, "{:.4} {unit}", self.0 * factor)
    }
}

struct Ratio(f64);

impl Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:.3}", self.0)
    }
}
