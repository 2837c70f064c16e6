//! A look at a few places of a tensor: would they be sound if it had this encoding, and do they hold anything? Wrong readings of a block put other
//! bits where the scale is, and sooner or later a code that is no trit, so some tens of blocks tell with near
//! certainty.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::entry::Size;
use super::{Encoding, I2sLayout, ScalePlaces};
use crate::error::Result;
use crate::format::ranges::Section;
use crate::format::{Contents, Counts, Weights};

/// Magnitudes that a scale of a trained model may have, if it is not 0.
const PLAUSIBLE_SCALES: std::ops::RangeInclusive<f32> = 1e-6..=1e2;

impl Encoding {
    /// Looks at `count` places spread evenly over a ternary tensor `[rows, cols]` that has at least the bytes of this
    /// encoding, and reads no more of it. Says why the tensor cannot have this encoding.
    ///
    /// # Errors
    /// As [`Section::read`].
    pub(crate) fn sample(self, bytes: &Section, rows: usize, cols: usize, count: usize) -> Result<Option<String>> {
        let size = match self.size(rows, cols) {
            Ok(size) => size,
            Err(error) => return Ok(Some(error.to_string())),
        };
        let bytes = bytes.first(size);
        let places = |units: usize| {
            let count = count.min(units);
            // The product fits: there are at most some ten places, and units are no more than bytes.
            (0..count).map(move |i| i * (units - 1) / (count.max(2) - 1))
        };
        match &self.entry().size {
            &Size::Blocks { columns, bytes: block } => {
                for place in places(bytes.len() / block) {
                    let block = bytes.read(place * block..(place + 1) * block)?;
                    let why = match self.decode(&block, 1, columns, I2sLayout::default()) {
                        Ok(Weights::Ternary(ternary)) => implausible(ternary.scale(0, 0)),
                        Ok(Weights::Dense(_)) => return Ok(None),
                        Err(error) => Some(error.to_string()),
                    };
                    if why.is_some() {
                        return Ok(why);
                    }
                }
            }
            Size::Computed { look: Some(look), .. } => {
                let codes = (look.codes)(rows * cols, bytes.len());
                for place in places(codes / RUN) {
                    let run = bytes.read(place * RUN..(place + 1) * RUN)?;
                    if let Some(byte) = run.iter().find(|&&byte| (look.is_wrong)(byte)) {
                        return Ok(Some(format!("the byte {byte} is no trits")));
                    }
                }
            }
            Size::Computed { look: None, .. } => {}
        }
        Ok(None)
    }
}

/// What a look at the head, the middle and the tail of a tensor suspects. Only reading all of it can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suspicion {
    /// Every place holds zeros, or one value: so may all of it.
    Empty,
    /// Some place holds bytes of 0, as a file does where nothing was written yet.
    Blank,
}

/// Values that are looked at in one place, where there are blocks.
const VALUES: usize = 128;
/// Bytes that are looked at in one place, where there are none, and how many different ones weights of any kind exceed: of
/// two-bit trits there are 81, and a scale may be among them.
const WINDOW: (usize, usize) = (48, 6);

impl Encoding {
    /// Looks at the head, the middle and the tail of a tensor `[rows, cols]` that has at least the bytes of this encoding, and reads
    /// no more of it. The time it takes does not depend on the tensor's size.
    ///
    /// # Errors
    /// As [`Section::read`].
    pub(crate) fn suspect(self, bytes: &Section, rows: usize, cols: usize) -> Result<Option<Suspicion>> {
        let Ok(size) = self.size(rows, cols) else { return Ok(None) };
        let bytes = bytes.first(size);
        let &Size::Blocks { columns, bytes: block } = &self.entry().size else {
            // I2_S, TL1 and TL2 have their scale in front of the last 32 bytes.
            let has_tail = self.scale_places() == Some(ScalePlaces::Tensor) && (TAIL + 1..=bytes.len()).contains(&size);
            let codes = if has_tail { size - TAIL } else { bytes.len() };
            if has_tail {
                let tail = bytes.read(codes..size)?;
                if tail.first_chunk().is_some_and(|scale| f32::from_le_bytes(*scale) == 0.0) {
                    return Ok(Some(Suspicion::Empty));
                }
            }
            return suspect_codes(&bytes.first(codes));
        };
        let count = (VALUES.div_ceil(columns)).min(size / block);
        let is_uniform = |window: &Bytes| {
            let weights = self.decode(window, 1, count * columns, I2sLayout::default());
            let contents = weights.ok().and_then(|weights| Contents::of(&weights, &mut |_| ControlFlow::Continue(())));
            contents.is_some_and(|contents| match contents.values {
                Counts::Trits { .. } => contents.uniform_rows > 0,
                Counts::Floats { .. } => contents.is_zero(),
            })
        };
        Ok(judge(&windows(&bytes, count * block, block)?, is_uniform))
    }
}

/// The same, of codes in whatever order.
///
/// # Errors
/// As [`Section::read`].
pub(crate) fn suspect_codes(codes: &Section) -> Result<Option<Suspicion>> {
    let is_uniform = |window: &Bytes| {
        let mut seen = [false; 256];
        window.iter().for_each(|&byte| seen[usize::from(byte)] = true);
        seen.iter().filter(|seen| **seen).count() <= WINDOW.1
    };
    Ok(judge(&windows(codes, WINDOW.0, 1)?, is_uniform))
}

/// Head, middle and tail, of so many bytes each, that begin at multiples of a unit.
fn windows(bytes: &Section, length: usize, unit: usize) -> Result<[Bytes; 3]> {
    let length = length.min(bytes.len());
    let last = bytes.len() - length;
    let [head, middle, tail] =
        [0, last / 2 / unit * unit, last / unit * unit].map(|begin| bytes.read(begin..begin + length));
    Ok([head?, middle?, tail?])
}

fn judge(windows: &[Bytes; 3], is_uniform: impl Fn(&Bytes) -> bool) -> Option<Suspicion> {
    match () {
        () if windows.iter().all(is_uniform) => Some(Suspicion::Empty),
        () if windows.iter().any(|window| window.iter().all(|&byte| byte == 0)) => Some(Suspicion::Blank),
        () => None,
    }
}

/// Bytes of a tail with a scale.
const TAIL: usize = 32;

/// Bytes that are looked at in one place, where there are no blocks.
const RUN: usize = 32;

/// Whether a scale is one that a trained model may have.
pub(crate) fn is_plausible(scale: f32) -> bool {
    scale == 0.0 || PLAUSIBLE_SCALES.contains(&scale.abs())
}

fn implausible(scale: f32) -> Option<String> {
    (!is_plausible(scale)).then(|| format!("{scale} is no likely scale"))
}
