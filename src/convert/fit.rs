//! Whether the scales of ternary weights fit the places that an encoding has for them, and what to do where they do not.

use half::f16;

use crate::error::{Error, Result};
use crate::format::encodings::sample::is_plausible;
use crate::format::encodings::type_numbers::meanings;
use crate::format::encodings::{Encoding, ScalePlaces};
use crate::format::ternary::{BLOCK, BLOCK_BYTES, Scales, Ternary, ZERO_BYTE, padded};

/// The largest relative change by rounding to a normal f16: half of the last of its 11 bits.
pub(super) const HALF: f32 = 1.0 / 2048.0;

/// The way out of every refusal here.
const WAY_OUT: &str = "another encoding may hold them, or ask for a lossy conversion, which joins scales";

/// The same trits with scales that `encoding` has places for, and the largest relative change of a weight. Without
/// `lossy`, only the rounding of a scale to f16 is a change that passes.
pub(super) fn fit(ternary: Ternary, encoding: Encoding, lossy: bool) -> Result<(Ternary, f32)> {
    encoding.encoded_size(ternary.rows(), ternary.cols())?; // a shape of no whole blocks has no way out
    let (ternary, joined) = join(ternary, encoding, lossy)?;
    let are_half = encoding.scale_places().is_some_and(ScalePlaces::are_half);
    let rounded = if are_half { rounding(&ternary) } else { 0.0 };
    if rounded > HALF && !lossy {
        return Err(Error::Input(format!(
            "a scale changes by {:.2} % when it is rounded to the f16 of {encoding}; {WAY_OUT}",
            rounded * 100.0
        )));
    }
    let by_columns = matches!(encoding.scale_places(), Some(ScalePlaces::Columns(_)));
    let shares_number = by_columns && meanings(encoding.ggml_type()).len() > 1;
    if let Some(scale) =
        ternary.scale_values().map(stored(encoding)).find(|scale| shares_number && !is_plausible(*scale))
    {
        return Err(Error::Input(format!(
            "a scale of {scale}, which no trained model has: {encoding} shares its type number with other encodings, and by such a \
             scale readers take it for one of them; another encoding holds it"
        )));
    }
    Ok((ternary, if joined > 0.0 { joined + rounded } else { rounded }))
}

/// What becomes of a scale in an encoding.
pub(super) fn stored(encoding: Encoding) -> impl Fn(f32) -> f32 {
    let are_half = encoding.scale_places().is_some_and(ScalePlaces::are_half);
    move |scale| if are_half { f16::from_f32(scale).to_f32() } else { scale }
}

/// Columns of `cols` under one scale; 64 of Q2_0 are 128 here, as no model has more scales. None where it covers the tensor.
fn columns(encoding: Encoding, cols: usize) -> Option<usize> {
    match encoding.scale_places()? {
        ScalePlaces::Tensor | ScalePlaces::Beside => None,
        ScalePlaces::Rows { .. } => Some(padded(cols)),
        ScalePlaces::Columns(columns) => Some(columns.max(BLOCK)),
    }
}

fn join(ternary: Ternary, encoding: Encoding, lossy: bool) -> Result<(Ternary, f32)> {
    let (rows, cols) = (ternary.rows(), ternary.cols());
    let columns = match (ternary.scales(), columns(encoding, cols)) {
        (Scales::Tensor(_), _) | (Scales::Rows(_) | Scales::RowRanges(_), Some(_)) => return Ok((ternary, 0.0)),
        (_, columns) => columns,
    };
    let groups = cols.div_ceil(BLOCK);
    let together = columns.map_or(groups * rows, |columns| columns / BLOCK); // groups under one scale
    let (blocks, _) = ternary.codes().as_chunks::<BLOCK_BYTES>(); // [rows, groups]
    let scale = |group: usize| ternary.scale(group / groups, group % groups * BLOCK);
    let mut scales = Vec::with_capacity(blocks.len() / together);
    let mut largest = 0f32;
    for first in (0..blocks.len()).step_by(together) {
        let joined = join_groups(&blocks[first..first + together], |group| scale(first + group));
        if joined.error > 0.0 && !lossy {
            let (row, other) = (first / groups, (first + joined.differs) / groups);
            let what = columns.map_or_else(|| "the tensor".to_owned(), |columns| format!("{columns} columns"));
            return Err(Error::Input(format!(
                "{encoding} has one scale for {what}, but there are several: {} in row {row} and {} in row {other}; {WAY_OUT}",
                joined.first,
                scale(first + joined.differs),
            )));
        }
        largest = largest.max(joined.error);
        scales.push(joined.scale);
    }
    let scales = match columns {
        None => Scales::Tensor(scales[0]),
        Some(columns) => Scales::Groups { columns, values: scales },
    };
    Ok((Ternary::new(rows, cols, ternary.codes().clone(), scales)?, largest))
}

/// One scale for several groups of 128 columns.
struct Joined {
    scale: f32,
    /// The scale of the first group that has weights, and the group that differs from it most.
    first: f32,
    differs: usize,
    /// The largest relative change of a weight.
    error: f32,
}

/// The mean of the scales, each counted as often as it has weights: the least squared error. Groups of zeros have no say.
fn join_groups(blocks: &[[u8; BLOCK_BYTES]], scale: impl Fn(usize) -> f32) -> Joined {
    let mut used = blocks.iter().map(weights).enumerate().filter(|(_, count)| *count > 0).peekable();
    let Some(&(first, _)) = used.peek() else {
        return Joined { scale: scale(0), first: scale(0), differs: 0, error: 0.0 };
    };
    let (first, mut sum, mut count, mut is_one) = (scale(first), 0f64, 0u64, true);
    for (group, weights) in used {
        let scale = scale(group);
        is_one &= scale.to_bits() == first.to_bits();
        sum += f64::from(scale) * f64::from(weights);
        count += u64::from(weights);
    }
    if is_one {
        return Joined { scale: first, first, differs: 0, error: 0.0 };
    }
    let mean = (sum / count as f64) as f32;
    let (mut differs, mut error) = (0, f32::MIN_POSITIVE); // it is lossy, however little
    for (group, _) in blocks.iter().map(weights).enumerate().filter(|(_, count)| *count > 0) {
        let change = ((mean - scale(group)) / scale(group)).abs();
        if scale(group) != first && (change > error || differs == 0) {
            differs = group;
        }
        error = error.max(change);
    }
    Joined { scale: mean, first, differs, error }
}

/// Trits other than zero in 128 columns.
fn weights(block: &[u8; BLOCK_BYTES]) -> u32 {
    let nonzero = |byte: &u8| byte ^ ZERO_BYTE; // two bits that are not both 0 for each such trit
    block.iter().map(nonzero).map(|fields| ((fields | fields >> 1) & 0b01_01_01_01).count_ones()).sum()
}

/// The largest relative change of a scale that is rounded to f16.
fn rounding(ternary: &Ternary) -> f32 {
    let change = |scale: f32| if scale == 0.0 { 0.0 } else { ((f16::from_f32(scale).to_f32() - scale) / scale).abs() };
    ternary.scale_values().map(change).fold(0.0, f32::max)
}
