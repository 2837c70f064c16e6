//! What the odds of all tokens add up to: what a sampler has to know of a vocabulary beside its best tokens.

use crate::cpu::Cpu;
use crate::cpu::counts::Kernel;
use crate::cpu::disjoint::Disjoint;
use crate::cpu::tensor::Tensor;

/// Logits whose odds are computed at once, in the nearest cache.
const PIECE: usize = 512;
/// What is so far below the largest logit adds next to nothing: 10^-38 of the largest's odds.
const LOWEST: f32 = -150.0;

impl Cpu {
    /// [`crate::backend::Backend::totals`]
    pub(super) fn add_odds(&mut self, out: &mut Tensor, logits: &Tensor, factors: &Tensor) {
        let (kernels, selected) = (self.kernels, self.selected.len());
        assert_eq!((out.cols, factors.cols), (2, 1));
        self.counts.ran(Kernel::Totals);
        let out = Disjoint::new(out.rows_mut(selected));
        self.workers.share(selected * logits.cols, selected, &|row, _| {
            let logits = logits.row(row);
            // SAFETY: each row is one task.
            let totals = unsafe { out.cut(2 * row..2 * row + 2) };
            if !kernels.absmax(logits).is_finite() {
                return totals.fill(f32::NAN);
            }
            let Some(largest) = kernels.largest(logits).map(|place| logits[place]) else { return };
            for (total, factor) in totals.iter_mut().zip([1.0, factors.row(row)[0]]) {
                let sum = |logits: &[f32]| {
                    let mut below = [LOWEST; PIECE];
                    below.iter_mut().zip(logits).for_each(|(b, l)| *b = ((l - largest) * factor).max(LOWEST));
                    f64::from(kernels.exp_sum(&mut below, 0.0))
                };
                *total = logits.chunks(PIECE).map(sum).sum::<f64>() as f32;
            }
        });
    }
}
