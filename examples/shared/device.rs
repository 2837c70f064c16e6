//! The device of the command line: chosen by its options, and loaded with the model.

#[path = "kernels.rs"]
mod kernels;

use std::io::Write;
use std::ops::ControlFlow;

use sterna::cpu::{CpuOptions, HugePages, KernelSet, Screening};
use sterna::device::{Best, DeviceKind};
use sterna::generate::{Session, SessionOptions};
use sterna::gpu::GpuKind;
use sterna::{Device, Error, Model};

use crate::numbers::one_or_more;
use crate::{quiet, terminal};

/// Which machine computes, and how.
#[derive(clap::Args)]
pub struct DeviceArgs {
    /// The machine that computes: cpu; gpu, the first that is no software; or a part of a GPU's name. `auto` probes the GPU,
    /// if there is one, and takes it where it is faster. --devices lists them all.
    #[arg(long, value_name = "auto|cpu|gpu|NAME", default_value = "auto")]
    pub device: String,

    /// Lists the devices of this machine, and ends.
    #[arg(long)]
    pub devices: bool,

    /// Threads of the CPU; with this option, or another of the CPU's, `auto` is the CPU. The default is the environment variable
    /// STERNA_THREADS, or one for each physical core that this process may use, as its affinity and its quota allow.
    #[arg(long, short, value_name = "N", allow_negative_numbers = true, value_parser = one_or_more)]
    pub threads: Option<usize>,

    #[arg(long, value_name = "SET", help = kernels::help())]
    pub kernels: Option<KernelSet>,

    /// Keeps no copy of the head in few bits. Tokens are the same ones: the copy only saves most of the reading of the head's
    /// f16 weights, for half their bytes of memory.
    #[arg(long)]
    pub exact_head: bool,

    /// Leaves the weights in the map of their file, which other processes share, in the place of a copy in huge pages, which is read
    /// faster.
    #[arg(long)]
    pub no_huge_pages: bool,
}

impl DeviceArgs {
    /// How to use the CPU.
    fn cpu_options(&self) -> CpuOptions {
        let screening = if self.exact_head { Screening::Never } else { Screening::default() };
        let huge_pages = if self.no_huge_pages { HugePages::Never } else { HugePages::default() };
        CpuOptions { threads: self.threads, kernels: self.kernels, screening, huge_pages }
    }

    /// The first option that was given and means something to the CPU only.
    fn cpu_option(&self) -> Option<&'static str> {
        let given = [
            (self.threads.is_some(), "--threads"),
            (self.kernels.is_some(), "--kernels"),
            (self.exact_head, "--exact-head"),
            (self.no_huge_pages, "--no-huge-pages"),
        ];
        given.iter().find(|(is_given, _)| *is_given).map(|(_, name)| *name)
    }
}

/// Prints what there is to choose from.
pub fn list() -> anyhow::Result<()> {
    for device in Device::all() {
        let hint = match device.kind() {
            DeviceKind::Gpu(GpuKind::Software) => ", only used when asked for by name",
            _ => "",
        };
        quiet::stdout().write_all(format!("{}: {}{hint}\n", device.name(), device.kind()).as_bytes())?;
    }
    Ok(())
}

/// Puts the model on the device that was asked for. Where that is `auto`, the reason for the choice is printed, if there was
/// one; and a GPU that cannot hold the model gives way to the CPU.
pub fn load(args: &DeviceArgs, model: &Model, options: &SessionOptions) -> anyhow::Result<Session> {
    let cpu = || Device::cpu_with(args.cpu_options());
    let device = match (args.device.to_lowercase().as_str(), args.cpu_option()) {
        ("cpu", _) => cpu(),
        ("auto", Some(option)) => {
            log::debug!("device: cpu ({option} is one of its options)");
            cpu()
        }
        ("auto", None) => {
            let Best { device, decision, had_choice, .. } = Device::best();
            match had_choice {
                true => terminal::say(&decision.to_string()),
                false => log::debug!("{decision}"),
            }
            if device.is_gpu() {
                match load_on(&device, model, options) {
                    Err(Error::Device(reason)) => terminal::say(&format!("device: cpu ({reason})")),
                    outcome => return Ok(outcome?),
                }
            }
            cpu()
        }
        (_, Some(option)) => anyhow::bail!("{option} is an option of the CPU: leave it away, or choose --device cpu"),
        (name, None) => Device::named(name)?,
    };
    Ok(load_on(&device, model, options)?)
}

fn load_on(device: &Device, model: &Model, options: &SessionOptions) -> sterna::Result<Session> {
    let bar = terminal::progress_bar("loading layers");
    let session = Session::with_progress(model, device, options, &mut |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
        ControlFlow::Continue(())
    });
    bar.finish_and_clear();
    session
}
