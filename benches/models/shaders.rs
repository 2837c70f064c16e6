//! What each shader takes of a token, by the GPU's own clock.

use std::fmt::Write;

use anyhow::Context;
use sterna::Session;

use crate::{greedy, ids};

/// Decodes `steps` tokens after 64 with every shader timed, and makes a Markdown table of a token's shaders.
pub fn table(session: &mut Session, name: &str, bandwidth: f64, steps: usize) -> anyhow::Result<String> {
    let prompt = ids(0, 64);
    // The prompt is computed before the clock runs.
    session.generate_ids(&prompt, &greedy(1))?.next().context("a token comes")??;
    session.profile()?;
    let before = session.gpu_counters().context("a GPU counts")?;
    let made = session.generate_ids(&prompt, &greedy(steps))?.count();
    let after = session.gpu_counters().context("a GPU counts")?;
    let tokens = made as f64;
    let mut table = format!(
        "Decoding after 64 tokens on {name}: {:.0} dispatches, {:.2} submits, {:.2} bind groups made and {:.0} bytes read a \
         token.\n\n| shader | runs a token | µs a token | GB/s | of the copy bandwidth |\n|---|---|---|---|---|\n",
        (after.dispatches - before.dispatches) as f64 / tokens,
        (after.submits - before.submits) as f64 / tokens,
        (after.bind_groups - before.bind_groups) as f64 / tokens,
        (after.bytes_read - before.bytes_read) as f64 / tokens,
    );
    for time in session.shader_times() {
        let rate = time.bytes as f64 / time.seconds;
        let rates = match time.bytes {
            0 => " | ".into(),
            _ => format!("{:.1} | {:.0} %", rate / 1e9, 100.0 * rate / bandwidth),
        };
        let (runs, micros) = (time.runs as f64 / tokens, time.seconds * 1e6 / tokens);
        writeln!(table, "| {} | {runs:.1} | {micros:.1} | {rates} |", time.shader)?;
    }
    Ok(table)
}
