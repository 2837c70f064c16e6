//! Architectures that share a forward pass to the letter, and what each name in a file implies.

use crate::backend::{Activation, HeadNormOrder, Numerics, RopePairs};
use crate::error::{Error, Result};
use crate::format::gguf::{Metadata, quoted};

/// What an architecture's name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::model) enum Family {
    /// `bitnet-b1.58`, `bitnet-25`: Microsoft's 2B-4T and its fine-tunes.
    BitNet,
    /// `bitnet`: 1bitLLM's models, and some conversions of 2B-4T.
    OldBitNet,
    /// `llama`: Llama3-8B-1.58, Falcon3-1.58, Falcon-E, TriLM.
    Llama,
    /// `qwen3`: Ternary Bonsai, and the larger BitNet embedding model.
    Qwen3,
    /// `minicpm`: BitCPM4.
    MiniCpm,
    /// `hunyuan-dense`: Hy-MT in the Sherry encoding.
    Hunyuan,
    /// `gemma3`: the smaller BitNet embedding model.
    Gemma3,
}

/// Vocabulary sizes of TriLM (SpectraSuite), whose files call themselves `llama`.
const TRILM_VOCABULARIES: [usize; 3] = [50_304, 50_432, 50_688];

/// Architectures of ternary models that this version refuses, each with what it would take.
const REFUSED: [(&str, &str); 3] = [
    ("qwen35", "a hybrid of gated delta net and gated attention (Ternary-Bonsai-27B, Bonsai-2)"),
    ("maple", "a mixture of experts"),
    ("parakeet", "a speech recogniser"),
];

impl Family {
    /// Every architecture that runs, in the words of GGUF files.
    pub const NAMES: [(&'static str, Family); 8] = [
        ("bitnet-b1.58", Family::BitNet),
        ("bitnet-25", Family::BitNet),
        ("bitnet", Family::OldBitNet),
        ("llama", Family::Llama),
        ("qwen3", Family::Qwen3),
        ("minicpm", Family::MiniCpm),
        ("hunyuan-dense", Family::Hunyuan),
        ("gemma3", Family::Gemma3),
    ];

    /// The file's architecture and its family.
    pub fn of(metadata: &Metadata) -> Result<(&str, Self)> {
        const KEY: &str = "general.architecture";
        let missing = || Error::Model(format!("the key \"{KEY}\" is missing"));
        let architecture = metadata.string(KEY)?.ok_or_else(missing)?;
        if let Some((_, family)) = Self::NAMES.iter().find(|(name, _)| *name == architecture) {
            return Ok((architecture, *family));
        }
        let names: Vec<&str> = Self::NAMES.iter().map(|(name, _)| *name).collect();
        let what = REFUSED.iter().find(|(name, _)| *name == architecture).map(|(_, what)| format!(", {what}"));
        Err(Error::Unsupported(format!(
            "the architecture {}{}; this version runs {}",
            quoted(architecture),
            what.unwrap_or_default(),
            names.join(", ")
        )))
    }

    /// Llama-like converters permute query and key rows.
    pub fn rope_pairs(self) -> RopePairs {
        match self {
            Family::Llama | Family::MiniCpm => RopePairs::Interleaved,
            _ => RopePairs::Half,
        }
    }

    /// GGUF has no key for it: the architecture decides, and the reason is told.
    pub fn activation(self, vocabulary: usize, width: usize) -> (Activation, &'static str) {
        match self {
            Family::BitNet => (Activation::SquaredRelu, "BitNet b1.58 2B-4T and its fine-tunes use squared ReLU"),
            Family::OldBitNet if vocabulary == 128_256 && width == 2560 => {
                (Activation::SquaredRelu, "the sizes are those of BitNet b1.58 2B-4T, which uses squared ReLU")
            }
            Family::OldBitNet => (Activation::Silu, "models of architecture \"bitnet\" other than 2B-4T use SiLU"),
            Family::Llama => (Activation::Silu, "llama models use SiLU"),
            Family::Qwen3 => (Activation::Silu, "qwen3 models use SiLU"),
            Family::MiniCpm => (Activation::Silu, "minicpm models use SiLU"),
            Family::Hunyuan => (Activation::Silu, "hunyuan-dense models use SiLU"),
            Family::Gemma3 => (Activation::Gelu, "gemma3 models use GELU in its tanh form"),
        }
    }

    /// What the models were trained with. `input_norms`: whether each linear layer has a norm of its own before it, as the
    /// BitNet embedding models have.
    pub fn numerics(self, vocabulary: usize, input_norms: bool) -> (Numerics, &'static str) {
        match self {
            Family::BitNet | Family::OldBitNet => (Numerics::Int8Rows, "BitNet models were trained with them"),
            _ if input_norms => (Numerics::Int8Rows, "BitNet embedding models were trained with them"),
            Family::Llama if TRILM_VOCABULARIES.contains(&vocabulary) => {
                (Numerics::Int8Groups, "the vocabulary is TriLM's, which was trained with float activations")
            }
            Family::Llama => (
                Numerics::Int8Rows,
                "Llama3-8B-1.58, Falcon3-1.58 and Falcon-E were trained with them, and the vocabulary is not TriLM's",
            ),
            Family::Qwen3 | Family::MiniCpm | Family::Hunyuan | Family::Gemma3 => {
                (Numerics::Int8Groups, "the model was trained with float activations, which these come close to")
            }
        }
    }

    /// Whether and when each query and key head is normed.
    pub fn head_norms(self) -> Option<HeadNormOrder> {
        match self {
            Family::Qwen3 | Family::Gemma3 => Some(HeadNormOrder::BeforeRope),
            Family::Hunyuan => Some(HeadNormOrder::AfterRope),
            _ => None,
        }
    }
}
