//! What the command line says of the CPU's kernels.

use sterna::cpu::KernelSet;

/// The help of `--kernels`.
pub fn help() -> String {
    let names: Vec<_> = KernelSet::ALL.iter().map(KernelSet::to_string).collect();
    format!("Instruction set of the CPU kernels: {}. The default is the fastest this CPU has", names.join(", "))
}
