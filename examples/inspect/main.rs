//! Shows what is in a model file or directory, and every decision that loading it takes:
//!
//! ```text
//! cargo run --release --example inspect -- --model PATH
//! ```

#[path = "../shared/command.rs"]
mod command;
#[path = "../shared/logging.rs"]
mod logging;
#[path = "../shared/model.rs"]
mod model;
#[path = "../shared/quiet.rs"]
mod quiet;
#[path = "../shared/terminal.rs"]
mod terminal;
mod verify;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use indicatif::HumanBytes;
use sterna::backend::HeadNormOrder;
use sterna::format::encodings::Encoding;
use sterna::format::gguf::{Encodings, Gguf, TensorInfo, resolve};
use sterna::format::locate;
use sterna::format::safetensors::Checkpoint;
use sterna::model::{Config, Factors, Model, Role};
use verify::Outcome;

/// Shows what is in a GGUF file or a directory in Hugging Face form: keys, tensors, their types, and every decision that
/// the loader takes, with its reason.
///
/// Works on any such file, also on one that this version cannot run: then the reason stands at the end, and the exit
/// status is 1. Tensors are decoded as a device would be given them, so that what `generate` refuses is refused here.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    model: model::ModelArgs,

    /// Lists every tensor instead of one line for each kind.
    #[arg(long)]
    all: bool,

    /// Reads every value: the share of -1, 0 and +1 in each tensor, zeros, numbers that are none, and parts that were never
    /// written, as a download that stopped leaves them. The exit status is 1 if there is a tensor that no model can have.
    #[arg(long)]
    verify: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    logging::start();
    let args: Args = command::parse();
    let (path, map) = (locate(&args.model.model)?, !args.model.no_map);
    let mut out = quiet::stdout();
    let decided = match Checkpoint::directory(&path) {
        Some(directory) => write_directory(&mut out, directory, map, args.all).map(|()| Vec::new())?,
        None => write_gguf(&mut out, &path, map, args.all)?,
    };

    // The library's own loader, so that what is printed is what happens.
    let model = match args.model.open() {
        Ok(model) => model,
        Err(error) => {
            for decision in decided {
                writeln!(out, "  {decision}")?;
            }
            return Err(error);
        }
    };
    writeln!(out, "\nModel")?;
    write_config(&mut out, model.config())?;
    writeln!(out, "\nDecisions")?;
    for decision in model.decisions() {
        writeln!(out, "  {decision}")?;
    }
    out.flush()?;
    if !args.verify {
        check(&model).with_context(|| format!("cannot run the model {}", path.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let stop = terminal::stop_on_ctrl_c(true)?;
    match verify::verify(&mut out, &model, &stop)? {
        Outcome::Sound => Ok(ExitCode::SUCCESS),
        Outcome::Stopped => Ok(ExitCode::from(terminal::INTERRUPTED)),
        Outcome::Refused(count) => anyhow::bail!("{count} tensors of {} cannot be those of a model", path.display()),
    }
}

/// Decodes what a device would be given, under a progress bar.
fn check(model: &Model) -> sterna::Result<()> {
    let bar = terminal::progress_bar("checking tensors");
    let outcome = model.check(&mut |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    outcome
}

/// What a type number means in this file, if that was found out.
fn name(encodings: Option<&Encodings>, type_id: u32) -> String {
    let encoding = encodings.map_or_else(|| Encoding::from_ggml(type_id), |encodings| encodings.of(type_id));
    encoding.map_or_else(|_| "unknown to this version".into(), |encoding| encoding.to_string())
}

/// Returns what was decided of the tensors' encodings, which matters most where the model cannot be opened.
fn write_gguf(out: &mut impl Write, path: &Path, map: bool, all: bool) -> anyhow::Result<Vec<String>> {
    let gguf = if map { Gguf::open(path) } else { Gguf::read(path) };
    let gguf = gguf.with_context(|| format!("cannot read {}", path.display()))?;
    writeln!(out, "{}: GGUF version {}, {}", path.display(), gguf.version(), HumanBytes(gguf.file_bytes() as u64))?;
    writeln!(out, "\nKeys")?;
    for (key, value) in gguf.metadata().iter() {
        writeln!(out, "  {key} = {value}")?;
    }
    writeln!(out, "\nTensors ({}; shapes have the input features first)", gguf.tensors().len())?;
    let encodings = resolve(&gguf); // its error is the loader's, too
    let name = |type_id| name(encodings.as_ref().ok(), type_id);
    if all {
        for tensor in gguf.tensors() {
            writeln!(out, "  {:32} {}", tensor.name, tensor_line(tensor, &name(tensor.type_id)))?;
        }
    } else {
        write_kinds(out, gguf.tensors(), name)?;
    }
    Ok(encodings.iter().flat_map(Encodings::decisions).map(ToString::to_string).collect())
}

fn write_directory(out: &mut impl Write, directory: &Path, map: bool, all: bool) -> anyhow::Result<()> {
    let checkpoint = if map { Checkpoint::open(directory) } else { Checkpoint::read(directory) };
    let checkpoint = checkpoint.with_context(|| format!("cannot read {}", directory.display()))?;
    let (files, bytes) = (checkpoint.files(), HumanBytes(checkpoint.file_bytes() as u64));
    writeln!(out, "{}: safetensors, {files} file{}, {bytes}", directory.display(), if files == 1 { "" } else { "s" })?;
    writeln!(out, "\nTensors ({}; shapes have the output features first)", checkpoint.tensors().len())?;
    let mut kinds = BTreeMap::<(String, String), usize>::new();
    for (name, tensor) in checkpoint.tensors() {
        let kind = match name.split_once("layers.").and_then(|(start, rest)| Some((start, rest.split_once('.')?))) {
            Some((start, (layer, part))) if !all && layer.parse::<usize>().is_ok() => format!("{start}layers.*.{part}"),
            _ => name.to_owned(),
        };
        *kinds.entry((kind, format!("{tensor:?}"))).or_default() += 1;
    }
    for ((kind, form), count) in kinds {
        writeln!(out, "  {count:4} × {kind:48} {form}")?;
    }
    Ok(())
}

/// Shape, type and size of one tensor.
fn tensor_line(tensor: &TensorInfo, encoding: &str) -> String {
    format!(
        "{:16} {encoding:6} (type {}), {} bytes at {}",
        format!("{:?}", tensor.shape),
        tensor.type_id,
        tensor.span,
        tensor.offset
    )
}

/// One line for tensors that differ only in their layer.
fn write_kinds(out: &mut impl Write, tensors: &[TensorInfo], name: impl Fn(u32) -> String) -> std::io::Result<()> {
    let mut kinds = BTreeMap::<(String, &[usize], u32), Vec<&TensorInfo>>::new();
    for tensor in tensors {
        let kind = match tensor.name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
            Some((layer, name)) if layer.parse::<usize>().is_ok() => format!("blk.*.{name}"),
            _ => tensor.name.clone(),
        };
        kinds.entry((kind, &tensor.shape, tensor.type_id)).or_default().push(tensor);
    }
    for ((kind, shape, type_id), members) in kinds {
        let encoding = name(type_id);
        let bytes: usize = members.iter().map(|tensor| tensor.span).sum();
        writeln!(
            out,
            "  {:4} × {kind:28} {:14} {encoding} (type {type_id}), {}",
            members.len(),
            format!("{shape:?}"),
            HumanBytes(bytes as u64)
        )?;
    }
    Ok(())
}

/// Those that not all models have.
fn norms(config: &Config) -> String {
    let head_norms = match config.head_norms {
        Some(HeadNormOrder::BeforeRope) => "of heads before the rotation",
        Some(HeadNormOrder::AfterRope) => "of heads after the rotation",
        _ => "",
    };
    let all = [
        (config.sub_norms, "before the output and down projections"),
        (config.head_norms.is_some(), head_norms),
        (config.input_norms, "before each projection"),
        (config.post_norms, "of what a layer adds"),
    ];
    let there: Vec<&str> = all.into_iter().filter_map(|(is_there, what)| is_there.then_some(what)).collect();
    let all_layers = "before attention and feed-forward";
    std::iter::once(all_layers).chain(there).collect::<Vec<_>>().join(", ")
}

fn write_config(out: &mut impl Write, config: &Config) -> std::io::Result<()> {
    let heads = config.heads;
    writeln!(out, "  architecture       {}", config.architecture)?;
    writeln!(out, "  layers             {}", config.layers)?;
    writeln!(out, "  width              {}, feed-forward {}", config.width, config.ffn_width)?;
    writeln!(
        out,
        "  heads              {} query, {} key/value, {} features each",
        heads.heads, heads.kv_heads, heads.head_dim
    )?;
    if let Some(net) = &config.delta_net {
        let recurrent = (0..config.layers).filter(|&layer| config.is_recurrent(layer)).count();
        let cut = net.heads;
        writeln!(
            out,
            "  recurrent layers   {recurrent} of {}: gated delta net, {} key and {} value heads of {} features, a convolution of {} rows",
            config.layers, cut.key_heads, cut.value_heads, cut.head_dim, net.taps
        )?;
    }
    if let Some(mixture) = &config.mixture {
        let shape = mixture.shape;
        writeln!(
            out,
            "  experts            {} in each layer, {} used, of {} features each",
            shape.count, shape.used, mixture.ffn_width
        )?;
    }
    if config.attention_gate {
        writeln!(out, "  attention          its outputs are gated")?;
    }
    writeln!(out, "  vocabulary         {} tokens", Role::Embedding.shape(config).0)?;
    writeln!(out, "  context            {} positions", config.context)?;
    writeln!(out, "  rotary pairs       {} of {}", config.rope.frequencies.len(), heads.head_dim / 2)?;
    if let Some(windows) = &config.windows {
        let positions = windows.positions;
        let windowed = (0..config.layers).filter(|&layer| windows.covers(layer)).count();
        writeln!(
            out,
            "  windows            {positions} positions in {windowed} of {} layers; the others see all",
            config.layers
        )?;
    }
    if let Some(long) = &config.long_rope {
        writeln!(out, "  long sequences     rotations of their own beyond {} positions", long.beyond)?;
    }
    writeln!(out, "  norm epsilon       {:e}", config.norm_epsilon)?;
    writeln!(out, "  norms              {}", norms(config))?;
    if config.factors != Factors::default() {
        let Factors { embedding, residual, logits, .. } = config.factors;
        writeln!(out, "  factors            embedding × {embedding}, residual × {residual}, logits / {logits}")?;
    }
    writeln!(out, "  ternary weights    {}", config.ternary_weights())
}
