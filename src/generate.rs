//! Text generation: a [`Session`] runs sequences on a model that was loaded. They join and leave at any time, and each step
//! makes a token of every one of them, or some; iterators over the tokens or the text of one prompt, or of several, are short loops over
//! that.

mod batch;
mod embed;
mod evaluate;
mod logprobs;
mod lookup;
mod options;
mod sampler;
mod sampling;
mod schedule;
mod scheduler;
mod sequence;
mod slots;
mod stop;
mod streams;

pub use batch::Batch;
pub use logprobs::Logprobs;
pub use options::{GenerateOptions, Prompt, PromptLookup, Reuse, SessionOptions, StepBudget};
pub use sampler::{Candidates, Draw, History, Logits, Need, Sampler, Totals};
pub use sampling::Sampling;
pub use sequence::{Finish, Piece, SequenceId};
pub use streams::{Text, TokenIds};

use std::ops::ControlFlow;

use crate::backend::{Backend, GpuCounters, Row, ShaderTime, Work};
use crate::device::Device;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::generate::schedule::Schedule;
use crate::generate::slots::{Admission, Copy, Slots};
use crate::loaded::Loaded;
use crate::model::Model;

/// Sequences on a model that was loaded on a device.
///
/// What a sequence computed stays cached when it ends: the next prompt that begins alike only computes the rest.
pub struct Session {
    loaded: Loaded,
    engine: Box<dyn Engine>,
    device: String,
    slots: Slots,
    schedule: Schedule,
}

/// Tokens of a sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Those of them that were found in the cache.
    pub cached: usize,
    /// Rows that were computed and kept: the rest of the prompt, and all that was made but the last.
    pub computed: usize,
    /// Tokens that were made.
    pub made: usize,
    /// Tokens that were [drafted](GenerateOptions::lookup), a row each.
    pub drafted: usize,
    /// Those of them that were drawn, so that a step was saved.
    pub accepted: usize,
}

impl Session {
    /// Loads a model on a device for one session. Several share one [`Loaded`].
    ///
    /// # Errors
    /// [`Error::Device`] if the device cannot hold it, [`Error::Input`] for impossible options, otherwise those of
    /// [`Model::weights`].
    pub fn new(model: &Model, device: &Device, options: &SessionOptions) -> Result<Self> {
        Self::with_progress(model, device, options, &mut |_, _| ControlFlow::Continue(()))
    }

    /// [`Session::new`], telling `progress` the number of parts that are done, and of all: the layers, and the session. It may stop.
    ///
    /// # Errors
    /// As [`Session::new`], and [`Error::Interrupted`] if `progress` stopped.
    pub fn with_progress(
        model: &Model,
        device: &Device,
        options: &SessionOptions,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Self> {
        let all = model.config().layers + 1;
        let session = model.load_with_progress(device, &mut |done, _| progress(done, all))?.session(options)?;
        match progress(all, all) {
            ControlFlow::Continue(()) => Ok(session),
            ControlFlow::Break(()) => Err(Error::Interrupted),
        }
    }

    /// A session on any [`Backend`]: for backends of your own, and for holding a model against the reference.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn with_backend<B: Backend + 'static>(model: &Model, backend: B, options: &SessionOptions) -> Result<Self> {
        Loaded::on_backend(model, backend)?.session(options)
    }

    pub(crate) fn on_engine(loaded: &Loaded, engine: Box<dyn Engine>, options: &SessionOptions) -> Result<Self> {
        let capacity = engine.capacity();
        Ok(Self {
            loaded: loaded.clone(),
            device: engine.describe(),
            slots: Slots::new(capacity.sequences, capacity.positions, engine.is_recurrent())?,
            schedule: Schedule::new(capacity.rows, capacity.sequences, options.queue()),
            engine,
        })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        self.loaded.model()
    }

    /// What the session shares with others.
    pub fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// Whether the last [`step`](Session::step) was [interrupted](crate::Interrupt): then it computed nothing, made no pieces but of
    /// sequences that had left, and the next one begins it again.
    pub fn was_interrupted(&self) -> bool {
        self.schedule.interrupted
    }

    /// The device as it turned out, for example "cpu, avx2, 2 threads".
    pub fn device(&self) -> &str {
        &self.device
    }

    /// What a GPU did for this session; none on other devices.
    pub fn gpu_counters(&self) -> Option<GpuCounters> {
        self.engine.gpu_counters()
    }

    /// Times every shader from now on, which slows each step down.
    ///
    /// # Errors
    /// [`Error::Device`] if the device is no GPU, or a GPU without timestamps.
    pub fn profile(&mut self) -> Result<()> {
        self.engine.profile()
    }

    /// What each shader took since [`Session::profile`], the longest first.
    pub fn shader_times(&self) -> Vec<ShaderTime> {
        self.engine.shader_times()
    }

    /// Positions that each sequence has room for.
    pub fn positions(&self) -> usize {
        self.engine.capacity().positions
    }

    /// What the device did for this session: the kernels that ran, and the bytes that they have to read.
    pub fn work(&self) -> Work {
        self.engine.work()
    }

    /// Bytes of memory that the caches of keys and values were given, and recurrent layers' states with a snapshot of each: all layers and
    /// sequences together.
    pub fn cache_bytes(&self) -> u64 {
        self.engine.cache_bytes()
    }

    /// Bytes of memory of its own that the device holds for this session alone, caches and activations; [`Loaded::device_bytes`]
    /// are those that it shares. None where the device shares the memory of the process, as a CPU does.
    pub fn device_bytes(&self) -> Option<u64> {
        self.engine.device_bytes()
    }

    /// Sequences that can be held at once.
    pub fn sequences(&self) -> usize {
        self.slots.count()
    }

    /// Continues a text. The beginning-of-sequence token is added as the model's tokenizer asks; special tokens that
    /// are spelled in the prompt count as such.
    ///
    /// # Errors
    /// [`Error::Input`] if the prompt is longer than the session's positions, or an option is out of range; [`Error::Busy`] if
    /// sequences that [joined](Session::join) are not over.
    pub fn generate(&mut self, prompt: &str, options: &GenerateOptions) -> Result<Text<'_>> {
        let ids = self.model().tokenizer()?.encode_prompt(prompt)?;
        Ok(Text::new(Batch::new(self, &[Prompt { ids, options: options.clone() }], true)?))
    }

    /// Continues token ids. Nothing is added to them.
    ///
    /// # Errors
    /// As [`Session::generate`], and for ids outside the vocabulary or an empty prompt.
    pub fn generate_ids(&mut self, ids: &[u32], options: &GenerateOptions) -> Result<TokenIds<'_>> {
        let prompt = Prompt { ids: ids.to_vec(), options: options.clone() };
        Ok(TokenIds::new(Batch::new(self, &[prompt], false)?))
    }

    /// Continues several prompts at once, and goes on until all are done. Each sequence's tokens are those it would get alone.
    /// Pieces carry text if the model has a tokenizer.
    ///
    /// # Errors
    /// As [`Session::generate_ids`], and if there are more prompts than [`Session::sequences`].
    pub fn generate_batch(&mut self, prompts: &[Prompt]) -> Result<Batch<'_>> {
        let texts = self.model().some_tokenizer().is_some();
        Batch::new(self, prompts, texts)
    }

    /// Forgets all cached sequences, but for those that are computed.
    pub fn clear(&mut self) {
        self.slots.forget_free();
    }

    /// Ids that are below the vocabulary and fit the cache.
    fn check_ids(&self, ids: &[u32]) -> Result<()> {
        let vocabulary = self.model().config().vocabulary;
        if ids.is_empty() {
            return Err(Error::Input("the prompt holds no tokens, so there is nothing to continue".into()));
        }
        if let Some(id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
            return Err(Error::Input(format!("token id {id} is outside the vocabulary of {vocabulary}")));
        }
        if ids.len() > self.positions() {
            let (tokens, positions, most) = (ids.len(), self.positions(), self.model().config().context);
            let way = match positions < most {
                true => format!("the model takes up to {most}, if the session is made with a larger context"),
                false => "the model takes no more".into(),
            };
            return Err(Error::Input(format!(
                "{tokens} tokens do not fit the session's context of {positions} positions; {way}"
            )));
        }
        Ok(())
    }

    /// Keeps what a slot holds as its snapshot, where layers are recurrent.
    fn keep_snapshot(&mut self, slot: usize) -> Result<()> {
        if self.engine.is_recurrent() {
            self.engine.keep_snapshot(slot as u32)?;
            self.slots.note_snapshot(slot);
        }
        Ok(())
    }

    /// Does what a slot was given on condition of.
    fn copy_to(&mut self, Admission { slot, copy }: Admission) -> Result<()> {
        match copy {
            Some(Copy { from, positions, state }) => {
                self.engine.copy_prefix(from as u32, slot as u32, positions, state)?;
                // What came from another slot has a snapshot here, too.
                if from != slot { self.keep_snapshot(slot) } else { Ok(()) }
            }
            None => Ok(()),
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("device", &self.device).finish_non_exhaustive()
    }
}

/// A row of a step. Slots and positions fit u32: the capacity was checked.
fn row(slot: usize, position: usize, wants_logits: bool) -> Row {
    Row { sequence: slot as u32, position: position as u32, wants_logits }
}
