//! The command line of `serve`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as Arguments, Parser, ValueEnum};

use crate::device::DeviceArgs;
use crate::model::ModelArgs;
use crate::numbers::one_or_more;

/// How it is begun and asked.
const EXAMPLES: &str = "Examples:
  serve --model bitnet.gguf --slots 8 --context 8192
  curl http://127.0.0.1:8080/v1/chat/completions -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'
  serve --model bitnet.gguf --host 0.0.0.0 --api-key-file keys.txt --metrics-prefix vllm:";

/// Serves a ternary (1.58-bit) language model to programs that speak OpenAI's interface, and a chat page to people.
///
/// Clients are given the address http://127.0.0.1:8080/v1, any key, and any name for the model that GET /v1/models lists. Ctrl-C
/// lets the answers that are being made come to their end; a second one ends at once. A line on stderr tells of each request.
///
/// Other machines reach the server with --host 0.0.0.0, which needs a key.
#[derive(Parser)]
#[command(version, after_long_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    pub model: ModelArgs,

    #[command(flatten)]
    pub settings: Settings,

    #[command(flatten)]
    pub sizes: Sizes,

    #[command(flatten)]
    pub device: DeviceArgs,
}

/// How much at once.
#[derive(Arguments)]
#[command(next_help_heading = "Sizes")]
pub struct Sizes {
    /// Answers that are made at once; each has room for --context positions [default: as many as a quarter of the free memory
    /// holds, at most 16].
    #[arg(long, visible_aliases = ["parallel", "max-num-seqs"], value_name = "N", allow_negative_numbers = true, value_parser = one_or_more)]
    pub slots: Option<usize>,

    /// Positions of each slot, prompt and answer together [default: what the model was trained for, at most 4096].
    #[arg(long, short, visible_aliases = ["ctx-size", "max-model-len"], value_name = "N", allow_negative_numbers = true, value_parser = one_or_more)]
    pub context: Option<usize>,

    /// Requests that may wait for a slot; more are told to come again later [default: 4 for each slot, at least 32].
    #[arg(long, value_name = "N")]
    pub queue: Option<usize>,

    /// The longest time, in milliseconds, that answers which are being made are kept waiting by the reading of a new prompt.
    #[arg(long, value_name = "MS", default_value_t = 200)]
    pub max_stall: u64,

    /// The most tokens that are computed in one step [default: 128 on a CPU, 512 on a GPU].
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = one_or_more)]
    pub chunk: Option<usize>,
}

/// What requests meet.
#[derive(Arguments, Clone)]
#[command(next_help_heading = "Requests")]
pub struct Settings {
    /// The address to listen at.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub host: IpAddr,

    /// The port; 0 takes any that is free, and says which.
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub port: u16,

    /// The most connections at once; others are told to come again.
    #[arg(long, value_name = "N", default_value_t = 1024, allow_negative_numbers = true, value_parser = one_or_more)]
    pub max_connections: usize,

    /// Makes one token of an answer in a step. Else what followed the last three tokens before is drafted, and taken as far as it is
    /// what is drawn: the tokens are the same ones, sooner where a text is written anew with small changes.
    #[arg(long)]
    pub no_lookup: bool,

    /// The most tokens of an answer whose request does not say.
    #[arg(long, value_name = "N", default_value_t = 4096, allow_negative_numbers = true, value_parser = one_or_more)]
    pub max_tokens: usize,

    /// Other names that requests may call the model by.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub alias: Vec<String>,

    /// Takes requests for a model of any name.
    #[arg(long)]
    pub any_model: bool,

    /// A key that requests must bring. May be given several times; STERNA_API_KEY may hold some too, with commas between them.
    #[arg(long, value_name = "KEY")]
    pub api_key: Vec<String>,

    /// A file with a key in each line.
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,

    /// Keeps requests of different keys apart in the cache of prompts: else whoever asks can tell, by cached_tokens and the time to a
    /// first token, whether another's prompt began in the same way. Requests may also keep apart by a "cache_salt" of their own.
    #[arg(long)]
    pub cache_per_key: bool,

    /// Listens to other machines without a key.
    #[arg(long)]
    pub no_key: bool,

    /// An origin whose pages may use this server, such as https://example.org, or * for all. May be given several times. Pages of
    /// this machine always may.
    #[arg(long, value_name = "ORIGIN")]
    pub cors: Vec<String>,

    /// What web/build made, its target/web/dist: with it, the chat page can also run a model in the tab of whoever opens it. The page,
    /// its scripts and modules, and the small model that comes with them are served to all, without a key; nothing else of that folder
    /// is, nor the file of --model. Browsers allow WebGPU, storage and use without a network only on https or localhost.
    #[arg(long, value_name = "FOLDER")]
    pub web: Option<PathBuf>,

    /// What the names of common metrics begin with; "vllm:" makes them those that dashboards and routers know.
    #[arg(long, value_name = "PREFIX", default_value = "sterna_")]
    pub metrics_prefix: String,

    /// Asks for a key at /metrics too.
    #[arg(long)]
    pub metrics_key: bool,

    /// The field that tells a model's thoughts: clients differ in where they look.
    #[arg(long, value_name = "NAME", default_value = "reasoning_content")]
    pub reasoning_field: ReasoningField,

    /// A Jinja template for chats in the place of the model's own.
    #[arg(long, value_name = "FILE")]
    pub chat_template: Option<PathBuf>,

    /// Shows what is being made at /slots.
    #[arg(long)]
    pub slots_route: bool,

    /// Writes what is asked and answered to the log.
    #[arg(long)]
    pub log_content: bool,

    /// Begins the answer of a stream at once, while its request may still wait: proxies see that something comes. What goes wrong
    /// then is told in the stream, and not by a status.
    #[arg(long)]
    pub early_headers: bool,

    /// How long new requests are taken, in seconds, once the server was asked to end; /health says so at once.
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    pub drain_delay: Duration,

    /// How long answers that are being made go on then, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub drain_timeout: Duration,

    /// How long a request may wait for its first byte, in seconds [default: as long as it takes].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub request_timeout: Option<Duration>,
}

/// The names of the field of thoughts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReasoningField {
    #[value(name = "reasoning_content")]
    ReasoningContent,
    Reasoning,
    Both,
    None,
}

/// A time in seconds, such as 0.5.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| "it must be a number of seconds, 0 or more".into())
}
