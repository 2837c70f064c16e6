//! Q3_K (ggml type 11): 3-bit integers with a 6-bit scale for 16 columns and an f16 scale for 256.
//!
//! ```text
//! A block is 110 bytes for 256 columns; columns of each half of 128 are counted from its first, l = 0 … 31:
//!
//!   byte   0 … 32    the highest bits: bit 4 · half + k of byte l is that of column 32 k + l
//!         32 … 96    the low two bits, 32 bytes for each half:
//!                      bit   7 6    | 5 4    | 3 2    | 1 0
//!                      col   l + 96 | l + 64 | l + 32 |  l
//!         96 … 108   scales, one for 16 columns in order, i = 0 … 15: the low four bits in byte i mod 8 (its low half for
//!                    i < 8), the high two in byte 8 + i mod 4, from bit 2 · (i / 4)
//!        108         d, f16                    weight = d · (scale − 32) · (q − 4)
//! ```
//!
//! Source: `block_q3_K` in ggml-common.h, `dequantize_row_q3_K` in ggml-quants.c. It becomes int8 with one scale
//! d · (scale − 32) for 16 columns: 11 and 6 significant bits, so the product is exact in f32.

use super::dense_blocks::{decode_integers, half_at};
use super::entry::{Entry, Kind, Size, Stored, TypeNumber};
use crate::error::Result;
use crate::format::dense::Dense;

/// Columns in one block.
const COLUMNS: usize = 256;
/// Bytes of one block.
const BYTES: usize = 110;

const GROUPS: usize = 16;

pub(super) static Q3_K: Entry = Entry {
    name: "Q3_K",
    size: Size::Blocks { columns: COLUMNS, bytes: BYTES },
    kind: Kind::Dense { decode, encoder: None },
    number: TypeNumber::new(11),
    also: &[],
};

/// Decodes the bytes of a tensor (exactly its size). Loses nothing.
fn decode(stored: &Stored) -> Result<Dense> {
    decode_integers::<COLUMNS, GROUPS, BYTES>(stored, codes_of, |block| {
        let d = half_at(block, 108);
        std::array::from_fn(|i| {
            let (low, high) = (block[96 + i % 8] >> (i / 8 * 4) & 15, block[104 + i % 4] >> (i / 4 * 2) & 3);
            d * f32::from((low | high << 4) as i8 - 32)
        })
    })
}

fn codes_of(block: &[u8; BYTES], out: &mut [u8; COLUMNS]) {
    for (part, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (half, k) = (part / 4, part % 4);
        let low = &block[32 + 32 * half..];
        for ((out, low), high) in out.iter_mut().zip(low).zip(block) {
            *out = (low >> (2 * k) & 3 | (high >> part & 1) << 2).wrapping_sub(4);
        }
    }
}
