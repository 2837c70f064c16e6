//! I2_V, I2_V_4, I2_V_8, I1_V and I1_V_2 (types 40, 42, 43, 45 and 46 of vlut.cpp): trits four or five in a byte,
//! column by column, without a scale: that is a tensor of one float beside it.
//!
//! ```text
//! A byte holds consecutive columns of one row as a number in base 3, the first column its least significant digit
//! (code = trit + 1, so four digits are less than 81 and five less than 243). With M rows, column group i of row j is at
//!
//!   byte  (i / T) · M · T + j · T + i mod T        T = 1, 4, 8 for I2_V, I2_V_4, I2_V_8; T = 1, 2 for I1_V, I1_V_2
//!
//! In I2_V* each group is 4 columns. In I1_V* the first n = 4 · (cols / 20) groups are 5 columns, and the groups of 4 for
//! the rest are at byte (n + i) · M + j.
//! ```
//!
//! Source: vlut.cpp's `ggml-cpu-vlut` packing.

use super::Encoding;
use super::entry::{Entry, Kind, Look, ScalePlaces, Size, Stored, TypeNumber, check_whole, counted};
use super::repack::{decode_rows, row_codes};
use crate::error::{Error, Result};
use crate::format::ternary::{Scales, Ternary};

/// Columns of a row are a multiple of this.
const COLUMNS: usize = 4;

pub(super) static I2_V: Entry =
    entry::<1, false>("I2_V", TypeNumber::new(40).called("I2_V of vlut.cpp").file_types(&[38]));
pub(super) static I2_V_4: Entry =
    entry::<4, false>("I2_V_4", TypeNumber::new(42).called("I2_V_4 of vlut.cpp").file_types(&[39]));
pub(super) static I2_V_8: Entry =
    entry::<8, false>("I2_V_8", TypeNumber::new(43).called("I2_V_8 of vlut.cpp").file_types(&[40]));
pub(super) static I1_V: Entry = entry::<1, true>("I1_V", TypeNumber::new(45));
pub(super) static I1_V_2: Entry = entry::<2, true>("I1_V_2", TypeNumber::new(46));

/// `T` groups are side by side; `FIVES` says whether they are of five columns, as in all functions here.
const fn entry<const T: usize, const FIVES: bool>(name: &'static str, number: TypeNumber) -> Entry {
    let four = Look { codes: |weights, _| weights / 4, is_wrong: |byte| byte >= 81 };
    Entry {
        name,
        size: Size::Computed { size: size::<T, FIVES>, look: if FIVES { None } else { Some(four) } },
        kind: Kind::Ternary { scales: ScalePlaces::Beside, decode: decode::<T, FIVES>, encode: encode::<T, FIVES> },
        number,
        also: &[],
    }
}

/// How many bytes a row has, and where.
struct Arrangement {
    rows: usize,
    /// Groups of five columns in a row.
    fives: usize,
    /// Groups of four columns in a row, behind them.
    fours: usize,
    /// Groups from the first on that are stored T side by side; the others follow one by one.
    tiled: usize,
    side_by_side: usize, // T
}

impl Arrangement {
    fn new<const T: usize, const FIVES: bool>(encoding: Encoding, rows: usize, cols: usize) -> Result<Self> {
        let (fives, fours) = if FIVES { (cols / 20 * 4, cols % 20 / 4) } else { (0, cols / 4) };
        let tiled = if FIVES { fives } else { fours };
        if !tiled.is_multiple_of(T) {
            return Err(Error::Malformed(format!(
                "{encoding} stores {T} groups of columns side by side, but a row of {cols} columns has {tiled}"
            )));
        }
        Ok(Self { rows, fives, fours, tiled, side_by_side: T })
    }

    /// The place of group `i` of a row.
    fn byte(&self, row: usize, i: usize) -> usize {
        let t = if i < self.tiled { self.side_by_side } else { 1 };
        i / t * self.rows * t + row * t + i % t
    }

    /// The first column and the number of columns of group `i`.
    fn columns(&self, i: usize) -> (usize, usize) {
        if i < self.fives { (5 * i, 5) } else { (5 * self.fives + 4 * (i - self.fives), 4) }
    }
}

fn size<const T: usize, const FIVES: bool>(encoding: Encoding, rows: usize, cols: usize) -> Result<usize> {
    check_whole(encoding, cols, COLUMNS)?;
    let arrangement = Arrangement::new::<T, FIVES>(encoding, rows, cols)?;
    counted(encoding, rows.checked_mul(arrangement.fives + arrangement.fours), rows, cols)
}

/// Decodes the bytes of a tensor (exactly its size); the scale is 1.
fn decode<const T: usize, const FIVES: bool>(stored: &Stored) -> Result<Ternary> {
    let &Stored { encoding, bytes, rows, cols, .. } = stored;
    let arrangement = Arrangement::new::<T, FIVES>(encoding, rows, cols)?;
    let packed = decode_rows(stored, |row, codes| {
        for i in 0..arrangement.fives + arrangement.fours {
            let (column, count) = arrangement.columns(i);
            let mut number = bytes[arrangement.byte(row, i)];
            for code in &mut codes[column..column + count] {
                *code = number % 3;
                number /= 3;
            }
            if number != 0 {
                return Err(Error::Malformed(format!("{encoding}: row {row} holds a byte that is no {count} trits")));
            }
        }
        Ok(())
    })?;
    Ternary::new(rows, cols, packed.into(), Scales::Tensor(1.0))
}

/// Encodes ternary weights whose only scale is 1.
fn encode<const T: usize, const FIVES: bool>(encoding: Encoding, weights: &Ternary) -> Result<Vec<u8>> {
    let (rows, cols) = (weights.rows(), weights.cols());
    let mut bytes = vec![0; encoding.encoded_size(rows, cols)?];
    encoding.tensor_scale(weights)?;
    let arrangement = Arrangement::new::<T, FIVES>(encoding, rows, cols)?;
    let mut codes = vec![0; cols];
    for row in 0..rows {
        row_codes(weights, row, &mut codes);
        for i in 0..arrangement.fives + arrangement.fours {
            let (column, count) = arrangement.columns(i);
            let digits = codes[column..column + count].iter().rev();
            bytes[arrangement.byte(row, i)] = digits.fold(0, |number, digit| number * 3 + digit);
        }
    }
    Ok(bytes)
}
