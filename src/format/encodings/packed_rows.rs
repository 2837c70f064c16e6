//! Packed trits of Hugging Face checkpoints (`quant_method` "bitnet"): four rows share a byte.
//!
//! ```text
//! U8 [R, cols] with R = ⌈rows / 4⌉; code = trit + 1, the code 3 does not occur
//!
//!   byte [r, c]   bit   7 6   | 5 4    | 3 2   | 1 0
//!                 row  r + 3R | r + 2R | r + R |  r        column c
//! ```
//!
//! Where `rows` is no multiple of 4, the rows beyond the last hold code 0 and mean nothing. The scale stands in a tensor of
//! its own. Source: `pack_weights` and `unpack_weights` in transformers, `integrations/bitnet.py`.

use super::repack::{each_row, room};
use crate::allocation::collected;
use crate::error::{Error, Result};
use crate::format::ternary::{self, Scales, Ternary, has_code_3};

/// Decodes the bytes of a tensor of `rows` rows, exactly ⌈rows / 4⌉ · cols of them.
///
/// # Errors
/// [`Error::Malformed`] if there are other bytes than that, or a code is 3.
pub fn decode(bytes: &[u8], rows: usize, cols: usize, scales: Scales) -> Result<Ternary> {
    let packed_rows = rows.div_ceil(4);
    if packed_rows.checked_mul(cols) != Some(bytes.len()) || bytes.is_empty() {
        let length = bytes.len();
        return Err(Error::Malformed(format!("packed trits [{rows}, {cols}] cannot have {length} bytes")));
    }
    let row_bytes = ternary::padded(cols) / 4;
    let mut packed = room("packed trits", rows, row_bytes)?;
    each_row(&mut packed, row_bytes, |row, out| {
        let shift = 2 * (row / packed_rows);
        let stored = &bytes[row % packed_rows * cols..][..cols];
        let codes = collected(cols, stored.iter().map(|byte| byte >> shift & 3))?;
        ternary::pack_codes(&codes, out);
        match has_code_3(out) {
            true => Err(Error::Malformed(format!("packed trits: row {row} holds the code 3, which is no trit"))),
            false => Ok(()),
        }
    })?;
    Ternary::new(rows, cols, packed.into(), scales)
}

/// Encodes the trits; scales are left to the caller.
pub fn encode(weights: &Ternary) -> Vec<u8> {
    let (rows, cols) = (weights.rows(), weights.cols());
    let packed_rows = rows.div_ceil(4);
    let mut bytes = vec![0; packed_rows * cols]; // [packed_rows, cols]
    for row in 0..rows {
        let out = &mut bytes[row % packed_rows * cols..][..cols];
        for (byte, trit) in out.iter_mut().zip(weights.row_trits(row)) {
            *byte |= ((trit + 1) as u8) << (2 * (row / packed_rows));
        }
    }
    bytes
}
