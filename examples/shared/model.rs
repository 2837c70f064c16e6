//! The model of the command line: which file, and how it is opened.

#[path = "hub.rs"]
mod hub;

use std::path::PathBuf;

use anyhow::Context;
use sterna::backend::Numerics;
use sterna::format::encodings::I2sLayout;
use sterna::model::{Model, OpenOptions, RopeScaling};

/// The model that ships with the crate.
const SHIPPED_MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tales-4m-i2_s.gguf");

/// Which file or directory to open, and what it does not say of itself.
#[derive(clap::Args)]
pub struct ModelArgs {
    /// A GGUF file with a ternary model, a directory that holds one, or a directory in Hugging Face form (config.json,
    /// model.safetensors or its shards, tokenizer.json). Or hf:OWNER/REPO, hf:OWNER/REPO/FILE or hf:OWNER/REPO@REVISION/FILE:
    /// what the Hugging Face cache of this machine ($HF_HUB_CACHE, $HF_HOME/hub or ~/.cache/huggingface/hub) holds under that name;
    /// nothing is downloaded, but the command that does is told. The default is the small story model that ships with the crate.
    #[arg(long, short, value_name = "PATH", value_parser = hub::parser(), default_value = SHIPPED_MODEL, hide_default_value = true)]
    pub model: PathBuf,

    /// How I2_S codes are arranged: 128 (every published file), 64 (made by bitnet.cpp on ARM since November 2025),
    /// row4 (made by bitnet.cpp on x86 without ACT_PARALLEL). The file itself does not say; a wrong one gives garbage.
    #[arg(long, value_name = "LAYOUT", default_value = "128")]
    pub i2s_layout: I2sLayout,

    /// Reads the files of weights into memory instead of mapping them. A map opens at once, shares its pages with other
    /// processes, and takes no memory that the system could not have back; but a file that somebody cuts off while it is
    /// mapped kills the program. Use this where the file may change under it: on a network drive, or while it is replaced.
    #[arg(long, visible_alias = "no-mmap")]
    pub no_map: bool,

    /// Keeps activations in f32, as models that call themselves weight-only were trained (Ternary Bonsai, TriLM, BitCPM4,
    /// Hy-MT): many times slower. Otherwise such models take int8, with one scale for each 128 columns.
    #[arg(long, conflicts_with = "activations")]
    pub precise: bool,

    /// How the inputs of ternary layers are held: rows (int8, one scale for each token: what BitNet models were trained
    /// with), groups (int8, one scale for each 128 columns) or f32. The default is what suits the model.
    #[arg(long, value_name = "FORM")]
    pub activations: Option<Numerics>,

    /// Stretches rotations, to go beyond the context that the model was trained for, which becomes --rope-factor times as
    /// long: yarn (what cards of models recommend), linear, or none, which undoes what the file says. Short texts may be
    /// understood a little worse.
    #[arg(long, value_name = "KIND")]
    pub rope_scaling: Option<String>,

    /// How many times as long the context becomes, such as 4.
    #[arg(long, value_name = "FACTOR", requires = "rope_scaling")]
    pub rope_factor: Option<f64>,
}

impl ModelArgs {
    /// Opens the file or directory.
    pub fn open(&self) -> anyhow::Result<Model> {
        let named = |name: &String| RopeScaling::named(name, self.rope_factor);
        let options = OpenOptions {
            map: !self.no_map,
            i2s_layout: self.i2s_layout,
            numerics: self.numerics(),
            rope_scaling: self.rope_scaling.as_ref().map(named).transpose()?,
        };
        Model::open_with(&self.model, &options)
            .with_context(|| format!("cannot open the model {}", self.model.display()))
    }

    /// How the inputs of linear layers are held, if that was asked for.
    pub fn numerics(&self) -> Option<Numerics> {
        if self.precise { Some(Numerics::Float) } else { self.activations }
    }
}
