//! The architectures that run: one table, which GGUF files and directories in Hugging Face form are read by alike. A row
//! holds an architecture's names in both forms, and what these names imply; all else a file says itself.

use crate::backend::{Activation, HeadNormOrder, Numerics, RopePairs};
use crate::error::{Error, Result};
use crate::format::gguf::{Metadata, quoted};
use crate::model::{Config, Factors, Part};

/// A row of the table.
#[derive(Debug)]
pub(in crate::model) struct Architecture {
    /// Values of `general.architecture` in GGUF files; the first is the one of new files.
    pub gguf_names: &'static [&'static str],
    /// Values of `model_type` in `config.json`.
    pub model_types: &'static [&'static str],
    /// The class among the `architectures` of `config.json` that stands for it, whatever the type beside it.
    pub class: Option<&'static str>,

    /// Which features the rows of queries and keys pair in GGUF files; in directories, halves.
    pub gguf_pairs: RopePairs,
    /// The base of rotations where `config.json` has none; where a GGUF file has none, it is 10,000.
    pub theta: f64,
    /// How files say which layers see only the latest positions.
    pub windows: WindowKeys,
    /// Whether each layer has experts in the place of one feed-forward network, and the head is a matrix of its own.
    pub has_experts: bool,
    /// Whether some layers are recurrent in the place of attention, and outputs of attention have gates.
    pub has_delta_net: bool,

    /// The gate of the feed-forward network where the file does not say, of a vocabulary and a width; and why.
    pub activation: fn(usize, usize) -> (Activation, &'static str),
    /// The field of `config.json` that says the gate.
    pub activation_field: &'static str,
    /// Whether that field must be there.
    pub needs_activation: bool,
    /// How activations are held where a GGUF file does not say, of a vocabulary; and why.
    pub numerics: fn(usize) -> (Numerics, &'static str),

    /// Whether attention outputs and gated products are normed before their projections.
    pub sub_norms: bool,
    /// Whether each query and key head is normed, and when.
    pub head_norms: Option<HeadNormOrder>,
    /// The field of `config.json` that is false in models without these norms.
    pub head_norms_field: Option<&'static str>,
    /// Whether each linear layer may have a norm of its own before it.
    pub input_norms: InputNorms,
    /// Whether the outputs of attention and of the feed-forward network are normed before they are added.
    pub post_norms: bool,
    /// Whether checkpoints hold gains less one, but for norms before single linear layers.
    pub gains_less_one: bool,

    /// Whether its weights may be in a rotated basis.
    pub may_be_rotated: bool,

    /// The factors around so many layers of so many features where a GGUF file does not say; none where all are 1.
    pub factors: Option<fn(usize, usize) -> Factors>,
    /// Whether files say these factors: `config.json` must.
    pub says_factors: bool,

    /// Why linear layers of floats are latent weights, if they are where `config.json` says nothing.
    pub latent_floats: Option<&'static str>,
    /// What checkpoints call tensors of a layer that they do not call by the usual name.
    pub names: &'static [(Part, &'static str)],
    /// The object of `config.json` that describes the network, where it is part of a larger model's.
    pub inner_config: Option<&'static str>,
    /// How tensors of a checkpoint begin that are other parts of a larger model: eyes, and drafters.
    pub other_parts: &'static [&'static str],
}

/// Whether a norm before each linear layer is known of an architecture; the BitNet embedding models have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::model) enum InputNorms {
    /// Of none of its models.
    Unknown,
    /// Of some models.
    Possible,
    /// Of all that this version runs.
    Needed,
}

/// How files say which layers see only the latest positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::model) enum WindowKeys {
    /// None do.
    None,
    /// All but each so-manieth, which a key may say.
    Pattern,
    /// A list of the layers; those are the only ones that turn.
    List,
}

/// What most architectures have; rows say what is other.
const PLAIN: Architecture = Architecture {
    gguf_names: &[],
    model_types: &[],
    class: None,
    gguf_pairs: RopePairs::Half,
    theta: 10_000.0,
    windows: WindowKeys::None,
    has_experts: false,
    has_delta_net: false,
    activation: |_, _| (Activation::Silu, "models of this architecture use SiLU"),
    activation_field: "hidden_act",
    needs_activation: false,
    numerics: |_| (Numerics::Int8Groups, "the model was trained with float activations, which these come close to"),
    sub_norms: false,
    head_norms: None,
    head_norms_field: None,
    input_norms: InputNorms::Unknown,
    post_norms: false,
    gains_less_one: false,
    may_be_rotated: false,
    factors: None,
    says_factors: false,
    latent_floats: None,
    names: &[],
    inner_config: None,
    other_parts: &[],
};

/// What both of BitNet's rows have.
const BITNET: Architecture = Architecture {
    theta: 500_000.0,
    needs_activation: true,
    numerics: |_| (Numerics::Int8Rows, "BitNet models were trained with them"),
    sub_norms: true,
    ..PLAIN
};

pub(in crate::model) static ARCHITECTURES: &[Architecture] = &[
    // Microsoft's 2B-4T and its fine-tunes.
    Architecture {
        gguf_names: &["bitnet-b1.58", "bitnet-25"],
        model_types: &["bitnet"],
        activation: |_, _| (Activation::SquaredRelu, "BitNet b1.58 2B-4T and its fine-tunes use squared ReLU"),
        ..BITNET
    },
    // 1bitLLM's models, whose own code calls them llama, and some conversions of 2B-4T.
    Architecture {
        gguf_names: &["bitnet"],
        class: Some("BitnetForCausalLM"),
        activation: |vocabulary, width| match (vocabulary, width) {
            (128_256, 2560) => {
                (Activation::SquaredRelu, "the sizes are those of BitNet b1.58 2B-4T, which uses squared ReLU")
            }
            _ => (Activation::Silu, "models of architecture \"bitnet\" other than 2B-4T use SiLU"),
        },
        latent_floats: Some("the code of BitnetForCausalLM rounds them so"),
        ..BITNET
    },
    // Llama3-8B-1.58, Falcon3-1.58, Falcon-E, TriLM. Converters permute query and key rows.
    Architecture {
        gguf_names: &["llama"],
        may_be_rotated: true,
        model_types: &["llama"],
        gguf_pairs: RopePairs::Interleaved,
        activation: |_, _| (Activation::Silu, "llama models use SiLU"),
        numerics: |vocabulary| match TRILM_VOCABULARIES.contains(&vocabulary) {
            true => (Numerics::Int8Groups, "the vocabulary is TriLM's, which was trained with float activations"),
            false => (
                Numerics::Int8Rows,
                "Llama3-8B-1.58, Falcon3-1.58 and Falcon-E were trained with them, and the vocabulary is not TriLM's",
            ),
        },
        ..PLAIN
    },
    // Ternary Bonsai, and the larger BitNet embedding model.
    Architecture {
        gguf_names: &["qwen3"],
        may_be_rotated: true,
        model_types: &["qwen3"],
        activation: |_, _| (Activation::Silu, "qwen3 models use SiLU"),
        head_norms: Some(HeadNormOrder::BeforeRope),
        input_norms: InputNorms::Possible,
        ..PLAIN
    },
    // Ternary-Bonsai-27B: recurrent layers between layers of attention.
    Architecture {
        gguf_names: &["qwen35"],
        may_be_rotated: true,
        model_types: &["qwen3_5", "qwen3_5_text", "prism_hadamard_qwen35"],
        theta: 10_000_000.0,
        has_delta_net: true,
        activation: |_, _| (Activation::Silu, "qwen35 models use SiLU"),
        head_norms: Some(HeadNormOrder::BeforeRope),
        gains_less_one: true,
        inner_config: Some("text_config"),
        other_parts: &["model.visual.", "visual.", "vision_tower.", "mtp.", "model.mtp.", "language_model.mtp."],
        ..PLAIN
    },
    // Maple. Its checkpoints have other names, and none is read yet.
    Architecture {
        gguf_names: &["maple"],
        windows: WindowKeys::List,
        has_experts: true,
        activation: |_, _| (Activation::Silu, "maple models use SiLU"),
        head_norms: Some(HeadNormOrder::BeforeRope),
        ..PLAIN
    },
    // BitCPM4. Converters permute query and key rows.
    Architecture {
        gguf_names: &["minicpm"],
        model_types: &["minicpm"],
        gguf_pairs: RopePairs::Interleaved,
        activation: |_, _| (Activation::Silu, "minicpm models use SiLU"),
        factors: Some(|layers, width| Factors {
            embedding: 12.0,
            residual: (1.4 / (layers as f64).sqrt()) as f32,
            logits: (width as f64 / 256.0) as f32,
        }),
        says_factors: true,
        ..PLAIN
    },
    // Hy-MT in the Sherry encoding.
    Architecture {
        gguf_names: &["hunyuan-dense"],
        model_types: &["hunyuan_v1_dense"],
        activation: |_, _| (Activation::Silu, "hunyuan-dense models use SiLU"),
        head_norms: Some(HeadNormOrder::AfterRope),
        head_norms_field: Some("use_qk_norm"),
        ..PLAIN
    },
    // The smaller BitNet embedding model.
    Architecture {
        gguf_names: &["gemma3"],
        model_types: &["gemma3_text"],
        theta: 1_000_000.0,
        windows: WindowKeys::Pattern,
        activation: |_, _| (Activation::Gelu, "gemma3 models use GELU in its tanh form"),
        activation_field: "hidden_activation",
        head_norms: Some(HeadNormOrder::BeforeRope),
        input_norms: InputNorms::Needed,
        post_norms: true,
        gains_less_one: true,
        factors: Some(|_, width| Factors { embedding: (width as f64).sqrt() as f32, ..Factors::default() }),
        // The usual name is that of the norm of what attention adds.
        names: &[(Part::FfnNorm, "pre_feedforward_layernorm")],
        ..PLAIN
    },
];

/// Architectures of ternary models that this version refuses, each with what it would take.
const REFUSED: [(&str, &str); 3] = [
    ("hy_v4", "latent and sparse attention, several residual streams and shared experts (Hy4)"),
    ("parakeet", "a speech recogniser"),
    (
        "qwen2",
        "of which the ternary models have a norm before each projection, and no weights that are published to be held to",
    ),
];

/// Why an architecture or a model type is refused, to be put behind its name: nothing of those that nobody knows.
fn why_refused(name: &str) -> String {
    REFUSED.iter().find(|(refused, _)| *refused == name).map(|(_, why)| format!(", {why}")).unwrap_or_default()
}

/// Vocabulary sizes of TriLM (SpectraSuite), whose files call themselves `llama`.
const TRILM_VOCABULARIES: [usize; 3] = [50_304, 50_432, 50_688];

impl Architecture {
    /// The architecture of a GGUF file, and the file's name for it.
    pub fn of_gguf(metadata: &Metadata) -> Result<(&str, &'static Self)> {
        const KEY: &str = "general.architecture";
        let missing = || Error::Model(format!("the key \"{KEY}\" is missing"));
        let name = metadata.string(KEY)?.ok_or_else(missing)?;
        if let Some(architecture) = ARCHITECTURES.iter().find(|row| row.gguf_names.contains(&name)) {
            return Ok((name, architecture));
        }
        let known: Vec<&str> = ARCHITECTURES.iter().flat_map(|row| row.gguf_names).copied().collect();
        Err(Error::Unsupported(format!(
            "the architecture {}{}; this version runs {}",
            quoted(name),
            why_refused(name),
            known.join(", ")
        )))
    }

    /// The architecture of a directory, by its type and, before that, by the classes that it names.
    pub fn of_directory(model_type: &str, has_class: impl Fn(&str) -> bool) -> Result<&'static Self> {
        let by_class = ARCHITECTURES.iter().find(|row| row.class.is_some_and(&has_class));
        let by_type = || ARCHITECTURES.iter().find(|row| row.model_types.contains(&model_type));
        by_class.or_else(by_type).ok_or_else(|| {
            let known: Vec<&str> = ARCHITECTURES.iter().flat_map(|row| row.model_types).copied().collect();
            Error::Unsupported(format!(
                "the model type {}{}; this version runs {} in this form, and more as GGUF files",
                quoted(model_type),
                why_refused(model_type),
                known.join(", ")
            ))
        })
    }

    /// The architecture that GGUF files of a network have, where its directory has this one. Norms inside the layers are
    /// BitNet's, whatever the network calls itself; its gate tells which of BitNet's names.
    pub fn in_gguf(&'static self, config: &Config) -> &'static Self {
        if !config.sub_norms {
            return self;
        }
        let mut bitnet = ARCHITECTURES.iter().filter(|row| row.sub_norms);
        let has_gate = |row: &&Self| (row.activation)(config.vocabulary, config.width).0 == config.activation;
        bitnet.clone().find(has_gate).or(bitnet.next_back()).unwrap_or(self)
    }

    /// How a GGUF file that does not say it holds activations. `input_norms`: whether each linear layer has a norm of its
    /// own before it.
    pub fn numerics(&self, vocabulary: usize, input_norms: bool) -> (Numerics, &'static str) {
        match input_norms && !self.sub_norms {
            true => (Numerics::Int8Rows, "BitNet embedding models were trained with them"),
            false => (self.numerics)(vocabulary),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_name_stands_for_one_architecture() {
        let names: Vec<&str> = ARCHITECTURES.iter().flat_map(|row| row.gguf_names).copied().collect();
        let types: Vec<&str> = ARCHITECTURES.iter().flat_map(|row| row.model_types).copied().collect();
        for names in [names, types] {
            assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
        }
        assert!(ARCHITECTURES.iter().all(|row| !row.gguf_names.is_empty()), "a new file needs a name");
    }

    #[test]
    fn a_row_contradicts_itself_nowhere() {
        for row in ARCHITECTURES {
            let name = row.gguf_names[0];
            assert!(row.factors.is_some() || !row.says_factors, "{name} says factors that nothing reads");
            assert!(row.head_norms.is_some() || row.head_norms_field.is_none(), "{name} turns off norms it has not");
        }
    }
}
