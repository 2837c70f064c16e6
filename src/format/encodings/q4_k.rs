//! Q4_K and Q5_K (ggml types 12 and 13): 4- or 5-bit integers with a 6-bit scale and a 6-bit offset for 32 columns,
//! under two f16 for 256.
//!
//! ```text
//! A block of Q4_K is 144 bytes, one of Q5_K is 176, for 256 columns:
//!
//!   byte  0          d, f16
//!         2          m, f16                          weight = d · scale · q − m · offset
//!         4 … 16     scales and offsets, one for 32 columns in order, i = 0 … 7:
//!                      i < 4:  scale = low six bits of byte i, offset = low six bits of byte i + 4
//!                      i ≥ 4:  the low four bits in byte i + 4 (scale in its low half, offset in its high half), the high
//!                              two in the top bits of byte i − 4 (scale) and byte i (offset)
//!        16 … 48     Q5_K only, the highest bits: bit i of byte l is that of column 32 i + l
//!        16 or 48 …  the low four bits: 32 bytes for each 64 columns, byte l for column l (low half) and l + 32 (high)
//! ```
//!
//! Source: `block_q4_K`, `block_q5_K` in ggml-common.h, `get_scale_min_k4` in ggml-quants.c.

use super::dense_blocks::{decode_floats, half_at};
use super::entry::{Entry, Kind, Size, Stored, TypeNumber};
use crate::error::Result;
use crate::format::dense::Dense;

/// Columns in one block of either.
const COLUMNS: usize = 256;
/// Bytes of one block of Q4_K.
const BYTES_4: usize = 144;
/// Bytes of one block of Q5_K.
const BYTES_5: usize = 176;

pub(super) static Q4_K: Entry = Entry {
    name: "Q4_K",
    size: Size::Blocks { columns: COLUMNS, bytes: BYTES_4 },
    kind: Kind::Dense { decode: decode_4, encoder: None },
    number: TypeNumber::new(12),
    also: &[],
};

pub(super) static Q5_K: Entry = Entry {
    name: "Q5_K",
    size: Size::Blocks { columns: COLUMNS, bytes: BYTES_5 },
    kind: Kind::Dense { decode: decode_5, encoder: None },
    number: TypeNumber::new(13),
    also: &[],
};

/// Decodes the bytes of a Q4_K tensor (exactly its size).
fn decode_4(stored: &Stored) -> Result<Dense> {
    decode_floats::<COLUMNS, BYTES_4>(stored, |block, out| values(block, None, &block[16..], out))
}

/// Decodes the bytes of a Q5_K tensor (exactly its size).
fn decode_5(stored: &Stored) -> Result<Dense> {
    decode_floats::<COLUMNS, BYTES_5>(stored, |block, out| {
        values(block, Some(&block[16..48]), &block[48..], out);
    })
}

fn values(block: &[u8], highest: Option<&[u8]>, low: &[u8], out: &mut [f32; COLUMNS]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    for (i, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, offset) = scale_and_offset(&block[4..16], i);
        let (scale, offset) = (d * f32::from(scale), m * f32::from(offset));
        for (l, out) in out.iter_mut().enumerate() {
            let high = highest.map_or(0, |highest| (highest[l] >> i & 1) << 4);
            *out = scale * f32::from(low[i / 2 * 32 + l] >> (i % 2 * 4) & 15 | high) - offset;
        }
    }
}

fn scale_and_offset(bytes: &[u8], i: usize) -> (u8, u8) {
    match i {
        0..4 => (bytes[i] & 63, bytes[i + 4] & 63),
        _ => (bytes[i + 4] & 15 | bytes[i - 4] >> 6 << 4, bytes[i + 4] >> 4 | bytes[i] >> 6 << 4),
    }
}
