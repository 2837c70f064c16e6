//! The device of the command line: chosen, loaded with the model, and asked afterwards what it did.

use sterna::device::{Best, DeviceKind};
use sterna::generate::Session;
use sterna::gpu::{GpuCounters, GpuKind, ShaderTime};
use sterna::{Device, Error, Model};

use serde_json::{Value, json};

use crate::args::Args;
use crate::terminal;

/// Prints what there is to choose from.
pub fn list() {
    for device in Device::all() {
        let hint = match device.kind() {
            DeviceKind::Gpu(GpuKind::Software) => ", only used when asked for by name",
            _ => "",
        };
        println!("{}: {}{hint}", device.name(), device.kind());
    }
}

/// Puts the model on the device that was asked for. Where that is `auto`, the reason for the choice is printed, if there was
/// one; and a GPU that cannot hold the model gives way to the CPU.
pub fn load(args: &Args, model: &Model) -> anyhow::Result<Session> {
    let cpu = || Device::cpu_with(args.cpu_options());
    let device = match (args.device.to_lowercase().as_str(), args.cpu_option()) {
        ("cpu", _) => cpu(),
        ("auto", Some(option)) => {
            log::debug!("device: cpu ({option} is one of its options)");
            cpu()
        }
        ("auto", None) => {
            let Best { device, decision, had_choice } = Device::best();
            match had_choice {
                true => eprintln!("{decision}"),
                false => log::debug!("{decision}"),
            }
            if device.is_gpu() {
                match load_on(&device, args, model) {
                    Err(Error::Device(reason)) => eprintln!("device: cpu ({reason})"),
                    outcome => return Ok(outcome?),
                }
            }
            cpu()
        }
        (_, Some(option)) => anyhow::bail!("{option} is an option of the CPU: leave it away, or choose --device cpu"),
        (name, None) => Device::named(name)?,
    };
    Ok(load_on(&device, args, model)?)
}

fn load_on(device: &Device, args: &Args, model: &Model) -> sterna::Result<Session> {
    let bar = terminal::progress_bar("loading layers");
    let session = Session::with_progress(model, device, &args.session_options(), &mut |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    session
}

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
