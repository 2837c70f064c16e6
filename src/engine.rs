//! A model on a device behind one object-safe trait: whoever generates text knows no backend. Long inputs are cut into
//! steps here, so a caller may hand over any number of rows.

use std::any::Any;

use crate::backend::{Backend, NO_TOKEN, Row};
use crate::error::{Error, Result};
use crate::generate::SessionOptions;
use crate::gpu::Gpu;
use crate::measure::Work;
use crate::model::Model;
use crate::transformer::{Capacity, Input, MOST_CANDIDATES, Telling, Transformer};

/// What to bring back from the device for the rows that want logits, in their order.
pub(crate) enum Wanted<'a> {
    /// The most likely token of each. The caller means to continue each with its token, at most `steps` times: a device may
    /// start on those steps. They are wasted, and do no harm, if something else comes.
    Best { best: &'a mut Vec<u32>, steps: usize },
    /// The `count` most likely tokens of each and their logits, best first. Places without a token hold −∞.
    Candidates { count: usize, sink: &'a mut dyn FnMut(&[u32], &[f32]) },
    /// All logits of each, `[vocabulary]`; the receiver may change them.
    Logits(&'a mut dyn FnMut(&mut [f32])),
    /// The features of each after the last norm, `[width]`.
    Features(&'a mut dyn FnMut(&[f32])),
}

/// A model on some device.
pub(crate) trait Engine: Send {
    /// The sizes it was loaded with.
    fn capacity(&self) -> Capacity;

    /// What the device did since it was made.
    fn work(&self) -> Work;

    /// Bytes that the caches were given.
    fn cache_bytes(&self) -> u64;

    /// Bytes of memory of its own that the device has given; none where it has none.
    fn device_bytes(&self) -> Option<u64>;

    /// Appends rows to the caches and brings back what is wanted. Ids, slots and positions were checked by the caller.
    fn forward(&mut self, tokens: &[u32], rows: &[Row], wanted: Wanted) -> Result<()>;

    /// The GPU that computes, to ask what it did; none elsewhere.
    fn gpu(&self) -> Option<&Gpu>;

    /// As [`Engine::gpu`], to have it profiled.
    fn gpu_mut(&mut self) -> Option<&mut Gpu>;
}

/// The one engine, for each backend.
pub(crate) struct BackendEngine<B: Backend> {
    backend: B,
    transformer: Transformer<B>,
    capacity: Capacity,
    vocabulary: usize,
    width: usize,
    logits: Vec<f32>, // [capacity.selected, vocabulary], grown when logits (or features) are first wanted
    top: Vec<u32>,    // [capacity.selected, MOST_CANDIDATES], as `top_logits`
    top_logits: Vec<f32>,
    ahead: Ahead,
}

/// Steps of greedy decoding that the device has and nobody has read.
#[derive(Default)]
struct Ahead {
    steps: usize,
    /// The rows that the first of them computes, and the tokens that it was given: those last read.
    rows: Vec<Row>,
    tokens: Vec<u32>,
    /// The rows of the last.
    last_rows: Vec<Row>,
}

impl<B: Backend> BackendEngine<B> {
    pub(crate) fn load(
        mut backend: B,
        model: &Model,
        options: &SessionOptions,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self> {
        let capacity = options.capacity(model.config(), backend.rows_at_once())?;
        let rehearsals = usize::from(backend.wants_rehearsal());
        let transformer =
            Transformer::load(&mut backend, model, capacity, &mut |done, all| progress(done, all + rehearsals))?;
        let (vocabulary, width) = (model.config().vocabulary, model.config().width);
        let candidates = capacity.selected * MOST_CANDIDATES;
        let (top, top_logits) = (vec![0; candidates], vec![0.0; candidates]);
        let (logits, ahead) = (Vec::new(), Ahead::default());
        let mut engine = Self { backend, transformer, capacity, vocabulary, width, logits, top, top_logits, ahead };
        if rehearsals > 0 {
            engine.rehearse()?;
            progress(model.config().layers + rehearsals, model.config().layers + rehearsals);
        }
        Ok(engine)
    }

    /// Runs a step of each kind: one row at the end of the longest sequence, rows of few and of all sequences, a whole chunk.
    /// What they leave in the caches is overwritten before it is read.
    fn rehearse(&mut self) -> Result<()> {
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
            for telling in [Telling::Best, Telling::Candidates(1)] {
                self.transformer.forward(&mut self.backend, Input::Ids(&ids), &rows, telling);
            }
        }
        self.transformer.read_best(&mut self.backend, 0, &mut [0])
    }

    fn candidates(
        &mut self,
        tokens: &[u32],
        rows: &[Row],
        count: usize,
        sink: &mut dyn FnMut(&[u32], &[f32]),
    ) -> Result<()> {
        self.ahead.steps = 0;
        self.transformer.forward(&mut self.backend, Input::Ids(tokens), rows, Telling::Candidates(count));
        let all = selected(rows) * MOST_CANDIDATES;
        let (ids, logits) = (&mut self.top[..all], &mut self.top_logits[..all]);
        self.transformer.read_candidates(&mut self.backend, ids, logits)?;
        for (ids, logits) in ids.chunks_exact(MOST_CANDIDATES).zip(logits.chunks_exact(MOST_CANDIDATES)) {
            sink(&ids[..count], &logits[..count]);
        }
        Ok(())
    }

    fn logits(&mut self, tokens: &[u32], rows: &[Row], sink: &mut dyn FnMut(&mut [f32])) -> Result<()> {
        self.ahead.steps = 0;
        self.transformer.forward(&mut self.backend, Input::Ids(tokens), rows, Telling::Logits);
        let count = selected(rows) * self.vocabulary;
        let logits = room(&mut self.logits, count);
        self.transformer.read_logits(&mut self.backend, logits)?;
        logits.chunks_exact_mut(self.vocabulary).for_each(sink);
        Ok(())
    }

    fn features(&mut self, tokens: &[u32], rows: &[Row], sink: &mut dyn FnMut(&[f32])) -> Result<()> {
        self.ahead.steps = 0;
        self.transformer.forward(&mut self.backend, Input::Ids(tokens), rows, Telling::Features);
        let features = room(&mut self.logits, selected(rows) * self.width);
        self.transformer.read_features(&mut self.backend, features)?;
        features.chunks_exact(self.width).for_each(sink);
        Ok(())
    }

    /// The most likely tokens of a step, which may have been started already; and starts on the next ones.
    fn best(&mut self, tokens: &[u32], rows: &[Row], steps: usize, best: &mut Vec<u32>) -> Result<()> {
        let Ahead { steps: pending, rows: first_rows, tokens: first_tokens, last_rows } = &mut self.ahead;
        let started = *pending > 0 && first_rows == rows && first_tokens == tokens;
        if !started {
            self.transformer.forward(&mut self.backend, Input::Ids(tokens), rows, Telling::Best);
            *pending = 1;
            last_rows.clear();
            last_rows.extend_from_slice(rows);
        }
        let selected = selected(rows);
        let most = self.backend.steps_ahead().min(steps);
        while selected > 0 && *pending <= most {
            last_rows.retain(|row| row.wants_logits);
            last_rows.iter_mut().for_each(|row| row.position += 1);
            if last_rows.iter().any(|row| row.position as usize >= self.capacity.positions) {
                break;
            }
            self.transformer.forward(&mut self.backend, Input::Chosen, last_rows, Telling::Best);
            *pending += 1;
        }
        let start = best.len();
        best.resize(start + selected, 0);
        *pending -= 1;
        let read = match selected {
            0 => Ok(()),
            _ => self.transformer.read_best(&mut self.backend, *pending, &mut best[start..]),
        };
        if read.is_err() || best[start..].contains(&NO_TOKEN) {
            *pending = 0;
            return read.and(Err(not_finite()));
        }
        first_rows.clear();
        first_rows
            .extend(rows.iter().filter(|row| row.wants_logits).map(|row| Row { position: row.position + 1, ..*row }));
        first_tokens.clear();
        first_tokens.extend_from_slice(&best[start..]);
        Ok(())
    }

    pub(crate) fn backend(&self) -> &B {
        &self.backend
    }

    /// How many of the rows fit one step.
    fn step_len(&self, rows: &[Row]) -> usize {
        let mut selected = 0;
        let fits = |row: &&Row| {
            selected += usize::from(row.wants_logits);
            selected <= self.capacity.selected
        };
        rows.iter().take(self.capacity.rows).take_while(fits).count()
    }
}

impl<B: Backend + 'static> Engine for BackendEngine<B> {
    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn work(&self) -> Work {
        self.backend.work()
    }

    fn cache_bytes(&self) -> u64 {
        self.transformer.cache_bytes(&self.backend)
    }

    fn device_bytes(&self) -> Option<u64> {
        self.backend.device_bytes()
    }

    fn forward(&mut self, mut tokens: &[u32], mut rows: &[Row], mut wanted: Wanted) -> Result<()> {
        assert_eq!(tokens.len(), rows.len());
        while !rows.is_empty() {
            let (step, later) = rows.split_at(self.step_len(rows));
            let (ids, later_ids) = tokens.split_at(step.len());
            match &mut wanted {
                Wanted::Best { best, steps } => {
                    // Only after the last of several steps is it known what comes next.
                    let steps = if later.is_empty() { *steps } else { 0 };
                    self.best(ids, step, steps, best)?;
                }
                Wanted::Candidates { count, sink } => self.candidates(ids, step, *count, sink)?,
                Wanted::Logits(sink) => self.logits(ids, step, sink)?,
                Wanted::Features(sink) => self.features(ids, step, sink)?,
            }
            (rows, tokens) = (later, later_ids);
        }
        Ok(())
    }

    fn gpu(&self) -> Option<&Gpu> {
        (&self.backend as &dyn Any).downcast_ref()
    }

    fn gpu_mut(&mut self) -> Option<&mut Gpu> {
        (&mut self.backend as &mut dyn Any).downcast_mut()
    }
}

/// The first `count` of values that grow when that is not enough.
fn room(values: &mut Vec<f32>, count: usize) -> &mut [f32] {
    if values.len() < count {
        values.resize(count, 0.0);
    }
    &mut values[..count]
}

/// How many rows want logits.
fn selected(rows: &[Row]) -> usize {
    rows.iter().filter(|row| row.wants_logits).count()
}

/// A damaged embedding can do this: all other weights are checked when they are loaded.
pub(crate) fn not_finite() -> Error {
    Error::Model("the network computed logits that are not finite numbers".into())
}
