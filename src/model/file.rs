//! A model in a GGUF file: the directory is held against the config before anything is read, and tensors are decoded
//! by role when they are asked for.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::format::encodings::{Encoding, I2sLayout, hidden::hidden_ternary};
use crate::format::gguf::{Gguf, TensorInfo, quoted};
use crate::format::{Dense, Weights};
use crate::model::config::check_stretch;
use crate::model::{Config, Model, Part, Role, WeightSource};
use crate::tokenizer::Tokenizer;

/// What a file does not say of itself.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// The arrangement of I2_S codes. Files made by bitnet.cpp on ARM since November 2025 need `Block64`.
    pub i2s_layout: I2sLayout,
}

/// Tensors that older converters wrote and no forward pass needs.
const IGNORED_ENDINGS: [&str; 1] = [".attn_rot_embd.weight"];

/// Vocabulary sizes of TriLM (SpectraSuite), whose files call themselves `llama` but want float activations.
const TRILM_VOCABULARIES: [usize; 3] = [50_304, 50_432, 50_688];

pub(super) fn open(path: &Path, options: &OpenOptions) -> Result<Model> {
    let gguf = Gguf::open(path)?;
    // First of all, because other architectures name their tensors otherwise.
    Config::check_architecture(gguf.metadata())?;
    let vocabulary = embedding_rows(&gguf)?;
    let (config, mut decisions) = Config::from_gguf(gguf.metadata(), vocabulary)?;
    if config.architecture == "llama" && TRILM_VOCABULARIES.contains(&vocabulary) {
        return Err(Error::Unsupported(format!(
            "a llama of vocabulary {vocabulary} is a TriLM, trained with float activations; this version quantises them"
        )));
    }
    check_directory(&gguf, &config)?;
    decisions.extend(encoding_decisions(&gguf, options));
    let (tokenizer, tokenizer_decisions) = Tokenizer::from_gguf(gguf.metadata())?;
    decisions.extend(tokenizer_decisions);
    if tokenizer.vocabulary_size() > config.vocabulary {
        return Err(Error::Model(format!(
            "the tokenizer has {} tokens, but \"token_embd.weight\" has {} rows",
            tokenizer.vocabulary_size(),
            config.vocabulary
        )));
    }
    let mut weights = FileWeights { gguf, config: config.clone(), layout: options.i2s_layout };
    if let Some(factors) = weights.weights(Role::RopeFactors)? {
        apply_rope_factors(&mut weights.config, &factors)?;
        decisions.push(Decision::new("rotary frequencies", "divided by rope_freqs.weight", "the file has that tensor"));
    }
    let config = weights.config.clone();
    Ok(Model { config, tokenizer: Some(Arc::new(tokenizer)), weights: Arc::new(weights), decisions })
}

/// A GGUF file whose tensors fit its config.
struct FileWeights {
    gguf: Gguf,
    config: Config,
    layout: I2sLayout,
}

impl WeightSource for FileWeights {
    fn weights(&self, role: Role) -> Result<Option<Weights>> {
        let name = role.gguf_name();
        let Some(info) = self.gguf.tensor(&name) else { return Ok(None) };
        let in_tensor = |error| named(&name, error);
        let (rows, cols) = role.shape(&self.config);
        let encoding = Encoding::from_ggml(info.type_id).map_err(in_tensor)?;
        let weights = encoding.decode(&self.gguf.data(info), rows, cols, self.layout).map_err(in_tensor)?;
        if !role.is_linear() {
            return Ok(Some(weights));
        }
        let Weights::Ternary(ternary) = weights.into_ternary(&name, encoding)? else { unreachable!("just converted") };
        let factor = self.output_scale(role)?;
        if factor == 1.0 {
            return Ok(Some(Weights::Ternary(ternary)));
        }
        ternary.scaled(factor).map(|scaled| Some(Weights::Ternary(scaled))).map_err(in_tensor)
    }
}

impl FileWeights {
    /// Some converters store a layer's scale beside it: `blk.N.attn_q.scale`, one float that multiplies the output.
    fn output_scale(&self, role: Role) -> Result<f32> {
        let name = role.gguf_stem() + ".scale";
        let Some(info) = self.gguf.tensor(&name) else { return Ok(1.0) };
        let encoding = Encoding::from_ggml(info.type_id).map_err(|error| named(&name, error))?;
        match encoding.decode(&self.gguf.data(info), 1, 1, self.layout).map_err(|error| named(&name, error))? {
            Weights::Dense(dense) => match dense.to_f32()[0] {
                factor if factor.is_finite() => Ok(factor),
                factor => Err(Error::Malformed(format!("tensor \"{name}\": the scale is {factor}"))),
            },
            Weights::Ternary(_) => Err(Error::Model(format!("the scale \"{name}\" is ternary"))),
        }
    }
}

impl Weights {
    /// Linear layers are ternary; a dense tensor is accepted if every value is 0 or ± one scale.
    fn into_ternary(self, name: &str, encoding: Encoding) -> Result<Weights> {
        match self {
            Weights::Ternary(_) => Ok(self),
            Weights::Dense(dense) => match hidden_ternary(&dense) {
                Some(ternary) => Ok(Weights::Ternary(ternary)),
                None => Err(Error::Unsupported(format!(
                    "the linear layer \"{name}\" holds {} values that are not ternary (0 or ± one scale a tensor or row)",
                    encoding.name()
                ))),
            },
        }
    }
}

/// Adds the tensor's name to an error about its bytes.
fn named(name: &str, error: Error) -> Error {
    match error {
        Error::Malformed(what) => Error::Malformed(format!("tensor \"{name}\": {what}")),
        Error::Unsupported(what) => Error::Unsupported(format!("tensor \"{name}\": {what}")),
        other => other,
    }
}

/// The vocabulary is what the embedding says it is: some files have more rows than tokens.
fn embedding_rows(gguf: &Gguf) -> Result<usize> {
    let name = Role::Embedding.gguf_name();
    match gguf.tensor(&name).map(|info| info.shape.as_slice()) {
        Some(&[_, rows]) => Ok(rows),
        Some(shape) => Err(Error::Model(format!("tensor \"{name}\" is {}, not a matrix", shape_text(shape)))),
        None => Err(Error::Model(format!("the tensor \"{name}\" is missing"))),
    }
}

/// Every tensor that is needed is there, with the right shape and enough bytes, and none that would be ignored.
fn check_directory(gguf: &Gguf, config: &Config) -> Result<()> {
    let optional = [Role::Head, Role::RopeFactors];
    check_tensors(gguf, config, [Role::Embedding, Role::OutputNorm].into_iter(), true)?;
    check_tensors(gguf, config, optional.into_iter(), false)?;
    for layer in 0..config.layers {
        // The count of layers is the file's claim; a missing layer ends this loop at once.
        let parts = Part::ALL.iter().filter(|(part, _)| config.sub_norms || !part.is_sub_norm());
        check_tensors(gguf, config, parts.map(|&(part, _)| Role::Layer(layer, part)), true)?;
    }
    gguf.tensors().iter().try_for_each(|info| check_known(info, config))
}

fn check_tensors(gguf: &Gguf, config: &Config, roles: impl Iterator<Item = Role>, required: bool) -> Result<()> {
    for role in roles {
        let name = role.gguf_name();
        match gguf.tensor(&name) {
            Some(info) => check_tensor(info, role, config)?,
            None if required => return Err(Error::Model(format!("the tensor \"{name}\" is missing"))),
            None => {}
        }
    }
    Ok(())
}

fn check_tensor(info: &TensorInfo, role: Role, config: &Config) -> Result<()> {
    let (rows, cols) = role.shape(config);
    let fits = match info.shape.as_slice() {
        [c] => rows == 1 && *c == cols,
        [c, r] => *c == cols && *r == rows,
        _ => false,
    };
    if !fits {
        let wanted = if rows == 1 { shape_text(&[cols]) } else { shape_text(&[cols, rows]) };
        return Err(Error::Model(format!(
            "tensor \"{}\" is {}, but the config implies {wanted} (input features first)",
            info.name,
            shape_text(&info.shape)
        )));
    }
    check_encoding(info, rows, cols, role.is_linear())
}

/// The type is known, its bytes are there, and it is not ternary where the network needs numbers of many values.
fn check_encoding(info: &TensorInfo, rows: usize, cols: usize, may_be_ternary: bool) -> Result<()> {
    let in_tensor = |error| named(&info.name, error);
    let encoding = Encoding::from_ggml(info.type_id).map_err(in_tensor)?;
    if encoding.is_ternary() && !may_be_ternary {
        let text = format!("it is ternary ({encoding}); this version takes only linear layers so");
        return Err(in_tensor(Error::Unsupported(text)));
    }
    let size = encoding.size(rows, cols).map_err(in_tensor)?;
    if size > info.span {
        return Err(Error::Malformed(format!(
            "tensor \"{}\" needs {size} bytes, but only {} lie before the next tensor or the end of the file",
            info.name, info.span
        )));
    }
    Ok(())
}

/// A tensor that no role claims would silently change the output if it were ignored.
fn check_known(info: &TensorInfo, config: &Config) -> Result<()> {
    let name = &info.name;
    let role = name.strip_suffix(".weight").and_then(Role::from_gguf_stem);
    let scale_of = name.strip_suffix(".scale").and_then(Role::from_gguf_stem);
    let known = match (role, scale_of) {
        (Some(Role::Layer(layer, part)), _) => layer < config.layers && (config.sub_norms || !part.is_sub_norm()),
        (Some(_), _) => true,
        (None, Some(role @ Role::Layer(layer, _)))
            if role.is_linear() && layer < config.layers && info.elements() == 1 =>
        {
            return check_encoding(info, 1, 1, false);
        }
        _ => IGNORED_ENDINGS.iter().any(|ending| name.ends_with(ending)),
    };
    if known {
        return Ok(());
    }
    Err(Error::Unsupported(format!(
        "the tensor {} has no place in a {} model of {} layers as this version knows it",
        quoted(name),
        config.architecture,
        config.layers
    )))
}

fn encoding_decisions(gguf: &Gguf, options: &OpenOptions) -> Vec<Decision> {
    let mut counts = BTreeMap::<&str, usize>::new();
    for encoding in gguf.tensors().iter().filter_map(|info| Encoding::from_ggml(info.type_id).ok()) {
        *counts.entry(encoding.name()).or_default() += 1;
    }
    let text: Vec<String> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    let mut decisions =
        vec![Decision::new("encodings", text.join(", "), "the tensors' type ids and spans agree on them")];
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

fn apply_rope_factors(config: &mut Config, factors: &Weights) -> Result<()> {
    let Weights::Dense(factors) = factors else {
        return Err(Error::Model("the tensor \"rope_freqs.weight\" is ternary".into()));
    };
    for (frequency, factor) in config.rope.frequencies.iter_mut().zip(Dense::to_f32(factors)) {
        *frequency /= check_stretch(f64::from(factor), "the tensor \"rope_freqs.weight\"")?;
    }
    Ok(())
}

fn shape_text(shape: &[usize]) -> String {
    format!("{shape:?}")
}
