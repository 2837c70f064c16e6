//! TL1 (type 38 of bitnet.cpp, for ARM): two trits in four bits, as the index of a table of their nine sums.
//!
//! ```text
//! A byte is four columns c … c + 3 of one row, c a multiple of 4; a pair of trits (a, b) is 3 a + b + 4 = 0 … 8:
//!
//!   bit   7 6 5 4   | 3 2 1 0
//!   pair  c, c + 1  | c + 2, c + 3
//!
//! In a strip of bm rows and by = 256 / bm columns (see `tl`) the order is, from outer to inner:
//!   groups of 16 rows · groups of 4 columns · 16 rows
//!
//! Behind rows · cols / 4 bytes: nothing, or a tail of 32 bytes that begins with the scale, f32.
//! ```
//!
//! Source: `preprocess_weights_tl1` in bitnet.cpp's converters.

use super::Encoding;
use super::entry::{Entry, Kind, Look, ScalePlaces, Size, Stored, TypeNumber};
use super::repack::{decode_rows, row_codes};
use super::tl::{self, Tiles, preset_of};
use crate::error::{Error, Result};
use crate::format::ternary::{Scales, Ternary};

/// Bytes of a strip of 256 weights.
const STRIP: usize = 64;

fn tiles(encoding: Encoding, rows: usize, cols: usize) -> Result<Tiles> {
    let (block_rows, block_cols, strip_rows) = preset_of(encoding, rows, cols)?.tl1;
    Ok(Tiles { block_rows, block_cols, strip_rows, strip_cols: 256 / strip_rows })
}

pub(super) static INSIDE: Entry =
    entry(ScalePlaces::Tensor, TypeNumber::new(38).called("TL1 with its scale, of bitnet.cpp").file_types(&[38]));

pub(super) static BESIDE: Entry = entry(
    ScalePlaces::Beside,
    TypeNumber::new(38).called("TL1 without scale, of bitnet.cpp's Python converter").file_types(&[38]),
);

const fn entry(scales: ScalePlaces, number: TypeNumber) -> Entry {
    let look = Look { codes: |weights, _| weights / 4, is_wrong: |byte| byte >> 4 > 8 || byte & 15 > 8 };
    Entry {
        name: "TL1",
        size: Size::Computed { size, look: Some(look) },
        kind: Kind::Ternary { scales, decode, encode },
        number,
        also: &[],
    }
}

fn size(encoding: Encoding, rows: usize, cols: usize) -> Result<usize> {
    tiles(encoding, rows, cols)?;
    tl::with_tail(encoding, rows.checked_mul(cols / 4), rows, cols)
}

/// Decodes the bytes of a tensor (exactly its size).
fn decode(stored: &Stored) -> Result<Ternary> {
    let &Stored { encoding, bytes, rows, cols, .. } = stored;
    let tiles = tiles(encoding, rows, cols)?;
    let scale = tl::scale(encoding, &bytes[rows * cols / 4..])?;
    let packed = decode_rows(stored, |row, codes| {
        for (four, codes) in codes.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let byte = bytes[place(&tiles, cols, row, 4 * four)];
            let pairs = [byte >> 4, byte & 15];
            if pairs.iter().any(|&pair| pair > 8) {
                return Err(Error::Malformed(format!(
                    "{encoding}: row {row} holds a pair above 8, which is no two trits"
                )));
            }
            *codes = [pairs[0] / 3, pairs[0] % 3, pairs[1] / 3, pairs[1] % 3];
        }
        Ok(())
    })?;
    Ternary::new(rows, cols, packed.into(), Scales::Tensor(scale))
}

/// Encodes ternary weights with one scale, which is 1 if it has no place in the tensor.
fn encode(encoding: Encoding, weights: &Ternary) -> Result<Vec<u8>> {
    let (rows, cols) = (weights.rows(), weights.cols());
    let mut bytes = vec![0; encoding.encoded_size(rows, cols)?];
    let tiles = tiles(encoding, rows, cols)?;
    tl::write_tail(&mut bytes[rows * cols / 4..], encoding.tensor_scale(weights)?);
    let mut codes = vec![0; cols];
    for row in 0..rows {
        row_codes(weights, row, &mut codes);
        for (four, [a, b, c, d]) in codes.as_chunks::<4>().0.iter().enumerate() {
            bytes[place(&tiles, cols, row, 4 * four)] = (3 * a + b) << 4 | (3 * c + d);
        }
    }
    Ok(bytes)
}

/// The byte of four columns from `col`.
fn place(tiles: &Tiles, cols: usize, row: usize, col: usize) -> usize {
    let sixteen = row % tiles.strip_rows / 16 * (tiles.strip_cols / 4) + col % tiles.strip_cols / 4;
    tiles.strip(cols, row, col) * STRIP + sixteen * 16 + row % 16
}
