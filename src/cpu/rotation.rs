//! Rotated bases: rows are turned in the task that quantises them, piece by piece, in the nearest cache.

use std::sync::Arc;

use crate::backend::{MOST_BLOCK, Rotation};
use crate::cpu::Cpu;
use crate::cpu::counts::Kernel;
use crate::cpu::kernels::Kernels;
use crate::cpu::tensor::{Quantized, Tensor};
use crate::error::Result;

/// Signs, and the length of blocks.
#[derive(Debug)]
pub struct Basis {
    block: usize,
    signs: Vec<f32>, // [cols]
}

/// Columns of a piece, whole blocks of weights and of the basis: of shorter blocks, as many as fill what quantisers take at once.
const PIECE: usize = 512;

impl Basis {
    pub(crate) fn cols(&self) -> usize {
        self.signs.len()
    }

    /// Columns that are turned together.
    pub(crate) fn piece(&self) -> usize {
        self.block.max(PIECE)
    }

    /// `piece = H(signs ⊙ piece)`, for columns of a row from `first` on: whole blocks.
    pub(crate) fn rotate(&self, kernels: &dyn Kernels, first: usize, piece: &mut [f32]) {
        piece.iter_mut().zip(&self.signs[first..]).for_each(|(v, s)| *v *= s);
        piece.chunks_exact_mut(self.block).for_each(|block| kernels.hadamard(block));
    }
}

impl Rotation for Cpu {
    type Basis = Arc<Basis>;

    fn basis(&mut self, block: usize, signs: &[f32]) -> Result<Arc<Basis>> {
        assert!(block.is_power_of_two() && block <= MOST_BLOCK && signs.len().is_multiple_of(block));
        Ok(Arc::new(Basis { block, signs: signs.to_vec() }))
    }

    fn rotate_inputs(&mut self, q: &mut Quantized, basis: &Arc<Basis>) -> Result<()> {
        assert_eq!(q.cols, basis.cols());
        q.basis = Some(Arc::clone(basis));
        Ok(())
    }

    fn rotate_selected(&mut self, out: &mut Tensor, x: &Tensor, basis: &Arc<Basis>) {
        assert_eq!((out.cols, x.cols), (basis.cols(), basis.cols()));
        self.counts.ran(Kernel::Rotate);
        let (kernels, cols) = (self.kernels, out.cols);
        self.workers.share_rows(out.rows_mut(self.selected.len()), cols, &|packed, out| {
            out.copy_from_slice(x.row(packed));
            basis.rotate(kernels, 0, out);
        });
    }

    fn restore(&mut self, out: &mut Tensor, x: &Tensor, basis: &Arc<Basis>) {
        assert_eq!((out.cols, x.cols), (basis.cols(), basis.cols()));
        self.counts.ran(Kernel::Rotate);
        let (kernels, cols) = (self.kernels, out.cols);
        self.workers.share_rows(out.rows_mut(self.rows.len()), cols, &|row, out| {
            out.copy_from_slice(x.row(row));
            out.chunks_exact_mut(basis.block).for_each(|block| kernels.hadamard(block));
            out.iter_mut().zip(&basis.signs).for_each(|(v, s)| *v *= s);
        });
    }
}
