//! Weights in a rotated basis, as the keys `prism.hadamard.*` describe it (Bonsai-2): which signs, which blocks, and which matrices. A
//! rotation that is left out, or done by halves, gives fluent nonsense, so whatever is not known of it is refused.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Architecture, Config};
use crate::backend::MOST_BLOCK;
use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::format::gguf::{Array, Metadata, Value, quoted};
use crate::model::{Part, Role};

/// Weights that were multiplied with `diag(signs) · H`, a transform of blocks of their columns, from the right.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Hadamard {
    /// 1, or 2 where head and embedding are the same rows.
    pub version: u32,
    /// Columns that are transformed together.
    pub block: usize,
    /// Signs for inputs of so many columns; none where all are +1.
    pub signs: Option<Signs>,
    /// Whether the rows of the embedding are rotated, and so to be turned back.
    pub embedding: bool,
    /// Whether the rows of the head are.
    pub head: bool,
    /// Whether the output projection of recurrent layers takes value heads that share a key head side by side.
    pub grouped_heads: bool,
}

/// ±1 for each column, by the number of columns.
type Signs = Vec<(usize, Arc<[f32]>)>;

/// How keys begin.
const PREFIX: &str = "prism.hadamard.";
const KNOWN: [&str; 11] = [
    "axis",
    "block_size",
    "gdn_v_grouped",
    "inverse_weight_names",
    "sign_mode",
    "sign_values",
    "sign_widths",
    "tied_output",
    "transform",
    "version",
    "weight_names",
];

impl Hadamard {
    /// Of a network with a head of its own, all of whose matrices are rotated in blocks of so many columns.
    pub(in crate::model) fn without_signs(block: usize) -> Self {
        Self { version: 1, block, signs: None, embedding: true, head: true, grouped_heads: true }
    }

    /// The signs for inputs of so many columns, ±1 each.
    pub fn signs(&self, cols: usize) -> Vec<f32> {
        let explicit = self.signs.iter().flatten().find(|(width, _)| *width == cols);
        explicit.map_or_else(|| vec![1.0; cols], |(_, signs)| signs.to_vec())
    }

    /// What is told of it.
    pub(in crate::model) fn decision(&self) -> Decision {
        let heads = if self.grouped_heads {
            ", value heads grouped before the output projection of recurrent layers"
        } else {
            ""
        };
        let signs = if self.signs.is_some() { "signs for each width" } else { "no signs" };
        let choice = format!(
            "rotated, blocks of {} columns, {signs}{heads}: inputs are turned before they are multiplied",
            self.block
        );
        Decision::new("basis", choice, format!("the keys \"{PREFIX}…\", version {}", self.version))
    }

    /// The first key that speaks of a rotated basis.
    pub(in crate::model) fn key(metadata: &Metadata) -> Option<&str> {
        metadata.iter().map(|(key, _)| key).find(|key| key.starts_with(PREFIX))
    }

    /// What the keys say of a network, if they speak of it. `name` is what the file calls a role's tensor, `has` whether it is there.
    pub(in crate::model) fn read(
        metadata: &Metadata,
        architecture: &Architecture,
        config: &Config,
        name: &dyn Fn(Role) -> String,
    ) -> Result<Option<Self>> {
        let Some(key) = Self::key(metadata).map(quoted) else { return Ok(None) };
        let what = format!("weights in a Hadamard-rotated basis (the key {key}, as in Bonsai-2)");
        if !architecture.may_be_rotated || config.pooling.is_some() {
            return Err(Error::Unsupported(format!(
                "{what} in a {} model, of which this version does not know what would be turned; it knows that of llama, qwen3 and \
                 qwen35 models",
                config.architecture
            )));
        }
        let keys = Keys { metadata };
        let Some(version) = metadata.unsigned(&full("version"))? else {
            return Err(Error::Model(format!("{what}, but the key \"{PREFIX}version\" is missing")));
        };
        if let Some(unknown) = keys.unknown() {
            return Err(Error::Unsupported(format!(
                "the key {}, of which this version does not know what it says of a Hadamard-rotated basis",
                quoted(unknown)
            )));
        }
        if !(1..=2).contains(&version) {
            return Err(Error::Unsupported(format!("the key \"{PREFIX}version\" is {version}; known are 1 and 2")));
        }
        keys.demand("transform", "normalized-sylvester-walsh-hadamard")?;
        keys.demand("axis", "input-last-dimension")?;
        let is_tied = metadata.boolean(&full("tied_output"))?;
        if is_tied != Some(true) && version == 2 || is_tied == Some(true) && version == 1 {
            let said = is_tied.map_or("missing".into(), |is_tied| format!("{is_tied}"));
            return Err(Error::Model(format!(
                "the key \"{PREFIX}tied_output\" is {said}, and \"{PREFIX}version\" is {version}: version 2 alone ties the head, and always"
            )));
        }
        let names = keys.names("weight_names", config, name)?;
        let inverse = keys.names("inverse_weight_names", config, name)?;
        let hadamard = Self {
            version: version as u32,
            block: keys.block()?,
            signs: keys.signs()?,
            embedding: inverse.contains(&Role::Embedding),
            head: version == 2 || names.contains(&Role::Head),
            grouped_heads: metadata.boolean(&full("gdn_v_grouped"))?.unwrap_or(false),
        };
        hadamard.check(config, &names, &inverse, name)?;
        Ok(Some(hadamard))
    }

    /// All linear layers are rotated, and nothing else that no keys know.
    fn check(
        &self,
        config: &Config,
        names: &HashSet<Role>,
        inverse: &HashSet<Role>,
        name: &dyn Fn(Role) -> String,
    ) -> Result<()> {
        let refused = |role: Role, list: &str, why: &str| {
            let name = quoted(&name(role));
            Err(Error::Unsupported(format!("the key \"{PREFIX}{list}\" names the tensor {name}: {why}")))
        };
        if let Some(role) = names.iter().find(|role| !role.is_linear() && **role != Role::Head) {
            return refused(*role, "weight_names", "this version knows linear layers in a rotated basis, and heads");
        }
        if let Some(role) = inverse.iter().find(|role| **role != Role::Embedding) {
            return refused(*role, "inverse_weight_names", "only the embedding is looked up, and so turned back");
        }
        if self.version == 2 && names.contains(&Role::Head) {
            return refused(Role::Head, "weight_names", "version 2 has no head but the embedding");
        }
        if self.version == 2 && !self.embedding {
            return Err(Error::Model(format!(
                "the key \"{PREFIX}inverse_weight_names\" does not name the embedding, which version 2 demands"
            )));
        }
        let layers = (0..config.layers).flat_map(|layer| {
            let parts = Part::ALL.iter().filter(move |(part, _)| part.is_linear() && part.is_in(config, layer));
            parts.map(move |(part, _)| Role::Layer(layer, *part))
        });
        for role in layers.clone() {
            if !names.contains(&role) {
                return Err(Error::Unsupported(format!(
                    "the key \"{PREFIX}weight_names\" does not name {}; this version knows files of which all linear layers are in the \
                     rotated basis",
                    quoted(&name(role))
                )));
            }
        }
        let tables = [(Role::Head, self.head), (Role::Embedding, self.embedding)];
        let tables = tables.into_iter().filter(|(_, is_rotated)| *is_rotated).map(|(role, _)| role);
        for role in layers.chain(tables) {
            let cols = role.shape(config).1;
            if !cols.is_multiple_of(self.block) {
                return Err(Error::Model(format!(
                    "the key \"{PREFIX}block_size\" is {}, which does not divide the {cols} columns of {}",
                    self.block,
                    quoted(&name(role))
                )));
            }
            if self.signs.as_ref().is_some_and(|signs| !signs.iter().any(|(width, _)| *width == cols)) {
                return Err(Error::Model(format!(
                    "the key \"{PREFIX}sign_widths\" has no {cols}, the columns of {}",
                    quoted(&name(role))
                )));
            }
        }
        Ok(())
    }

    /// Holds what is rotated against whether there is a head of its own.
    pub(in crate::model) fn check_head(&self, has_head: bool, head: &str, embedding: &str) -> Result<()> {
        let refused = |why: String| Err(Error::Model(format!("the basis of the weights (\"{PREFIX}…\"): {why}")));
        match (has_head, self.version) {
            (true, 2) => refused(format!("version 2 has no tensor {head:?}, but the file has one")),
            (false, 1) if self.head => refused(format!("\"{PREFIX}weight_names\" names {head:?}, which is missing")),
            (false, 1) if self.embedding => {
                refused(format!("{embedding:?} is rotated and there is no {head:?}, which is version 2, but it says 1"))
            }
            _ => Ok(()),
        }
    }

    /// The keys of a GGUF file of the network.
    pub(super) fn gguf_keys(&self, config: &Config) -> Vec<(String, Value)> {
        let text = |text: &str| Value::String(text.into());
        let mut keys = vec![
            ("version", Value::Unsigned(self.version.into())),
            ("block_size", Value::Unsigned(self.block as u64)),
            ("transform", text("normalized-sylvester-walsh-hadamard")),
            ("axis", text("input-last-dimension")),
            ("sign_mode", text(if self.signs.is_some() { "explicit" } else { "identity" })),
        ];
        if let Some(signs) = &self.signs {
            let widths: Vec<i32> = signs.iter().map(|(width, _)| *width as i32).collect();
            let values: Vec<i32> = signs.iter().flat_map(|(_, signs)| signs.iter()).map(|sign| *sign as i32).collect();
            keys.push(("sign_widths", Value::Array(Array::of_integers(&widths))));
            keys.push(("sign_values", Value::Array(Array::of_integers(&values))));
        }
        let layers =
            (0..config.layers).flat_map(|layer| Part::ALL.iter().map(move |(part, _)| Role::Layer(layer, *part)));
        let linear = layers
            .filter(|role| matches!(role, Role::Layer(layer, part) if part.is_linear() && part.is_in(config, *layer)));
        let head = (self.head && self.version == 1).then_some(Role::Head);
        let names: Vec<String> = linear.chain(head).map(Role::gguf_name).collect();
        keys.push(("weight_names", Value::Array(Array::of_strings(names))));
        let inverse = self.embedding.then(|| Role::Embedding.gguf_name());
        keys.push(("inverse_weight_names", Value::Array(Array::of_strings(inverse))));
        if self.version == 2 {
            keys.push(("tied_output", Value::Bool(true)));
        }
        keys.push(("gdn_v_grouped", Value::Bool(self.grouped_heads)));
        keys.into_iter().map(|(key, value)| (full(key), value)).collect()
    }
}

fn full(key: &str) -> String {
    format!("{PREFIX}{key}")
}

/// Reads keys that begin with [`PREFIX`].
struct Keys<'a> {
    metadata: &'a Metadata,
}

impl Keys<'_> {
    /// A key that nobody knows.
    fn unknown(&self) -> Option<&str> {
        let mut keys = self.metadata.iter().map(|(key, _)| key);
        keys.find(|key| key.strip_prefix(PREFIX).is_some_and(|name| !KNOWN.contains(&name)))
    }

    fn missing(&self, key: &str) -> Error {
        Error::Model(format!("the key \"{PREFIX}{key}\" is missing"))
    }

    /// A text that must be this one.
    fn demand(&self, key: &str, known: &str) -> Result<()> {
        match self.metadata.string(&full(key))?.ok_or_else(|| self.missing(key))? {
            text if text == known => Ok(()),
            text => Err(Error::Unsupported(format!("the key \"{PREFIX}{key}\" is {}; known is {known}", quoted(text)))),
        }
    }

    fn block(&self) -> Result<usize> {
        match self.metadata.unsigned(&full("block_size"))?.ok_or_else(|| self.missing("block_size"))? {
            block if block.is_power_of_two() && block <= MOST_BLOCK as u64 => Ok(block as usize),
            block => Err(Error::Unsupported(format!(
                "the key \"{PREFIX}block_size\" is {block}; this version knows powers of two up to {MOST_BLOCK}"
            ))),
        }
    }

    /// Signs by the width of the inputs; none where all are +1.
    fn signs(&self) -> Result<Option<Signs>> {
        let [widths, values] = [self.metadata.array(&full("sign_widths"))?, self.metadata.array(&full("sign_values"))?];
        match self.metadata.string(&full("sign_mode"))?.ok_or_else(|| self.missing("sign_mode"))? {
            "identity" => match widths.or(values) {
                None => return Ok(None),
                Some(_) => {
                    return Err(Error::Model(format!(
                        "the key \"{PREFIX}sign_mode\" is identity, but there are signs (\"{PREFIX}sign_widths\" or \
                         \"{PREFIX}sign_values\")"
                    )));
                }
            },
            "explicit" => {}
            other => {
                let other = quoted(other);
                return Err(Error::Unsupported(format!(
                    "the key \"{PREFIX}sign_mode\" is {other}; known are explicit and identity"
                )));
            }
        }
        let (widths, values) =
            (widths.ok_or_else(|| self.missing("sign_widths"))?, values.ok_or_else(|| self.missing("sign_values"))?);
        let integers = |array: &Array| array.integers().map(|values| values.collect::<Vec<i64>>());
        let listed = integers(widths).filter(|widths| !widths.is_empty() && widths.iter().all(|width| *width > 0));
        let Some(widths) = listed else {
            return Err(Error::Model(format!("the key \"{PREFIX}sign_widths\" must hold widths, but holds {widths}")));
        };
        let distinct: HashSet<&i64> = widths.iter().collect();
        if distinct.len() < widths.len() {
            return Err(Error::Model(format!("the key \"{PREFIX}sign_widths\" has a width twice")));
        }
        let total = widths.iter().try_fold(0i64, |sum, width| sum.checked_add(*width));
        if total != Some(values.len() as i64) {
            return Err(Error::Model(format!(
                "the key \"{PREFIX}sign_values\" holds {} signs, but \"{PREFIX}sign_widths\" are for {}",
                values.len(),
                total.map_or("more than can be counted".into(), |total| total.to_string())
            )));
        }
        let Some(signs) = integers(values).filter(|signs| signs.iter().all(|sign| matches!(sign, 1 | -1))) else {
            return Err(Error::Model(format!(
                "the key \"{PREFIX}sign_values\" must hold 1 and -1 alone, but holds {values}"
            )));
        };
        let mut rest = &signs[..];
        let cut = |width: i64| {
            let (some, others) = rest.split_at(width as usize);
            rest = others;
            (width as usize, some.iter().map(|sign| *sign as f32).collect())
        };
        Ok(Some(widths.into_iter().map(cut).collect()))
    }

    /// The roles of the tensors of a list.
    fn names(&self, key: &str, config: &Config, name: &dyn Fn(Role) -> String) -> Result<HashSet<Role>> {
        let list = self.metadata.array(&full(key))?.ok_or_else(|| self.missing(key))?;
        let Some(texts) = list.strings().map(|texts| texts.collect::<Vec<_>>()) else {
            return Err(Error::Model(format!(
                "the key \"{PREFIX}{key}\" must hold names of tensors, but holds {list}"
            )));
        };
        let layers = (0..config.layers).flat_map(|layer| {
            let parts = Part::ALL.iter().filter(move |(part, _)| part.is_in(config, layer));
            parts.map(move |(part, _)| Role::Layer(layer, *part))
        });
        let roles = layers.chain([Role::Embedding, Role::OutputNorm, Role::Head]);
        let known: HashMap<String, Role> = roles.map(|role| (name(role), role)).collect();
        let mut found = HashSet::new();
        for text in texts {
            let Some(role) = known.get(text) else {
                return Err(Error::Unsupported(format!(
                    "the key \"{PREFIX}{key}\" names {}, which is no tensor of this network",
                    quoted(text)
                )));
            };
            if !found.insert(*role) {
                return Err(Error::Model(format!("the key \"{PREFIX}{key}\" names {} twice", quoted(text))));
            }
        }
        Ok(found)
    }
}
