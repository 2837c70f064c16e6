//! How long a file of the published 2B model's size and shape takes to open: 1.2 GB.

use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use sterna::generate::{GenerateOptions, SessionOptions};
use sterna::model::SyntheticShape;
use sterna::{Device, Model, Session};
use tempfile::TempPath;

use crate::synthetic_file;

/// How often the file is opened.
const TIMES: usize = 5;

/// Writes the file, and prints how long it takes to open it and to make a first token with it.
pub fn measure_opening() -> anyhow::Result<()> {
    // Removed however this ends; what a kill leaves, the next run writes over.
    let path = TempPath::try_from_path(Path::new(env!("CARGO_TARGET_TMPDIR")).join("synthetic-2b-i2_s.gguf"))?;
    let bytes = synthetic_file::write(&path, SyntheticShape::Bitnet2B)
        .with_context(|| format!("cannot write {}", path.display()))?;
    let mut times = (0..TIMES).map(|_| open(&path)).collect::<anyhow::Result<Vec<_>>>()?;
    let first_loaded = times[0][1];
    let [opened, loaded, first] = std::array::from_fn(|part| {
        times.sort_by(|a, b| a[part].total_cmp(&b[part]));
        times[TIMES / 2][part]
    });
    println!(
        "\nA file of {:.2} GB opens in {opened:.0} ms, its session is made in {loaded:.0} ms more, and its first token \
         in {first:.0} ms (medians of {TIMES}, pages of the file in memory). The first of these sessions took \
         {first_loaded:.0} ms: the system may have to find huge pages, and a virtual machine the memory behind them.",
        bytes as f64 / 1e9
    );
    Ok(())
}

fn open(path: &Path) -> anyhow::Result<[f64; 3]> {
    let mut start = Instant::now();
    let mut lap = || std::mem::replace(&mut start, Instant::now()).elapsed().as_secs_f64() * 1e3;
    let model = Model::open(path)?;
    let opened = lap();
    let mut session =
        Session::new(&model, &Device::cpu(), &SessionOptions { context: Some(64), ..Default::default() })?;
    let loaded = lap();
    session.generate_ids(&[1], &GenerateOptions { max_tokens: 1, ..GenerateOptions::greedy() })?.next();
    Ok([opened, loaded, lap()])
}
