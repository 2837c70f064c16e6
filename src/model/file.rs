//! A model in a GGUF file, or in its bytes: the directory is held against the config before anything is read, and tensors are decoded
//! by role when they are asked for.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::backend::Numerics;
use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::format::Weights;
use crate::format::encodings::{Encoding, I2sLayout, Suspicion, hidden::hidden_ternary};
use crate::format::gguf::{Encodings, Gguf, resolve};
use crate::format::ranges::Section;
use crate::model::config::{LongRope, divide, original_context, says_long_rope, unread};
use crate::model::directory::{self, named};
use crate::model::padding;
use crate::model::soundness::{blank, told_when_loaded};
use crate::model::{Config, Model, Role, RopeScaling, SamplingDefaults, WeightSource};
use crate::tokenizer::Tokenizer;

/// What a file does not say of itself, and how it is held.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Whether files of weights are mapped. Default true.
    ///
    /// A map makes opening instant, whatever the size: pages come from the file when they are first used, all processes
    /// share them, and the system drops them when it needs room. Its price is that the file stays part of the program. Bytes
    /// that somebody changes meanwhile change the model, and where a file was truncated, the first touch of a page past
    /// its new end kills the process (SIGBUS on Unix), which no library can turn into an error.
    ///
    /// With false, files are read into memory of their length, whole, before `open_with` returns, and may be changed,
    /// truncated or deleted from then on. That memory is the process's own, and stays taken as long as the model or one of
    /// its sessions lives, also beside what a session makes of the weights.
    pub map: bool,
    /// The arrangement of I2_S codes. Files made by bitnet.cpp on ARM since November 2025 need `Block64`.
    pub i2s_layout: I2sLayout,
    /// How the inputs of linear layers are held; none to let the model decide. [`Numerics::Float`] is the precise way
    /// for models that were trained with float activations; for a model trained with int8 activations, it is another
    /// network.
    pub numerics: Option<Numerics>,
    /// How rotations are stretched, to go beyond the context that the model was trained for; none for what the file says.
    /// [`Config::context`] becomes the trained one times the factor. Short texts may be understood a little worse.
    pub rope_scaling: Option<RopeScaling>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { map: true, i2s_layout: I2sLayout::default(), numerics: None, rope_scaling: None }
    }
}

pub(super) fn open(path: &Path, options: &OpenOptions) -> Result<Model> {
    from_gguf(if options.map { Gguf::open(path)? } else { Gguf::read(path)? }, options)
}

pub(super) fn from_gguf(gguf: Gguf, options: &OpenOptions) -> Result<Model> {
    // First of all, because other architectures name their tensors otherwise.
    Config::check_architecture(gguf.metadata())?;
    let vocabulary = directory::embedding_rows(&gguf)?;
    let (config, mut decisions) = Config::from_gguf(&gguf, vocabulary)?;
    let encodings = resolve(&gguf)?;
    directory::check(&gguf, &encodings, &config)?;
    if let Some(hadamard) = &config.hadamard {
        let [head, embedding] = [Role::Head, Role::Embedding].map(Role::gguf_name);
        hadamard.check_head(gguf.tensor(&head).is_some(), &head, &embedding)?;
    }
    padding::check(matrices(&gguf, &encodings), gguf.file_bytes())?;
    decisions.extend(unread(gguf.metadata(), &config)?.into_iter().map(Decision::warned));
    decisions.extend(encoding_decisions(&gguf, &encodings, options));
    let (tokenizer, tokenizer_decisions) = Tokenizer::from_gguf(gguf.metadata())?;
    decisions.extend(tokenizer_decisions);
    if tokenizer.vocabulary_size() > config.vocabulary {
        return Err(Error::Model(format!(
            "the tokenizer has {} tokens, but \"token_embd.weight\" has {} rows",
            tokenizer.vocabulary_size(),
            config.vocabulary
        )));
    }
    let mut weights = FileWeights { gguf, encodings, config: config.clone(), layout: options.i2s_layout };
    decisions.extend(weights.hidden_decisions()?);
    decisions.extend(apply_rope_factors(&mut weights)?);
    let config = weights.config.clone();
    let metadata = Arc::new(weights.gguf.metadata().clone());
    let chat_template = metadata.string("tokenizer.chat_template")?.map(Arc::from);
    let tokenizer = Some(Arc::new(tokenizer));
    let (sampling, told) = SamplingDefaults::from_keys(&metadata);
    decisions.extend(told);
    let (rows, weights) = (config.vocabulary, Arc::new(weights));
    Ok(Model { config, tokenizer, chat_template, metadata, weights, sampling, rows, decisions })
}

/// The matrices of trits of a file whose directory was checked.
fn matrices<'a>(gguf: &'a Gguf, encodings: &Encodings) -> impl Iterator<Item = padding::Stored<'a>> {
    gguf.tensors().iter().filter_map(move |info| {
        let role = Role::from_gguf_name(&info.name)?;
        let (rows, cols) = (info.rows(), info.cols());
        let encoding = encodings.of(info.type_id).ok()?;
        let bytes = encoding.size(rows, cols).ok().filter(|_| role.is_linear() || encoding.is_ternary())?;
        Some(padding::Stored { name: &info.name, rows, cols, bytes })
    })
}

/// A GGUF file whose tensors fit its config.
struct FileWeights {
    gguf: Gguf,
    encodings: Encodings,
    config: Config,
    layout: I2sLayout,
}

impl WeightSource for FileWeights {
    fn weights(&self, role: Role) -> Result<Option<Weights>> {
        let name = role.gguf_name();
        let Some(info) = self.gguf.tensor(&name) else { return Ok(None) };
        let in_tensor = |error| named(&name, error);
        let (rows, cols) = role.shape(&self.config);
        let encoding = self.encodings.of(info.type_id).map_err(in_tensor)?;
        let weights = encoding.decode(&self.gguf.read_data(info)?, rows, cols, self.layout).map_err(in_tensor)?;
        if !role.is_linear() {
            return Ok(Some(weights)); // embeddings and heads are what the file says
        }
        let Some(ternary) = weights.into_ternary().map_err(in_tensor)? else {
            return Err(Error::Unsupported(format!(
                "the linear layer \"{name}\" holds {encoding} values that are not ternary (0 or ± one scale for a tensor, a \
                 row or 128 columns)"
            )));
        };
        let factor = self.output_scale(role)?;
        if factor == 1.0 {
            return Ok(Some(Weights::Ternary(ternary)));
        }
        ternary.scaled(factor).map(|scaled| Some(Weights::Ternary(scaled))).map_err(in_tensor)
    }

    fn has(&self, role: Role) -> bool {
        self.gguf.tensor(&role.gguf_name()).is_some()
    }

    fn stored(&self, role: Role) -> Option<(Encoding, Section)> {
        let info = self.gguf.tensor(&role.gguf_name())?;
        let encoding = self.encodings.of(info.type_id).ok()?;
        let (rows, cols) = role.shape(&self.config);
        let bytes = self.gguf.section(info).first(encoding.size(rows, cols).ok()?); // the directory was checked for it
        Some((encoding, bytes))
    }

    fn suspect(&self, role: Role, rows: usize) -> Result<Option<Suspicion>> {
        let Some((encoding, bytes)) = self.stored(role) else { return Ok(None) };
        let suspicion = encoding.suspect(&bytes, rows, role.shape(&self.config).1)?;
        if suspicion.is_some() || !role.is_linear() {
            return Ok(suspicion);
        }
        // What else is wrong with a factor is told when it is loaded.
        let has_factor = told_when_loaded(self.output_scale(role))?.is_some_and(|scale| scale != 0.0);
        Ok(if has_factor { None } else { Some(Suspicion::Empty) })
    }

    fn blank_bytes(&self, role: Role) -> Result<Option<usize>> {
        let Some((encoding, bytes)) = self.stored(role) else { return Ok(None) };
        Ok(blank(&bytes.read_all()?, encoding.is_ternary()))
    }

    fn zero_tail(&self) -> usize {
        self.gguf.zero_tail()
    }
}

impl FileWeights {
    /// Some converters store a layer's scale beside it: `blk.N.attn_q.scale`, one float that multiplies the output.
    fn output_scale(&self, role: Role) -> Result<f32> {
        let Some(info) = self.gguf.scale_beside(&role.gguf_name()) else { return Ok(1.0) };
        let name = &info.name;
        let encoding = self.encodings.of(info.type_id).map_err(|error| named(name, error))?;
        match encoding.decode(&self.gguf.read_data(info)?, 1, 1, self.layout).map_err(|error| named(name, error))? {
            Weights::Dense(dense) => match dense.to_f32()[0] {
                factor if factor.is_finite() => Ok(factor),
                factor => Err(Error::Malformed(format!("tensor \"{name}\": the scale is {factor}"))),
            },
            Weights::Ternary(_) => Err(Error::Model(format!("the scale \"{name}\" is ternary"))),
        }
    }

    /// What linear layers in dense encodings hide, told by the smallest layer of each encoding: to look into all of
    /// them would read the file twice. Whether the others are ternary too shows when they are loaded.
    ///
    /// # Errors
    /// [`Error::Io`] if a layer cannot be read.
    fn hidden_decisions(&self) -> Result<Vec<Decision>> {
        let mut smallest = BTreeMap::<u32, (usize, Role)>::new();
        for info in self.gguf.tensors() {
            let role = Role::from_gguf_name(&info.name).filter(|role| role.is_linear());
            let is_dense = self.encodings.of(info.type_id).is_ok_and(|encoding| !encoding.is_ternary());
            if let Some(role) = role.filter(|_| is_dense) {
                let best = smallest.entry(info.type_id).or_insert((usize::MAX, role));
                if info.elements() < best.0 {
                    *best = (info.elements(), role);
                }
            }
        }
        let mut decisions = Vec::new();
        for (_, role) in smallest.into_values() {
            let name = role.gguf_name();
            let Some((encoding, bytes)) = self.stored(role) else { continue };
            let (rows, cols) = role.shape(&self.config);
            let Ok(Weights::Dense(dense)) = encoding.decode(&bytes.read_all()?, rows, cols, self.layout) else {
                continue;
            };
            if let Some(hidden) = told_when_loaded(hidden_ternary(&dense))?.flatten() {
                let choice = format!("hidden in {encoding}: {hidden}");
                let why = format!("found in \"{name}\", the smallest such layer");
                decisions.push(Decision::new("ternary weights", choice, why));
            }
        }
        Ok(decisions)
    }
}

fn encoding_decisions(gguf: &Gguf, encodings: &Encodings, options: &OpenOptions) -> Vec<Decision> {
    let mut counts = BTreeMap::<&str, usize>::new();
    for encoding in gguf.tensors().iter().filter_map(|info| encodings.of(info.type_id).ok()) {
        *counts.entry(encoding.name()).or_default() += 1;
    }
    let text: Vec<String> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    let mut decisions =
        vec![Decision::new("encodings", text.join(", "), "the tensors' type numbers and their bytes agree on them")];
    if gguf.files() > 1 {
        let why = "the key \"split.count\"; each part is what its name says, and no tensor is missing or there twice";
        decisions.push(Decision::new("files", format!("the {} parts of a split model", gguf.files()), why));
    }
    decisions.extend(encodings.decisions().iter().cloned());
    if counts.contains_key(Encoding::I2S.name()) {
        let why = if options.i2s_layout == I2sLayout::default() {
            "every published file has it; the file itself does not say"
        } else {
            "asked for by the caller"
        };
        decisions.push(Decision::new("I2_S layout", options.i2s_layout.to_string(), why));
    }
    let (head, why) = match gguf.tensor(&Role::Head.gguf_name()) {
        Some(_) => ("its own matrix", "the file has output.weight"),
        None => ("tied to the embedding", "the file has no output.weight"),
    };
    decisions.push(Decision::new("head", head, why));
    decisions
}

/// Divides the rotary frequencies by the factors that the file has: of all sessions, or of short and of long ones.
fn apply_rope_factors(weights: &mut FileWeights) -> Result<Option<Decision>> {
    let read = |weights: &FileWeights, role: Role| match weights.weights(role)? {
        Some(Weights::Dense(factors)) => Ok(Some(factors.try_to_f32()?)),
        Some(Weights::Ternary(_)) => Err(Error::Model(format!("the tensor \"{}\" is ternary", role.gguf_name()))),
        None => Ok(None),
    };
    let place = |role: Role| format!("the tensor \"{}\"", role.gguf_name());
    if let Some(factors) = read(weights, Role::RopeFactors)? {
        divide(&mut weights.config.rope.frequencies, &factors, &place(Role::RopeFactors))?;
        let choice = "divided by rope_freqs.weight";
        return Ok(Some(Decision::new("rotary frequencies", choice, "the file has that tensor")));
    }
    let (short, long) = (read(weights, Role::ShortRopeFactors)?, read(weights, Role::LongRopeFactors)?);
    let (Some(short), Some(long)) = (&short, &long) else {
        return match short.or(long) {
            Some(_) => {
                Err(Error::Model("the file has rotary factors for short sequences or long ones, not both".into()))
            }
            None if says_long_rope(weights.gguf.metadata(), &weights.config)? => Err(Error::Model(format!(
                "the key \"{}.rope.scaling.type\" is longrope, but the file has no {} and {}",
                weights.config.architecture,
                place(Role::ShortRopeFactors),
                place(Role::LongRopeFactors)
            ))),
            None => Ok(None),
        };
    };
    let beyond = original_context(weights.gguf.metadata(), &weights.config)?;
    let mut frequencies = weights.config.rope.frequencies.clone();
    divide(&mut frequencies, long, &place(Role::LongRopeFactors))?;
    divide(&mut weights.config.rope.frequencies, short, &place(Role::ShortRopeFactors))?;
    weights.config.long_rope = Some(LongRope { beyond, frequencies });
    let choice = format!("LongRoPE, the long ones in sessions of more than {beyond} positions");
    Ok(Some(Decision::new("rotary frequencies", choice, "the file has factors for both")))
}
