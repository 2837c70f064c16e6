//! AC5.2: a GPU against the fastest way of the CPU beside it.

use crate::device::Device;
use crate::gpu::{Adapter, GpuDevice, GpuOptions, copy_bandwidth};
use crate::measure::run::{Measurement, Workload};
use crate::measure::validate::equal::gap;
use crate::measure::validate::{Criterion, Evidence, Halt, Outcome, ROUNDING_TOLERANCE, Section, Target, Validation};

const ID: &str = "AC5.2";

/// Tokens of the prompt that is compared.
const PROMPT: usize = 512;
/// What is compared with the CPU.
const SPEEDS: [&str; 2] = ["decoding, times the CPU's speed", "a prompt of 512, times the CPU's speed"];

impl Validation<'_> {
    pub(super) fn gpus(&mut self, cpu: &Device, gpus: &[Adapter]) -> Outcome<()> {
        if gpus.is_empty() {
            self.not_measured("", "this machine offers no GPU, not even a software one");
        }
        for (place, adapter) in gpus.iter().enumerate() {
            let name = adapter.name();
            if adapter.is_software() {
                self.not_measured(&name, &format!("software adapter {name}"));
            }
            match self.gpu(cpu, place, adapter) {
                Err(Halt::Failed(error)) => {
                    let evidence = Evidence {
                        value: Ok(f64::NAN),
                        flaw: Some(error.to_string()),
                        unjudged: None,
                        how: String::new(),
                    };
                    let what = (ID, &name[..], "runs the model".to_owned());
                    self.add(Criterion::judge(what, Target::AtLeast(1.0), "", evidence));
                }
                outcome => outcome?,
            }
        }
        Ok(())
    }

    fn not_measured(&mut self, name: &str, why: &str) {
        for what in SPEEDS {
            let evidence = Evidence { value: Err(why.into()), flaw: None, unjudged: None, how: String::new() };
            let target = Target::AtLeast(self.plan.targets.gpu_speedup);
            self.add(Criterion::judge((ID, name, what.into()), target, "×", evidence));
        }
    }

    fn gpu(&mut self, cpu: &Device, place: usize, adapter: &Adapter) -> Outcome<()> {
        self.tell("opening the GPU", 0, 1)?;
        let gpu = Device::gpu_with(adapter, &GpuOptions::default())?;
        self.equals_reference(ID, &gpu)?;
        if adapter.is_software() {
            return Ok(());
        }
        self.report.gpus[place].copy_bandwidth =
            Some(copy_bandwidth(&GpuDevice::open(adapter, &GpuOptions::default())?)?);
        self.equals_device(ID, &gpu, cpu, "the CPU")?;
        self.speed(cpu, &gpu, &adapter.name())?;
        if self.plan.has(Section::Cache) {
            self.cache(&gpu)?;
        }
        if self.plan.has(Section::Batch) {
            self.batch(&gpu)?;
        }
        Ok(())
    }

    fn speed(&mut self, cpu: &Device, gpu: &Device, name: &str) -> Outcome<()> {
        let Some(on_cpu) = self.cpu_figures(cpu, PROMPT)? else {
            self.not_measured(name, &format!("the model has no room for a prompt of {PROMPT}"));
            return Ok(());
        };
        let tokens = self.plan.tokens;
        let longest = self.plan.prompts.iter().copied().max().unwrap_or(0).max(PROMPT);
        let options = self.context(longest + tokens).or_else(|_| self.context(PROMPT + tokens));
        let Ok(options) = options else { return Ok(()) };
        let model = self.model;
        let mut session = self.load(model, gpu, &options)?;
        self.warm_up(&mut session)?;
        let on_gpu = self.measure(&mut session, Workload { prompt: PROMPT, batch: 1, tokens })?;
        for &prompt in self.plan.prompts.iter().filter(|&&prompt| prompt != PROMPT) {
            if prompt + tokens <= session.positions() {
                let measured = self.measure(&mut session, Workload { prompt, batch: 1, tokens })?;
                self.report.measurements.push(measured);
            }
        }
        self.judge_speed_up(&on_cpu, &on_gpu);
        let megabytes = session.device_bytes().map(|bytes| bytes as f64 / 1e6).ok_or("the device does not tell");
        let how =
            format!("weights, a cache of {} positions and activations; a driver may take more", session.positions());
        let evidence = Evidence { value: megabytes.map_err(String::from), flaw: None, unjudged: None, how };
        let what = (ID, &on_gpu.device[..], "memory of the GPU".to_owned());
        self.add(Criterion::judge(what, Target::AtMost(self.plan.targets.gpu_memory_mb), "MB", evidence));
        drop(session);
        self.judge_ids(cpu, &on_cpu, &on_gpu)?;
        self.report.measurements.push(on_gpu);
        Ok(())
    }

    fn judge_speed_up(&mut self, on_cpu: &Measurement, on_gpu: &Measurement) {
        let figures = [(on_cpu.decode(), on_gpu.decode()), (on_cpu.prefill(), on_gpu.prefill())];
        for (what, (cpu, gpu)) in SPEEDS.into_iter().zip(figures) {
            let means = cpu.zip(gpu).map(|(cpu, gpu)| (cpu.mean, gpu.mean)).ok_or("nothing was made");
            let how = means
                .map_or(String::new(), |(cpu, gpu)| format!("{gpu:.1} tok/s against {cpu:.1} of {}", on_cpu.device));
            let evidence = Evidence {
                value: means.map(|(cpu, gpu)| gpu / cpu).map_err(String::from),
                flaw: on_gpu.flaw.clone().or_else(|| on_cpu.flaw.clone()),
                unjudged: None,
                how,
            };
            let target = Target::AtLeast(self.plan.targets.gpu_speedup);
            self.add(Criterion::judge((ID, &on_gpu.device, what.into()), target, "×", evidence));
        }
    }

    /// Greedy ids of the GPU against the CPU's. Where they part, the CPU's logits tell whether the two tokens were as good as
    /// equally likely.
    fn judge_ids(&mut self, cpu: &Device, on_cpu: &Measurement, on_gpu: &Measurement) -> Outcome<()> {
        let (expected, found) = (&on_cpu.runs[0].ids[0], &on_gpu.runs[0].ids[0]);
        let equal = expected.iter().zip(found).take_while(|(a, b)| a == b).count();
        let mut distance = 0.0;
        if equal < expected.len() {
            let prompt = on_cpu.workload.prompts(self.plan.seed, self.model.config().vocabulary).swap_remove(0).ids;
            let prefix = [&prompt, &expected[..equal]].concat();
            if let Ok(options) = self.context(prefix.len()) {
                let model = self.model;
                let logits = self.load(model, cpu, &options)?.logits(&prefix)?;
                distance = gap(&logits, expected[equal], found.get(equal).copied().unwrap_or(u32::MAX));
            }
        }
        let how =
            format!("after a prompt of {PROMPT}; {equal} of {} ids equal; against {}", expected.len(), on_cpu.device);
        let evidence = Evidence { value: Ok(distance), flaw: None, unjudged: None, how };
        let what = (ID, &on_gpu.device[..], "greedy ids: where they part, how far apart their logits are".to_owned());
        self.add(Criterion::judge(what, Target::AtMost(ROUNDING_TOLERANCE), "of the largest", evidence));
        Ok(())
    }
}
