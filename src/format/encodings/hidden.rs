//! Ternary weights hidden in a dense tensor: "unpacked" checkpoints and F16 files store {−s, 0, +s} as floats. Found by
//! exact comparison, they are packed to two bits and run on the integer kernels, with the same result.

use super::repack::{collapse, each_row, room};
use crate::format::dense::Dense;
use crate::format::ternary::{self, Ternary};

/// A value of the row is neither 0 nor ± the one magnitude.
struct Contradiction;

/// The ternary form of `dense`, if every value is exactly 0 or ±s, with one s for the tensor or else one a row.
///
/// All-zero rows, whose s is unknown, take that of the tensor, or 0 where there is one a row. Gains of norms and other
/// tensors of one column may pass by chance: ask this of linear layers only. The search ends at the first
/// contradiction, for common floats in the first few values.
pub fn hidden_ternary(dense: &Dense) -> Option<Ternary> {
    let (rows, cols) = (dense.rows(), dense.cols());
    let mut first = vec![0.0; cols];
    // One row is tried before there is room for all of them, since most dense tensors are what they seem.
    dense.row_to_f32(0, &mut first);
    magnitude(&first).ok()?;

    let row_bytes = ternary::padded(cols) / 4;
    let mut packed = room("hidden ternary", rows, row_bytes).ok()?;
    let magnitudes = each_row(&mut packed, row_bytes, |row, out| {
        let mut values = vec![0.0; cols];
        dense.row_to_f32(row, &mut values);
        let magnitude = magnitude(&values)?;
        let codes: Vec<u8> = values.iter().map(|&v| 1 + u8::from(v > 0.0) - u8::from(v < 0.0)).collect();
        ternary::pack_codes(&codes, out);
        Ok::<_, Contradiction>(magnitude)
    });
    let magnitudes = magnitudes.ok()?; // [rows]
    let values = magnitudes.iter().map(|m| m.unwrap_or(0.0)).collect();
    let scales = collapse(rows, ternary::padded(cols), values, |row| magnitudes[row].is_some());
    Ternary::new(rows, cols, packed.into(), scales).ok()
}

/// The one magnitude of a row's values other than 0; none if all are 0.
fn magnitude(values: &[f32]) -> Result<Option<f32>, Contradiction> {
    let Some(magnitude) = values.iter().map(|v| v.abs()).find(|&m| m != 0.0) else {
        return Ok(None);
    };
    // NaN equals nothing, so it fails here; an infinity is no weight.
    let fits = magnitude.is_finite() && values.iter().all(|v| *v == 0.0 || v.abs() == magnitude);
    if fits { Ok(Some(magnitude)) } else { Err(Contradiction) }
}
