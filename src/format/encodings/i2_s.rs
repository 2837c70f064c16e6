//! I2_S (type 36 of microsoft/BitNet): all trits of a tensor, 2 bits each, then one f32 scale for the tensor.
//!
//! ```text
//! n = rows · cols weights in row-major order, n a multiple of 128; code = trit + 1
//!
//!   byte  0 … n/4     codes
//!         n/4         scale, f32
//!         n/4 + 4     28 bytes that mean nothing (zeros, or the scale seven times more)
//!
//! Layout "128": 128 weights in a row take 32 bytes.     Layout "64": 64 weights take 16 bytes.
//!   byte b, bits  7 6 | 5 4  | 3 2  | 1 0                 7 6 | 5 4  | 3 2  | 1 0
//!   weight         b  | b+32 | b+64 | b+96                 b  | b+16 | b+32 | b+48
//!
//! Layout "row4": four rows share bytes; byte r/4 · cols + c holds column c of rows r … r+3 (r a multiple of 4).
//!   bits  7 6 | 5 4 | 3 2 | 1 0
//!   row    r  | r+1 | r+2 | r+3
//! ```
//!
//! The blocks of "128" and "64" run over the tensor as if it were one row: where `cols` is no multiple of them, rows
//! begin inside a block. All three layouts have the same size and the same type number, and no field tells them apart
//! (`ggml-bitnet-mad.cpp` chooses when it is compiled); published files have "128", which is the canonical packing.

use std::fmt;
use std::str::FromStr;

use super::Encoding;
use super::entry::{Entry, Kind, ScalePlaces, Size, Stored, TypeNumber, counted};
use super::repack::{code_3, each_row, room, row_codes};
use crate::allocation::filled;
use crate::error::{Error, Result};
use crate::format::ternary::{self, BLOCK, BLOCK_BYTES, Scales, Ternary, has_code_3};

/// Bytes after the codes: the scale and its padding.
const TAIL: usize = 32;
/// Blocks that are searched for a code 3 where the codes are not copied. Reading all of them would pull the whole file
/// into memory; a file of another type shows a 3 in the first few.
const SAMPLE: usize = 64;

/// The order of the codes in an I2_S tensor, drawn at the head of this file. Nothing in a file says which one it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum I2sLayout {
    /// 128 weights in 32 bytes: all published files, and what bitnet.cpp writes on x86 by default.
    #[default]
    Block128,
    /// 64 weights in 16 bytes: written by ARM builds of bitnet.cpp since November 2025.
    Block64,
    /// Four rows of one column in a byte: written by x86 builds of bitnet.cpp without `ACT_PARALLEL` since then.
    Row4,
}

pub(super) static I2_S: Entry = Entry {
    name: "I2_S",
    size: Size::Computed { size, look: None },
    kind: Kind::Ternary {
        scales: ScalePlaces::Tensor,
        decode,
        encode: |_, weights| encode(weights, I2sLayout::default()),
    },
    number: TypeNumber::new(36).file_types(&[40]), // bitnet.cpp's
    also: &[],
};

fn size(encoding: Encoding, rows: usize, cols: usize) -> Result<usize> {
    let count = counted(encoding, rows.checked_mul(cols), rows, cols)?;
    if !count.is_multiple_of(BLOCK) {
        return Err(Error::Malformed(format!(
            "I2_S stores weights in blocks of {BLOCK}, but a tensor [{rows}, {cols}] has {count}"
        )));
    }
    Ok(count / 4 + TAIL)
}

/// Decodes the bytes of a tensor (exactly its size).
fn decode(&Stored { bytes, rows, cols, layout, .. }: &Stored) -> Result<Ternary> {
    check_rows(rows, layout).map_err(Error::Malformed)?;
    let packed = bytes.slice(..bytes.len() - TAIL);
    let tail = bytes[packed.len()..].first_chunk().expect("the tail is longer than its scale");
    let scale = f32::from_le_bytes(*tail);
    if !scale.is_finite() {
        return Err(Error::Malformed(format!("I2_S: the scale is {scale}")));
    }
    let codes = if layout == I2sLayout::Block128 && cols.is_multiple_of(BLOCK) {
        check_sample(&packed, cols)?;
        packed
    } else {
        repack(&packed, rows, cols, layout)?.into()
    };
    Ternary::new(rows, cols, codes, Scales::Tensor(scale))
}

/// Encodes ternary weights; the scale is repeated eight times in the tail, as Microsoft's converter does.
///
/// # Errors
/// [`Error::Input`] if there is more than one scale, `rows * cols` is no multiple of 128, or `rows` is no multiple of
/// 4 in the layout [`I2sLayout::Row4`].
pub fn encode(weights: &Ternary, layout: I2sLayout) -> Result<Vec<u8>> {
    let (rows, cols) = (weights.rows(), weights.cols());
    check_rows(rows, layout).map_err(Error::Input)?;
    let scale = Encoding::I2S.tensor_scale(weights)?;
    let mut bytes = Vec::with_capacity(Encoding::I2S.encoded_size(rows, cols)?);
    let mut codes = vec![0; rows * cols]; // [rows, cols]
    for (row, codes) in codes.chunks_exact_mut(cols).enumerate() {
        row_codes(weights, row, codes);
    }
    match layout {
        I2sLayout::Block128 => pack_flat::<32>(&codes, &mut bytes),
        I2sLayout::Block64 => pack_flat::<16>(&codes, &mut bytes),
        I2sLayout::Row4 => {
            for rows in codes.chunks_exact(4 * cols) {
                let code = |row: usize, col: usize| rows[row * cols + col];
                bytes.extend((0..cols).map(|c| code(0, c) << 6 | code(1, c) << 4 | code(2, c) << 2 | code(3, c)));
            }
        }
    }
    bytes.extend_from_slice(&[scale.to_le_bytes(); TAIL / 4].concat());
    Ok(bytes)
}

fn check_rows(rows: usize, layout: I2sLayout) -> Result<(), String> {
    if layout == I2sLayout::Row4 && !rows.is_multiple_of(4) {
        return Err(format!("the I2_S layout row4 needs a multiple of 4 rows, but this tensor has {rows}"));
    }
    Ok(())
}

/// Looks for the code 3 in blocks spread evenly over the tensor, the first and the last among them.
fn check_sample(packed: &[u8], cols: usize) -> Result<()> {
    let (blocks, _) = packed.as_chunks::<BLOCK_BYTES>();
    let count = blocks.len().min(SAMPLE);
    for i in 0..count {
        // The product fits in 64 bits: a tensor has less than 2^58 blocks of 32 bytes.
        let block = (i as u64 * (blocks.len() - 1) as u64 / (count.max(2) - 1) as u64) as usize;
        if has_code_3(&blocks[block]) {
            return Err(code_3(Encoding::I2S, block * BLOCK / cols));
        }
    }
    Ok(())
}

/// Brings codes of any layout and any row length into the canonical packing.
fn repack(packed: &[u8], rows: usize, cols: usize, layout: I2sLayout) -> Result<Vec<u8>> {
    let row_bytes = ternary::padded(cols) / 4;
    let mut out = room("I2_S", rows, row_bytes)?;
    each_row(&mut out, row_bytes, |row, out| {
        // Through one byte a code: both steps are plain loops over bytes, which the compiler vectorises.
        let mut codes = filled(cols, 0)?;
        match layout {
            I2sLayout::Block128 => unpack_flat::<32>(packed, row * cols, &mut codes),
            I2sLayout::Block64 => unpack_flat::<16>(packed, row * cols, &mut codes),
            I2sLayout::Row4 => {
                let shift = 6 - 2 * (row % 4);
                for (code, byte) in codes.iter_mut().zip(&packed[row / 4 * cols..]) {
                    *code = byte >> shift & 3;
                }
            }
        }
        ternary::pack_codes(&codes, out);
        if has_code_3(out) { Err(code_3(Encoding::I2S, row)) } else { Ok(()) }
    })?;
    Ok(out)
}

/// Writes the codes `start..start + codes.len()` of the flat sequence, stored in blocks of `4 * Q` codes in `Q` bytes.
fn unpack_flat<const Q: usize>(packed: &[u8], start: usize, codes: &mut [u8]) {
    let (blocks, _) = packed.as_chunks::<Q>();
    let mut done = 0;
    while done < codes.len() {
        let (block, within) = ((start + done) / (4 * Q), (start + done) % (4 * Q));
        let quarters = [6, 4, 2, 0].map(|shift| blocks[block].map(|byte| byte >> shift & 3));
        let whole = &quarters.as_flattened()[within..];
        let count = whole.len().min(codes.len() - done);
        codes[done..done + count].copy_from_slice(&whole[..count]);
        done += count;
    }
}

/// Appends codes in blocks of `4 * Q` codes in `Q` bytes.
fn pack_flat<const Q: usize>(codes: &[u8], bytes: &mut Vec<u8>) {
    for [a, b, c, d] in codes.as_chunks::<Q>().0.as_chunks::<4>().0 {
        bytes.extend((0..Q).map(|i| a[i] << 6 | b[i] << 4 | c[i] << 2 | d[i]));
    }
}

impl fmt::Display for I2sLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            I2sLayout::Block128 => "128",
            I2sLayout::Block64 => "64",
            I2sLayout::Row4 => "row4",
        })
    }
}

impl FromStr for I2sLayout {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "128" => Ok(I2sLayout::Block128),
            "64" => Ok(I2sLayout::Block64),
            "row4" => Ok(I2sLayout::Row4),
            _ => Err(Error::Input(format!("{text:?} is no I2_S layout; there are 128 (the default), 64 and row4"))),
        }
    }
}
