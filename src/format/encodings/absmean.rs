//! Latent weights: floats that a BitNet checkpoint was trained with, and that become trits only when it is run.
//!
//! The rule is that of `AutoBitLinear` in transformers: s = 1 / max(mean |W|, 10⁻⁵) over the whole tensor, trit = W ·
//! s, rounded to the nearest, ties to even, and held in −1 … 1; each trit then stands for 1/s. It throws most of each
//! weight away, so it is never tried on a file that does not ask for it.

use std::convert::Infallible;

use super::repack::{each_row, each_row_noted, room};
use crate::allocation::filled;
use crate::error::{Error, Result};
use crate::format::dense::Dense;
use crate::format::ternary::{self, BLOCK, BLOCK_BYTES, Scales, Ternary};

/// The least mean magnitude, as in the reference: a tensor of zeros divides by it.
const LEAST_MEAN: f32 = 1e-5;

/// Rounds latent weights to trits with one scale for the tensor.
///
/// The mean is summed in f64, row after row, and rounded to f32 once; all other arithmetic is f32, as in the reference.
///
/// # Errors
/// [`Error::Malformed`] if a value is not finite, [`Error::Device`] if there is no memory for the codes.
pub fn absmean(dense: &Dense) -> Result<Ternary> {
    let (rows, cols) = (dense.rows(), dense.cols());
    let row_bytes = ternary::padded(cols) / 4;
    let mut packed = room("latent weights", rows, row_bytes)?;
    let mut sums = filled(rows, 0_f64)?; // [rows], of magnitudes
    let Ok(()) = each_row_noted(&mut packed, row_bytes, &mut sums, |row, _, sum| -> Result<(), Infallible> {
        each_block(dense, row, |_, values| values.iter().for_each(|v| sum[0] += f64::from(v.abs())));
        Ok(())
    });
    let mean = (sums.iter().sum::<f64>() / (rows as f64 * cols as f64)) as f32;
    if !mean.is_finite() {
        return Err(Error::Malformed("a latent weight is not finite, so their mean is not".into()));
    }
    let inverse = 1.0 / mean.max(LEAST_MEAN);
    let Ok(()) = each_row(&mut packed, row_bytes, |row, out| -> Result<(), Infallible> {
        let trit = |v: f32| (v * inverse).round_ties_even().clamp(-1.0, 1.0) as i8;
        each_block(dense, row, |block, values| {
            let mut codes = [0; BLOCK];
            codes.iter_mut().zip(values).for_each(|(code, &v)| *code = (trit(v) + 1) as u8);
            ternary::pack_codes(&codes[..values.len()], &mut out[block * BLOCK_BYTES..][..BLOCK_BYTES]);
        });
        Ok(())
    });
    Ternary::new(rows, cols, packed.into(), Scales::Tensor(1.0 / inverse))
}

/// Calls `work` with the number and the values of each block of 128 columns of a row; the last may have fewer.
fn each_block(dense: &Dense, row: usize, mut work: impl FnMut(usize, &[f32])) {
    for first in (0..dense.cols()).step_by(BLOCK) {
        let mut values = [0.0; BLOCK];
        let values = &mut values[..BLOCK.min(dense.cols() - first)];
        dense.columns_to_f32(row, first, values);
        work(first / BLOCK, values);
    }
}
