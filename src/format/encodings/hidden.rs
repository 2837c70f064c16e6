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

use super::repack::{each_row, room};
use crate::format::dense::{Dense, Values};
use crate::format::ternary::{self, BLOCK, Scales, Ternary};

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

    fn of<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        all.into_iter().fold(Self::NONE, Self::with)
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
pub fn hidden_ternary(dense: &Dense) -> Option<Hidden> {
    let (rows, cols) = (dense.rows(), dense.cols());
    let reader = Reader::new(dense);
    let mut first = vec![0.0; cols];
    // One row is tried before there is room for all of them, since most dense tensors are what they seem.
    reader.row(0, &mut first);
    first.chunks(BLOCK).try_for_each(|group| magnitudes(group).map(|_| ())).ok()?;

    let row_bytes = ternary::padded(cols) / 4;
    let mut packed = room("hidden ternary", rows, row_bytes).ok()?;
    let groups = each_row(&mut packed, row_bytes, |row, out| {
        let mut values = vec![0.0; cols];
        reader.row(row, &mut values);
        let mut codes = vec![1; cols];
        let groups: Result<Vec<Magnitudes>, Contradiction> = values
            .chunks(BLOCK)
            .zip(codes.chunks_mut(BLOCK))
            .map(|(values, codes)| {
                let found = magnitudes(values)?;
                let zero = found.largest * TOLERANCE;
                for (code, &value) in codes.iter_mut().zip(values) {
                    *code = 1 + u8::from(value > zero) - u8::from(value < -zero);
                }
                Ok(found)
            })
            .collect();
        ternary::pack_codes(&codes, out);
        groups
    });
    let groups: Vec<Magnitudes> = groups.ok()?.into_iter().flatten().collect(); // [rows, blocks of a row]
    let per_row = cols.div_ceil(BLOCK);
    let (scales, is_exact) = match grouped(&groups, per_row, 0.0) {
        Some(scales) => (scales, true),
        None => (grouped(&groups, per_row, TOLERANCE)?, false),
    };
    let ternary = Ternary::new(rows, cols, packed.into(), scales).ok()?;
    Some(Hidden { ternary, is_exact })
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
fn grouped(groups: &[Magnitudes], per_row: usize, tolerance: f32) -> Option<Scales> {
    let all = Magnitudes::of(groups);
    if all.agree(tolerance) {
        return Some(Scales::Tensor(all.scale().unwrap_or(0.0)));
    }
    let by_row: Vec<Magnitudes> = groups.chunks(per_row).map(Magnitudes::of).collect();
    if by_row.iter().all(|row| row.agree(tolerance)) {
        let values = || by_row.iter().map(|row| row.scale().unwrap_or(0.0)).collect();
        return Some(row_ranges(&by_row, tolerance).unwrap_or_else(|| Scales::Rows(values())));
    }
    // A run of columns for each device, then the groups of known formats.
    let runs = (2..=MOST_RANGES).filter(|&count| per_row.is_multiple_of(count)).map(|count| per_row / count);
    runs.chain([2, 1]).filter(|&blocks| blocks < per_row || blocks == 1).find_map(|blocks| {
        let joined = groups.chunks(per_row).flat_map(|row| row.chunks(blocks)).map(Magnitudes::of);
        let values = joined.map(|group| group.agree(tolerance).then(|| group.scale().unwrap_or(0.0)));
        Some(Scales::Groups { columns: blocks * BLOCK, values: values.collect::<Option<_>>()? })
    })
}

/// Few runs of rows, if that is what they are.
fn row_ranges(rows: &[Magnitudes], tolerance: f32) -> Option<Scales> {
    let mut ranges: Vec<(usize, Magnitudes)> = Vec::new(); // end, exclusive
    for (row, magnitudes) in rows.iter().enumerate() {
        let joined = ranges.last().map(|last| last.1.with(magnitudes)).filter(|joined| joined.agree(tolerance));
        match joined {
            Some(joined) => *ranges.last_mut().expect("it was joined") = (row + 1, joined),
            None if ranges.len() == MOST_RANGES => return None,
            None => ranges.push((row + 1, *magnitudes)),
        }
    }
    let scales = || ranges.iter().map(|(end, found)| (*end, found.scale().unwrap_or(0.0))).collect();
    (rows.len() >= LEAST_ROWS * ranges.len()).then(|| Scales::RowRanges(scales()))
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

    fn row(&self, row: usize, out: &mut [f32]) {
        let (Some(half), Values::Int8 { columns, codes, scales }) = (self.half, self.dense.values()) else {
            return self.dense.row_to_f32(row, out);
        };
        let first = row * out.len();
        for (place, out) in out.iter_mut().enumerate() {
            let code = codes[first + place] as i8;
            *out = f32::from(code.signum()) * f32::from(half) * scales[(first + place) / columns];
        }
    }
}
