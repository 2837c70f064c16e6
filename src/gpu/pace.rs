//! How fast a device does what it is sent, so that no submit takes long: drivers reset a GPU that one submit keeps busy for two
//! seconds or so (Windows, amdgpu), and until it is done the screen that it drives stands still.
//!
//! Steps are cut into submits by what steps took before, as the host sees it when it waits for them.

#![cfg_attr(target_arch = "wasm32", expect(dead_code, reason = "a browser does not tell when a submit was done"))]

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Instant;

/// What a submit of a driver that may reset its GPU should take at most.
pub(crate) const LONGEST_SUBMIT: Duration = Duration::from_millis(100);
/// Commands of a submit, times the rows of its step, as long as no step was timed: for one row, all that most models have.
const FIRST_WORK: usize = 512;
/// The fewest of them, whatever the rows.
const FIRST_COMMANDS: usize = 16;
/// The most rows of each kind of step but the last: within a kind, what a command takes hardly depends on their number. Steps of the
/// last kind are counted in rows.
const KINDS: [usize; 3] = [1, 8, 32];

/// What is known of a device's speed, and what it was sent.
#[derive(Debug)]
pub(crate) struct Pace {
    longest: Duration,                       // that a submit should take
    seconds: [Option<f64>; KINDS.len() + 1], // of a command, of the last kind also of a row
    sent: VecDeque<Sent>,
    latest_done: Option<Instant>,
}

/// A step, or a part of one.
#[derive(Clone, Copy, Debug)]
struct Sent {
    number: u64,
    at: Instant,
    rows: usize,
    commands: usize,
}

/// Which kind of step has so many rows.
fn kind_of(rows: usize) -> usize {
    KINDS.iter().take_while(|&&most| rows > most).count()
}

impl Pace {
    pub(crate) fn new(longest: Duration) -> Self {
        Self { longest, seconds: [None; KINDS.len() + 1], sent: VecDeque::new(), latest_done: None }
    }

    /// How many of a step's commands go into one submit: all, if that is short enough.
    pub(crate) fn commands(&self, rows: usize, commands: usize) -> usize {
        if self.longest == Duration::MAX {
            return commands;
        }
        let fitting = match self.seconds_of(rows) {
            Some(seconds) => (self.longest.as_secs_f64() / seconds) as usize,
            None => (FIRST_WORK / rows.max(1)).max(FIRST_COMMANDS),
        };
        // Equal parts.
        commands.div_ceil(commands.div_ceil(fitting.max(1)).max(1)).max(1)
    }

    /// What a command of so many rows takes; where no step of the kind was timed, as many times what fewer rows take as it has
    /// more of them.
    fn seconds_of(&self, rows: usize) -> Option<f64> {
        let kind = kind_of(rows);
        if kind == KINDS.len() {
            return self.seconds[kind].map(|seconds| seconds * rows as f64);
        }
        let fewer = || (0..kind).rev().find_map(|fewer| self.seconds[fewer].map(|seconds| (fewer, seconds)));
        let least = |kind: usize| kind.checked_sub(1).map_or(1, |fewer| KINDS[fewer] + 1);
        self.seconds[kind].or_else(|| fewer().map(|(fewer, seconds)| seconds * rows as f64 / least(fewer) as f64))
    }

    /// Notes what was sent, under a number that grows. What belongs to no step, which has no rows, tells nothing, and
    /// where submits may be as long as they like nothing is asked.
    pub(crate) fn sent(&mut self, number: u64, at: Instant, rows: usize, commands: usize) {
        if rows > 0 && self.longest < Duration::MAX {
            self.sent.push_back(Sent { number, at, rows, commands });
        }
    }

    /// Notes that all up to a number is done, after a wait from `waited` until `now`.
    pub(crate) fn done(&mut self, number: u64, waited: Instant, now: Instant) {
        let (mut first, mut work) = (None, [0; KINDS.len() + 1]);
        while let Some(&sent) = self.sent.front().filter(|sent| sent.number <= number) {
            first.get_or_insert(sent.at);
            let kind = kind_of(sent.rows);
            work[kind] += sent.commands * if kind == KINDS.len() { sent.rows } else { 1 };
            self.sent.pop_front();
        }
        let Some(first) = first else { return };
        // It began when it was sent, or when the one before was done.
        let begun = self.latest_done.map_or(first, |latest| latest.max(first));
        self.latest_done = Some(now);
        let took = now.saturating_duration_since(begun);
        // Beside steps of more rows, those of fewer do not count.
        let Some(kind) = work.iter().rposition(|&work| work > 0) else { return };
        let seconds = took.as_secs_f64() / work[kind] as f64;
        // Where the host came late it may have been done long before.
        let is_exact = now.saturating_duration_since(waited) >= took / 2;
        // A slow one counts at once, as contexts grow; fast ones little by little.
        let known = &mut self.seconds[kind];
        *known = match *known {
            Some(before) if seconds < before => Some(seconds.max(before * 0.75)),
            _ if is_exact => Some(seconds),
            before => before,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is known after a step of ten commands of which each took this long, while the host waited.
    fn after(rows: usize, one: Duration) -> Pace {
        let (mut pace, now) = (Pace::new(LONGEST_SUBMIT), Instant::now());
        pace.sent(1, now, rows, 10);
        pace.done(1, now, now + one * 10);
        pace
    }

    #[test]
    fn a_step_of_one_row_is_one_submit_until_it_is_known_to_be_slow() {
        assert_eq!(Pace::new(LONGEST_SUBMIT).commands(1, 190), 190);
        assert_eq!(after(1, Duration::from_micros(10)).commands(32, 190), 190);
        assert_eq!(after(1, Duration::from_millis(1)).commands(1, 190), 95);
        assert_eq!(after(512, Duration::from_secs(1)).commands(1, 190), 190, "long steps tell nothing of it");
    }

    #[test]
    fn rows_count_until_steps_of_as_many_were_timed() {
        let cut = |pace: &Pace, rows| 320usize.div_ceil(pace.commands(rows, 320));
        let unknown = Pace::new(LONGEST_SUBMIT);
        assert_eq!([1, 8, 32].map(|rows| cut(&unknown, rows)), [1, 5, 20]);
        let mut pace = after(1, Duration::from_micros(100));
        assert_eq!([1, 8, 32].map(|rows| cut(&pace, rows)), [1, 3, 11], "each row may take as long as one");
        let now = Instant::now() + Duration::from_secs(1);
        pace.sent(2, now, 32, 100);
        pace.done(2, now, now + Duration::from_millis(20));
        assert_eq!([1, 8, 32].map(|rows| cut(&pace, rows)), [1, 3, 1], "32 rows take twice as long as one");
    }

    #[test]
    fn a_long_step_is_cut_so_that_no_submit_takes_long() {
        assert_eq!(Pace::new(LONGEST_SUBMIT).commands(512, 390), FIRST_COMMANDS);
        assert_eq!(Pace::new(Duration::MAX).commands(512, 390), 390, "software is never reset");
        for micros in [1, 50, 1_000, 30_000, 1_000_000] {
            let one = Duration::from_micros(micros);
            let pace = after(512, one);
            for rows in [33, 512, 2048] {
                let sent = pace.commands(rows, 390);
                let takes = one * sent as u32 * rows as u32 / 512;
                assert!(
                    (1..=390).contains(&sent) && (sent == 1 || takes <= LONGEST_SUBMIT.mul_f64(1.01)),
                    "{sent} of {rows} rows"
                );
            }
        }
        assert_eq!(after(512, Duration::from_micros(50)).commands(512, 390), 390, "a fast device gets all at once");
    }

    #[test]
    fn steps_that_are_sent_together_are_timed_one_after_the_other() {
        let (mut pace, start) = (Pace::new(LONGEST_SUBMIT), Instant::now());
        (0..9).for_each(|i| pace.sent(i, start, 1, 100));
        (0..9).for_each(|i| {
            let begun = start + Duration::from_millis(50) * i as u32;
            pace.done(i, begun, begun + Duration::from_millis(50));
        });
        assert_eq!(pace.commands(1, 100), 100, "each takes 50 ms");
    }

    #[test]
    fn a_host_that_comes_late_does_not_think_the_device_slow() {
        let (mut pace, start) = (after(1, Duration::from_micros(10)), Instant::now());
        let late = start + Duration::from_secs(100);
        pace.sent(2, start, 1, 100);
        pace.done(2, late, late + Duration::from_micros(3));
        assert_eq!(pace.commands(1, 100), 100);
    }

    #[test]
    fn a_slow_step_is_forgotten_after_fast_ones() {
        let mut pace = after(512, Duration::from_millis(100));
        assert_eq!(pace.commands(512, 100), 1);
        for number in 2..40 {
            let now = Instant::now() + Duration::from_secs(number);
            pace.sent(number, now, 512, 10);
            pace.done(number, now, now + Duration::from_millis(1));
        }
        assert_eq!(pace.commands(512, 100), 100);
    }
}
