//! Which device is the fastest: asked of the machine, not assumed. A GPU with memory of its own reads weights many times
//! faster than the CPU; one that shares the CPU's memory may not.

use std::time::Duration;

use super::Device;
use crate::decision::Decision;
use crate::device::contest::{Contest, Reading};
use crate::error::{Error, Result};
use crate::gpu::{Adapter, GpuOptions};
use crate::time::Instant;

/// The device that [`Device::best`] chose.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Best {
    /// The device; a GPU is open already.
    pub device: Device,
    /// What was chosen, and why.
    pub decision: Decision,
    /// Whether there was anything to choose from: a GPU that is no software, or an environment variable that asks for one.
    /// Without, the decision is hardly worth a line.
    pub had_choice: bool,
}

/// How much faster a GPU must read weights to be chosen. The probe times long products only; a step of a model has short
/// verbs between them, which cost a GPU more than the CPU.
const WORTH: f64 = 1.2;

/// See [`Device::best`].
pub(super) fn best() -> Best {
    let (software, gpus): (Vec<_>, Vec<_>) = Adapter::all().into_iter().partition(Adapter::is_software);
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let asked = ["WGPU_ADAPTER_NAME", "WGPU_BACKEND"].iter().any(is_set);
    let had_choice = asked || !gpus.is_empty();
    let mut failures = Vec::new();
    for adapter in &gpus {
        match decide(adapter) {
            Ok((device, decision)) => return Best { device, decision, had_choice },
            Err(Error::Device(reason)) => failures.push(reason.message),
            Err(other) => failures.push(other.to_string()),
        }
    }
    let reason = match (&failures[..], &software[..]) {
        ([], []) => Adapter::why_none(),
        ([], _) => format!("there is no GPU but the {}, which is slower", Adapter::list(&software)),
        _ => failures.join("; "),
    };
    Best { device: Device::cpu(), decision: Decision::new("device", "cpu", reason), had_choice }
}

/// Holds a GPU against the CPU.
fn decide(adapter: &Adapter) -> Result<(Device, Decision)> {
    let device = Device::gpu_with(adapter, &GpuOptions::default())?;
    let (name, start) = (device.name(), Instant::now());
    let contest = Contest::new();
    let (gpu, cpu) = (contest.read(&device)?, contest.read(&Device::cpu())?);
    let (takes_gpu, reason) = judge(&name, &gpu, &cpu, start.elapsed())?;
    let device = if takes_gpu { device } else { Device::cpu() };
    let decision = Decision::new("device", device.name(), reason);
    Ok((device, decision))
}

/// Whether to take the GPU, and why.
fn judge(name: &str, gpu: &Reading, cpu: &Reading, took: Duration) -> Result<(bool, String)> {
    if !gpu.agrees_with(cpu) {
        let fault = "multiplies ternary weights wrongly, a fault of its driver or of this crate";
        return Err(Error::refused(format!("{name} {fault}; it is not used unless asked for by name")));
    }
    let reason = format!(
        "{name} multiplies ternary weights at {:.1} GB/s, the CPU at {:.1}; probed in {} ms",
        gpu.bytes_per_second / 1e9,
        cpu.bytes_per_second / 1e9,
        took.as_millis()
    );
    Ok((gpu.bytes_per_second >= WORTH * cpu.bytes_per_second, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(bytes_per_second: f64, products: &[f32]) -> Reading {
        Reading { bytes_per_second, products: products.to_vec() }
    }

    #[test]
    fn a_gpu_is_chosen_where_it_is_right_and_clearly_faster() {
        let took = Duration::from_millis(100);
        let cpu = reading(40e9, &[3.0, -7.0]);
        let chosen = |rate, products: &[f32]| judge("a GPU", &reading(rate, products), &cpu, took);
        let slow = "a GPU multiplies ternary weights at 41.0 GB/s, the CPU at 40.0; probed in 100 ms";
        assert_eq!(chosen(41e9, &[3.0, -7.0]).unwrap(), (false, slow.into()));
        assert!(chosen(400e9, &[3.0, -7.0]).unwrap().0);
        for wrong in [&[3.0, -8.0], &[3.0, f32::NAN], &[3.0][..]] {
            assert!(chosen(400e9, wrong).unwrap_err().to_string().contains("wrongly"));
        }
    }

    /// Also shows that the probe's products are the same on the CPU and on a GPU: all else is an error.
    #[test]
    #[cfg(feature = "gpu")]
    fn a_contest_with_software_is_won_by_the_cpu() {
        for adapter in Adapter::all_to_test() {
            let (device, decision) = decide(&adapter).unwrap();
            println!("{decision}");
            assert!(decision.reason.starts_with(&format!("{} multiplies ternary", adapter.name())));
            assert_eq!(decision.choice, device.name());
            assert!(!(adapter.is_software() && device.is_gpu()));
        }
    }

    #[test]
    fn the_probe_measures_something_plausible() {
        let Reading { bytes_per_second, products } = Contest::new().read(&Device::cpu()).unwrap();
        assert!((1e8..1e13).contains(&bytes_per_second), "{bytes_per_second} bytes a second");
        assert!(products.iter().all(|product| product.is_finite()) && products.iter().any(|product| *product != 0.0));
    }
}
