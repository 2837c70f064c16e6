//! The same work without a server: the same model in this process, in steps of the same budget.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sterna::cpu::CpuOptions;
use sterna::generate::{Prompt, Reuse, SequenceId, Session, StepBudget};
use sterna::{Device, GenerateOptions, Model, SessionOptions};

/// A session like the server's.
pub struct Raw {
    session: Session,
}

/// What some sequences took.
pub struct Run {
    pub time: Duration,
    pub tokens: usize,
    /// Of every sequence: from the start to its first token.
    pub first: Duration,
}

/// A request that comes by itself.
pub struct Arrival {
    /// Seconds from the start.
    pub at: f64,
    pub ids: Vec<u32>,
    pub made: usize,
}

/// What some arrivals met.
pub struct Met {
    pub time: Duration,
    pub tokens: usize,
    /// Of each sequence: from when it came to its first token.
    pub first: Vec<Duration>,
    /// Between the tokens of each.
    pub gaps: Vec<Duration>,
}

impl Raw {
    pub fn new(model: &Model, threads: usize, slots: usize) -> anyhow::Result<Self> {
        let device = Device::cpu_with(CpuOptions { threads: Some(threads), ..CpuOptions::default() });
        let options = SessionOptions { sequences: slots, queue: Some(usize::MAX), ..SessionOptions::default() };
        Ok(Self { session: Session::new(model, &device, &options)? })
    }

    /// Positions of each slot.
    pub fn positions(&self) -> usize {
        self.session.positions()
    }

    /// Continues the prompts side by side, each by so many tokens. What is cached of them is used if `reuse` says so.
    pub fn run(&mut self, prompts: &[Vec<u32>], made: usize, reuse: bool) -> anyhow::Result<Run> {
        let reuse = if reuse { Reuse::Shared } else { Reuse::Never };
        let options = GenerateOptions { max_tokens: made, ignore_end: true, reuse, ..GenerateOptions::greedy() };
        let prompts: Vec<Prompt> =
            prompts.iter().map(|ids| Prompt { ids: ids.clone(), options: options.clone() }).collect();
        let start = Instant::now();
        let batch = self.session.generate_batch(&prompts)?.with_budget(StepBudget::default());
        let (mut tokens, mut first) = (0, None);
        for piece in batch {
            tokens += usize::from(piece?.id.is_some());
            first.get_or_insert_with(|| start.elapsed());
        }
        ensure!(tokens == made * prompts.len(), "every sequence makes all of its tokens");
        Ok(Run { time: start.elapsed(), tokens, first: first.context("there are tokens")? })
    }

    /// Takes sequences when they come, and steps as long as there are some.
    pub fn arrivals(&mut self, arrivals: &[Arrival]) -> anyhow::Result<Met> {
        let start = Instant::now();
        let mut met = Met { time: Duration::ZERO, tokens: 0, first: Vec::new(), gaps: Vec::new() };
        let mut coming = arrivals.iter().peekable();
        let mut latest: HashMap<SequenceId, (Duration, bool)> = HashMap::new(); // when it came, or its latest token did
        loop {
            while let Some(arrival) = coming.next_if(|arrival| arrival.at <= start.elapsed().as_secs_f64()) {
                let options = GenerateOptions {
                    max_tokens: arrival.made,
                    ignore_end: true,
                    reuse: Reuse::Never,
                    ..GenerateOptions::greedy()
                };
                let id = self.session.join(Prompt { ids: arrival.ids.clone(), options })?;
                latest.insert(id, (Duration::from_secs_f64(arrival.at), false));
            }
            if self.session.running() + self.session.waiting() == 0 {
                let Some(next) = coming.peek() else { break };
                std::thread::sleep(Duration::from_secs_f64(next.at).saturating_sub(start.elapsed()));
                continue;
            }
            let pieces = self.session.step(&StepBudget::default());
            let now = start.elapsed();
            for piece in pieces {
                ensure!(piece.error.is_none(), "{:?}", piece.error);
                let (before, has_begun) = latest.insert(piece.sequence, (now, true)).context("it had joined")?;
                if has_begun { &mut met.gaps } else { &mut met.first }.push(now.saturating_sub(before));
                met.tokens += usize::from(piece.id.is_some());
            }
        }
        met.time = start.elapsed();
        Ok(met)
    }
}
