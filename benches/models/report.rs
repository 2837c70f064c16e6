//! All figures of a run in one place: as JSON for programs, and what a GPU is worth beside the fastest CPU path as a table.

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

/// One row of the table.
#[derive(Serialize)]
pub struct Figure {
    pub model: &'static str,
    pub device: String,
    pub is_gpu: bool,
    /// Of the device's memory, in bytes a second.
    pub bandwidth: f64,
    pub what: String,
    pub tokens_a_second: f64,
    /// Bytes that decoding must read, a second.
    pub bytes_a_second: Option<f64>,
    /// Of the ternary layers, a second.
    pub products_a_second: Option<f64>,
}

/// What a shader takes of a token.
#[derive(Serialize)]
pub struct ShaderFigure {
    pub model: &'static str,
    pub device: String,
    pub shader: &'static str,
    pub runs_a_token: f64,
    pub seconds_a_token: f64,
    /// Of weights or cache; none where it reads neither.
    pub bytes_a_second: Option<f64>,
    pub share_of_bandwidth: Option<f64>,
}

/// A run.
#[derive(Default, Serialize)]
pub struct Report {
    pub machine: String,
    pub figures: Vec<Figure>,
    pub shaders: Vec<ShaderFigure>,
    /// What was left out, and why.
    pub not_measured: Vec<String>,
}

impl Report {
    /// Writes it as JSON.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(path, text + "\n").with_context(|| format!("{} cannot be written", path.display()))
    }

    /// Each figure of a GPU beside the fastest CPU path's, where both were measured.
    pub fn beside_cpu(&self) -> String {
        let mut table = String::new();
        for gpu in self.figures.iter().filter(|figure| figure.is_gpu) {
            let same = |figure: &&Figure| !figure.is_gpu && (figure.model, &figure.what) == (gpu.model, &gpu.what);
            let cpus = self.figures.iter().filter(same);
            let Some(cpu) = cpus.max_by(|a, b| a.tokens_a_second.total_cmp(&b.tokens_a_second)) else { continue };
            let (ours, theirs) = (gpu.tokens_a_second, cpu.tokens_a_second);
            let Figure { model, device, what, .. } = gpu;
            let times = ours / theirs;
            let line =
                format!("| {model} | {what} | {device} | {ours:.1} | {} | {theirs:.1} | {times:.2} |", cpu.device);
            writeln!(table, "{line}").expect("strings have room");
        }
        match table.is_empty() {
            true => table,
            false => {
                format!("| model | what | GPU | tok/s | CPU | tok/s | times |\n|---|---|---|---|---|---|---|\n{table}")
            }
        }
    }
}
