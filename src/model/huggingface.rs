//! A model in Hugging Face form: a directory with `config.json`, weights in safetensors files, and a tokenizer. As with
//! GGUF, everything is held against the config before a weight is read, and tensors are brought to trits by role when
//! they are asked for.

mod config;
mod fields;
mod head_order;
mod names;
mod pooling;
mod tensors;
mod weights;

use std::path::Path;
use std::sync::Arc;

use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::format::gguf::{Metadata, Value, within};
use crate::format::safetensors::Checkpoint;
use crate::model::{Model, OpenOptions, SamplingDefaults, padding, sampling};
use crate::tokenizer::{Tokenizer, chat_template};
use config::Description;
use tensors::Tensors;
use weights::DirectoryWeights;

pub(super) fn open(directory: &Path, options: &OpenOptions) -> Result<Model> {
    let fields = fields::read(directory, fields::FILE, fields::MAX_BYTES)?;
    let checkpoint = if options.map { Checkpoint::open(directory)? } else { Checkpoint::read(directory)? };
    let in_directory = |error| within(directory.display(), error);
    let Description { config, architecture, rule, ties_head, gains_less_one, rope_keys, mut decisions } =
        Description::read(directory, &fields, &checkpoint).map_err(in_directory)?;
    if config.pooling.is_some() {
        decisions.push(pooling::check(directory)?);
    }
    let tensors = Tensors::find(&checkpoint, &config, architecture, ties_head).map_err(in_directory)?;
    if let Some(hadamard) = &config.hadamard {
        hadamard.check_head(!ties_head, "lm_head", "embed_tokens").map_err(in_directory)?;
    }
    padding::check(tensors.matrices(&checkpoint, &config), checkpoint.file_bytes()).map_err(in_directory)?;
    tensors.check_forms(rule).map_err(in_directory)?;
    decisions.extend(tensors.decisions(&checkpoint, rule));
    let divisors = rope_keys.divisors.clone();
    let weights = DirectoryWeights::new(checkpoint, config.clone(), tensors, rule, gains_less_one, divisors);
    decisions.extend(weights.probe().map_err(in_directory)?);
    decisions.extend(weights.samples().map_err(in_directory)?);
    let mut metadata = config.gguf_keys(architecture, &rope_keys);
    let tokenizer = match directory.join("tokenizer.json").exists() {
        true => {
            let (tokenizer, keys, told) = Tokenizer::read_directory(directory)?;
            decisions.extend(told);
            metadata.extend(keys.iter().map(|(key, value)| (key.to_owned(), value.clone())));
            Some(Arc::new(tokenizer))
        }
        false => {
            let why = "the directory has no tokenizer.json; the model takes and gives token ids";
            decisions.push(Decision::new("tokenizer", "none", why).warned());
            None
        }
    };
    if let Some(tokens) = tokenizer.as_deref().map(Tokenizer::vocabulary_size).filter(|&n| n > config.vocabulary) {
        let rows = config.vocabulary;
        return Err(in_directory(Error::Model(format!(
            "the tokenizer has {tokens} tokens, but the embedding has {rows} rows"
        ))));
    }
    let chat_template: Option<Arc<str>> = chat_template(directory)?.map(Arc::from);
    if let Some(template) = &chat_template {
        metadata.push(("tokenizer.chat_template".into(), Value::String(template.to_string())));
    }
    if let Some(name) = directory.file_name().and_then(|name| name.to_str()) {
        metadata.insert(1, ("general.name".into(), Value::String(name.into()))); // behind the architecture
    }
    let (keys, told) = sampling::keys_of_directory(directory)?;
    metadata.extend(keys);
    decisions.extend(told);
    let metadata = Arc::new(Metadata::new(metadata));
    let (sampling, told) = SamplingDefaults::from_keys(&metadata);
    decisions.extend(told);
    let (rows, weights) = (config.vocabulary, Arc::new(weights));
    Ok(Model { config, tokenizer, chat_template, metadata, weights, sampling, rows, decisions })
}
