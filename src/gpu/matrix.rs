//! Weights on the device: rows of 16-byte pieces, in shards that shaders can bind. Ternary codes and f16 rows lie there as
//! they lie in their file.

use std::borrow::Cow;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::format::Weights;
use crate::format::dense::{Dense, Values};
use crate::format::ternary::{BLOCK, MAX_COLS, Scales, Ternary};
use crate::gpu::buffers::Buffer;
use crate::gpu::screen::Screen;
use crate::gpu::shader::Format;

/// Weights `[rows, cols]`.
#[derive(Debug)]
pub struct Matrix {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) format: Format,
    /// Bytes of a row, a multiple of 16.
    pub(crate) row_bytes: usize,
    /// Columns that a scale covers, where each row has several; else all of them.
    pub(crate) group: usize,
    /// Scales of a row.
    pub(crate) row_scales: usize,
    pub(crate) shards: Vec<Shard>,
    /// Of a head.
    pub(crate) screen: Option<Box<Screen>>,
}

/// Consecutive rows of a matrix.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) first: usize,
    pub(crate) rows: usize,
    pub(crate) weights: Buffer, // [rows, row_bytes]
    pub(crate) scales: Buffer,  // [rows, row_scales] f32
}

/// Bytes that go to the device at once: what the driver needs of the host's memory meanwhile.
const UPLOAD_BYTES: usize = 32 << 20;

/// What makes buffers and fills them.
pub(crate) trait Uploader {
    fn buffer(&mut self, label: &str, bytes: u64) -> Result<Buffer>;
    fn upload(&mut self, to: &Buffer, offset: u64, bytes: &[u8]) -> Result<()>;
    fn largest_shard(&self) -> u64;
}

/// How a matrix of these parts is stored.
struct Plan<'a> {
    parts: &'a [Weights],
    rows: usize,
    cols: usize,
    format: Format,
    row_bytes: usize,
    group: usize,
    row_scales: usize,
}

impl Matrix {
    /// Stacks parts by rows and puts them on the device.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for rows too long for sums in 32 bits, [`Error::Device`] if the device has too little memory.
    pub(crate) fn upload(parts: &[Weights], to: &mut impl Uploader) -> Result<Self> {
        Self::upload_whole(parts, 1, to)
    }

    /// The same, of a matrix that is cut at multiples of so many rows alone.
    ///
    /// # Errors
    /// As [`Matrix::upload`].
    pub(crate) fn upload_whole(parts: &[Weights], together: usize, to: &mut impl Uploader) -> Result<Self> {
        let plan = Plan::new(parts)?;
        let most_rows = usize::try_from(to.largest_shard()).unwrap_or(usize::MAX) / plan.row_bytes;
        let most_rows = most_rows / together * together;
        if most_rows == 0 {
            let bytes = plan.row_bytes * together;
            return Err(Error::refused(format!(
                "{together} rows, {bytes} bytes together, are more than a shader can see"
            )));
        }
        let mut shards = Vec::new();
        for first in (0..plan.rows).step_by(most_rows) {
            let rows = most_rows.min(plan.rows - first);
            let weights = to.buffer("weights", (rows * plan.row_bytes) as u64)?;
            let scales = to.buffer("scales", (rows * plan.row_scales * 4) as u64)?;
            let piece = (UPLOAD_BYTES / plan.row_bytes).max(1);
            let mut begin = first;
            while begin < first + rows {
                let (part, within) = plan.part_of(begin);
                let count = piece.min(first + rows - begin).min(part.rows() - within);
                let offset = (begin - first) as u64;
                to.upload(&weights, offset * plan.row_bytes as u64, &plan.bytes(part, within..within + count))?;
                let values = plan.scales(part, within..within + count);
                to.upload(&scales, offset * plan.row_scales as u64 * 4, bytemuck::cast_slice(&values))?;
                begin += count;
            }
            shards.push(Shard { first, rows, weights, scales });
        }
        let Plan { rows, cols, format, row_bytes, group, row_scales, .. } = plan;
        Ok(Self { rows, cols, format, row_bytes, group, row_scales, shards, screen: None })
    }

    /// Bytes of the weights and their scales on the device, and of a screen.
    pub(crate) fn bytes(&self) -> u64 {
        let shards: u64 = self.shards.iter().map(|shard| shard.weights.raw.size() + shard.scales.raw.size()).sum();
        shards + self.screen.as_ref().map_or(0, |screen| screen.bytes())
    }

    /// 16-byte pieces of a row.
    pub(crate) fn pieces(&self) -> usize {
        self.row_bytes / 16
    }
}

impl<'a> Plan<'a> {
    fn new(parts: &'a [Weights]) -> Result<Self> {
        let cols = parts[0].cols();
        assert!(parts.iter().all(|part| part.cols() == cols), "stacked parts have the same columns");
        if cols > MAX_COLS {
            return Err(Error::Unsupported(format!("rows of {cols} weights; the most is {MAX_COLS}")));
        }
        let (format, group) = storage(parts);
        let bits = match format {
            Format::Ternary => 2,
            Format::Int8 | Format::Screen => 8,
            Format::F16 | Format::Bf16 => 16,
            Format::F32 => 32,
        };
        let padded = if format == Format::Ternary { cols.next_multiple_of(BLOCK) } else { cols };
        let row_bytes = (padded * bits).div_ceil(8).next_multiple_of(16);
        let row_scales = cols.div_ceil(group);
        Ok(Self { parts, rows: parts.iter().map(Weights::rows).sum(), cols, format, row_bytes, group, row_scales })
    }

    /// The part that a row of the matrix lies in, and the row's place there.
    fn part_of(&self, mut row: usize) -> (&'a Weights, usize) {
        for part in self.parts {
            if row < part.rows() {
                return (part, row);
            }
            row -= part.rows();
        }
        panic!("row {row} is beyond the matrix");
    }

    /// Some rows of a part as the device has them.
    fn bytes<'p>(&self, part: &'p Weights, rows: Range<usize>) -> Cow<'p, [u8]> {
        let (stored, stored_bytes) = match part {
            Weights::Ternary(w) => (&w.codes()[..], w.row_bytes()),
            Weights::Dense(w) => match (w.values(), self.format) {
                (Values::F32(bytes), Format::F32) => (&bytes[..], self.cols * 4),
                (Values::F16(bytes), Format::F16) | (Values::Bf16(bytes), Format::Bf16) => (&bytes[..], self.cols * 2),
                (Values::Int8 { codes, .. }, Format::Int8) => (&codes[..], self.cols),
                _ => return Cow::Owned(self.rows_as_f32(w, rows)),
            },
        };
        let stored = &stored[rows.start * stored_bytes..rows.end * stored_bytes];
        if stored_bytes == self.row_bytes {
            return Cow::Borrowed(stored);
        }
        let mut padded = vec![0; rows.len() * self.row_bytes];
        for (to, from) in padded.chunks_exact_mut(self.row_bytes).zip(stored.chunks_exact(stored_bytes)) {
            to[..stored_bytes].copy_from_slice(from);
        }
        Cow::Owned(padded)
    }

    fn rows_as_f32(&self, w: &Dense, rows: Range<usize>) -> Vec<u8> {
        let mut out = vec![0.0f32; rows.len() * self.row_bytes / 4];
        for (row, out) in rows.zip(out.chunks_exact_mut(self.row_bytes / 4)) {
            w.row_to_f32(row, &mut out[..self.cols]);
        }
        bytemuck::cast_slice(&out).to_vec()
    }

    /// The scales of some rows of a part, `[rows, row_scales]`.
    fn scales(&self, part: &Weights, rows: Range<usize>) -> Vec<f32> {
        let columns = || (0..self.row_scales).map(|group| group * self.group);
        match part {
            Weights::Ternary(w) => rows.flat_map(|row| columns().map(move |col| w.scale(row, col))).collect(),
            Weights::Dense(w) => match w.values() {
                Values::Int8 { scales, .. } if self.format == Format::Int8 => {
                    scales[rows.start * self.row_scales..rows.end * self.row_scales].to_vec()
                }
                _ => vec![1.0; rows.len() * self.row_scales],
            },
        }
    }
}

/// The format that all parts can be stored in without loss, and the columns of a scale. Dense parts of different formats, or
/// with scales that change within a word, are widened to f32.
fn storage(parts: &[Weights]) -> (Format, usize) {
    let cols = parts[0].cols();
    let dense_format = |w: &Dense| match w.values() {
        Values::F32(_) => (Format::F32, cols),
        Values::F16(_) => (Format::F16, cols),
        Values::Bf16(_) => (Format::Bf16, cols),
        Values::Int8 { columns, .. } if columns.is_multiple_of(4) => (Format::Int8, *columns),
        Values::Int8 { .. } => (Format::F32, cols),
    };
    let ternary_format = |w: &Ternary| match w.scales() {
        Scales::Groups { columns, .. } => (Format::Ternary, *columns),
        _ => (Format::Ternary, cols),
    };
    let of = |part: &Weights| match part {
        Weights::Ternary(w) => ternary_format(w),
        Weights::Dense(w) => dense_format(w),
    };
    let first = of(&parts[0]);
    parts.iter().map(of).fold(first, |(format, group), other| match (format, other.0) {
        (Format::Ternary, Format::Ternary) if group == other.1 => (format, group),
        (Format::Ternary, Format::Ternary) => {
            (format, common_divisor(group.next_multiple_of(BLOCK), other.1.next_multiple_of(BLOCK)))
        }
        (Format::Ternary, _) | (_, Format::Ternary) => panic!("a matrix is ternary or dense, not both"),
        _ if (format, group) == other => (format, group),
        _ => (Format::F32, cols),
    })
}

fn common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common_divisor(b, a % b) }
}
