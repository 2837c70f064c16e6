//! What a server costs: each figure beside the same work without one.

use std::time::Duration;

use tokio::runtime::Runtime;

use crate::client::Connection;
use crate::raw::Raw;
use crate::server::Server;
use crate::texts::Texts;
use crate::{Bench, Part, first, gaps, throughput};

/// Sequences at once, of both.
pub const SLOTS: usize = 16;
/// Tokens of a prompt, and tokens that are made after it.
pub const PROMPT: usize = 128;
pub const MADE: usize = 128;

/// What all figures are measured with.
pub struct Setting<'a> {
    pub bench: &'a Bench,
    pub runtime: &'a Runtime,
    pub server: Server,
    pub raw: Raw,
    pub texts: Texts,
    /// How long a figure may take that can be had by repeating it.
    pub time: Duration,
}

pub fn measure(bench: &Bench, runtime: &Runtime) -> anyhow::Result<()> {
    let threads = bench.args.threads;
    let server = bench.server(threads, &["--slots", &SLOTS.to_string()])?;
    let texts = Texts::new(&server, bench.args.seed)?;
    let raw = Raw::new(&bench.model, threads, SLOTS)?;
    let time = Duration::from_secs(if bench.args.quick { 2 } else { 15 });
    let mut setting = Setting { bench, runtime, server, raw, texts, time };
    let name = bench.path.file_stem().unwrap_or_default().to_string_lossy();
    println!("{name}, {threads} threads, {SLOTS} slots of {} positions\n", setting.raw.positions());
    println!("| what | server | without | the two compared | wanted | |\n|---|---|---|---|---|---|");
    let only = &bench.args.only;
    let wants = |part: Part| only.is_empty() || only.contains(&part);
    if wants(Part::Throughput) {
        for clients in [1, 4, 8, SLOTS] {
            throughput::measure(&mut setting, clients)?;
        }
    }
    if wants(Part::Overhead) {
        throughput::overhead(&mut setting)?;
    }
    if wants(Part::First) {
        first::idle(&mut setting)?;
        first::second_turn(&mut setting)?;
        first::tokenising(&mut setting)?;
    }
    if wants(Part::Idle) {
        idle(&setting)?;
    }
    if wants(Part::Gaps) {
        gaps::under_prompts(&mut setting)?;
    }
    if wants(Part::Arrivals) {
        gaps::arrivals(&mut setting)?;
    }
    Ok(())
}

/// A line of the table. `is_met`: whether the figure is as wanted.
pub fn row(what: &str, [server, raw, compared, wanted]: [&str; 4], is_met: Option<bool>) {
    let met = is_met.map_or("", |is_met| if is_met { "met" } else { "**missed**" });
    println!("| {what} | {server} | {raw} | {compared} | {wanted} | {met} |");
}

/// The middle one; of none, not a number.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The cores' time of a server that nobody asks, and of one to which many are connected who ask nothing.
fn idle(setting: &Setting<'_>) -> anyhow::Result<()> {
    const CONNECTED: usize = 256;
    let share = |what: &str| -> anyhow::Result<()> {
        setting.server.wait_idle(Duration::from_secs(10))?;
        let before = setting.server.threads_cpu();
        std::thread::sleep(setting.time);
        let of = |name: &str| before.iter().find(|(known, _)| known == name).map_or(0.0, |(_, seconds)| *seconds);
        let taken: f64 = setting.server.threads_cpu().iter().map(|(name, seconds)| seconds - of(name)).sum();
        let percent = 100.0 * taken / setting.time.as_secs_f64();
        row(what, [&format!("{percent:.3} % of a core"), "", "", "< 0.1 %"], Some(percent < 0.1));
        Ok(())
    };
    share("idle")?;
    let connections: std::io::Result<Vec<Connection>> = setting.runtime.block_on(async {
        let mut connections = Vec::new();
        for _ in 0..CONNECTED {
            connections.push(Connection::open(setting.server.address).await?);
        }
        Ok(connections)
    });
    share(&format!("idle, {CONNECTED} connected"))?;
    drop(connections?);
    Ok(())
}
