//! AC5.1: speed, latency and memory of one sequence on the CPU.

use crate::cpu::{CpuOptions, KernelSet};
use crate::device::Device;
use crate::measure::memory::{PEAK_SOURCE, huge_page_bytes, peak_memory_bytes};
use crate::measure::run::{Measurement, Workload};
use crate::measure::validate::{Criterion, Evidence, Outcome, ScaleSpan, Target, Validation};
use crate::model::Model;

const ID: &str = "AC5.1";

impl Validation<'_> {
    pub(super) fn cpu(&mut self, cpu: &Device) -> Outcome<()> {
        let measured = self.single_sequences(self.model, cpu)?;
        match self.report.scales {
            ScaleSpan::Rows => {
                self.judge_tensor_speed(&measured);
                match self.plan.superblocks.clone() {
                    Some(superblocks) => {
                        let grouped = self.single_sequences(&superblocks, cpu)?;
                        self.judge_superblock_speed(Ok(&grouped));
                    }
                    None => self.judge_superblock_speed(Err("the model's scales cover whole tensors or rows")),
                }
            }
            ScaleSpan::Columns(_) => self.judge_superblock_speed(Ok(&measured)),
        }
        self.judge_latency(&measured);
        self.judge_memory(&measured);
        self.cpu_figures = measured;

        self.equals_reference(ID, cpu)?;
        if self.plan.cpu.kernels != Some(KernelSet::Portable) {
            let portable = CpuOptions { kernels: Some(KernelSet::Portable), ..self.plan.cpu.clone() };
            self.equals_device(ID, cpu, &Device::cpu_with(portable), "the portable kernels")?;
        }
        Ok(())
    }

    /// The planned prompts of one sequence that the model has room for.
    fn single_sequences(&mut self, model: &Model, device: &Device) -> Outcome<Vec<Measurement>> {
        let tokens = self.plan.tokens;
        let fits = |prompt: &&usize| **prompt + tokens <= model.config().context;
        let prompts: Vec<usize> = self.plan.prompts.iter().filter(fits).copied().collect();
        let longest = prompts.iter().copied().max().unwrap_or(0).max(self.plan.batch_prompt);
        let Ok(options) = self.context(longest + tokens) else { return Ok(Vec::new()) };
        let mut session = self.load(model, device, &options)?;
        self.warm_up(&mut session)?;
        self.report.huge_page_bytes = self.report.huge_page_bytes.max(huge_page_bytes());
        let mut measured = Vec::new();
        for prompt in prompts {
            measured.push(self.measure(&mut session, Workload { prompt, batch: 1, tokens })?);
        }
        self.report.measurements.extend(measured.iter().cloned());
        Ok(measured)
    }

    fn judge_tensor_speed(&mut self, measured: &[Measurement]) {
        let what = "decoding, one sequence, I2_S".to_owned();
        let target = Target::AtLeast(self.plan.targets.cpu_tokens_per_second);
        self.judge_speed(what, target, measured, "");
    }

    fn judge_superblock_speed(&mut self, measured: Result<&[Measurement], &str>) {
        let what = "decoding, one sequence, 256-column superblocks".to_owned();
        let floor = self.plan.targets.superblock_tokens_per_second;
        let target = Target::AtLeast(floor);
        match measured {
            Ok(measured) => {
                let times = slowest(measured)
                    .map_or(String::new(), |(_, speed)| format!("; {:.0} times the floor", speed / floor));
                self.judge_speed(what, target, measured, &times);
            }
            Err(why) => {
                let evidence = Evidence { value: Err(why.into()), flaw: None, unjudged: None, how: String::new() };
                self.add(Criterion::judge((ID, "cpu", what), target, "tok/s", evidence));
            }
        }
    }

    /// The slowest of the planned prompts.
    fn judge_speed(&mut self, what: String, target: Target, measured: &[Measurement], beside: &str) {
        let value = slowest(measured).map(|(_, speed)| speed).ok_or_else(|| no_room(&self.plan.prompts));
        let mut how = slowest(measured).map_or(String::new(), |(slowest, _)| how(slowest));
        how.push_str(beside);
        let evidence = Evidence { value, flaw: flaw(measured), unjudged: None, how };
        self.add(Criterion::judge((ID, device(measured), what), target, "tok/s", evidence));
    }

    fn judge_latency(&mut self, measured: &[Measurement]) {
        let slowest =
            slowest(measured).and_then(|(slowest, _)| Some((slowest, slowest.latency()?, slowest.first_token()?)));
        let how = slowest.as_ref().map_or(String::new(), |(measurement, latency, first)| {
            format!(
                "p50 {:.1}, p95 {:.1}, p99 {:.1}, most {:.1} ms of {} tokens; first token of a prompt of {} after {:.0} ms",
                latency.p50 * 1e3,
                latency.p95 * 1e3,
                latency.p99 * 1e3,
                latency.most * 1e3,
                latency.count,
                measurement.workload.prompt,
                first.mean * 1e3
            )
        });
        let value = slowest.map(|(_, latency, _)| latency.mean * 1e3).ok_or_else(|| no_room(&self.plan.prompts));
        let target = Target::AtMost(self.plan.targets.mean_latency_ms);
        let evidence = Evidence { value, flaw: flaw(measured), unjudged: None, how };
        let what = (ID, device(measured), "mean time of a token".into());
        self.add(Criterion::judge(what, target, "ms", evidence));
    }

    fn judge_memory(&mut self, measured: &[Measurement]) {
        let peak = peak_memory_bytes();
        let weights = self.report.config.ternary_weights_used() / 4; // an expert that no row is given to need not be in memory
        let flaw = peak
            .filter(|&peak| peak < weights)
            .map(|peak| format!("{peak} bytes are less than the {weights} of the weights, which were all read"));
        let evidence = Evidence {
            value: peak.map(|bytes| bytes as f64 / 1e6).ok_or_else(|| "this platform does not tell".into()),
            flaw,
            unjudged: None,
            how: format!("the whole process until now; {PEAK_SOURCE}"),
        };
        let target = Target::AtMost(self.plan.targets.memory_mb);
        let what = (ID, device(measured), "peak memory".into());
        self.add(Criterion::judge(what, target, "MB", evidence));
    }

    /// What the CPU makes of one prompt, measured now if it was not yet; none where the model has no room for it.
    pub(super) fn cpu_figures(&mut self, cpu: &Device, prompt: usize) -> Outcome<Option<Measurement>> {
        let tokens = self.plan.tokens;
        let workload = Workload { prompt, batch: 1, tokens };
        if let Some(known) = self.cpu_figures.iter().find(|known| known.workload == workload) {
            return Ok(Some(known.clone()));
        }
        let Ok(options) = self.context(prompt + tokens) else { return Ok(None) };
        let model = self.model;
        let mut session = self.load(model, cpu, &options)?;
        self.warm_up(&mut session)?;
        let measured = self.measure(&mut session, workload)?;
        self.report.measurements.push(measured.clone());
        self.cpu_figures.push(measured.clone());
        Ok(Some(measured))
    }
}

/// The measurement of the lowest mean speed, and that speed.
fn slowest(measured: &[Measurement]) -> Option<(&Measurement, f64)> {
    let speeds = measured.iter().filter_map(|measurement| Some((measurement, measurement.decode()?.mean)));
    speeds.min_by(|a, b| a.1.total_cmp(&b.1))
}

fn flaw(measured: &[Measurement]) -> Option<String> {
    measured.iter().find_map(|measurement| measurement.flaw.clone())
}

fn device(measured: &[Measurement]) -> &str {
    measured.first().map_or("cpu", |measurement| &measurement.device)
}

fn no_room(prompts: &[usize]) -> String {
    format!("the model has no room for any prompt of {prompts:?} tokens")
}

/// Prompt, runs, spread, traffic.
fn how(measurement: &Measurement) -> String {
    let Workload { prompt, tokens, .. } = measurement.workload;
    let mut how = format!("prompt of {prompt}, {tokens} tokens");
    if let (Some(decode), Some((_, rate))) = (measurement.decode(), measurement.weight_traffic()) {
        let runs = measurement.runs.len();
        how += &format!(", {runs} runs {:.2} to {:.2}; weights at {:.1} GB/s", decode.least, decode.most, rate / 1e9);
    }
    how
}
