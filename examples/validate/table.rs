//! The report for people.

use std::fmt::Write;

use sterna::measure::validate::{Criterion, Report, Verdict};

use crate::identity::Identity;

/// Machine, model, criteria, and the counts of the kernels.
pub fn of(report: &Report, identity: &Identity) -> String {
    let mut text = String::new();
    let mut line = |words: String| {
        let _ = writeln!(text, "{words}"); // a String takes everything
    };
    let (machine, config) = (&report.machine, &report.config);
    let cpu = machine.cpu.as_deref().unwrap_or("a CPU that the system does not name");
    line(format!("sterna {}, commit {}", identity.version, identity.commit));
    line(format!("machine    {cpu}, {} cores, {}", machine.cores, machine.system));
    if let Some((bandwidth, threads)) = &report.cpu_bandwidth {
        let (median, least, most) = (bandwidth.median / 1e9, bandwidth.least / 1e9, bandwidth.most / 1e9);
        let pages = if bandwidth.huge_pages { "huge" } else { "small" };
        line(format!(
            "memory     {median:.1} GB/s read by {threads} threads ({least:.1} to {most:.1}), in {pages} pages"
        ));
    }
    if let Some(bytes) = report.huge_page_bytes {
        line(format!("           {:.0} MB of the CPU's memory in huge pages", bytes as f64 / 1e6));
    }
    for gpu in &report.gpus {
        let copies = gpu.copy_bandwidth.map_or(String::new(), |rate| format!(", copies {:.0} GB/s", rate / 1e9));
        line(format!("GPU        {}, driver {}{copies}", gpu.name, gpu.driver));
    }
    line(format!("model      {}", identity.model));
    if let Some(hash) = &identity.sha256 {
        line(format!("           sha256 {hash}"));
    }
    line(format!(
        "           {}, {} layers of {}, feed-forward {}, {} heads on {}, vocabulary {}; {}",
        config.architecture,
        config.layers,
        config.width,
        config.ffn_width,
        config.heads.heads,
        config.heads.kv_heads,
        config.vocabulary,
        report.scales
    ));
    line(String::new());
    for criterion in &report.criteria {
        line(row(criterion));
        for words in [detail(&criterion.verdict), &criterion.how, &criterion.device] {
            if !words.is_empty() {
                line(format!("{:19}{words}", ""));
            }
        }
    }
    line(String::new());
    line(figures(report));
    line(kernels(report));
    line(summary(report));
    text.trim_end().to_owned()
}

fn row(criterion: &Criterion) -> String {
    let verdict = match criterion.verdict {
        Verdict::Pass => "pass",
        Verdict::Fail(_) => "FAIL",
        Verdict::NotMeasured(_) => "not judged",
    };
    let value = criterion.value.map_or("–".into(), number);
    let (target, unit) = (criterion.target.to_string(), criterion.unit);
    format!("{:5} {verdict:11}  {}: {value} {unit} (target {target})", criterion.id, criterion.what)
}

/// Four digits that mean something.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 100.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.2e}"),
    }
}

fn detail(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Pass => "",
        Verdict::Fail(why) | Verdict::NotMeasured(why) => why,
    }
}

/// All speeds, and how near the memory's limit they are.
fn figures(report: &Report) -> String {
    let mut lines =
        format!("{:>6} {:>5} {:>9} {:>9} {:>6} {:>9}\n", "prompt", "batch", "tok/s", "prefill", "GB/s", "of limit");
    for measurement in &report.measurements {
        let (workload, traffic) = (measurement.workload, measurement.weight_traffic());
        let mean = |spread: Option<sterna::measure::Spread>| spread.map_or("–".into(), |spread| number(spread.mean));
        let _ = writeln!(
            lines,
            "{:>6} {:>5} {:>9} {:>9} {:>6} {:>9}  {}, {}",
            workload.prompt,
            workload.batch,
            mean(measurement.decode()),
            mean(measurement.prefill()),
            traffic.map_or("–".into(), |(_, rate)| format!("{:.1}", rate / 1e9)),
            report.share_of_limit(measurement).map_or("–".into(), |share| format!("{:.0} %", 100.0 * share)),
            measurement.device,
            measurement.model
        );
    }
    lines
}

/// What the kernels did, all measurements of a device together.
fn kernels(report: &Report) -> String {
    let mut lines = String::new();
    let mut devices: Vec<&str> = report.measurements.iter().map(|measurement| &measurement.device[..]).collect();
    devices.dedup();
    devices.sort_unstable();
    devices.dedup();
    for device in devices {
        let mut all: Vec<(&str, u64, u64)> = Vec::new();
        let runs = report.measurements.iter().filter(|measurement| measurement.device == device);
        for kernel in runs.flat_map(|measurement| &measurement.runs).flat_map(|run| &run.work.kernels) {
            match all.iter_mut().find(|(name, ..)| *name == kernel.name) {
                Some((_, calls, bytes)) => (*calls, *bytes) = (*calls + kernel.calls, *bytes + kernel.bytes),
                None => all.push((kernel.name, kernel.calls, kernel.bytes)),
            }
        }
        let words: Vec<String> = all
            .iter()
            .map(|(name, calls, bytes)| match bytes {
                0 => format!("{name} {calls}×"),
                _ => format!("{name} {calls}× ({:.1} GB)", *bytes as f64 / 1e9),
            })
            .collect();
        let _ = writeln!(lines, "kernels    {device}: {}", words.join(", "));
    }
    lines
}

fn summary(report: &Report) -> String {
    let count = |wanted: fn(&Verdict) -> bool| report.criteria.iter().filter(|c| wanted(&c.verdict)).count();
    let stopped = if report.stopped { "; stopped before the end" } else { "" };
    format!(
        "{} pass, {} fail, {} not measured or not judged{stopped}",
        count(|verdict| *verdict == Verdict::Pass),
        count(|verdict| matches!(verdict, Verdict::Fail(_))),
        count(|verdict| matches!(verdict, Verdict::NotMeasured(_)))
    )
}
