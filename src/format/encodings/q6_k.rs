//! Q6_K (ggml type 14): 6-bit integers under two levels of scales; the usual head or embedding beside ternary layers.
//!
//! ```text
//! A block is 210 bytes for 256 columns:
//!
//!   byte   0 … 128   ql, the low 4 bits:  64 bytes for each half of 128 columns
//!        128 … 192   qh, the high 2 bits: 32 bytes for each half
//!        192 … 208   sc, int8, one for 16 columns in order
//!        208         d, f16                          weight = d · sc[column / 16] · (q − 32)
//!
//! In each half, for l = 0 … 31 (columns counted from the half's first):
//!
//!   bit        7 6 5 4 | 3 2 1 0                  bit     7 6  | 5 4  | 3 2  | 1 0
//!   ql[l]       l + 64 |    l                     qh[l]   l+96 | l+64 | l+32 |  l
//!   ql[l+32]    l + 96 | l + 32
//! ```
//!
//! Source: `block_q6_K` in ggml-common.h, `dequantize_row_q6_K` in ggml-quants.c. It becomes int8 with one scale d · sc
//! for 16 columns: 11 and 8 significant bits, so the product is exact in f32.

use std::convert::Infallible;

use half::f16;

use super::encode::encode_rows;
use super::entry::{DenseEncoder, Entry, Kind, Size, Stored, TypeNumber};
use super::repack::{each_row, room};
use crate::allocation::collected;
use crate::error::{Error, Result};
use crate::format::dense::{Dense, Values};

/// Columns in one block.
pub const COLUMNS: usize = 256;
/// Columns under one of the inner scales.
pub const GROUP: usize = 16;
/// Bytes of one block.
const BYTES: usize = 210;

const QH: usize = 128;
const SC: usize = 192;
const D: usize = 208;

pub(super) static Q6_K: Entry = Entry {
    name: "Q6_K",
    size: Size::Blocks { columns: COLUMNS, bytes: BYTES },
    kind: Kind::Dense {
        decode,
        encoder: Some(DenseEncoder {
            encode: |encoding, weights| encode_rows(encoding, weights, f32::MAX, quantize),
            holds: None,
            largest_change: 1.0 / 31.0,
        }),
    },
    number: TypeNumber::new(14),
    also: &[],
};

/// Decodes the bytes of a tensor (exactly its size).
fn decode(&Stored { encoding, bytes, rows, cols, .. }: &Stored) -> Result<Dense> {
    let (blocks, _) = bytes.as_chunks::<BYTES>();
    let mut codes = room(encoding.name(), rows, cols)?;
    let Ok(()) = each_row(&mut codes, cols, |row, out| -> Result<(), Infallible> {
        for (block, out) in blocks[row * (cols / COLUMNS)..].iter().zip(out.as_chunks_mut::<COLUMNS>().0) {
            decode_block(block, out);
        }
        Ok(())
    });
    let scales_of = |block: &[u8; BYTES]| {
        let d = f16::from_le_bytes([block[D], block[D + 1]]).to_f32();
        std::array::from_fn::<f32, { COLUMNS / GROUP }, _>(|i| d * f32::from(block[SC + i] as i8))
    };
    let scales = collected(blocks.len() * (COLUMNS / GROUP), blocks.iter().flat_map(scales_of))?;
    Dense::new(rows, cols, Values::Int8 { columns: GROUP, codes: codes.into(), scales })
}

fn decode_block(block: &[u8; BYTES], out: &mut [u8; COLUMNS]) {
    for (half, out) in out.as_chunks_mut::<128>().0.iter_mut().enumerate() {
        for (k, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let low = &block[64 * half + 32 * (k % 2)..][..32];
            let high = &block[QH + 32 * half..][..32];
            for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
                let q = low >> (k / 2 * 4) & 15 | (high >> (2 * k) & 3) << 4;
                *out = q.wrapping_sub(32); // two's complement of −32 … 31
            }
        }
    }
}

/// Joins the integers of a tensor (each −32 … 31), their inner scales (one for 16) and outer scales (one for 256).
/// Loses nothing.
///
/// # Panics
/// If the lengths do not fit together or a code is out of range.
pub fn encode(codes: &[i8], inner: &[i8], outer: &[f16]) -> Vec<u8> {
    let (blocks, rest) = codes.as_chunks::<COLUMNS>();
    let (inner, rest_inner) = inner.as_chunks::<{ COLUMNS / GROUP }>();
    assert!(rest.is_empty() && rest_inner.is_empty(), "whole blocks");
    assert!(blocks.len() == inner.len() && blocks.len() == outer.len(), "16 inner and one outer scale a block");
    assert!(codes.iter().all(|q| (-32..=31).contains(q)), "codes of 6 bits");
    let mut bytes = Vec::with_capacity(blocks.len() * BYTES);
    for ((codes, inner), outer) in blocks.iter().zip(inner).zip(outer) {
        let mut block = [0; BYTES];
        for (column, q) in codes.iter().enumerate() {
            let (half, k, l) = (column / 128, column % 128 / 32, column % 32);
            let q = (q + 32) as u8;
            block[64 * half + 32 * (k % 2) + l] |= (q & 15) << (k / 2 * 4);
            block[QH + 32 * half + l] |= q >> 4 << (2 * k);
        }
        block[SC..D].copy_from_slice(&inner.map(|sc| sc as u8));
        block[D..].copy_from_slice(&outer.to_le_bytes());
        bytes.extend_from_slice(&block);
    }
    bytes
}

/// Rounds floats to Q6_K. Both levels of scales are rounded up, so that no value is clipped and none is further off
/// than half its scale d · sc. ggml searches for scales of a smaller squared error instead; its bytes differ.
///
/// # Errors
/// [`Error::Input`] if the number of values is no multiple of 256, or a value is not finite or too large for d.
pub fn quantize(values: &[f32]) -> Result<Vec<u8>> {
    let (blocks, rest) = values.as_chunks::<COLUMNS>();
    if !rest.is_empty() {
        return Err(Error::Input(format!("Q6_K stores blocks of {COLUMNS}, but there are {} values", values.len())));
    }
    let (mut codes, mut inner, mut outer) = (Vec::with_capacity(values.len()), Vec::new(), Vec::new());
    for block in blocks {
        let (groups, _) = block.as_chunks::<GROUP>();
        // The scale that each group asks for: its largest magnitude becomes 31.
        let wanted = |group: &[f32; GROUP]| group.iter().fold(0.0, |m: f32, v| m.max(v.abs())) / 31.0;
        let d = round_up(groups.iter().map(wanted).fold(0.0, f32::max) / 127.0);
        // `max` passes over NaN, so each value is asked.
        if !d.is_finite() || block.iter().any(|v| !v.is_finite()) {
            return Err(Error::Input("Q6_K: a value is not finite or too large".into()));
        }
        for group in groups {
            let sc = if d == f16::ZERO { 0.0 } else { (wanted(group) / d.to_f32()).ceil().min(127.0) };
            let scale = d.to_f32() * sc;
            let code = |v: &f32| if scale == 0.0 { 0 } else { (v / scale).round().clamp(-32.0, 31.0) as i8 };
            codes.extend(group.iter().map(code));
            inner.push(sc as i8);
        }
        outer.push(d);
    }
    Ok(encode(&codes, &inner, &outer))
}

/// The smallest f16 that is not below a value of at least 0.
fn round_up(value: f32) -> f16 {
    let nearest = f16::from_f32(value);
    if nearest.to_f32() < value { f16::from_bits(nearest.to_bits() + 1) } else { nearest }
}
