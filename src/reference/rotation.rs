//! The verbs of rotated bases in plain loops: the transform as the sum that defines it.

use crate::backend::Rotation;
use crate::error::Result;
use crate::reference::Reference;
use crate::reference::data::{Basis, Quantized, Tensor};

impl Basis {
    /// `H(signs ⊙ x)`.
    pub(super) fn rotated(&self, x: &[f32]) -> Vec<f32> {
        let signed: Vec<f64> = x.iter().zip(&self.signs).map(|(&v, &s)| f64::from(v) * f64::from(s)).collect();
        self.transformed(&signed).into_iter().map(|v| v as f32).collect()
    }

    /// `H x`: row `i` and column `j` of a block have the sign of the ones that `i` and `j` share, in base 2.
    fn transformed(&self, x: &[f64]) -> Vec<f64> {
        let root = (self.block as f64).sqrt();
        let sign = |i: usize, j: usize| if (i & j).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
        let of_block = |block: &[f64]| -> Vec<f64> {
            let sum = |i: usize| block.iter().enumerate().map(|(j, v)| sign(i, j) * v).sum::<f64>() / root;
            (0..block.len()).map(sum).collect()
        };
        x.chunks_exact(self.block).flat_map(of_block).collect()
    }
}

impl Rotation for Reference {
    type Basis = Basis;

    fn basis(&mut self, block: usize, signs: &[f32]) -> Result<Basis> {
        Ok(Basis { block, signs: signs.to_vec() })
    }

    fn rotate_inputs(&mut self, q: &mut Quantized, basis: &Basis) -> Result<()> {
        assert_eq!(q.cols, basis.signs.len());
        q.basis = Some(basis.clone());
        Ok(())
    }

    fn rotate_selected(&mut self, out: &mut Tensor, x: &Tensor, basis: &Basis) {
        for packed in 0..self.selected().count() {
            out.row_mut(packed).copy_from_slice(&basis.rotated(x.row(packed)));
        }
    }

    fn restore(&mut self, out: &mut Tensor, x: &Tensor, basis: &Basis) {
        for row in 0..self.rows.len() {
            let floats: Vec<f64> = x.row(row).iter().map(|&v| f64::from(v)).collect();
            let turned = basis.transformed(&floats);
            let signed = turned.iter().zip(&basis.signs).map(|(v, &s)| (v * f64::from(s)) as f32);
            out.row_mut(row).iter_mut().zip(signed).for_each(|(o, v)| *o = v);
        }
    }
}
