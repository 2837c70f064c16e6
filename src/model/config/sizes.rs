//! The sizes that every network has. Keys of GGUF files and fields of `config.json` call them by other names, and are read
//! and checked alike.

use crate::backend::Heads;
use crate::error::{Error, Result};

/// Larger than any size of a model.
pub(in crate::model) const LARGEST_SIZE: u64 = 1 << 24;
/// More layers than any model has. With sizes of at most [`LARGEST_SIZE`], a layer without experts has up to 7 · 2^48 weights, and so
/// many layers less than 2^63; what is counted of experts stays at the largest number.
const MOST_LAYERS: usize = 1 << 12;
/// A larger head than any model has: the table of its frequencies is made before a tensor is looked at, so it must not
/// be large because a key says so.
const LARGEST_HEAD: usize = 1 << 14;

/// The numbers of a file, by its own names for them.
pub(in crate::model) trait Numbers {
    /// A size from 1 to [`LARGEST_SIZE`], if it is there.
    fn find_size(&self, name: &str) -> Result<Option<usize>>;

    /// A number, if it is there.
    fn find_float(&self, name: &str) -> Result<Option<f64>>;

    /// How an error calls the place of a number: `the key "llama.block_count"`.
    fn place(&self, name: &str) -> String;

    /// The same, shorter, where there are several: `"llama.block_count"`.
    fn label(&self, name: &str) -> String;
}

/// What a form of model files calls the sizes.
pub(in crate::model) struct SizeNames {
    layers: &'static str,
    width: &'static str,
    ffn_width: &'static str,
    heads: &'static str,
    kv_heads: &'static str,
    /// Features of a query or key head; of several names, the first that is there counts.
    head_dim: &'static [&'static str],
    /// Features of a value head, where a form has a name for that.
    value_dim: Option<&'static str>,
    context: &'static str,
    norm_epsilon: &'static str,
}

/// The names of GGUF files, behind the architecture's.
pub(in crate::model) const GGUF: SizeNames = SizeNames {
    layers: "block_count",
    width: "embedding_length",
    ffn_width: "feed_forward_length",
    heads: "attention.head_count",
    kv_heads: "attention.head_count_kv",
    head_dim: &["attention.key_length"],
    value_dim: Some("attention.value_length"),
    context: "context_length",
    norm_epsilon: "attention.layer_norm_rms_epsilon",
};

/// The names of `config.json`.
pub(in crate::model) const JSON: SizeNames = SizeNames {
    layers: "num_hidden_layers",
    width: "hidden_size",
    ffn_width: "intermediate_size",
    heads: "num_attention_heads",
    kv_heads: "num_key_value_heads",
    head_dim: &["head_dim", "attention_head_dim"],
    value_dim: None,
    context: "max_position_embeddings",
    norm_epsilon: "rms_norm_eps",
};

/// The sizes of a network, all of them possible; as in [`Config`](super::Config).
pub(in crate::model) struct Sizes {
    pub layers: usize,
    pub width: usize,
    pub ffn_width: usize,
    pub heads: Heads,
    pub context: usize,
    pub norm_epsilon: f32,
}

impl Sizes {
    /// # Errors
    /// [`Error::Model`] or [`Error::Unsupported`], naming the place, for what is missing or impossible.
    pub fn read(numbers: &impl Numbers, names: &SizeNames) -> Result<Self> {
        let missing = |name: &str| Error::Model(format!("{} is missing", numbers.place(name)));
        let size = |name: &str| numbers.find_size(name)?.ok_or_else(|| missing(name));
        let layers = size(names.layers)?;
        if layers > MOST_LAYERS {
            let place = numbers.place(names.layers);
            return Err(Error::Model(format!("{place} is {layers}; it must be 1 to {MOST_LAYERS}")));
        }
        let width = size(names.width)?;
        let heads = Self::heads(numbers, names, width, size(names.heads)?)?;
        let norm_epsilon = match numbers.find_float(names.norm_epsilon)?.ok_or_else(|| missing(names.norm_epsilon))? {
            // Of the f32, because the smallest f64 become 0 there, and a norm would divide by it.
            epsilon if epsilon as f32 > 0.0 && epsilon < 1.0 => epsilon as f32,
            epsilon => {
                let place = numbers.place(names.norm_epsilon);
                return Err(Error::Model(format!("{place} is {epsilon}; it must be between 0 and 1")));
            }
        };
        let (ffn_width, context) = (size(names.ffn_width)?, size(names.context)?);
        Ok(Self { layers, width, ffn_width, heads, context, norm_epsilon })
    }

    /// How attention is cut into heads.
    fn heads(numbers: &impl Numbers, names: &SizeNames, width: usize, heads: usize) -> Result<Heads> {
        let kv_heads = numbers.find_size(names.kv_heads)?.unwrap_or(heads);
        let [heads_label, kv_label] = [names.heads, names.kv_heads].map(|name| numbers.label(name));
        if !heads.is_multiple_of(kv_heads) {
            return Err(Error::Model(format!(
                "{heads} query heads ({heads_label}) cannot share {kv_heads} key heads ({kv_label})"
            )));
        }
        let mut head_dim = width / heads;
        for name in names.head_dim.iter().rev() {
            head_dim = numbers.find_size(name)?.unwrap_or(head_dim);
        }
        let value_dim = match names.value_dim {
            Some(name) => numbers.find_size(name)?.unwrap_or(head_dim),
            None => head_dim,
        };
        if head_dim == 0 || !head_dim.is_multiple_of(2) || head_dim > LARGEST_HEAD || value_dim != head_dim {
            let dims: Vec<String> =
                names.head_dim[..1].iter().chain(&names.value_dim).map(|n| numbers.label(n)).collect();
            return Err(Error::Unsupported(format!(
                "heads of {head_dim} key and {value_dim} value features; they must be equal, even and at most \
                 {LARGEST_HEAD} ({}, or {} {width} / {heads_label} {heads})",
                dims.join(" and "),
                numbers.label(names.width)
            )));
        }
        if heads as u64 * head_dim as u64 > LARGEST_SIZE {
            return Err(Error::Model(format!(
                "{heads} heads ({heads_label}) of {head_dim} features are larger than any model"
            )));
        }
        Ok(Heads { heads, kv_heads, head_dim })
    }
}
