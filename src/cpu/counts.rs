//! Counts of the kernels that ran: a few additions a verb, made by the calling thread, without memory of their own.

use crate::backend::{KernelCount, Reads, Work};

/// The inner loops of a verb.
#[derive(Clone, Copy)]
pub(super) enum Kernel {
    Embed,
    Quantize,
    NormQuantize,
    Norm,
    DotCodes,
    DotCodesGrouped,
    SpanCodes,
    DotBlocks,
    SpanBlocks,
    DotFloats,
    TernaryHead,
    RopeAppend,
    Attend,
    Glu,
    DenseMatmul,
    Convolve,
    DeltaRule,
    Gate,
    Rotate,
    Route,
    MixPlaces,
    NormSelected,
    DotDense,
    Estimate,
    Refine,
    Choose,
    Totals,
}

const KERNELS: [KernelCount; 27] = {
    const fn none(name: &'static str, reads: Reads) -> KernelCount {
        KernelCount { name, calls: 0, reads, bytes: 0 }
    }
    [
        none("embed", Reads::Nothing),
        none("quantize", Reads::Nothing),
        none("norm_quantize", Reads::Nothing),
        none("norm", Reads::Nothing),
        none("dot_codes", Reads::Trits),
        none("dot_codes, grouped", Reads::Trits),
        none("span_codes", Reads::Trits),
        none("dot_blocks", Reads::Trits),
        none("span_blocks", Reads::Trits),
        none("dot_floats", Reads::Trits),
        none("ternary head", Reads::Head),
        none("rope_append", Reads::Nothing),
        none("attend", Reads::Cache),
        none("glu", Reads::Nothing),
        none("dense_matmul", Reads::Nothing),
        none("convolve", Reads::Nothing),
        none("delta_rule", Reads::Cache),
        none("gate", Reads::Nothing),
        none("rotate", Reads::Nothing),
        none("route", Reads::Nothing),
        none("mix_places", Reads::Nothing),
        none("norm_selected", Reads::Nothing),
        none("dot_dense", Reads::Head),
        none("estimate", Reads::Head),
        none("refine", Reads::Head),
        none("choose", Reads::Nothing),
        none("totals", Reads::Nothing),
    ]
};

/// What was done since the start.
pub(super) struct Counts {
    steps: u64,
    rows: u64,
    kernels: [KernelCount; KERNELS.len()],
}

impl Counts {
    pub(super) fn new() -> Self {
        Self { steps: 0, rows: 0, kernels: KERNELS }
    }

    pub(super) fn step(&mut self, rows: usize) {
        self.steps += 1;
        self.rows += rows as u64;
    }

    /// One verb that reads nothing large.
    pub(super) fn ran(&mut self, kernel: Kernel) {
        self.read(kernel, 0);
    }

    /// One verb that reads `bytes`.
    pub(super) fn read(&mut self, kernel: Kernel, bytes: usize) {
        let count = &mut self.kernels[kernel as usize];
        count.calls += 1;
        count.bytes += bytes as u64;
    }

    /// For reports.
    pub(super) fn work(&self) -> Work {
        let kernels = self.kernels.iter().filter(|kernel| kernel.calls > 0).copied().collect();
        Work { steps: self.steps, rows: self.rows, kernels }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kernel_has_its_own_count() {
        let mut counts = Counts::new();
        counts.step(3);
        counts.read(Kernel::SpanCodes, 7);
        counts.ran(Kernel::Choose);
        let work = counts.work();
        assert_eq!((work.steps, work.rows), (1, 3));
        let names: Vec<_> = work.kernels.iter().map(|kernel| (kernel.name, kernel.calls, kernel.bytes)).collect();
        assert_eq!(names, [("span_codes", 1, 7), ("choose", 1, 0)]);
    }
}
