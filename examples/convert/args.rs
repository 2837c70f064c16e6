//! The command line of `convert`.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use sterna::convert::ConvertOptions;
use sterna::format::encodings::{Encoding, I2sLayout};

use crate::hub;

/// Writes any ternary model that opens as one GGUF file, trit for trit.
///
/// Which encoding?
///
///   i2_s   2.00 bits a weight, one scale a tensor: BitNet models. Read by bitnet.cpp; ik_llama.cpp repacks it.
///   tq1_0  1.69 bits, one scale for 256 columns: the smallest. Read by llama.cpp and all that is built on it.
///   tq2_0  2.06 bits, one scale for 256 columns: faster than tq1_0 there. Read by llama.cpp.
///   q2_0   2.25 bits, one scale for 64 columns: holds Ternary Bonsai. Read by newer versions of llama.cpp.
///
/// Other programs must know the architecture too: llama.cpp knows no BitNet b1.58 2B-4T, whose place is bitnet.cpp.
///
/// Trits never change. What may not fit is the scales: a model with one for each 128 columns (Ternary Bonsai) fits q2_0 only, one
/// with several in a matrix (TriLM) does not fit i2_s, and tq1_0 and tq2_0 need rows of a multiple of 256 columns. Such a
/// conversion is refused, naming the first tensor and why; --lossy joins the scales instead, and tells how far weights moved.
///
/// The file is written beside its place, read back, compared with the model, and only then given its name: whatever stops the
/// conversion, Ctrl-C too, leaves nothing behind.
#[derive(Parser)]
#[command(version, verbatim_doc_comment, after_help = EXAMPLES)]
pub struct Args {
    /// A GGUF file, a directory that holds one, or a directory in Hugging Face form: config.json, model.safetensors or its shards,
    /// tokenizer.json. Or hf:OWNER/REPO, hf:OWNER/REPO/FILE or hf:OWNER/REPO@REVISION/FILE, what the Hugging Face cache holds under
    /// that name.
    #[arg(value_parser = hub::parser())]
    pub model: PathBuf,

    /// The file to write. Where this is a link, the file that it leads to.
    pub output: PathBuf,

    /// The encoding of the linear layers.
    #[arg(long, value_enum)]
    pub to: Linear,

    /// The encoding of embedding and head. keep: trits stay trits if --to holds them, floats become f16 if that is exact,
    /// all else stays as it is. The others round, q6_k to rows of a multiple of 256 columns.
    #[arg(long, value_enum, default_value = "keep")]
    pub embeddings: Tables,

    /// Where --to has fewer scales than the model, joins those under one to their mean.
    #[arg(long)]
    pub lossy: bool,

    /// Replaces the output if it is there and a file. Devices, pipes and folders are refused.
    #[arg(long)]
    pub force: bool,

    /// Whether the written file is read back and compared with the model: keys, trits, scales, embeddings, norms.
    #[arg(long, value_name = "true|false", default_value_t = true, action = clap::ArgAction::Set)]
    pub verify: bool,

    /// How the I2_S codes of the input are arranged: 128 (every published file), 64 (made by bitnet.cpp on ARM since November
    /// 2025), row4 (made on x86 without ACT_PARALLEL). The output always has 128.
    #[arg(long, value_name = "LAYOUT", default_value = "128")]
    pub i2s_layout: I2sLayout,
}

const EXAMPLES: &str = "\
Examples:
  convert models/tales-4m-i2_s.gguf tales-tq1_0.gguf --to tq1_0
  convert Falcon3-1B-Instruct-1.58bit falcon3-1b-i2_s.gguf --to i2_s --embeddings q8_0
  convert Ternary-Bonsai-1.7B-mlx-2bit bonsai-q2_0.gguf --to q2_0";

#[derive(Clone, Copy, ValueEnum)]
pub enum Linear {
    #[value(name = "i2_s")]
    I2s,
    #[value(name = "tq1_0")]
    Tq1_0,
    #[value(name = "tq2_0")]
    Tq2_0,
    #[value(name = "q2_0")]
    Q2_0,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Tables {
    Keep,
    F16,
    Bf16,
    F32,
    #[value(name = "q8_0")]
    Q8_0,
    #[value(name = "q6_k")]
    Q6K,
}

impl Args {
    pub fn options(&self) -> ConvertOptions {
        let linear = match self.to {
            Linear::I2s => Encoding::I2S,
            Linear::Tq1_0 => Encoding::Tq1_0,
            Linear::Tq2_0 => Encoding::Tq2_0,
            Linear::Q2_0 => Encoding::Q2_0,
        };
        let embeddings = match self.embeddings {
            Tables::Keep => None,
            Tables::F16 => Some(Encoding::F16),
            Tables::Bf16 => Some(Encoding::Bf16),
            Tables::F32 => Some(Encoding::F32),
            Tables::Q8_0 => Some(Encoding::Q8_0),
            Tables::Q6K => Some(Encoding::Q6K),
        };
        ConvertOptions { linear, embeddings, lossy: self.lossy, overwrite: self.force, verify: self.verify }
    }
}
