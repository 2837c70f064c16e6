//! IQ1_BN (type 134 of ik_llama.cpp): trits five in a byte, with an f16 scale for each row; 1.625 bits a weight.
//!
//! ```text
//! A row is its scale, f16, then 13 bytes for each 64 columns; code = trit + 1. For i = 0 … 3:
//!
//!   byte 3 i + m, m = 0, 1, 2    columns 16 i + 5 m … 16 i + 5 m + 4
//!   byte 12                      column 16 i + 15 in digit i (digit 4 is 0)
//!
//! The FIRST column is the LEAST significant digit: N = Σ digit(n) · 3ⁿ < 243, stored as the fraction N / 243:
//!
//!   byte = ⌈256 N / 243⌉        digit(n) = ((byte · 3^(4−n) mod 256) · 3) >> 8
//! ```
//!
//! Source: `block_iq1_bn` in ik_llama.cpp. Every byte decodes to five trits, so no code can be malformed.

use half::f16;

use super::Encoding;
use super::base_3::fraction;
use super::blocks::{block_scale, half_scale};
use super::entry::{Entry, Kind, ScalePlaces, Size, Stored, TypeNumber, check_whole, counted};
use super::repack::{check_finite, collapse, decode_rows, row_codes};
use crate::allocation::collected;
use crate::error::Result;
use crate::format::ternary::{BLOCK, Ternary, ZERO_BYTE};

/// Columns that a run of bytes covers.
const COLUMNS: usize = 64;

/// Bytes of a run.
const RUN: usize = 13;
/// Bytes of a scale.
const SCALE: usize = 2;
/// What a byte is multiplied with, so that its digit 0 … 4 comes to the top.
const POWERS: [u8; 5] = [81, 27, 9, 3, 1];

pub(super) static IQ1_BN: Entry = Entry {
    name: "IQ1_BN",
    size: Size::Computed { size, look: None },
    kind: Kind::Ternary { scales: ScalePlaces::Rows { is_half: true }, decode, encode },
    number: TypeNumber::new(134),
    also: &[],
};

fn size(encoding: Encoding, rows: usize, cols: usize) -> Result<usize> {
    check_whole(encoding, cols, COLUMNS)?;
    let row_bytes = (cols / COLUMNS).checked_mul(RUN).and_then(|bytes| bytes.checked_add(SCALE));
    counted(encoding, row_bytes.and_then(|bytes| bytes.checked_mul(rows)), rows, cols)
}

/// Decodes the bytes of a tensor (exactly its size).
fn decode(stored: &Stored) -> Result<Ternary> {
    let &Stored { encoding, bytes, rows, cols, .. } = stored;
    let row_bytes = cols / COLUMNS * RUN + SCALE;
    let packed = decode_rows(stored, |row, codes| {
        let (runs, _) = bytes[row * row_bytes + SCALE..].as_chunks::<RUN>();
        for (run, codes) in runs.iter().zip(codes.as_chunks_mut::<COLUMNS>().0) {
            for (i, codes) in codes.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                for (&byte, codes) in run[3 * i..].iter().zip(codes.as_chunks_mut::<5>().0) {
                    *codes = POWERS.map(|power| top_digit(byte.wrapping_mul(power)));
                }
                codes[15] = top_digit(run[RUN - 1].wrapping_mul(POWERS[i]));
            }
        }
        Ok(())
    })?;
    let scale = |row: &[u8]| f16::from_le_bytes([row[0], row[1]]).to_f32();
    let scales = collected(rows, bytes.chunks_exact(row_bytes).map(scale))?;
    check_finite(encoding, &scales, 1)?;
    let packed_row = packed.len() / rows;
    let is_zero = |row: usize| packed[row * packed_row..][..packed_row].iter().all(|&byte| byte == ZERO_BYTE);
    let scales = collapse(rows, cols.next_multiple_of(BLOCK), scales, |row| !is_zero(row))?;
    Ternary::new(rows, cols, packed.into(), scales)
}

/// Encodes ternary weights with one scale a row, which is rounded to f16.
fn encode(encoding: Encoding, weights: &Ternary) -> Result<Vec<u8>> {
    let (rows, cols) = (weights.rows(), weights.cols());
    let mut bytes = Vec::with_capacity(encoding.encoded_size(rows, cols)?);
    let mut codes = vec![0; cols];
    for row in 0..rows {
        row_codes(weights, row, &mut codes);
        let scale = half_scale(encoding, block_scale(encoding, weights, row, 0, cols)?, row)?;
        bytes.extend_from_slice(&scale.to_le_bytes());
        let number = |digits: &mut dyn DoubleEndedIterator<Item = &u8>| {
            digits.rev().fold(0, |number, &digit| number * 3 + u32::from(digit))
        };
        for run in codes.as_chunks::<COLUMNS>().0 {
            let (groups, _) = run.as_chunks::<16>();
            bytes.extend(
                groups.iter().flat_map(|group| group[..15].chunks(5)).map(|five| fraction(number(&mut five.iter()))),
            );
            bytes.push(fraction(number(&mut groups.iter().map(|group| &group[15]))));
        }
    }
    Ok(bytes)
}

/// The most significant digit of a fraction.
fn top_digit(fraction: u8) -> u8 {
    ((u16::from(fraction) * 3) >> 8) as u8
}
