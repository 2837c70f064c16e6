//! A target, what was measured, and the verdict: data, for tables and for machines.

use std::fmt;

/// What a machine must reach. The defaults are the floors of the project's specification; set your own for your own model.
#[derive(Clone, Debug, PartialEq)]
pub struct Targets {
    /// Tokens a second of one sequence on the CPU, where a scale covers a whole tensor (I2_S). At least; default 5.
    pub cpu_tokens_per_second: f64,
    /// The same where each 256 columns have a scale (TQ1_0, TQ2_0). At least; default 0.05.
    pub superblock_tokens_per_second: f64,
    /// Milliseconds a token of one sequence on the CPU, the mean. At most; default 1000.
    pub mean_latency_ms: f64,
    /// Resident memory of the process, megabytes (10⁶ bytes). At most; default 8192.
    pub memory_mb: f64,
    /// Tokens a second of a GPU over those of the fastest CPU path, decoding and prompts alike. At least; default 2.
    pub gpu_speedup: f64,
    /// Memory of the GPU, megabytes. At most; default 4096, for a 2B model.
    pub gpu_memory_mb: f64,
    /// Time of a generation without a cache over that with one. At least; default 1.5.
    pub cache_speedup: f64,
    /// Keys and values of a sequence, megabytes. At most; default 1024.
    pub cache_mb: f64,
    /// Difference of logits with and without a cache, as a share of the largest. Below; default 10⁻⁶.
    pub cache_difference: f64,
    /// Tokens a second of a batch over those of as many single sequences. At least; default 0.7.
    pub batch_efficiency: f64,
    /// Tokens a second of each sequence of a batch. At least; default 4.
    pub sequence_tokens_per_second: f64,
    /// Difference of logits between devices, as a share of the largest, at the positions that no rounding boundary touches. At
    /// most; default [`LOGITS_TOLERANCE`].
    pub logits_difference: f64,
}

/// What logits of different devices may differ by, as a share of the largest, where all int8 activations are the same. Integer
/// sums are then equal, and only floats differ, in their last bits: about 10⁻⁶.
pub const LOGITS_TOLERANCE: f64 = 1e-4;

/// What logits may differ by where an activation lies so near to a rounding boundary that devices round it to different sides:
/// one of 255 levels, which a layer passes on. Up to 0.05 was seen on small models. A wrong kernel is off by the size of the
/// logits themselves.
pub const ROUNDING_TOLERANCE: f64 = 0.08;

impl Default for Targets {
    fn default() -> Self {
        Self {
            cpu_tokens_per_second: 5.0,
            superblock_tokens_per_second: 0.05,
            mean_latency_ms: 1000.0,
            memory_mb: 8192.0,
            gpu_speedup: 2.0,
            gpu_memory_mb: 4096.0,
            cache_speedup: 1.5,
            cache_mb: 1024.0,
            cache_difference: 1e-6,
            batch_efficiency: 0.7,
            sequence_tokens_per_second: 4.0,
            logits_difference: LOGITS_TOLERANCE,
        }
    }
}

/// The bound that a value must keep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
    /// Less than this.
    Below(f64),
}

impl Target {
    /// Whether a value keeps it. What is no number keeps none.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
            Self::Below(bound) => value < bound,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, "≥ {bound}"),
            Self::AtMost(bound) => write!(f, "≤ {bound}"),
            Self::Below(bound) => write!(f, "< {bound}"),
        }
    }
}

/// Whether a criterion is met.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The value keeps the target, and nothing speaks against it.
    Pass,
    /// It does not, or it cannot be believed: why.
    Fail(String),
    /// Nothing was measured that could be judged: why.
    NotMeasured(String),
}

/// One criterion.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Criterion {
    /// That of the specification, such as "AC5.1".
    pub id: &'static str,
    /// The device it is about.
    pub device: String,
    /// What is measured.
    pub what: String,
    /// What it must keep.
    pub target: Target,
    /// What it is, if it was measured.
    pub value: Option<f64>,
    /// Of the value and the target.
    pub unit: &'static str,
    /// Whether it does.
    pub verdict: Verdict,
    /// How it was measured, and what stands beside it.
    pub how: String,
}

/// What was measured for a criterion.
pub(crate) struct Evidence {
    /// The value, or why there is none.
    pub(crate) value: Result<f64, String>,
    /// What speaks against believing it.
    pub(crate) flaw: Option<String>,
    /// Why the target is not meant for it, if it is not.
    pub(crate) unjudged: Option<String>,
    /// See [`Criterion::how`].
    pub(crate) how: String,
}

impl Criterion {
    /// Judges what was measured.
    pub(crate) fn judge(
        (id, device, what): (&'static str, &str, String),
        target: Target,
        unit: &'static str,
        evidence: Evidence,
    ) -> Self {
        let Evidence { value, flaw, unjudged, how } = evidence;
        let verdict = match (&value, flaw, unjudged) {
            (Err(why), ..) => Verdict::NotMeasured(why.clone()),
            (Ok(_), Some(flaw), _) => Verdict::Fail(flaw),
            (Ok(_), None, Some(why)) => Verdict::NotMeasured(why),
            (Ok(value), None, None) if target.holds(*value) => Verdict::Pass,
            (Ok(_), None, None) => Verdict::Fail("the target is missed".into()),
        };
        Self { id, device: device.into(), what, target, value: value.ok(), unit, verdict, how }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(target: Target, value: Result<f64, String>, flaw: Option<&str>) -> Verdict {
        let evidence = Evidence { value, flaw: flaw.map(String::from), unjudged: None, how: String::new() };
        Criterion::judge(("AC5.1", "cpu", "speed".into()), target, "tok/s", evidence).verdict
    }

    #[test]
    fn a_value_passes_only_without_a_flaw() {
        assert_eq!(verdict(Target::AtLeast(5.0), Ok(5.0), None), Verdict::Pass);
        assert!(matches!(verdict(Target::AtLeast(5.0), Ok(4.9), None), Verdict::Fail(_)));
        assert_eq!(
            verdict(Target::AtLeast(5.0), Ok(50.0), Some("no kernel ran")),
            Verdict::Fail("no kernel ran".into())
        );
        assert_eq!(verdict(Target::AtMost(1.0), Err("no GPU".into()), None), Verdict::NotMeasured("no GPU".into()));
    }

    #[test]
    fn what_is_no_number_keeps_no_target() {
        for target in [Target::AtLeast(0.0), Target::AtMost(0.0), Target::Below(0.0)] {
            assert!(!target.holds(f64::NAN), "{target}");
        }
        assert!(Target::AtMost(1.0).holds(1.0) && !Target::Below(1.0).holds(1.0));
    }
}
