//! The command line of `chat`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use sterna::Model;
use sterna::chat::{Chat, ChatOptions};

use crate::device::DeviceArgs;
use crate::model::ModelArgs;
use crate::numbers::one_or_more;
use crate::sampling::SamplingArgs;
use crate::text;

/// Talks with a ternary (1.58-bit) language model in the terminal: type, and press Enter.
///
/// Ctrl-C stops an answer and keeps what was said; pressed again, it ends the program. /help lists what else can be typed. If stdin
/// is no terminal, it is read to its end as one prompt, and the answer alone goes to stdout.
#[derive(Parser)]
#[command(version)]
pub struct Args {
    #[command(flatten)]
    pub model: ModelArgs,

    /// What the model is told before the conversation.
    #[arg(long, visible_aliases = ["sys", "system-prompt"], value_name = "TEXT", allow_hyphen_values = true)]
    pub system: Option<String>,

    /// Another chat template than the model's: a file with Jinja.
    #[arg(long, visible_alias = "chat-template-file", value_name = "FILE")]
    pub chat_template: Option<PathBuf>,

    /// Has the model answer without thinking first, if it is one that thinks.
    #[arg(long)]
    pub no_thinking: bool,

    /// Ends a thought after so many tokens.
    #[arg(long, value_name = "N", conflicts_with = "no_thinking")]
    pub thinking_budget: Option<usize>,

    /// Shows no thoughts. They are there all the same.
    #[arg(long)]
    pub hide_thinking: bool,

    /// The most tokens of an answer, thoughts included. The default is what the context leaves.
    #[arg(long, short = 'n', visible_aliases = ["n-predict", "predict"], value_name = "N", allow_negative_numbers = true, value_parser = one_or_more)]
    pub max_tokens: Option<usize>,

    /// Forgets the oldest turns, two by two, where the conversation would not fit any more.
    #[arg(long)]
    pub forget: bool,

    #[command(flatten)]
    pub sampling: SamplingArgs,

    #[command(flatten)]
    pub device: DeviceArgs,

    /// Positions to make room for, all turns together. The default is what the model was trained for, but at most 4096.
    #[arg(long, short, visible_alias = "ctx-size", value_name = "N", allow_negative_numbers = true, value_parser = one_or_more)]
    pub context: Option<usize>,

    /// Tells after each answer what it took: tokens found in the cache, computed and made, and their speed.
    #[arg(long, short)]
    pub verbose: bool,
}

impl Args {
    /// How the model talks.
    pub fn chat(&self, model: &Model) -> anyhow::Result<Chat> {
        let template = self.chat_template.as_deref().map(text::read).transpose().context("the chat template")?;
        let mut options = ChatOptions::default();
        options.template = template;
        model
            .chat_with(&options)
            .context("this model's chat template cannot be used; --chat-template FILE is another one")
    }
}
