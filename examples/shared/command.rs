//! Reads a command line; what people know from llama.cpp and this program does otherwise is answered with a hint.

use std::io::Write;

use clap::Parser;
use clap::error::ErrorKind;

/// Options of llama.cpp that mean nothing here, and what does instead. Those that mean the same are aliases.
const ELSEWHERE: &[(&[&str], &str)] = &[
    (
        &["-ngl", "--gpu-layers", "--n-gpu-layers"],
        "a model is on one device as a whole: --device gpu, or --device cpu; --devices lists what there is",
    ),
    (&["-fa", "--flash-attn"], "attention has one form here: leave the option away"),
    (
        &["-b", "--batch-size", "-ub", "--ubatch-size"],
        "a prompt is read in steps that suit the device: leave the option away",
    ),
    (&["-tb", "--threads-batch"], "prompts and tokens are computed by the same threads: --threads"),
    (
        &["-ctk", "-ctv", "--cache-type-k", "--cache-type-v"],
        "keys and values are cached in one format: --cache f16, or f32",
    ),
    (&["-r", "--reverse-prompt"], "--stop TEXT ends the text before such a string"),
    (
        &[
            "-cnv",
            "--conversation",
            "-no-cnv",
            "--no-conversation",
            "-i",
            "--interactive",
            "-sys",
            "--system-prompt",
            "--jinja",
        ],
        "by `generate` a prompt is continued as it is; the example `chat` takes turns, by the model's own template, with --system",
    ),
    (
        &["-hf", "-hfr", "--hf-repo", "-mu", "--model-url"],
        "nothing is downloaded: --model hf:OWNER/REPO/FILE finds what is in the Hugging Face cache, or says how it gets there",
    ),
    (
        &["--mlock", "--numa", "-dev", "--main-gpu", "-mg", "-sm", "-ts"],
        "the device is chosen by --device; see --devices",
    ),
    (
        &["--typical", "--mirostat", "--xtc-probability", "--dry-multiplier"],
        "the ways to sample are: temperature, top-k, top-p, min-p, penalties",
    ),
    (&["-o", "--output", "--outfile"], "the output is the second argument: convert MODEL OUTPUT --to ENCODING"),
];

/// Options whose value is text, which may look like anything.
const TEXTS: [&str; 4] = ["-p", "--prompt", "--stop", "--prefix"];

/// Options that are answered whatever else there is.
const HELP: [&str; 4] = ["-h", "--help", "-V", "--version"];

/// The command line, or else an end with what is wrong with it.
pub fn parse<A: Parser>() -> A {
    let arguments: Vec<_> = std::env::args_os().collect();
    let words: Vec<String> = arguments.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let hint = hint(&words).filter(|_| !words.iter().any(|word| HELP.contains(&word.as_str())));
    let error = match (A::try_parse_from(arguments), &hint) {
        (Ok(read), None) => return read,
        (Err(error), _) if error.use_stderr() || hint.is_none() => error,
        // Such as -fa, which would else be -f with the value "a", or -hf, which would be -h.
        _ => A::command().error(ErrorKind::UnknownArgument, "an option that this program does not have"),
    };
    let _ = error.print(); // its reader may be gone
    if let Some(hint) = hint {
        let _ = writeln!(std::io::stderr(), "\n{hint}");
    }
    std::process::exit(error.exit_code())
}

/// What to do instead of the first option that is another program's.
fn hint(words: &[String]) -> Option<String> {
    let mut before = "";
    for word in words.iter().take_while(|word| *word != "--") {
        let name = word.split('=').next().unwrap_or(word);
        if !TEXTS.contains(&before)
            && let Some((_, way)) = ELSEWHERE.iter().find(|(names, _)| names.contains(&name))
        {
            return Some(format!("hint: {name} is an option of llama.cpp. Here, {way}."));
        }
        before = word;
    }
    None
}
