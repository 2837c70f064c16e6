//! An opened model: config, tokenizer and weights by role, on no device yet.

mod config;
mod directory;
mod file;
mod huggingface;
mod padding;
mod roles;
mod sampling;
mod soundness;
mod synthetic;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

pub(crate) use config::NUMERICS as NUMERICS_KEY;
pub use config::{Config, DeltaNet, Factors, Hadamard, LongRope, Mixture, Pooling, RopeScaling, Windows};
pub use file::OpenOptions;
pub use roles::{Part, Role};
pub use sampling::SamplingDefaults;
pub use soundness::Examined;
pub use synthetic::{SyntheticScales, SyntheticShape};

use crate::backend::Numerics;
use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::format::encodings::{Encoding, Suspicion};
use crate::format::gguf::{Gguf, Metadata};
use crate::format::ranges::Section;
use crate::format::safetensors::Checkpoint;
use crate::format::{Ranges, Weights, locate};
use crate::tokenizer::Tokenizer;

/// A model that is ready to be put on a device. Cheap to clone; the weights stay where the file is, in its map or in memory.
#[derive(Clone)]
pub struct Model {
    config: Config,
    tokenizer: Option<Arc<Tokenizer>>,
    chat_template: Option<Arc<str>>,
    metadata: Arc<Metadata>,
    weights: Arc<dyn WeightSource>,
    sampling: SamplingDefaults,
    /// Rows of the embedding as they are stored; the config's vocabulary are those that are tokens.
    rows: usize,
    decisions: Vec<Decision>,
}

/// Where weights come from: a file, or a seeded generator.
trait WeightSource: Send + Sync {
    /// The weights of a role with the shape that the config demands; `None` if the model has none there.
    fn weights(&self, role: Role) -> Result<Option<Weights>>;

    /// What the source calls the tensor of a role.
    fn name(&self, role: Role) -> String {
        role.gguf_name()
    }

    /// Whether there are weights of a role.
    fn has(&self, role: Role) -> bool;

    /// The bytes of a role's tensor as they lie in a GGUF file.
    fn stored(&self, _role: Role) -> Option<(Encoding, Section)> {
        None
    }

    /// What a look at a few places of the first rows of a role's tensor suspects; no more of it is read.
    ///
    /// # Errors
    /// [`Error::Io`] if they cannot be read.
    fn suspect(&self, _role: Role, _rows: usize) -> Result<Option<Suspicion>> {
        Ok(None)
    }

    /// The longest run of zero bytes in a role's tensor, if it is longer than rows of zeros explain.
    ///
    /// # Errors
    /// [`Error::Io`] if they cannot be read.
    fn blank_bytes(&self, _role: Role) -> Result<Option<usize>> {
        Ok(None)
    }

    /// Zero bytes at the end of the file.
    fn zero_tail(&self) -> usize {
        0
    }
}

impl Model {
    /// Opens a GGUF file, or a directory in Hugging Face form: `config.json` with `model.safetensors` or its shards, and
    /// `tokenizer.json`. The path of a `.safetensors` file stands for its directory, and that of a directory with one GGUF file
    /// for that file. Files of weights are mapped, every key
    /// and tensor is checked, and the tokenizer is built; weights are read when a session is made. A directory without a
    /// tokenizer opens too, for callers that have token ids.
    ///
    /// The files must not be changed or truncated while the model or one of its sessions is in use, also not by another
    /// process: a change would change the model, and a truncated file would kill the process (SIGBUS on Unix) when the
    /// missing part is touched. To replace a model file, write another beside it and rename that one. Where nobody can
    /// promise this, have the file read ([`OpenOptions::map`]) or bring its bytes ([`Model::from_bytes`]).
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be opened, [`Error::Malformed`] if it is damaged, [`Error::Unsupported`] or
    /// [`Error::Model`] if it cannot be run; each names the key or tensor.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &OpenOptions::default())
    }

    /// [`Model::open`] with options for what a file does not say of itself, and for reading it instead of mapping it:
    ///
    /// ```
    /// use sterna::model::{Model, OpenOptions};
    ///
    /// // What happens to the file from here on does not matter.
    /// let options = OpenOptions { map: false, ..OpenOptions::default() };
    /// let model = Model::open_with("models/tales-4m-i2_s.gguf", &options)?;
    /// # Ok::<(), sterna::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Model::open`]. A file that is read also gives [`Error::Io`] if there is no memory of its length, or if it does
    /// not have the length that it is said to have.
    pub fn open_with(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self> {
        let path = locate(path)?;
        let model = match Checkpoint::directory(&path) {
            Some(directory) => huggingface::open(directory, options)?,
            None => file::open(&path, options)?,
        };
        let mut model = model.of_tokens_alone().with_asked_numerics(options).with_asked_rotations(options)?.vetted()?;
        if !options.map {
            model.decisions.push(Decision::new("weights", "read into memory", "asked for by the caller"));
        }
        Ok(model)
    }

    /// A model from the bytes of a GGUF file: built into the program, received over a network, decrypted. They are kept
    /// and not copied.
    ///
    /// ```
    /// use sterna::Model;
    ///
    /// static TALES: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/models/tales-4m-i2_s.gguf"));
    /// let model = Model::from_bytes(TALES)?;
    /// # Ok::<(), sterna::Error>(())
    /// ```
    ///
    /// They may lie at any address. A directory in Hugging Face form is several files, and has no such form: open it with
    /// [`OpenOptions::map`] false to have it in memory, or convert it ([`mod@crate::convert`]) to one GGUF file.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::Unsupported`] or [`Error::Model`], as [`Model::open`].
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self> {
        Self::from_bytes_with(bytes, &OpenOptions::default())
    }

    /// [`Model::from_bytes`] with options for what a file does not say of itself. [`OpenOptions::map`] means nothing here.
    ///
    /// # Errors
    /// As [`Model::from_bytes`].
    pub fn from_bytes_with(bytes: impl Into<Bytes>, options: &OpenOptions) -> Result<Self> {
        Self::of_gguf(Gguf::parse(bytes.into())?, options)
    }

    /// A model in a GGUF file of which pieces are read when they are needed. For files that cannot be mapped and should not be held in
    /// memory beside what is made of them, as in a browser.
    ///
    /// Opening reads the beginning, which is kept, the gains of norms, and a few places of each matrix, as it does of a file that is mapped;
    /// loading reads each tensor once. Only what looks empty is read as a whole when it is opened, and a layer of each kind of floats
    /// that may be ternary.
    ///
    /// # Errors
    /// As [`Model::from_bytes_with`], and [`Error::Io`] if a piece cannot be read.
    pub fn from_ranges(source: Arc<dyn Ranges>, options: &OpenOptions) -> Result<Self> {
        Self::of_gguf(Gguf::from_ranges(source)?, options)
    }

    fn of_gguf(gguf: Gguf, options: &OpenOptions) -> Result<Self> {
        file::from_gguf(gguf, options)?
            .of_tokens_alone()
            .with_asked_numerics(options)
            .with_asked_rotations(options)?
            .vetted()
    }

    /// A model of a known shape with seeded random trits and no file, for measuring speed: it has the real amount of
    /// work, its output means nothing, and it has no tokenizer.
    pub fn synthetic(shape: SyntheticShape, seed: u64) -> Self {
        Self::synthetic_with(shape, SyntheticScales::Tensor, seed)
    }

    /// [`Model::synthetic`] with a choice of what a scale covers.
    pub fn synthetic_with(shape: SyntheticShape, scales: SyntheticScales, seed: u64) -> Self {
        let (config, weights) = synthetic::build(shape, scales, seed);
        let why = "made for measuring; the output means nothing";
        let decisions = vec![Decision::new("weights", format!("random trits of seed {seed}"), why)];
        Self {
            rows: config.vocabulary,
            config,
            tokenizer: None,
            chat_template: None,
            metadata: Arc::default(),
            weights: Arc::new(weights),
            sampling: SamplingDefaults::default(),
            decisions,
        }
    }

    /// Without the rows of embedding and head that are no tokens, which would else be drawn: many models have more rows than
    /// tokens, to make them a multiple of something.
    fn of_tokens_alone(mut self) -> Self {
        let tokens = self.tokenizer.as_ref().map_or(self.rows, |tokenizer| tokenizer.used_size());
        if (1..self.rows).contains(&tokens) {
            let choice = format!("{tokens} tokens of {} rows", self.rows);
            let why = "the tokenizer has no more; the other rows of embedding and head are left out";
            self.decisions.push(Decision::new("vocabulary", choice, why));
            self.config.vocabulary = tokens;
        }
        self
    }

    /// The model with all rows that are stored, for whoever stores them again.
    pub(crate) fn with_all_rows(&self) -> Self {
        let mut model = self.clone();
        model.config.vocabulary = model.rows;
        model
    }

    fn with_asked_numerics(self, options: &OpenOptions) -> Self {
        match options.numerics {
            Some(numerics) => self.with_numerics(numerics),
            None => self,
        }
    }

    fn with_asked_rotations(mut self, options: &OpenOptions) -> Result<Self> {
        let Some(scaling) = options.rope_scaling else { return Ok(self) };
        let divisors = [Role::RopeFactors, Role::ShortRopeFactors, Role::LongRopeFactors];
        let has_divisors = divisors.into_iter().any(|role| self.weights.has(role));
        let (config, metadata, decision) = self.config.stretched(&self.metadata, has_divisors, scaling)?;
        self.config = config;
        self.metadata = Arc::new(metadata);
        self.decisions.push(decision);
        Ok(self)
    }

    /// The same weights, with the inputs of linear layers held in another way, as [`OpenOptions::numerics`] asks.
    pub fn with_numerics(&self, numerics: Numerics) -> Self {
        let mut model = self.clone();
        model.config.numerics = numerics;
        model.decisions.retain(|decision| decision.subject != "numerics");
        model.decisions.push(Decision::new("numerics", numerics.to_string(), "asked for by the caller"));
        model
    }

    /// The network of the first `layers` layers, with the embedding, the last norm and the head of the whole: to compare
    /// devices on real weights in a part of the time. More layers than there are change nothing.
    pub fn first_layers(&self, layers: usize) -> Self {
        let mut model = self.clone();
        if layers < model.config.layers {
            let choice = format!("the first {layers} of {}", model.config.layers);
            model.decisions.push(Decision::new("layers", choice, "asked for; the output means nothing"));
            model.config.layers = layers;
        }
        model
    }

    /// The numbers that describe the network.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The tokenizer of the file or directory.
    ///
    /// # Errors
    /// [`Error::Input`] if there is none: the model is synthetic, or its directory has no `tokenizer.json`.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.some_tokenizer()
            .ok_or_else(|| Error::Input("this model has no tokenizer; give it token ids instead of text".into()))
    }

    /// The same, for whoever asks at every token and needs no words.
    pub(crate) fn some_tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_deref()
    }

    /// How turns of a conversation become text, as a Jinja template, if the model brings one. [`Model::chat`] applies it; prompts of
    /// text are taken as they are.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }

    /// How the model asks to be sampled: `general.sampling` keys of a GGUF file, `generation_config.json` of a directory. A
    /// generation is sampled as its options say; whoever has none of their own begins with
    /// [`SamplingDefaults::sampling`].
    pub fn sampling_defaults(&self) -> &SamplingDefaults {
        &self.sampling
    }

    /// The keys of the GGUF file; of a directory, those that a GGUF file of the same model has. A synthetic model has none.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Every place in the network for which the model has weights, in the order of the forward pass.
    pub fn roles(&self) -> Vec<Role> {
        let has = |role: &Role| self.weights.has(*role);
        let divisors = [Role::RopeFactors, Role::ShortRopeFactors, Role::LongRopeFactors];
        let mut roles = vec![Role::Embedding];
        roles.extend(divisors.iter().filter(|role| has(role)));
        for layer in 0..self.config.layers {
            let parts = Part::ALL.iter().filter(|(part, _)| part.is_in(&self.config, layer));
            roles.extend(parts.map(|(part, _)| Role::Layer(layer, *part)));
        }
        roles.extend([Role::OutputNorm, Role::Head].iter().filter(|role| has(role)));
        roles
    }

    /// The bytes of a role's tensor as they lie in the GGUF file, and their encoding; none in a directory.
    pub(crate) fn stored(&self, role: Role) -> Option<(Encoding, Section)> {
        self.weights.stored(role)
    }

    /// Every choice that loading took, and why.
    pub fn decisions(&self) -> &[Decision] {
        &self.decisions
    }

    /// The weights of a role, decoded; `None` if the model has none there (a tied head, no sub-norms).
    ///
    /// # Errors
    /// [`Error::Malformed`] or [`Error::Model`] if the tensor's bytes are not what they claim to be.
    pub fn weights(&self, role: Role) -> Result<Option<Weights>> {
        let weights = self.weights.weights(role)?;
        Ok(match role {
            Role::Embedding | Role::Head => weights.map(|weights| weights.first_rows(self.config.vocabulary)),
            _ => weights,
        })
    }

    /// [`Model::weights`] of a role that must be there.
    pub(crate) fn required(&self, role: Role) -> Result<Weights> {
        self.weights(role)?
            .ok_or_else(|| Error::Model(format!("the tensor \"{}\" is missing", self.weights.name(role))))
    }

    /// The weights of a role, refused if they hold codes that are no trits; all of them are read.
    pub(crate) fn looked_through(&self, role: Role, weights: Weights) -> Result<Weights> {
        match &weights {
            Weights::Ternary(ternary) => match ternary.wrong_row() {
                Some(row) => Err(Error::Malformed(format!(
                    "tensor \"{}\": row {row} holds the code 3, which is no trit",
                    self.weights.name(role)
                ))),
                None => Ok(weights),
            },
            Weights::Dense(_) => Ok(weights),
        }
    }

    /// The gain of a norm, or other floats of a layer, as f32, if they are there.
    pub(crate) fn floats(&self, role: Role) -> Result<Option<Vec<f32>>> {
        let name = self.weights.name(role);
        match self.weights(role)? {
            None => Ok(None),
            Some(Weights::Dense(dense)) => {
                let floats = dense.try_to_f32()?;
                // One value that is no number would make every logit one, and greedy decoding would not notice.
                let what = if role.is_gain() { "gain" } else { "value" };
                if let Some(place) = floats.iter().position(|value| !value.is_finite()) {
                    let value = floats[place];
                    return Err(Error::Malformed(format!("tensor \"{name}\": the {what} {place} is {value}")));
                }
                // A memory that grows from row to row leaves the numbers sooner or later.
                let grows = |value: &f32| matches!(role, Role::Layer(_, Part::DeltaRate)) && *value > 0.0;
                if let Some(value) = floats.iter().find(|value| grows(value)) {
                    return Err(Error::Malformed(format!(
                        "tensor \"{name}\": the rate {value}; memories fade, at rates that are not above 0"
                    )));
                }
                if role.is_gain() && floats.iter().all(|value| *value == 0.0) {
                    return Err(self.all_zero(role, "every gain is 0"));
                }
                Ok(Some(floats))
            }
            Some(Weights::Ternary(_)) => {
                Err(Error::Model(format!("tensor \"{name}\" is ternary, where floats are needed")))
            }
        }
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("config", &self.config).finish_non_exhaustive()
    }
}
