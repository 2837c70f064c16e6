//! Prism's pack of rotated weights for MLX: `config.json` names a file of the keys that a GGUF file has, with the checkpoint's names in
//! their lists, and says of itself what must not contradict them.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value as Json;

use super::Fields;
use crate::error::{Error, Result};
use crate::format::gguf::{Array, Metadata, Value, quoted};
use crate::model::Role;
use crate::model::config::{Architecture, Config, Hadamard};
use crate::model::huggingface::{fields, names};

/// The file of the keys.
const FILE: &str = "hadamard.json";
/// The type of such packs, and the one of the network within.
const PACK: (&str, &str) = ("prism_hadamard_qwen35", "qwen3_5");
const LARGEST_SCHEMA: usize = 2;
/// The longest accepted file of keys, in bytes: that of a 27B has a sign on a line for each of 28672 columns, and 401 names.
const MAX_BYTES: usize = 1 << 21;

/// The basis of the weights, where the pack has one.
pub(super) fn read(
    directory: &Path,
    pack: Fields,
    architecture: &Architecture,
    config: &Config,
    prefix: &str,
) -> Result<Option<Hadamard>> {
    let is_pack = pack.text("model_type")? == Some(PACK.0);
    let Some(name) = pack.text("hadamard_config")? else {
        return if is_pack { Err(pack.missing("hadamard_config")) } else { Ok(None) };
    };
    let known = |field: &str, value: Option<&str>, known: &str| match value {
        Some(value) if value == known => Ok(()),
        Some(value) => {
            let (field, value) = (pack.name(field), quoted(value));
            Err(Error::Unsupported(format!("{field} is {value}; known is {known}")))
        }
        None => Err(pack.missing(field)),
    };
    known("model_type", pack.text("model_type")?, PACK.0)?;
    known("base_model_type", pack.text("base_model_type")?, PACK.1)?;
    known("hadamard_config", Some(name), FILE)?;
    let schema = pack.required_size("schema_version")?;
    if schema > LARGEST_SCHEMA {
        return Err(Error::Unsupported(format!("{} is {schema}; known are 1 and 2", pack.name("schema_version"))));
    }
    let keys = fields::read(directory, FILE, MAX_BYTES)?;
    let metadata = Metadata::new(
        keys.fields().all().map(|(key, value)| Ok((key.to_owned(), value_of(key, value)?))).collect::<Result<_>>()?,
    );
    let name = |role: Role| {
        let stem = names::stems(role, prefix, architecture.names).into_iter().next().unwrap_or_default();
        stem + names::ending(role)
    };
    let Some(hadamard) = Hadamard::read(&metadata, architecture, config, &name)? else {
        return Err(Error::Model(format!("{FILE} has no key that begins with prism.hadamard")));
    };
    if config.delta_net.is_some() {
        let layout = pack.text("gdn_activation_layout")?;
        known("gdn_activation_layout", layout, "grouped")?;
        if !hadamard.grouped_heads {
            let field = pack.name("gdn_activation_layout");
            return Err(Error::Model(format!(
                "{field} is grouped, but \"prism.hadamard.gdn_v_grouped\" of {FILE} is not true"
            )));
        }
    }
    check_modules(pack, &hadamard, config, &name)?;
    Ok(Some(hadamard))
}

/// The list of modules, where there is one: all that are rotated, in blocks as long as the keys say.
fn check_modules(pack: Fields, hadamard: &Hadamard, config: &Config, name: &dyn Fn(Role) -> String) -> Result<()> {
    const LIST: &str = "modules";
    let Some(modules) = pack.list(LIST)? else { return Ok(()) };
    let mut listed = HashSet::new();
    for module in modules {
        let path = module.get("path").and_then(Json::as_str);
        let block = module.get("block").and_then(Json::as_u64);
        let is_table = module.get("embedding").and_then(Json::as_bool).unwrap_or(false);
        let (Some(path), Some(block)) = (path, block) else {
            let (list, module) = (pack.name(LIST), quoted(&module.to_string()));
            return Err(Error::Model(format!("{list} has {module}; a module has a path and a block")));
        };
        if block != hadamard.block as u64 || is_table != path.ends_with("embed_tokens") {
            let (list, path) = (pack.name(LIST), quoted(path));
            return Err(Error::Model(format!(
                "{list} has {path} in blocks of {block}, an embedding: {is_table}; {FILE} says another basis"
            )));
        }
        listed.insert(path.to_owned());
    }
    let layers = (0..config.layers)
        .flat_map(|layer| crate::model::Part::ALL.iter().map(move |(part, _)| Role::Layer(layer, *part)));
    let linear = layers
        .filter(|role| matches!(role, Role::Layer(layer, part) if part.is_linear() && part.is_in(config, *layer)));
    let tables = [(Role::Embedding, hadamard.embedding), (Role::Head, hadamard.head && hadamard.version == 1)];
    let tables = tables.into_iter().filter(|(_, is_rotated)| *is_rotated).map(|(role, _)| role);
    let within = |role: Role| {
        let name = name(role);
        let name = name.strip_suffix(names::ending(role)).unwrap_or(&name);
        name.strip_prefix("language_model.").unwrap_or(name).to_owned()
    };
    let wanted: HashSet<String> = linear.chain(tables).map(within).collect();
    match wanted.symmetric_difference(&listed).next() {
        None => Ok(()),
        Some(path) => {
            let (list, path) = (pack.name(LIST), quoted(path));
            Err(Error::Model(format!("{list} and {FILE} differ: {path} is rotated by one of them alone")))
        }
    }
}

/// A value as a GGUF file has it.
fn value_of(key: &str, value: &Json) -> Result<Value> {
    let wrong = || Error::Model(format!("{FILE}: the key {} is {}", quoted(key), quoted(&value.to_string())));
    Ok(match value {
        Json::Bool(value) => Value::Bool(*value),
        Json::String(text) => Value::String(text.clone()),
        Json::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Value::Unsigned(number),
            (None, Some(number)) => Value::Signed(number),
            (None, None) => Value::Float(number.as_f64().ok_or_else(wrong)?),
        },
        Json::Array(values) if values.iter().all(Json::is_string) => {
            Value::Array(Array::of_strings(values.iter().filter_map(Json::as_str)))
        }
        Json::Array(values) => {
            let integers: Option<Vec<i32>> = values.iter().map(|value| i32::try_from(value.as_i64()?).ok()).collect();
            Value::Array(Array::of_integers(&integers.ok_or_else(wrong)?))
        }
        Json::Null | Json::Object(_) => return Err(wrong()),
    })
}
