//! The one form of ternary weights: packed codes and scales.
//!
//! ```text
//! A row is cut into blocks of 128 columns; a block is 32 bytes. Byte b of a block holds, from the top bits down,
//! the codes of columns b, b+32, b+64, b+96:
//!
//!   bit   7 6 | 5 4  | 3 2  | 1 0
//!   col    b  | b+32 | b+64 | b+96        code = trit + 1, so 0, 1, 2 mean −1, 0, +1
//! ```
//!
//! This is the order of Microsoft's I2_S files, so that those can be used from the map without a copy. Rows whose
//! length is no multiple of 128 are padded with code 1 (trit 0), so that inner loops have no tails.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::threads::{Queue, together};

/// Columns in one block of the canonical packing.
pub const BLOCK: usize = 128;
/// Bytes in one block of the canonical packing.
pub const BLOCK_BYTES: usize = 32;
/// The most columns of a row whose products with int8 can be summed in an i32: each is at most 3 · 128.
pub(crate) const MAX_COLS: usize = 1 << 22;
/// A byte of four zero trits (code 1 in each field): the padding.
pub const ZERO_BYTE: u8 = 0b01_01_01_01;

/// Ternary weights `[rows, cols]` in the canonical packing, with their scales. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ternary {
    rows: usize,
    cols: usize,
    codes: Bytes, // [rows, padded_cols / 4]
    scales: Scales,
}

/// What a trit is multiplied with to give the weight. All values are finite.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Scales {
    /// One scale for the whole tensor.
    Tensor(f32),
    /// One scale a row, `[rows]`.
    Rows(Vec<f32>),
    /// One scale for each run of rows: `(end, scale)`, `end` exclusive, ascending, the last equal to `rows`.
    RowRanges(Vec<(usize, f32)>),
    /// One scale for each group of `columns` consecutive columns of a row, `[rows, cols.div_ceil(columns)]`.
    /// `columns` is a multiple of 128.
    Groups {
        /// Columns a scale covers.
        columns: usize,
        /// The scales, row by row.
        values: Vec<f32>,
    },
}

/// Columns of a row after padding to whole blocks.
pub fn padded(cols: usize) -> usize {
    cols.next_multiple_of(BLOCK)
}

impl Ternary {
    /// Takes codes in the canonical packing (`rows * padded(cols) / 4` bytes) and their scales.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the sizes disagree, a scale is not finite, or a shape is empty.
    pub fn new(rows: usize, cols: usize, codes: Bytes, scales: Scales) -> Result<Self> {
        let bytes = cols.checked_next_multiple_of(BLOCK).and_then(|c| (c / 4).checked_mul(rows));
        if rows == 0 || cols == 0 || bytes != Some(codes.len()) {
            return Err(Error::Malformed(format!(
                "ternary weights [{rows}, {cols}] need {bytes:?} bytes of codes, but there are {}",
                codes.len()
            )));
        }
        let (count, wanted) = match &scales {
            Scales::Tensor(_) => (1, 1),
            Scales::Rows(values) => (values.len(), rows),
            Scales::RowRanges(ranges) => {
                let ascending = ranges.is_sorted_by(|a, b| a.0 < b.0);
                (ranges.last().filter(|_| ascending).map_or(0, |last| last.0), rows)
            }
            Scales::Groups { columns, values } => {
                if *columns == 0 || columns % BLOCK != 0 {
                    return Err(Error::Malformed(format!(
                        "a scale group of {columns} columns is no multiple of {BLOCK}"
                    )));
                }
                (values.len(), rows * cols.div_ceil(*columns))
            }
        };
        if count != wanted {
            return Err(Error::Malformed(format!(
                "ternary weights [{rows}, {cols}]: scales cover {count} of {wanted} places"
            )));
        }
        let finite = match &scales {
            Scales::Tensor(scale) => scale.is_finite(),
            Scales::Rows(values) | Scales::Groups { values, .. } => values.iter().all(|v| v.is_finite()),
            Scales::RowRanges(ranges) => ranges.iter().all(|r| r.1.is_finite()),
        };
        if !finite {
            return Err(Error::Malformed(format!("ternary weights [{rows}, {cols}]: a scale is not finite")));
        }
        Ok(Self { rows, cols, codes, scales })
    }

    /// Packs trits (`[rows, cols]`, each −1, 0 or 1, row by row).
    ///
    /// # Panics
    /// If the length is not `rows * cols` or a value is no trit.
    pub fn pack(rows: usize, cols: usize, trits: &[i8], scales: Scales) -> Result<Self> {
        assert_eq!(trits.len(), rows * cols, "one trit for each place");
        let row_bytes = padded(cols) / 4;
        let mut codes = vec![ZERO_BYTE; rows * row_bytes];
        for (row, out) in trits.chunks_exact(cols.max(1)).zip(codes.chunks_exact_mut(row_bytes.max(1))) {
            for (col, &trit) in row.iter().enumerate() {
                assert!((-1..=1).contains(&trit), "{trit} is no trit");
                set_code(out, col, (trit + 1) as u8);
            }
        }
        Self::new(rows, cols, Bytes::from(codes), scales)
    }

    /// The same trits with every scale multiplied by `factor`.
    ///
    /// # Errors
    /// [`Error::Malformed`] if a product is not finite.
    pub fn scaled(&self, factor: f32) -> Result<Self> {
        let times = |values: &[f32]| values.iter().map(|v| v * factor).collect();
        let scales = match &self.scales {
            Scales::Tensor(scale) => Scales::Tensor(scale * factor),
            Scales::Rows(values) => Scales::Rows(times(values)),
            Scales::RowRanges(ranges) => Scales::RowRanges(ranges.iter().map(|r| (r.0, r.1 * factor)).collect()),
            Scales::Groups { columns, values } => Scales::Groups { columns: *columns, values: times(values) },
        };
        Self::new(self.rows, self.cols, self.codes.clone(), scales)
    }

    /// Row `order[row]` in the place of each row: converters to and from interleaved rotary pairs move rows so.
    ///
    /// # Panics
    /// If `order` has another length than there are rows, or names a row that is not there.
    pub fn reordered(&self, order: &[usize]) -> Self {
        assert_eq!(order.len(), self.rows, "one place for each row");
        self.rows_of(order)
    }

    /// These rows, in this order.
    pub(crate) fn rows_of(&self, order: &[usize]) -> Self {
        let row_bytes = self.row_bytes();
        let codes: Vec<u8> =
            order.iter().flat_map(|row| &self.codes[row * row_bytes..][..row_bytes]).copied().collect();
        let scales = match &self.scales {
            Scales::Tensor(scale) => Scales::Tensor(*scale),
            Scales::Rows(values) => Scales::Rows(order.iter().map(|&row| values[row]).collect()),
            Scales::RowRanges(_) => {
                let moved: Vec<f32> = order.iter().map(|&row| self.scale(row, 0)).collect();
                let is_same =
                    order.len() == self.rows && moved.iter().enumerate().all(|(row, s)| *s == self.scale(row, 0));
                if is_same { self.scales.clone() } else { Scales::Rows(moved) }
            }
            Scales::Groups { columns, values } => {
                let groups = self.cols.div_ceil(*columns);
                let moved = order.iter().flat_map(|row| &values[row * groups..][..groups]).copied().collect();
                Scales::Groups { columns: *columns, values: moved }
            }
        };
        Self { rows: order.len(), cols: self.cols, codes: codes.into(), scales }
    }

    /// In the place of each run of `width` columns the one that `order` names.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where a scale covers columns of two runs.
    pub(crate) fn columns_moved(&self, width: usize, order: &[usize]) -> Result<Self> {
        assert_eq!(width * order.len(), self.cols, "one place for each column");
        let scales = match &self.scales {
            Scales::Groups { columns, .. } if !width.is_multiple_of(*columns) => {
                return Err(Error::Unsupported(format!(
                    "scales of {columns} columns each, and heads of {width} that are in another order here"
                )));
            }
            Scales::Groups { columns, values } => {
                let (of_run, of_row) = (width / columns, self.cols / columns);
                let moved = (0..self.rows).flat_map(|row| order.iter().map(move |run| row * of_row + run * of_run));
                let values = moved.flat_map(|first| &values[first..first + of_run]).copied().collect();
                Scales::Groups { columns: *columns, values }
            }
            others => others.clone(),
        };
        let mut codes = vec![0; self.codes.len()];
        let (mut row_codes, mut moved) = (vec![0; self.cols], vec![0; self.cols]);
        for (to, from) in codes.chunks_exact_mut(self.row_bytes()).zip(self.codes.chunks_exact(self.row_bytes())) {
            unpack_codes(from, &mut row_codes);
            for (to, run) in moved.chunks_exact_mut(width).zip(order) {
                to.copy_from_slice(&row_codes[run * width..][..width]);
            }
            pack_codes(&moved, to);
        }
        Ok(Self { rows: self.rows, cols: self.cols, codes: codes.into(), scales })
    }

    /// Some rows, at least one. Codes are not copied.
    pub(crate) fn rows_between(&self, rows: Range<usize>) -> Self {
        let scales = match &self.scales {
            Scales::Tensor(scale) => Scales::Tensor(*scale),
            Scales::Rows(values) => Scales::Rows(values[rows.clone()].to_vec()),
            Scales::RowRanges(_) => {
                let of_rows: Vec<f32> = rows.clone().map(|row| self.scale(row, 0)).collect();
                let is_one = of_rows.iter().all(|scale| *scale == of_rows[0]);
                if is_one { Scales::Tensor(of_rows[0]) } else { Scales::Rows(of_rows) }
            }
            Scales::Groups { columns, values } => {
                let groups = self.cols.div_ceil(*columns);
                let values = values[rows.start * groups..rows.end * groups].to_vec();
                Scales::Groups { columns: *columns, values }
            }
        };
        let codes = self.codes.slice(rows.start * self.row_bytes()..rows.end * self.row_bytes());
        Self { rows: rows.len(), cols: self.cols, codes, scales }
    }

    /// The first `rows` rows, at least one; all if there are no more. Codes are not copied.
    pub(crate) fn first_rows(self, rows: usize) -> Self {
        if rows >= self.rows {
            return self;
        }
        let scales = match self.scales {
            Scales::Tensor(scale) => Scales::Tensor(scale),
            Scales::Rows(mut values) => {
                values.truncate(rows);
                Scales::Rows(values)
            }
            Scales::RowRanges(mut ranges) => {
                ranges.truncate(ranges.partition_point(|range| range.0 < rows) + 1);
                ranges.iter_mut().for_each(|range| range.0 = range.0.min(rows));
                Scales::RowRanges(ranges)
            }
            Scales::Groups { columns, mut values } => {
                values.truncate(rows * self.cols.div_ceil(columns));
                Scales::Groups { columns, values }
            }
        };
        let codes = self.codes.slice(..rows * (padded(self.cols) / 4));
        Self { rows, cols: self.cols, codes, scales }
    }

    /// The same codes, where `place` puts them, with the scales of rows; ones for scales that change within a row, which are then
    /// kept elsewhere.
    pub(crate) fn placed(&self, place: &mut dyn FnMut(&Bytes) -> Bytes) -> Self {
        let scales = match &self.scales {
            Scales::Groups { .. } => Scales::Tensor(1.0),
            of_rows => of_rows.clone(),
        };
        Self { codes: place(&self.codes), scales, ..*self }
    }

    /// Output features.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Input features, without the padding.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of codes in one row: a quarter of the padded columns.
    pub fn row_bytes(&self) -> usize {
        padded(self.cols) / 4
    }

    /// The packed codes, `[rows, row_bytes]`.
    pub fn codes(&self) -> &Bytes {
        &self.codes
    }

    /// The scales beside the codes.
    pub fn scales(&self) -> &Scales {
        &self.scales
    }

    /// All scales, each once.
    pub(crate) fn scale_values(&self) -> Box<dyn Iterator<Item = f32> + '_> {
        match &self.scales {
            Scales::Tensor(scale) => Box::new(std::iter::once(*scale)),
            Scales::Rows(values) | Scales::Groups { values, .. } => Box::new(values.iter().copied()),
            Scales::RowRanges(ranges) => Box::new(ranges.iter().map(|(_, scale)| *scale)),
        }
    }

    /// The first row that holds the code 3, which is no trit. Reads all of them, on all cores if they are many.
    pub fn wrong_row(&self) -> Option<usize> {
        /// Bytes that a thread takes at once.
        const PIECE: usize = 1 << 20;
        let piece = (PIECE / self.row_bytes()).max(1); // rows
        let pieces = self.codes.chunks(piece * self.row_bytes()).enumerate();
        let threads = if pieces.len() > 1 { thread::available_parallelism().map_or(1, usize::from) } else { 1 };
        let (pieces, first) = (Queue::new(pieces), AtomicUsize::new(usize::MAX));
        together(threads.min(self.codes.len().div_ceil(PIECE)), &|| {
            // Pieces are taken in order, so that all before one that holds it are looked through.
            let before_first = |(place, _): &(usize, &[u8])| place * piece < first.load(Ordering::Relaxed);
            while let Some((place, codes)) = pieces.take().filter(before_first) {
                if let Some(row) = codes.chunks_exact(self.row_bytes()).position(has_code_3) {
                    first.fetch_min(place * piece + row, Ordering::Relaxed);
                }
            }
        });
        Some(first.into_inner()).filter(|&row| row != usize::MAX)
    }

    /// The trits of one row, without the padding.
    pub fn row_trits(&self, row: usize) -> impl Iterator<Item = i8> + '_ {
        let codes = &self.codes[row * self.row_bytes()..][..self.row_bytes()];
        (0..self.cols).map(move |col| code(codes, col) as i8 - 1)
    }

    /// The scale of one weight.
    pub fn scale(&self, row: usize, col: usize) -> f32 {
        match &self.scales {
            Scales::Tensor(scale) => *scale,
            Scales::Rows(values) => values[row],
            Scales::RowRanges(ranges) => ranges[ranges.partition_point(|r| r.0 <= row)].1,
            Scales::Groups { columns, values } => values[row * self.cols.div_ceil(*columns) + col / columns],
        }
    }
}

/// Whether one of the 2-bit fields in `bytes` is 3, which is no trit.
pub(crate) fn has_code_3(bytes: &[u8]) -> bool {
    bytes.iter().fold(0, |seen, b| seen | b & b >> 1) & 0b01_01_01_01 != 0
}

/// The code of one column in a packed row.
pub fn code(row: &[u8], col: usize) -> u8 {
    let (block, within) = (col / BLOCK, col % BLOCK);
    row[block * BLOCK_BYTES + within % 32] >> shift(within) & 3
}

/// Writes the code of one column into a packed row.
pub fn set_code(row: &mut [u8], col: usize, code: u8) {
    let (block, within) = (col / BLOCK, col % BLOCK);
    let byte = &mut row[block * BLOCK_BYTES + within % 32];
    *byte = *byte & !(3 << shift(within)) | code << shift(within);
}

/// Packs the codes of one row, one a byte and each at most 3, and pads the last block.
///
/// # Panics
/// If `row` does not have `padded(codes.len()) / 4` bytes.
pub fn pack_codes(codes: &[u8], row: &mut [u8]) {
    assert_eq!(row.len(), padded(codes.len()) / 4, "whole blocks");
    let (blocks, rest) = codes.as_chunks::<BLOCK>();
    let (packed, _) = row.as_chunks_mut::<BLOCK_BYTES>();
    for (codes, out) in blocks.iter().zip(&mut *packed) {
        pack_block(codes, out);
    }
    if let Some(out) = packed.get_mut(blocks.len()) {
        let mut last = [1; BLOCK];
        last[..rest.len()].copy_from_slice(rest);
        pack_block(&last, out);
    }
}

/// The inverse of [`pack_codes`], without the padding.
///
/// # Panics
/// If `row` does not have `padded(codes.len()) / 4` bytes.
pub fn unpack_codes(row: &[u8], codes: &mut [u8]) {
    assert_eq!(row.len(), padded(codes.len()) / 4, "whole blocks");
    for (packed, codes) in row.as_chunks::<BLOCK_BYTES>().0.iter().zip(codes.chunks_mut(BLOCK)) {
        let quarters = [6, 4, 2, 0].map(|shift| packed.map(|byte| byte >> shift & 3));
        codes.copy_from_slice(&quarters.as_flattened()[..codes.len()]);
    }
}

/// A plain loop over bytes, which the compiler vectorises.
fn pack_block(codes: &[u8; BLOCK], out: &mut [u8; BLOCK_BYTES]) {
    for (b, out) in out.iter_mut().enumerate() {
        *out = codes[b] << 6 | codes[b + 32] << 4 | codes[b + 64] << 2 | codes[b + 96];
    }
}

/// The lowest bit of a column's field in its byte: 6, 4, 2, 0 for each quarter of the block.
fn shift(within: usize) -> usize {
    6 - 2 * (within / 32)
}
