//! What each shader takes of a token, by the GPU's own clock.

use std::fmt::Write;

use anyhow::Context;

use crate::report::ShaderFigure;
use crate::{Bench, greedy, ids};

/// Decodes `steps` tokens after 64 with every shader timed, and makes a Markdown table of a token's shaders.
pub fn table(bench: &mut Bench<'_>, steps: usize) -> anyhow::Result<String> {
    let Bench { session, model, device, roof: bandwidth, report, .. } = bench;
    let prompt = ids(0, 64);
    // The prompt is computed before the clock runs.
    session.generate_ids(&prompt, &greedy(1))?.next().context("a token comes")??;
    session.profile()?;
    let before = session.gpu_counters().context("a GPU counts")?;
    let made = session.generate_ids(&prompt, &greedy(steps))?.count();
    let after = session.gpu_counters().context("a GPU counts")?;
    let tokens = made as f64;
    let mut table = format!(
        "Decoding after 64 tokens on {device}: {:.0} dispatches, {:.2} submits, {:.2} bind groups made and {:.0} bytes read a \
         token.\n\n| shader | runs a token | µs a token | GB/s | of the copy bandwidth |\n|---|---|---|---|---|\n",
        (after.dispatches - before.dispatches) as f64 / tokens,
        (after.submits - before.submits) as f64 / tokens,
        (after.bind_groups - before.bind_groups) as f64 / tokens,
        (after.bytes_read - before.bytes_read) as f64 / tokens,
    );
    for time in session.shader_times() {
        let rate = (time.bytes > 0).then(|| time.bytes as f64 / time.seconds);
        let share = rate.map(|rate| rate / *bandwidth);
        let rates =
            rate.zip(share).map_or(" | ".into(), |(rate, share)| format!("{:.1} | {:.0} %", rate / 1e9, 100.0 * share));
        let (runs, seconds) = (time.runs as f64 / tokens, time.seconds / tokens);
        writeln!(table, "| {} | {runs:.1} | {:.1} | {rates} |", time.shader, seconds * 1e6)?;
        report.shaders.push(ShaderFigure {
            model,
            device: device.clone(),
            shader: time.shader,
            runs_a_token: runs,
            seconds_a_token: seconds,
            bytes_a_second: rate,
            share_of_bandwidth: share,
        });
    }
    Ok(table)
}
