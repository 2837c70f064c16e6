//! Ternary weights hidden in a dense tensor: "unpacked" checkpoints store {−s, 0, +s} as floats, and such floats were
//! quantised again to all kinds of formats. Found, they are packed to two bits and run on the integer kernels.
//!
//! A tensor is ternary if in each 128 columns of a row all values other than zero have one magnitude. These magnitudes
//! are then grouped: one for the tensor, one a row, one for each of a few runs of rows (models trained on several
//! devices), one for a run of columns. First all must be equal, bit for bit. If they are not, 1 % will do, because
//! conversions round: the scale is then the mean magnitude of its group.
//!
//! Q4_0 and Q5_0 take the first largest weight for −8 d (−16 d) and cut the same weight of the other sign to +7 d (+15
//! d). Only ternary weights give no other codes than these and 0, so they are read as ±8 d (±16 d).

use super::repack::{each_row_noted, room};
use crate::allocation::{area, collected, filled};
use crate::error::Result;
use crate::format::dense::{Dense, Values};
use crate::format::ternary::{self, BLOCK, BLOCK_BYTES, Scales, Ternary};

/// How far magnitudes of one group may be apart, of the smaller.
const TOLERANCE: f32 = 0.01;

/// The most runs of rows, or of columns, that are told from a scale for each row: devices that a model was trained on.
const MOST_RANGES: usize = 8;
/// The fewest rows in such a run, on average. With fewer, a scale for each row is as good.
const LEAST_ROWS: usize = 16;

/// Ternary weights that were found in a dense tensor.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Hidden {
    /// The weights.
    pub ternary: Ternary,
    /// Whether each is exactly the float that it was; else within 1 %.
    pub is_exact: bool,
}

impl std::fmt::Display for Hidden {
    /// Such as "one scale a row, exact".
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.ternary.scales() {
            Scales::Tensor(_) => f.write_str("one scale")?,
            Scales::Rows(_) => f.write_str("one scale a row")?,
            Scales::RowRanges(ranges) => write!(f, "one scale for each of {} runs of rows", ranges.len())?,
            Scales::Groups { columns, .. } => write!(f, "one scale for {columns} columns")?,
        }
        f.write_str(if self.is_exact { ", exact" } else { ", within 1 %" })
    }
}

/// The magnitudes other than zero of some values.
#[derive(Clone, Copy, Debug)]
struct Magnitudes {
    smallest: f32,
    largest: f32,
    sum: f64,
    count: u64,
    /// Whether what was taken for zero was not.
    has_near_zeros: bool,
}

impl Magnitudes {
    const NONE: Self = Self { smallest: f32::INFINITY, largest: 0.0, sum: 0.0, count: 0, has_near_zeros: false };

    fn with(self, other: &Self) -> Self {
        Self {
            smallest: self.smallest.min(other.smallest),
            largest: self.largest.max(other.largest),
            sum: self.sum + other.sum,
            count: self.count + other.count,
            has_near_zeros: self.has_near_zeros | other.has_near_zeros,
        }
    }

    fn of(all: &[Self]) -> Self {
        all.iter().fold(Self::NONE, Self::with)
    }

    fn agree(&self, tolerance: f32) -> bool {
        let is_clean = tolerance > 0.0 || !self.has_near_zeros;
        is_clean && (self.count == 0 || self.largest <= self.smallest * (1.0 + tolerance))
    }

    /// The scale of values that agree; none if all are zero.
    fn scale(&self) -> Option<f32> {
        match self.count {
            0 => None,
            _ if self.smallest == self.largest => Some(self.smallest),
            count => Some((self.sum / count as f64) as f32),
        }
    }
}

/// A group of the row holds two magnitudes.
struct Contradiction;

/// The ternary form of `dense`, if it has one.
///
/// Groups of zeros, whose scale is unknown, agree with all others; alone they have the scale 0. Gains of norms and
/// other tensors of one column may pass by chance: ask this of linear layers only. The search ends at the first
/// contradiction, for common floats in the first few values.
///
/// Beside the codes it holds 32 bytes for each 128 columns of a row while it looks.
///
/// # Errors
/// [`crate::Error::Device`] if there is no memory for these.
pub fn hidden_ternary(dense: &Dense) -> Result<Option<Hidden>> {
    let (rows, cols) = (dense.rows(), dense.cols());
    let reader = Reader::new(dense);
    // One row is tried before there is room for all of them, since most dense tensors are what they seem.
    if reader.blocks(0, |_, values| magnitudes(values).map(|_| ())).is_err() {
        return Ok(None);
    }
    let (row_bytes, per_row) = (ternary::padded(cols) / 4, cols.div_ceil(BLOCK));
    let mut packed = room("hidden ternary", rows, row_bytes)?;
    let mut found = filled(area(rows, per_row)?, Magnitudes::NONE)?; // [rows, blocks of a row]
    let looked = each_row_noted(&mut packed, row_bytes, &mut found, |row, out, found| {
        reader.blocks(row, |block, values| {
            found[block] = magnitudes(values)?;
            let zero = found[block].largest * TOLERANCE;
            let mut codes = [0; BLOCK];
            for (code, &value) in codes.iter_mut().zip(values) {
                *code = 1 + u8::from(value > zero) - u8::from(value < -zero);
            }
            ternary::pack_codes(&codes[..values.len()], &mut out[block * BLOCK_BYTES..][..BLOCK_BYTES]);
            Ok(())
        })
    });
    if let Err(Contradiction) = looked {
        return Ok(None);
    }
    let (scales, is_exact) = match grouped(&found, per_row, 0.0)? {
        Some(scales) => (scales, true),
        None => match grouped(&found, per_row, TOLERANCE)? {
            Some(scales) => (scales, false),
            None => return Ok(None),
        },
    };
    // The codes and scales fit the shape; a mean of magnitudes may still be beyond f32.
    Ok(Ternary::new(rows, cols, packed.into(), scales).ok().map(|ternary| Hidden { ternary, is_exact }))
}

/// The magnitudes of up to 128 values. What is at most 1 % of the largest is zero: offsets do not always cancel.
///
/// The bits of floats without their sign are in the order of their magnitudes, with NaN above infinity, and loops over
/// integers vectorise.
fn magnitudes(values: &[f32]) -> Result<Magnitudes, Contradiction> {
    let bits = |value: &f32| value.abs().to_bits();
    let largest = f32::from_bits(values.iter().map(bits).fold(0, u32::max));
    if !largest.is_finite() {
        return Err(Contradiction);
    }
    let zero = (largest * TOLERANCE).to_bits();
    let (mut smallest, mut count, mut has_near_zeros) = (f32::INFINITY.to_bits(), 0_u32, false);
    for value in values.iter().map(bits) {
        let counts = value > zero;
        smallest = smallest.min(if counts { value } else { u32::MAX });
        count += u32::from(counts);
        has_near_zeros |= !counts & (value != 0);
    }
    let smallest = f32::from_bits(smallest);
    let sum = match smallest == largest {
        true => f64::from(largest) * f64::from(count),
        false => values.iter().filter(|value| bits(value) > zero).map(|value| f64::from(value.abs())).sum(),
    };
    let found = Magnitudes { smallest, largest, sum, count: count.into(), has_near_zeros };
    if found.agree(TOLERANCE) { Ok(found) } else { Err(Contradiction) }
}

/// The coarsest grouping in which all magnitudes agree.
fn grouped(found: &[Magnitudes], per_row: usize, tolerance: f32) -> Result<Option<Scales>> {
    let all = Magnitudes::of(found);
    if all.agree(tolerance) {
        return Ok(Some(Scales::Tensor(all.scale().unwrap_or(0.0))));
    }
    let by_row = || found.chunks(per_row).map(Magnitudes::of);
    if by_row().all(|row| row.agree(tolerance)) {
        let rows = found.len() / per_row;
        return Ok(Some(match row_ranges(rows, by_row(), tolerance) {
            Some(ranges) => ranges,
            None => Scales::Rows(collected(rows, by_row().map(|row| row.scale().unwrap_or(0.0)))?),
        }));
    }
    // A run of columns for each device, then the groups of known formats.
    let runs = (2..=MOST_RANGES).filter(|&count| per_row.is_multiple_of(count)).map(|count| per_row / count);
    for blocks in runs.chain([2, 1]).filter(|&blocks| blocks < per_row || blocks == 1) {
        let joined = || found.chunks(per_row).flat_map(|row| row.chunks(blocks)).map(Magnitudes::of);
        if joined().all(|group| group.agree(tolerance)) {
            let count = found.len() / per_row * per_row.div_ceil(blocks);
            let values = collected(count, joined().map(|group| group.scale().unwrap_or(0.0)))?;
            return Ok(Some(Scales::Groups { columns: blocks * BLOCK, values }));
        }
    }
    Ok(None)
}

/// Few runs of rows, if that is what they are.
fn row_ranges(count: usize, rows: impl Iterator<Item = Magnitudes>, tolerance: f32) -> Option<Scales> {
    let mut ranges: Vec<(usize, Magnitudes)> = Vec::new(); // end, exclusive
    for (row, magnitudes) in rows.enumerate() {
        let joined = ranges.last().map(|last| last.1.with(&magnitudes)).filter(|joined| joined.agree(tolerance));
        match joined {
            Some(joined) => *ranges.last_mut().expect("it was joined") = (row + 1, joined),
            None if ranges.len() == MOST_RANGES => return None,
            None => ranges.push((row + 1, magnitudes)),
        }
    }
    let scales = || ranges.iter().map(|(end, found)| (*end, found.scale().unwrap_or(0.0))).collect();
    (count >= LEAST_ROWS * ranges.len()).then(|| Scales::RowRanges(scales()))
}

/// Reads rows, and undoes what Q4_0 and Q5_0 do to ternary weights.
struct Reader<'a> {
    dense: &'a Dense,
    /// The largest code, 8 or 16, of a tensor that has no others than −`half`, 0 and `half` − 1.
    half: Option<i8>,
}

impl<'a> Reader<'a> {
    fn new(dense: &'a Dense) -> Self {
        let half = match dense.values() {
            Values::Int8 { columns: 32, codes, .. } => {
                let only = |half: i8| codes.iter().all(|&code| [-half, 0, half - 1].contains(&(code as i8)));
                [8, 16].into_iter().find(|&half| only(half))
            }
            _ => None,
        };
        Self { dense, half }
    }

    /// Calls `look` with the number and the values of each block of 128 columns of a row, the last of which may have fewer, up
    /// to the first error.
    fn blocks<E>(&self, row: usize, mut look: impl FnMut(usize, &[f32]) -> Result<(), E>) -> Result<(), E> {
        let cols = self.dense.cols();
        (0..cols).step_by(BLOCK).try_for_each(|first| {
            let mut values = [0.0; BLOCK];
            let values = &mut values[..BLOCK.min(cols - first)];
            self.read(row, first, values);
            look(first / BLOCK, values)
        })
    }

    /// Some columns of a row, from `first` on.
    fn read(&self, row: usize, first: usize, out: &mut [f32]) {
        let (Some(half), Values::Int8 { columns, codes, scales }) = (self.half, self.dense.values()) else {
            return self.dense.columns_to_f32(row, first, out);
        };
        let first = row * self.dense.cols() + first;
        for (place, out) in out.iter_mut().enumerate() {
            let code = codes[first + place] as i8;
            *out = f32::from(code.signum()) * f32::from(half) * scales[(first + place) / columns];
        }
    }
}
