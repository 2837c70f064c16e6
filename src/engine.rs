//! A model on a device behind object-safe traits: whoever generates text knows no backend.
//!
//! A [`Shared`] is what is loaded, for any number of sessions; an [`Engine`] is what one session computes with. A step is begun
//! by [`Engine::start`], which never waits for a device, and what it chose is had from [`Engine::finish`], [`Engine::logits`] and
//! [`Engine::features`], which do: nothing else in the library waits for a step.

mod ahead;
mod diagnosis;
mod loading;
mod step;

pub(crate) use loading::Loading;
pub(crate) use step::{AllCandidates, Chosen, Step};

use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::allocation::{filled, reserve};
use crate::backend::{Backend, GpuCounters, MOST_CANDIDATES, NO_TOKEN, Row, ShaderTime, Work};
use crate::engine::ahead::Ahead;
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::transformer::{Capacity, Input, KeptState, State, Transformer, Wanted};

/// A model that was loaded on a device.
pub(crate) trait Shared: Send + Sync {
    /// Rows of a step that keep the device busy.
    fn rows_at_once(&self) -> usize;

    /// Bytes that the weights take, on the device or in the map of their file.
    fn weight_bytes(&self) -> u64;

    /// Bytes of memory of its own that the device gave for the weights; none where it has none.
    fn device_bytes(&self) -> Option<u64>;

    /// What a session computes with: [`Engine::rehearsed`] is to be called before anything else.
    fn engine(&self, capacity: Capacity, interrupt: &Interrupt) -> Result<Box<dyn Engine>>;
}

/// What one session computes with.
pub(crate) trait Engine: Send {
    /// The sizes it was made with.
    fn capacity(&self) -> Capacity;

    /// Whether some layers hold the state of a sequence's latest position alone, so that it cannot be cut back to an earlier one.
    fn is_recurrent(&self) -> bool;

    /// As [`Backend::rows_cost`].
    fn rows_cost(&self, rows: usize) -> f64;

    /// Whether [`Engine::rehearsed`] would not have to block.
    fn poll_rehearsed(&mut self, context: &mut Context<'_>) -> Poll<()>;

    /// Waits for the steps that were tried, if the device [wants that](Backend::wants_rehearsal).
    ///
    /// # Errors
    /// [`Error::Device`] if one of them failed.
    fn rehearsed(&mut self) -> Result<()>;

    /// Runs a step, or sends it to the device. Does not wait.
    fn start(&mut self, step: &Step<'_>);

    /// Waits until the step that was started last is done, and for what was wanted of it.
    ///
    /// # Errors
    /// [`Error::Device`] if the device failed; [`Error::Interrupted`] if the session's interrupt was set: then what the step wrote to
    /// the caches means nothing.
    fn finish(&mut self) -> Result<()>;

    /// Whether [`Engine::finish`] would not have to block, where nothing may: see [`Backend::poll_done`].
    fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<()>;

    /// What that was.
    fn chosen(&self) -> Chosen<'_>;

    /// The logits of some of the last step's rows that want them, counted in their order, `[selected.len(), vocabulary]`: at most
    /// [`Capacity::selected`] at once. Waits.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if one of them is no finite number, [`Error::Device`] if the device failed.
    fn logits(&mut self, selected: Range<usize>) -> Result<&mut [f32]>;

    /// Whether [`Engine::logits`] would not have to block. Starts on them.
    fn poll_logits(&mut self, selected: Range<usize>, context: &mut Context<'_>) -> Poll<()>;

    /// The features after the last norm, as [`Engine::logits`]: `[selected.len(), width]`. Waits.
    ///
    /// # Errors
    /// As [`Engine::logits`].
    fn features(&mut self, selected: Range<usize>) -> Result<&[f32]>;

    /// The first positions of one slot become those of another, or of itself; of recurrent layers the state that is meant.
    fn copy_prefix(&mut self, from: u32, to: u32, positions: usize, state: KeptState) -> Result<()>;

    /// Keeps what recurrent layers hold of a slot as its snapshot.
    fn keep_snapshot(&mut self, slot: u32) -> Result<()>;

    /// Where numbers stopped being finite, after an [`Error::NotFinite`]: that error, with what was found. `places`: slots, and how
    /// many positions of each were computed.
    fn why_not_finite(&mut self, places: &[(usize, usize)]) -> Error;

    /// The device as it turned out, for people.
    fn describe(&self) -> String;

    /// What the device did for this session.
    fn work(&self) -> Work;

    /// Bytes that the caches were given.
    fn cache_bytes(&self) -> u64;

    /// Bytes of memory of its own that the device gave to this session; none where it has none.
    fn device_bytes(&self) -> Option<u64>;

    /// What a GPU did for this session; none elsewhere.
    fn gpu_counters(&self) -> Option<GpuCounters>;

    /// Times every shader from now on.
    fn profile(&mut self) -> Result<()>;

    /// What each shader took since then.
    fn shader_times(&self) -> Vec<ShaderTime>;
}

/// The one kind of [`Engine`], for each backend.
struct BackendEngine<B: Backend> {
    backend: B,
    transformer: Arc<Transformer<B>>,
    state: State<B>,
    capacity: Capacity,
    /// Heeded from the start of a step to its finish.
    interrupt: Interrupt,
    /// Of the step that was started last.
    wanted: Wanted,
    selected: usize,
    logits: Vec<f32>, // [vocabulary], or as many rows of logits (or features) as were wanted at once
    best: Vec<u32>,   // [capacity.selected]
    top: Vec<u32>,    // [capacity.selected, MOST_CANDIDATES], as `top_logits`
    top_logits: Vec<f32>,
    totals: Vec<f32>, // [capacity.selected, 2]
    ahead: Ahead,
}

impl<B: Backend> BackendEngine<B> {
    fn new(
        mut backend: B,
        transformer: Arc<Transformer<B>>,
        capacity: Capacity,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        let Capacity { rows, selected, .. } = capacity;
        let candidates = selected * MOST_CANDIDATES;
        let mut engine = Self {
            state: State::new(&mut backend, &transformer, capacity)?,
            backend,
            capacity,
            interrupt: interrupt.clone(),
            wanted: Wanted::Nothing,
            selected: 0,
            logits: filled(transformer.config().vocabulary, 0.0)?,
            transformer,
            best: filled(selected, 0)?,
            top: filled(candidates, 0)?,
            top_logits: filled(candidates, 0.0)?,
            totals: filled(2 * selected, 0.0)?,
            ahead: Ahead::with_room(rows, selected),
        };
        if engine.backend.wants_rehearsal() {
            engine.rehearse();
        }
        Ok(engine)
    }

    /// Runs a step of each kind: one row at the end of the longest sequence, rows of few and of all sequences, a whole chunk.
    /// What they leave in the caches is overwritten before it is read.
    fn rehearse(&mut self) {
        let Capacity { rows, selected, sequences, positions, .. } = self.capacity;
        let row = |sequence, position, wants_logits| Row { sequence, position, wants_logits };
        let most = sequences.min(rows).min(selected);
        let batches = (1..).map(|power| 1 << power).take_while(|&count| count < most.min(8)).chain([most]);
        let mut steps: Vec<Vec<Row>> =
            batches.map(|count| (0..count as u32).map(|sequence| row(sequence, 0, true)).collect()).collect();
        steps.push(vec![row(0, positions as u32 - 1, true)]);
        steps.push((0..rows.min(positions) as u32).map(|position| row(0, position, position == 0)).collect());
        for rows in steps {
            let ids = vec![0; rows.len()];
            let selected = rows.iter().filter(|row| row.wants_logits).count();
            let Self { transformer, backend, state, .. } = self;
            transformer.forward(backend, state, Input::Ids(&ids), &rows, Wanted::Best);
            transformer.head(backend, state, 0..selected, Wanted::Candidates(1));
            backend.end();
        }
    }

    /// Runs the head again, if these logits are not there.
    fn compute_logits(&mut self, selected: &Range<usize>) {
        if !self.state.has_logits(selected) {
            self.transformer.head(&mut self.backend, &mut self.state, selected.clone(), Wanted::Logits);
            self.backend.end();
        }
    }

    /// Starts on the steps that follow one of which the best tokens are wanted, as far as the device works ahead.
    fn start_ahead(&mut self, steps: usize) {
        let Ahead { steps: pending, last_rows, .. } = &mut self.ahead;
        // What a step leaves in a recurrent layer cannot be taken back if something else comes.
        let is_recurrent = self.transformer.config().delta_net.is_some();
        let most = if is_recurrent { 0 } else { self.backend.steps_ahead().min(steps) };
        while self.selected > 0 && *pending <= most {
            last_rows.retain(|row| row.wants_logits);
            last_rows.iter_mut().for_each(|row| row.position += 1);
            if last_rows.iter().any(|row| row.position as usize >= self.capacity.positions) {
                break;
            }
            self.transformer.forward(&mut self.backend, &mut self.state, Input::Chosen, last_rows, Wanted::Best);
            *pending += 1;
        }
    }

    /// Reads the best tokens of the step that was started first, and notes which step they would make the next.
    fn read_best(&mut self) -> Result<()> {
        let Ahead { steps: pending, rows, tokens, .. } = &mut self.ahead;
        *pending -= 1;
        let best = &mut self.best[..self.selected];
        let read = self.state.read_best(&mut self.backend, *pending, best);
        if read.is_err() || best.contains(&NO_TOKEN) {
            *pending = 0; // what follows from no token means nothing
        }
        read?;
        rows.retain(|row| row.wants_logits);
        rows.iter_mut().for_each(|row| row.position += 1);
        tokens.clear();
        tokens.extend_from_slice(best);
        Ok(())
    }

    /// Reads what was wanted of the step that was started last.
    fn collect(&mut self) -> Result<()> {
        let Self { backend, state, selected, .. } = self;
        let candidates = *selected * MOST_CANDIDATES;
        match self.wanted {
            _ if *selected == 0 => backend.wait(),
            Wanted::Best => self.read_best(),
            Wanted::Candidates(_) | Wanted::Totals(_) => {
                state.read_candidates(backend, &mut self.top[..candidates], &mut self.top_logits[..candidates])?;
                match self.wanted {
                    Wanted::Totals(_) => state.read_totals(backend, &mut self.totals[..2 * *selected]),
                    _ => Ok(()),
                }
            }
            Wanted::Nothing | Wanted::Logits | Wanted::Features => backend.wait(),
        }
    }
}

impl<B: Backend + 'static> Engine for BackendEngine<B> {
    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn is_recurrent(&self) -> bool {
        self.transformer.config().delta_net.is_some()
    }

    fn rows_cost(&self, rows: usize) -> f64 {
        self.backend.rows_cost(rows)
    }

    fn start(&mut self, step: &Step<'_>) {
        assert!(step.tokens.len() == step.rows.len() && step.rows.len() <= self.capacity.rows);
        self.backend.heed(Some(&self.interrupt));
        self.wanted = step.wanted;
        self.selected = step.rows.iter().filter(|row| row.wants_logits).count();
        let has_started = step.wanted == Wanted::Best && self.ahead.has_started(step);
        if !has_started {
            if let Wanted::Totals(_) = step.wanted {
                self.state.write_factors(&mut self.backend, step.factors);
            }
            let input = Input::Ids(step.tokens);
            self.transformer.forward(&mut self.backend, &mut self.state, input, step.rows, step.wanted);
            self.ahead.steps = 0;
        }
        if step.wanted == Wanted::Best {
            if !has_started {
                self.ahead.steps = 1;
                self.ahead.rows.clear();
                self.ahead.rows.extend_from_slice(step.rows);
                self.ahead.last_rows.clear();
                self.ahead.last_rows.extend_from_slice(step.rows);
            }
            self.start_ahead(step.steps_ahead);
        }
    }

    fn poll_rehearsed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self.backend.wants_rehearsal() {
            true => self.state.poll_best(&mut self.backend, 0, 1, context),
            false => Poll::Ready(()),
        }
    }

    fn rehearsed(&mut self) -> Result<()> {
        match self.backend.wants_rehearsal() {
            true => self.state.read_best(&mut self.backend, 0, &mut [0]),
            false => Ok(()),
        }
    }

    fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Self { backend, state, selected, .. } = self;
        match self.wanted {
            _ if *selected == 0 => backend.poll_done(context),
            Wanted::Best => state.poll_best(backend, self.ahead.steps - 1, *selected, context),
            Wanted::Candidates(_) => state.poll_candidates(backend, *selected, false, context),
            Wanted::Totals(_) => state.poll_candidates(backend, *selected, true, context),
            Wanted::Nothing | Wanted::Logits | Wanted::Features => backend.poll_done(context),
        }
    }

    fn finish(&mut self) -> Result<()> {
        let outcome = self.collect();
        self.backend.heed(None);
        if self.interrupt.take() {
            self.ahead.steps = 0;
            return Err(Error::Interrupted);
        }
        outcome
    }

    fn chosen(&self) -> Chosen<'_> {
        let (count, totals) = match self.wanted {
            Wanted::Best => return Chosen::Best(&self.best[..self.selected]),
            Wanted::Candidates(count) => (count, 0),
            Wanted::Totals(count) => (count, 2 * self.selected),
            Wanted::Nothing | Wanted::Logits | Wanted::Features => return Chosen::Nothing,
        };
        let (ids, logits, totals) = (&self.top, &self.top_logits, &self.totals[..totals]);
        Chosen::Candidates(AllCandidates { count, ids, logits, totals })
    }

    fn poll_logits(&mut self, selected: Range<usize>, context: &mut Context<'_>) -> Poll<()> {
        self.compute_logits(&selected);
        let vocabulary = self.transformer.config().vocabulary;
        self.state.poll_logits(&mut self.backend, selected, vocabulary, context)
    }

    fn logits(&mut self, selected: Range<usize>) -> Result<&mut [f32]> {
        self.compute_logits(&selected);
        let logits = room(&mut self.logits, selected.len() * self.transformer.config().vocabulary)?;
        self.state.read_logits(&mut self.backend, selected, logits)?;
        all_finite(logits)?;
        Ok(logits)
    }

    fn features(&mut self, selected: Range<usize>) -> Result<&[f32]> {
        self.transformer.head(&mut self.backend, &mut self.state, selected.clone(), Wanted::Features);
        self.backend.end();
        let features = room(&mut self.logits, selected.len() * self.transformer.config().width)?;
        self.state.read_features(&mut self.backend, features)?;
        all_finite(features)?;
        Ok(features)
    }

    fn copy_prefix(&mut self, from: u32, to: u32, positions: usize, state: KeptState) -> Result<()> {
        self.ahead.steps = 0;
        self.state.copy_prefix(&mut self.backend, from, to, positions, state)
    }

    fn keep_snapshot(&mut self, slot: u32) -> Result<()> {
        self.state.keep_snapshot(&mut self.backend, slot)
    }

    fn why_not_finite(&mut self, places: &[(usize, usize)]) -> Error {
        match diagnosis::origin(&mut self.backend, &self.state, places) {
            Ok(origin) => Error::NotFinite(format!(": {origin}")),
            Err(error) => error,
        }
    }

    fn describe(&self) -> String {
        self.backend.describe()
    }

    fn work(&self) -> Work {
        self.backend.work()
    }

    fn cache_bytes(&self) -> u64 {
        self.state.cache_bytes(&self.backend)
    }

    fn device_bytes(&self) -> Option<u64> {
        self.backend.device_bytes()
    }

    fn gpu_counters(&self) -> Option<GpuCounters> {
        self.backend.gpu_counters()
    }

    fn profile(&mut self) -> Result<()> {
        self.backend.profile()
    }

    fn shader_times(&self) -> Vec<ShaderTime> {
        self.backend.shader_times()
    }
}

/// Refuses what is no finite number.
fn all_finite(values: &[f32]) -> Result<()> {
    match values.iter().all(|value| value.is_finite()) {
        true => Ok(()),
        false => Err(Error::not_finite()),
    }
}

/// The first `count` of values that grow when that is not enough.
fn room(values: &mut Vec<f32>, count: usize) -> Result<&mut [f32]> {
    if values.len() < count {
        reserve(values, count - values.len())?;
        values.resize(count, 0.0);
    }
    Ok(&mut values[..count])
}
