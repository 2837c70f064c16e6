//! What a validation found, as data.

use crate::format::{Scales, Weights};
use crate::gpu::Adapter;
use crate::measure::validate::{Criterion, Verdict};
use crate::measure::{Bandwidth, Machine, Measurement};
use crate::model::{Config, Model, Part, Role};

/// What a validation found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The machine.
    pub machine: Machine,
    /// The model's config.
    pub config: Config,
    /// What a scale of its ternary weights covers.
    pub scales: ScaleSpan,
    /// What loading it decided, and why.
    pub decisions: Vec<crate::Decision>,
    /// The seed of all prompts.
    pub seed: u64,
    /// How fast the CPU's threads read memory, and how many they were: the fastest of several
    /// measurements, between other things. None if the plan leaves it out, or the validation was stopped before the first.
    pub cpu_bandwidth: Option<(Bandwidth, usize)>,
    /// The most memory of this process that lay in huge pages while the CPU had a model; none where the system does not tell.
    pub huge_page_bytes: Option<u64>,
    /// The GPUs.
    pub gpus: Vec<GpuFacts>,
    /// Everything that was measured, in order.
    pub measurements: Vec<Measurement>,
    /// The verdicts.
    pub criteria: Vec<Criterion>,
    /// Whether it was stopped before its end: what is missing was not measured.
    pub stopped: bool,
}

/// A GPU as its driver describes it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct GpuFacts {
    /// Its name, as criteria and measurements tell it.
    pub name: String,
    /// The driver.
    pub driver: String,
    /// Whether it is a program that computes on the CPU.
    pub is_software: bool,
    /// Bytes a second when it copies its own memory, those read and those written; none where it was not measured.
    pub copy_bandwidth: Option<f64>,
}

/// What one scale of the ternary weights covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScaleSpan {
    /// Whole tensors or whole rows: I2_S files.
    Rows,
    /// This many columns of a row: TQ1_0 and TQ2_0 files, if their scales differ.
    Columns(usize),
}

impl ScaleSpan {
    /// That of a model's first layer.
    ///
    /// # Errors
    /// Those of [`Model::weights`].
    pub(crate) fn of(model: &Model) -> crate::Result<Self> {
        Ok(match model.required(Role::Layer(0, Part::Up))? {
            Weights::Ternary(w) => match w.scales() {
                Scales::Groups { columns, .. } => Self::Columns(*columns),
                _ => Self::Rows,
            },
            Weights::Dense(_) => Self::Rows,
        })
    }
}

impl std::fmt::Display for ScaleSpan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rows => f.write_str("I2_S, a scale for each tensor or row"),
            Self::Columns(columns) => write!(f, "superblocks, a scale for each {columns} columns"),
        }
    }
}

impl GpuFacts {
    pub(crate) fn of(adapter: &Adapter) -> Self {
        let (name, driver, is_software) = (adapter.name(), adapter.driver(), adapter.is_software());
        Self { name, driver, is_software, copy_bandwidth: None }
    }
}

impl Report {
    /// Bytes a second that the memory of a measurement's device gives, as far as it was measured: what a CPU's threads read, what
    /// a GPU copies.
    pub fn bandwidth(&self, measurement: &Measurement) -> Option<f64> {
        match self.gpus.iter().find(|gpu| measurement.device.contains(&gpu.name)) {
            Some(gpu) => gpu.copy_bandwidth,
            None => self.cpu_bandwidth.map(|(bandwidth, _)| bandwidth.median),
        }
    }

    /// The share of its device's bandwidth at which a measurement read weights: of the most tokens a second that any program could
    /// make of the same bytes.
    pub fn share_of_limit(&self, measurement: &Measurement) -> Option<f64> {
        Some(measurement.weight_traffic()?.1 / self.bandwidth(measurement)?)
    }

    /// Whether all that was measured passes.
    pub fn passes(&self) -> bool {
        !self.criteria.iter().any(|criterion| matches!(criterion.verdict, Verdict::Fail(_)))
    }
}
