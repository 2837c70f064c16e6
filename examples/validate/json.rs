//! The report for machines: everything that was measured, every run's figure and not only the mean.

use serde_json::{Value, json};
use sterna::measure::validate::{Criterion, Report, Target, Verdict};
use sterna::measure::{Measurement, Run, Spread, Work};

use crate::identity::Identity;

/// The whole report.
pub fn of(report: &Report, identity: &Identity) -> Value {
    let (machine, config) = (&report.machine, &report.config);
    json!({
        "crate_version": identity.version,
        "git_commit": identity.commit,
        "model": {
            "file": identity.model,
            "sha256": identity.sha256,
            "architecture": config.architecture,
            "layers": config.layers,
            "width": config.width,
            "ffn_width": config.ffn_width,
            "heads": config.heads.heads,
            "kv_heads": config.heads.kv_heads,
            "head_dim": config.heads.head_dim,
            "vocabulary": config.vocabulary,
            "context": config.context,
            "ternary_weights": config.ternary_weights(),
            "scales": report.scales.to_string(),
            "decisions": report.decisions.iter().map(ToString::to_string).collect::<Vec<_>>(),
        },
        "machine": {
            "cpu": machine.cpu,
            "cores": machine.cores,
            "system": machine.system,
            "kernel_sets": machine.kernels.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "memory_bytes": machine.memory_bytes,
            "huge_page_bytes": report.huge_page_bytes,
            "threads": report.cpu_bandwidth.map(|(_, threads)| threads),
            "read_bytes_per_second": report.cpu_bandwidth.map(|(bandwidth, _)| json!({
                "median": bandwidth.median, "least": bandwidth.least, "most": bandwidth.most,
                "huge_pages": bandwidth.huge_pages,
            })),
        },
        "gpus": report.gpus.iter().map(|gpu| json!({
            "adapter": gpu.name,
            "driver": gpu.driver,
            "is_software": gpu.is_software,
            "copy_bytes_per_second": gpu.copy_bandwidth,
        })).collect::<Vec<_>>(),
        "seed": report.seed,
        "stopped": report.stopped,
        "passes": report.passes(),
        "criteria": report.criteria.iter().map(criterion).collect::<Vec<_>>(),
        "measurements": report.measurements.iter().map(|one| measurement(one, report)).collect::<Vec<_>>(),
    })
}

fn criterion(criterion: &Criterion) -> Value {
    let (bound, target) = match criterion.target {
        Target::AtLeast(bound) => ("at least", bound),
        Target::AtMost(bound) => ("at most", bound),
        Target::Below(bound) => ("below", bound),
    };
    let (verdict, why) = match &criterion.verdict {
        Verdict::Pass => ("pass", None),
        Verdict::Fail(why) => ("fail", Some(why)),
        Verdict::NotMeasured(why) => ("not measured", Some(why)),
    };
    json!({
        "id": criterion.id,
        "device": criterion.device,
        "what": criterion.what,
        "bound": bound,
        "target": target,
        "value": criterion.value,
        "unit": criterion.unit,
        "verdict": verdict,
        "why": why,
        "how": criterion.how,
    })
}

fn measurement(measurement: &Measurement, report: &Report) -> Value {
    let spread = |spread: Option<Spread>| {
        spread.map(|s| json!({ "mean": s.mean, "least": s.least, "most": s.most, "relative": s.relative() }))
    };
    json!({
        "device": measurement.device,
        "model": measurement.model,
        "prompt": measurement.workload.prompt,
        "batch": measurement.workload.batch,
        "tokens": measurement.workload.tokens,
        "flaw": measurement.flaw,
        "decode_tokens_per_second": spread(measurement.decode()),
        "prefill_tokens_per_second": spread(measurement.prefill()),
        "first_token_seconds": spread(measurement.first_token()),
        "step_seconds": measurement.latency().map(|latency| json!({
            "mean": latency.mean,
            "p50": latency.p50,
            "p95": latency.p95,
            "p99": latency.p99,
            "most": latency.most,
            "count": latency.count,
        })),
        "weight_bytes_per_step": measurement.weight_traffic().map(|(bytes, _)| bytes),
        "weight_bytes_per_second": measurement.weight_traffic().map(|(_, rate)| rate),
        "memory_bytes_per_second": report.bandwidth(measurement),
        "share_of_memory_limit": report.share_of_limit(measurement),
        "runs": measurement.runs.iter().map(run).collect::<Vec<_>>(),
    })
}

fn run(run: &Run) -> Value {
    json!({
        "decode_tokens_per_second": run.decode_per_second(),
        "prefill_tokens_per_second": run.prefill_per_second(),
        "wall_seconds": run.wall.as_secs_f64(),
        "first_token_seconds": run.first_token.as_secs_f64(),
        "step_seconds": run.steps.iter().map(|step| step.as_secs_f64()).collect::<Vec<_>>(),
        "prompt_tokens": run.prompt_tokens,
        "ids": run.ids,
        "work": work(&run.work),
    })
}

fn work(work: &Work) -> Value {
    let kernel = |kernel: &sterna::measure::KernelCount| {
        (kernel.name.to_owned(), json!({ "calls": kernel.calls, "bytes": kernel.bytes }))
    };
    json!({
        "steps": work.steps,
        "rows": work.rows,
        "weight_bytes": work.weight_bytes(),
        "kernels": work.kernels.iter().map(kernel).collect::<serde_json::Map<_, _>>(),
    })
}
