//! Reads every tensor of a model and tells what is in it.

use std::io::Write;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use sterna::Error;
use sterna::format::{Contents, Counts};
use sterna::model::{Examined, Model};

use crate::terminal;

/// How the reading ended.
pub enum Outcome {
    /// All was read, and nothing is wrong with it.
    Sound,
    /// All was read; so many tensors cannot be those of a model.
    Refused(usize),
    /// Ctrl-C.
    Stopped,
}

/// Writes a line for each tensor: the share of −1, 0 and +1 or of zeros, values that are not finite, and what is suspicious.
pub fn verify(out: &mut impl Write, model: &Model, stop: &AtomicBool) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let roles = model.roles();
    let size = |(rows, cols): (usize, usize)| rows as u64 * cols as u64;
    let bar = terminal::progress_bar("reading");
    bar.set_length(roles.iter().map(|role| size(role.shape(model.config()))).sum());
    let (mut refused, mut suspicious) = (0, 0);
    writeln!(out, "\nValues")?;
    for role in &roles {
        let go_on = &mut |values| {
            bar.inc(values);
            if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let line = match model.examine(*role, go_on) {
            Ok(None) => {
                bar.finish_and_clear();
                writeln!(out, "stopped; the tensors above were read")?;
                return Ok(Outcome::Stopped);
            }
            Ok(Some(Examined { name, contents, refusal, suspicion, .. })) => {
                refused += usize::from(refusal.is_some());
                suspicious += usize::from(suspicion.is_some());
                let what = match (refusal, suspicion) {
                    (Some(error), _) => format!(" | refused: {error}"),
                    (None, Some(why)) => format!(" | suspicious: {why}"),
                    (None, None) => String::new(),
                };
                format!("  {name:36} {}{what}", shares(&contents))
            }
            // One that cannot be decoded; its error names it.
            Err(error @ (Error::Malformed(_) | Error::Unsupported(_) | Error::Model(_))) => {
                refused += 1;
                format!("  {} | refused: {error}", role.gguf_name())
            }
            Err(error) => return Err(error.into()),
        };
        bar.suspend(|| writeln!(out, "{line}"))?;
    }
    bar.finish_and_clear();
    writeln!(out, "{} tensors read: {refused} refused, {suspicious} suspicious", roles.len())?;
    terminal::say(&format!("in {}", terminal::short(start.elapsed())));
    Ok(if refused > 0 { Outcome::Refused(refused) } else { Outcome::Sound })
}

/// What the values are, in parts of a hundred.
fn shares(contents: &Contents) -> String {
    let percent = |part: u64, all: u64| format!("{:5.1} %", part as f64 * 100.0 / all.max(1) as f64);
    match contents.values {
        Counts::Trits { trits, wrong, unscaled, .. } => {
            let all = trits.iter().sum::<u64>() + wrong;
            let [negative, zero, positive] = trits.map(|count| percent(count, all));
            let wrong = if wrong > 0 { format!(", no trit {}", percent(wrong, all)) } else { String::new() };
            let unscaled =
                if unscaled > 0 { format!(", of scale 0 {}", percent(unscaled, all)) } else { String::new() };
            format!("-1 {negative}, 0 {zero}, +1 {positive}{wrong}{unscaled}")
        }
        Counts::Floats { count, zero, not_finite, .. } => {
            format!("{count} values,{} zero, {not_finite} not finite", percent(zero, count))
        }
        _ => String::new(),
    }
}
