//! The CPU as tests ask for it.

use sterna::cpu::{Cpu, CpuOptions, KernelSet};

/// The CPU with chosen kernels and threads, and no others.
pub fn cpu(kernels: KernelSet, threads: usize) -> Cpu {
    let cpu =
        Cpu::new(&CpuOptions { threads: Some(threads), kernels: Some(kernels), ..CpuOptions::default() }).unwrap();
    assert_eq!((cpu.kernels(), cpu.threads()), (kernels, threads));
    cpu
}
