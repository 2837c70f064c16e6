//! What a GPU did: its counters and the times of its shaders, for machines and for people.

use serde_json::{Value, json};
use sterna::gpu::{GpuCounters, ShaderTime};

/// The counters of a run, and of each of its `count` tokens after the prompt.
pub fn counters_json(run: GpuCounters, tokens: GpuCounters, count: usize) -> Value {
    let pair = |run: u64, tokens: u64| {
        let per_token = (count > 0).then(|| tokens as f64 / count as f64);
        json!({ "run": run, "per_token": per_token })
    };
    json!({
        "dispatches": pair(run.dispatches, tokens.dispatches),
        "submits": pair(run.submits, tokens.submits),
        "bind_groups": pair(run.bind_groups, tokens.bind_groups),
        "bytes_read": pair(run.bytes_read, tokens.bytes_read),
    })
}

/// The profile for machines.
pub fn profile_json(times: &[ShaderTime]) -> Value {
    let entry = |time: &ShaderTime| {
        json!({
            "shader": time.shader,
            "runs": time.runs,
            "microseconds": time.seconds * 1e6,
            "bytes": time.bytes,
            "gigabytes_per_second": gigabytes_per_second(time),
        })
    };
    times.iter().map(entry).collect()
}

/// The profile for people.
pub fn profile_table(times: &[ShaderTime]) -> String {
    let all: f64 = times.iter().map(|time| time.seconds).sum();
    let mut table =
        format!("{:16} {:>8} {:>10} {:>12} {:>6} {:>8}", "shader", "runs", "µs a run", "µs", "share", "GB/s");
    for time in times {
        let ShaderTime { shader, runs, seconds, .. } = time;
        let rate = gigabytes_per_second(time).map_or("-".into(), |rate| format!("{rate:.1}"));
        let (micros, share) = (seconds * 1e6, 100.0 * seconds / all);
        let each = micros / *runs as f64;
        table += &format!("\n{shader:16} {runs:>8} {each:>10.1} {micros:>12.0} {share:>5.1}% {rate:>8}");
    }
    table
}

/// How fast a shader reads weights or caches; none where it reads neither, or the clock is too coarse.
fn gigabytes_per_second(time: &ShaderTime) -> Option<f64> {
    (time.bytes > 0 && time.seconds > 0.0).then(|| time.bytes as f64 / time.seconds * 1e-9)
}
