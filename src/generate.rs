//! Text generation: a [`Session`] holds a model on a device and the caches of its sequences; iterators yield tokens or
//! text as they are made.

mod batch;
mod embed;
mod options;
mod sampler;
mod stop;
mod streams;

use std::ops::ControlFlow;

pub use batch::{Batch, Finish, Piece};
pub use options::{GenerateOptions, Prompt, Sampling, SessionOptions};
pub use streams::{Text, TokenIds};

use crate::backend::{Backend, Row};
use crate::device::Device;
use crate::engine::{BackendEngine, Engine, Wanted};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, GpuCounters, ShaderTime};
use crate::measure::Work;
use crate::model::Model;

/// A model on a device, with room for one or several sequences.
///
/// A sequence's cache outlives the generation that filled it: the next prompt on the same slot reuses the longest
/// common prefix and only computes the rest.
pub struct Session {
    model: Model,
    engine: Box<dyn Engine>,
    device: String,
    positions: usize,
    chunk: usize,
    cached: Vec<Vec<u32>>, // [sequences], the ids whose keys and values each slot holds
}

impl Session {
    /// Puts a model on a device.
    ///
    /// # Errors
    /// [`Error::Device`] if the device cannot hold it, [`Error::Input`] for impossible options, otherwise those of
    /// [`Model::weights`].
    pub fn new(model: &Model, device: &Device, options: &SessionOptions) -> Result<Self> {
        Self::with_progress(model, device, options, &mut |_, _| {})
    }

    /// [`Session::new`], telling `progress` the number of layers loaded, and of all.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn with_progress(
        model: &Model,
        device: &Device,
        options: &SessionOptions,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self> {
        let (engine, device) = device.load(model, options, progress)?;
        Ok(Self::from_engine(model, engine, device))
    }

    /// A session on any [`Backend`]: for backends of your own, and for holding a model against the reference.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn with_backend<B: Backend + 'static>(model: &Model, backend: B, options: &SessionOptions) -> Result<Self> {
        let engine = BackendEngine::load(backend, model, options, &mut |_, _| {})?;
        Ok(Self::from_engine(model, Box::new(engine), std::any::type_name::<B>().into()))
    }

    fn from_engine(model: &Model, engine: Box<dyn Engine>, device: String) -> Self {
        let capacity = engine.capacity();
        // Room for all, so that no token allocates.
        let cached = (0..capacity.sequences).map(|_| Vec::with_capacity(capacity.positions)).collect();
        Self { model: model.clone(), engine, device, positions: capacity.positions, chunk: capacity.rows, cached }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The device as it turned out, for example "cpu, avx2, 2 threads".
    pub fn device(&self) -> &str {
        &self.device
    }

    /// What a GPU did for this session, its load included; none on other devices.
    pub fn gpu_counters(&self) -> Option<GpuCounters> {
        self.engine.gpu().map(Gpu::counters)
    }

    /// Times every shader from now on, which slows each step down.
    ///
    /// # Errors
    /// [`Error::Device`] if the device is no GPU, or a GPU without timestamps.
    pub fn profile(&mut self) -> Result<()> {
        match self.engine.gpu_mut() {
            Some(gpu) => gpu.profile(),
            None => {
                Err(Error::Device(format!("\"{}\" runs no shaders that could be timed; choose a GPU", self.device)))
            }
        }
    }

    /// What each shader took since [`Session::profile`], the longest first.
    pub fn shader_times(&self) -> Vec<ShaderTime> {
        self.engine.gpu().map(Gpu::shader_times).unwrap_or_default()
    }

    /// Positions that each sequence has room for.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// What the device did since the session was made: the kernels that ran, and the bytes that they had to read.
    pub fn work(&self) -> Work {
        self.engine.work()
    }

    /// Bytes of memory that the caches of keys and values were given, all layers and sequences together.
    pub fn cache_bytes(&self) -> u64 {
        self.engine.cache_bytes()
    }

    /// Bytes of memory of its own that the device holds for this session: weights, caches, activations. None where the device
    /// shares the memory of the process, as a CPU does.
    pub fn device_bytes(&self) -> Option<u64> {
        self.engine.device_bytes()
    }

    /// Sequences that can be held at once.
    pub fn sequences(&self) -> usize {
        self.cached.len()
    }

    /// Continues a text. The beginning-of-sequence token is added as the model's tokenizer asks; special tokens that
    /// are spelled in the prompt count as such.
    ///
    /// # Errors
    /// [`Error::Input`] if the prompt is longer than the session's positions, or an option is out of range.
    pub fn generate(&mut self, prompt: &str, options: &GenerateOptions) -> Result<Text<'_>> {
        let ids = self.model.tokenizer()?.encode_prompt(prompt)?;
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

    /// Continues several prompts at once, one in each slot: every step computes one row of each that is not finished.
    /// Each sequence's tokens are those it would get alone. Pieces carry text if the model has a tokenizer.
    ///
    /// # Errors
    /// As [`Session::generate_ids`], and if there are more prompts than [`Session::sequences`].
    pub fn generate_batch(&mut self, prompts: &[Prompt]) -> Result<Batch<'_>> {
        let texts = self.model.tokenizer().is_ok();
        Batch::new(self, prompts, texts)
    }

    /// Computes the cache of the first slot for `ids` ahead of a generation, chunk by chunk. After each chunk
    /// `progress` is told how many ids are done and may stop; what was done stays cached.
    ///
    /// # Errors
    /// [`Error::Input`] for ids outside the vocabulary or more than [`Session::positions`].
    pub fn prefill(
        &mut self,
        ids: &[u32],
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        self.check_ids(ids)?;
        let mut done = self.reuse_prefix(0, ids);
        while done < ids.len() {
            let chunk = &ids[done..ids.len().min(done + self.chunk)];
            let rows: Vec<Row> = (done..).map(|position| row(0, position, false)).take(chunk.len()).collect();
            self.forward(chunk, &rows, Wanted::Best { best: &mut Vec::new(), steps: 0 })?;
            done += chunk.len();
            if progress(done, ids.len()).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Runs `ids` from an empty cache in the first slot, and hands over the logits after each position:
    /// `sink(position, logits[vocabulary])`.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub fn evaluate(&mut self, ids: &[u32], sink: &mut dyn FnMut(usize, &[f32])) -> Result<()> {
        self.check_ids(ids)?;
        self.cached[0].clear();
        let rows: Vec<Row> = (0..ids.len()).map(|position| row(0, position, true)).collect();
        let mut position = 0;
        let mut count = |logits: &mut [f32]| {
            sink(position, logits);
            position += 1;
        };
        self.forward(ids, &rows, Wanted::Logits(&mut count))
    }

    /// The logits after `ids`, `[vocabulary]`, in the first slot. What the slot has cached of them is reused, so that one more
    /// id than last time costs one row.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub fn logits(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        self.check_ids(ids)?;
        // The last one is always computed: its logits are wanted.
        let cached = self.reuse_prefix(0, &ids[..ids.len() - 1]);
        let rows: Vec<Row> = (cached..ids.len()).map(|place| row(0, place, place + 1 == ids.len())).collect();
        let mut result = Vec::new();
        self.forward(&ids[cached..], &rows, Wanted::Logits(&mut |logits| result.extend_from_slice(logits)))?;
        Ok(result)
    }

    /// The natural logarithm of the probability of each of `ids[1..]`, given those before it. The perplexity of a text
    /// is `exp(-mean)`.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub fn log_likelihoods(&mut self, ids: &[u32]) -> Result<Vec<f64>> {
        let mut result = Vec::with_capacity(ids.len());
        self.evaluate(ids, &mut |position, logits| {
            if let Some(&next) = ids.get(position + 1) {
                let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
                let total: f64 = logits.iter().map(|&l| (f64::from(l) - largest).exp()).sum();
                result.push(f64::from(logits[next as usize]) - largest - total.ln());
            }
        })?;
        Ok(result)
    }

    /// Forgets all cached sequences.
    pub fn clear(&mut self) {
        self.cached.iter_mut().for_each(Vec::clear);
    }

    /// Ids that are below the vocabulary and fit the cache.
    fn check_ids(&self, ids: &[u32]) -> Result<()> {
        let vocabulary = self.model.config().vocabulary;
        if ids.is_empty() {
            return Err(Error::Input("the prompt holds no tokens, so there is nothing to continue".into()));
        }
        if let Some(id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
            return Err(Error::Input(format!("token id {id} is outside the vocabulary of {vocabulary}")));
        }
        if ids.len() > self.positions {
            return Err(Error::Input(format!(
                "{} tokens do not fit the session's context of {} positions; make the session with a larger context",
                ids.len(),
                self.positions
            )));
        }
        Ok(())
    }

    /// Keeps the longest prefix that a slot's cache and `ids` share, and returns its length.
    fn reuse_prefix(&mut self, slot: usize, ids: &[u32]) -> usize {
        let cached = &mut self.cached[slot];
        let shared = cached.iter().zip(ids).take_while(|(a, b)| a == b).count();
        cached.truncate(shared);
        shared
    }

    /// Runs rows and notes what the slots then hold. If the device fails, their caches are forgotten.
    fn forward(&mut self, ids: &[u32], rows: &[Row], wanted: Wanted) -> Result<()> {
        let result = self.engine.forward(ids, rows, wanted);
        for (&id, row) in ids.iter().zip(rows) {
            let cached = &mut self.cached[row.sequence as usize];
            match &result {
                Ok(()) => cached.push(id),
                Err(_) => cached.clear(),
            }
        }
        result
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
