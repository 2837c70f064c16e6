//! TL2 (type 39 of bitnet.cpp, for x86): three trits in a sign and four bits, as the index of a table of their sums.
//!
//! ```text
//! Of `cols` columns the first T = cols − cols mod BY are stored in triples, the others in pairs. Three parts follow each
//! other; the strips of each (see `tl`) have 32 rows.
//!
//! 1. Magnitudes, strips of 6 columns, 32 bytes. A triple (a, b, c) is v = 9 a + 3 b + c = −13 … 13.
//!      bit     7 6 5 4            | 3 2 1 0
//!              |v| of c … c + 2   | |v| of c + 3 … c + 5      byte: the row, see below
//! 2. Signs, strips of 24 columns, 16 words of 16 bits, little-endian. In word `row mod 16`,
//!      bit 15 − (2 · triple + row / 16) is 1 if v < 0         triple = 0 … 7
//! 3. Pairs, blocks of 32 columns, strips of 4 columns, 32 bytes: as in TL1, (a, b) is 3 a + b + 4.
//!
//! In parts 1 and 3 the 32 rows are in groups of 8, in the order 0, 2, 1, 3.
//!
//! Behind them: nothing, or a tail of 32 bytes that begins with the scale, f32.
//! ```
//!
//! Source: `preprocess_weights_tl2` in bitnet.cpp's converters.

use super::Encoding;
use super::entry::{Entry, Kind, Look, ScalePlaces, Size, Stored, TypeNumber};
use super::repack::{decode_rows, row_codes};
use super::tl::{self, Tiles, preset_of};
use crate::error::{Error, Result};
use crate::format::ternary::{Scales, Ternary};

/// Rows in a strip, and bytes in a strip of each part.
const STRIP: usize = 32;

/// The three parts of a tensor.
struct Parts {
    triple_cols: usize, // T
    pair_cols: usize,
    magnitudes: Tiles,
    signs: Tiles,
    pairs: Tiles,
    /// First byte of the signs, of the pairs and of what follows.
    starts: [usize; 3],
}

impl Parts {
    fn new(encoding: Encoding, rows: usize, cols: usize) -> Result<Self> {
        let (block_rows, block_cols) = preset_of(encoding, rows, cols)?.tl2;
        let pair_cols = cols % block_cols;
        let triple_cols = cols - pair_cols;
        let tiles = |block_cols, strip_cols| Tiles { block_rows, block_cols, strip_rows: STRIP, strip_cols };
        let signs_at = rows * triple_cols / 6;
        let pairs_at = signs_at + rows * triple_cols / 24;
        Ok(Self {
            triple_cols,
            pair_cols,
            magnitudes: tiles(block_cols, 6),
            signs: tiles(block_cols, 24),
            pairs: tiles(32, 4),
            starts: [signs_at, pairs_at, pairs_at + rows * pair_cols / 4],
        })
    }

    /// The byte of the two triples from `col`.
    fn magnitude(&self, row: usize, col: usize) -> usize {
        self.magnitudes.strip(self.triple_cols, row, col) * STRIP + swapped(row)
    }

    /// The byte and the bit in it of the sign of the triple at `col`.
    fn sign(&self, row: usize, col: usize) -> (usize, usize) {
        let word = self.signs.strip(self.triple_cols, row, col) * STRIP + row % 16 * 2;
        let bit = 15 - (col % 24 / 3 * 2 + row % STRIP / 16);
        (self.starts[0] + word + bit / 8, bit % 8)
    }

    /// The byte of the two pairs from `col`, counted from the first column in pairs.
    fn pair(&self, row: usize, col: usize) -> usize {
        self.starts[1] + self.pairs.strip(self.pair_cols, row, col) * STRIP + swapped(row)
    }
}

/// The place of a row among the 32 of its strip.
fn swapped(row: usize) -> usize {
    [0, 2, 1, 3][row % STRIP / 8] * 8 + row % 8
}

pub(super) static INSIDE: Entry =
    entry(ScalePlaces::Tensor, TypeNumber::new(39).called("TL2 with its scale, of bitnet.cpp").file_types(&[39]));

pub(super) static BESIDE: Entry = entry(
    ScalePlaces::Beside,
    TypeNumber::new(39).called("TL2 without scale, of bitnet.cpp's Python converter").file_types(&[39]),
);

const fn entry(scales: ScalePlaces, number: TypeNumber) -> Entry {
    let look = Look { codes: |_, bytes| bytes / 2, is_wrong: |byte| byte >> 4 > 13 || byte & 15 > 13 }; // of the rest, some are signs
    Entry {
        name: "TL2",
        size: Size::Computed { size, look: Some(look) },
        kind: Kind::Ternary { scales, decode, encode },
        number,
        also: &[],
    }
}

fn size(encoding: Encoding, rows: usize, cols: usize) -> Result<usize> {
    tl::with_tail(encoding, Some(Parts::new(encoding, rows, cols)?.starts[2]), rows, cols)
}

/// Decodes the bytes of a tensor (exactly its size).
fn decode(stored: &Stored) -> Result<Ternary> {
    let &Stored { encoding, bytes, rows, cols, .. } = stored;
    let parts = Parts::new(encoding, rows, cols)?;
    let scale = tl::scale(encoding, &bytes[parts.starts[2]..])?;
    let packed = decode_rows(stored, |row, codes| {
        let wrong = |what| Err(Error::Malformed(format!("{encoding}: row {row} holds a {what}, which is no trits")));
        let (triples, pairs) = codes.split_at_mut(parts.triple_cols);
        for (six, codes) in triples.as_chunks_mut::<6>().0.iter_mut().enumerate() {
            let byte = bytes[parts.magnitude(row, 6 * six)];
            for (half, codes) in codes.as_chunks_mut::<3>().0.iter_mut().enumerate() {
                let magnitude = i32::from(byte >> (4 - 4 * half) & 15);
                if magnitude > 13 {
                    return wrong("triple above 13");
                }
                let (at, bit) = parts.sign(row, 6 * six + 3 * half);
                let value = if bytes[at] >> bit & 1 == 1 { -magnitude } else { magnitude };
                let number = (value + 13) as u8; // 0 … 26: codes as digits, since 9 + 3 + 1 = 13
                *codes = [number / 9, number / 3 % 3, number % 3];
            }
        }
        for (four, codes) in pairs.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let byte = bytes[parts.pair(row, 4 * four)];
            let (high, low) = (byte >> 4, byte & 15);
            if high > 8 || low > 8 {
                return wrong("pair above 8");
            }
            *codes = [high / 3, high % 3, low / 3, low % 3];
        }
        Ok(())
    })?;
    Ternary::new(rows, cols, packed.into(), Scales::Tensor(scale))
}

/// Encodes ternary weights with one scale, which is 1 if it has no place in the tensor.
fn encode(encoding: Encoding, weights: &Ternary) -> Result<Vec<u8>> {
    let (rows, cols) = (weights.rows(), weights.cols());
    let mut bytes = vec![0; encoding.encoded_size(rows, cols)?];
    let parts = Parts::new(encoding, rows, cols)?;
    tl::write_tail(&mut bytes[parts.starts[2]..], encoding.tensor_scale(weights)?);
    let mut codes = vec![0; cols];
    for row in 0..rows {
        row_codes(weights, row, &mut codes);
        let (triples, pairs) = codes.split_at(parts.triple_cols);
        for (triple, [a, b, c]) in triples.as_chunks::<3>().0.iter().enumerate() {
            let col = 3 * triple;
            let value = i32::from(9 * a + 3 * b + c) - 13;
            let shift = if triple % 2 == 0 { 4 } else { 0 };
            bytes[parts.magnitude(row, col / 6 * 6)] |= (value.unsigned_abs() as u8) << shift;
            let (at, bit) = parts.sign(row, col);
            bytes[at] |= u8::from(value < 0) << bit;
        }
        for (four, [a, b, c, d]) in pairs.as_chunks::<4>().0.iter().enumerate() {
            bytes[parts.pair(row, 4 * four)] = (3 * a + b) << 4 | (3 * c + d);
        }
    }
    Ok(bytes)
}
