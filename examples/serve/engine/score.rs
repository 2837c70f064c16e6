//! How likely the tokens of a text are, read in pieces between which sequences go on.

use std::time::{Duration, Instant};

use sterna::Result;
use sterna::generate::{Reuse, Session};

use super::Event;
use super::turns::Limits;

/// How likely a token was.
#[derive(Clone, Debug)]
pub struct Score {
    /// The natural logarithm of its probability; none for the first one, before which there is nothing.
    pub logprob: Option<f32>,
    /// The most likely ones in its place, best first.
    pub best: Vec<(u32, f32)>,
}

/// Rows that are read at once, at most.
const MOST_ROWS: usize = 128;
/// How much the latest piece counts for the time of a row.
const PACE: f64 = 0.3;

/// A text that is read.
pub struct Scoring {
    ids: Vec<u32>,
    best: usize,
    reuse: Reuse,
    done: usize, // positions
    scores: Vec<Score>,
    row_time: Option<Duration>,
}

impl Scoring {
    pub fn new(ids: Vec<u32>, best: usize, reuse: Reuse) -> Self {
        let first = Score { logprob: None, best: Vec::new() };
        Self { ids, best, reuse, done: 0, scores: vec![first], row_time: None }
    }

    /// Tokens of the text.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Reads a piece; tells the scores when all is read.
    pub fn step(&mut self, session: &mut Session, limits: Limits) -> Result<Option<Event>> {
        let start = Instant::now();
        let end = self.ids.len().min(self.done + self.rows(session, limits));
        let Self { ids, best, reuse, scores, .. } = self;
        session.evaluate_range(ids, self.done..end, *reuse, &mut |position, logits| {
            if let Some(&next) = ids.get(position + 1) {
                scores.push(score(logits, next, *best));
            }
        })?;
        let latest = start.elapsed().as_secs_f64() / (end - self.done) as f64;
        let before = self.row_time.map_or(latest, |before| before.as_secs_f64());
        self.row_time = Some(Duration::from_secs_f64(before + PACE * (latest - before)));
        self.done = end;
        Ok((end == self.ids.len()).then(|| Event::Scores(std::mem::take(&mut self.scores))))
    }

    /// So many that nobody who makes tokens is kept longer than may be.
    fn rows(&self, session: &Session, limits: Limits) -> usize {
        let most = limits.budget.rows.unwrap_or(MOST_ROWS);
        match (limits.budget.longest_stall, self.row_time) {
            (Some(stall), Some(row)) if session.running() > 0 => {
                ((stall.as_secs_f64() / row.as_secs_f64().max(1e-9)) as usize).clamp(1, most)
            }
            (Some(_), None) if session.running() > 0 => most.min(8),
            _ => most,
        }
    }
}

/// Of one position's logits.
fn score(logits: &[f32], next: u32, best: usize) -> Score {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let total: f64 = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum();
    let log_total = largest + total.ln();
    let of = |id: u32| (f64::from(logits[id as usize]) - log_total) as f32;
    let mut ranked: Vec<u32> = Vec::with_capacity(best + 1);
    for id in (0..logits.len() as u32).filter(|_| best > 0) {
        let logit = logits[id as usize];
        let place = ranked.partition_point(|&other| logits[other as usize] >= logit);
        if place < best {
            ranked.insert(place, id);
            ranked.truncate(best);
        }
    }
    Score { logprob: Some(of(next)), best: ranked.into_iter().map(|id| (id, of(id))).collect() }
}
