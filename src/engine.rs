//! A model on a device behind one object-safe trait: whoever generates text knows no backend. Long inputs are cut into
//! steps here, so a caller may hand over any number of rows.

use crate::backend::{Backend, NO_TOKEN, Row};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::transformer::{Capacity, MOST_CANDIDATES, Telling, Transformer};

/// What to bring back from the device for the rows that want logits, in their order.
pub(crate) enum Wanted<'a> {
    /// The most likely token of each.
    Best(&'a mut Vec<u32>),
    /// The `count` most likely tokens of each and their logits, best first. Places without a token hold −∞.
    Candidates { count: usize, sink: &'a mut dyn FnMut(&[u32], &[f32]) },
    /// All logits of each, `[vocabulary]`; the receiver may change them.
    Logits(&'a mut dyn FnMut(&mut [f32])),
}

/// A model on some device.
pub(crate) trait Engine: Send {
    /// Appends rows to the caches and brings back what is wanted. Ids, slots and positions were checked by the caller.
    fn forward(&mut self, tokens: &[u32], rows: &[Row], wanted: Wanted) -> Result<()>;
}

/// The one engine, for each backend.
pub(crate) struct BackendEngine<B: Backend> {
    backend: B,
    transformer: Transformer<B>,
    capacity: Capacity,
    vocabulary: usize,
    logits: Vec<f32>, // [capacity.selected, vocabulary], grown when logits are first wanted
    top: Vec<u32>,    // [capacity.selected, MOST_CANDIDATES], as `top_logits`
    top_logits: Vec<f32>,
}

impl<B: Backend> BackendEngine<B> {
    pub(crate) fn load(
        mut backend: B,
        model: &Model,
        capacity: Capacity,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self> {
        let transformer = Transformer::load(&mut backend, model, capacity, progress)?;
        let (vocabulary, candidates) = (model.config().vocabulary, capacity.selected * MOST_CANDIDATES);
        let (top, top_logits) = (vec![0; candidates], vec![0.0; candidates]);
        Ok(Self { backend, transformer, capacity, vocabulary, logits: Vec::new(), top, top_logits })
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

impl<B: Backend> Engine for BackendEngine<B> {
    fn forward(&mut self, mut tokens: &[u32], mut rows: &[Row], mut wanted: Wanted) -> Result<()> {
        assert_eq!(tokens.len(), rows.len());
        while !rows.is_empty() {
            let (step, later) = rows.split_at(self.step_len(rows));
            let (ids, later_ids) = tokens.split_at(step.len());
            let telling = match wanted {
                Wanted::Best(_) => Telling::Best,
                Wanted::Candidates { count, .. } => Telling::Candidates(count),
                Wanted::Logits(_) => Telling::Logits,
            };
            self.transformer.forward(&mut self.backend, ids, step, telling);
            let selected = step.iter().filter(|row| row.wants_logits).count();
            match &mut wanted {
                Wanted::Best(best) => {
                    let start = best.len();
                    best.resize(start + selected, 0);
                    self.transformer.read_best(&mut self.backend, &mut best[start..])?;
                    if best[start..].contains(&NO_TOKEN) {
                        return Err(not_finite());
                    }
                }
                Wanted::Candidates { count, sink } => {
                    let all = selected * MOST_CANDIDATES;
                    let (ids, logits) = (&mut self.top[..all], &mut self.top_logits[..all]);
                    self.transformer.read_candidates(&mut self.backend, ids, logits)?;
                    for (ids, logits) in ids.chunks_exact(MOST_CANDIDATES).zip(logits.chunks_exact(MOST_CANDIDATES)) {
                        sink(&ids[..*count], &logits[..*count]);
                    }
                }
                Wanted::Logits(sink) => {
                    let count = selected * self.vocabulary;
                    if self.logits.len() < count {
                        self.logits.resize(count, 0.0);
                    }
                    self.transformer.read_logits(&mut self.backend, &mut self.logits[..count])?;
                    self.logits[..count].chunks_exact_mut(self.vocabulary).for_each(&mut *sink);
                }
            }
            (rows, tokens) = (later, later_ids);
        }
        Ok(())
    }
}

/// A damaged embedding can do this: all other weights are checked when they are loaded.
pub(crate) fn not_finite() -> Error {
    Error::Model("the network computed logits that are not finite numbers".into())
}
