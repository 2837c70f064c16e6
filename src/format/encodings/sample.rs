//! A look at a few places of a tensor: would they be sound if it had this encoding, and do they hold anything? Wrong readings of a block put other
//! bits where the scale is, and sooner or later a code that is no trit, so some tens of blocks tell with near
//! certainty.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::entry::Size;
use super::{Encoding, I2sLayout, ScalePlaces};
use crate::format::{Contents, Counts, Weights};

/// Magnitudes that a scale of a trained model may have, if it is not 0.
const PLAUSIBLE_SCALES: std::ops::RangeInclusive<f32> = 1e-6..=1e2;

impl Encoding {
    /// Looks at `count` places spread evenly over a ternary tensor `[rows, cols]` that has at least the bytes of this
    /// encoding; an error says what was found.
    pub(crate) fn sample(self, bytes: &Bytes, rows: usize, cols: usize, count: usize) -> Result<(), String> {
        let size = self.size(rows, cols).map_err(|error| error.to_string())?;
        let bytes = bytes.slice(..size.min(bytes.len()));
        let places = |units: usize| {
            let count = count.min(units);
            // The product fits: there are at most some ten places, and units are no more than bytes.
            (0..count).map(move |i| i * (units - 1) / (count.max(2) - 1))
        };
        match &self.entry().size {
            &Size::Blocks { columns, bytes: block } => {
                for place in places(bytes.len() / block) {
                    let block = bytes.slice(place * block..(place + 1) * block);
                    let weights =
                        self.decode(&block, 1, columns, I2sLayout::default()).map_err(|error| error.to_string())?;
                    let Weights::Ternary(ternary) = weights else { return Ok(()) };
                    plausible(ternary.scale(0, 0))?;
                }
            }
            Size::Computed { look: Some(look), .. } => {
                let codes = (look.codes)(rows * cols, bytes.len());
                let runs = places(codes / RUN).map(|place| &bytes[place * RUN..(place + 1) * RUN]);
                if let Some(byte) = runs.flatten().find(|&&byte| (look.is_wrong)(byte)) {
                    return Err(format!("the byte {byte} is no trits"));
                }
            }
            Size::Computed { look: None, .. } => {}
        }
        Ok(())
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
    /// Looks at the head, the middle and the tail of a tensor `[rows, cols]` that has at least the bytes of this encoding. The
    /// time it takes does not depend on the tensor's size.
    pub(crate) fn suspect(self, bytes: &Bytes, rows: usize, cols: usize) -> Option<Suspicion> {
        let size = self.size(rows, cols).ok()?;
        let bytes = bytes.slice(..size.min(bytes.len()));
        let &Size::Blocks { columns, bytes: block } = &self.entry().size else {
            // I2_S, TL1 and TL2 have their scale in front of the last 32 bytes.
            let has_tail = self.scale_places() == Some(ScalePlaces::Tensor) && size > TAIL;
            let (codes, tail) = bytes.split_at(if has_tail { size - TAIL } else { size });
            let is_unscaled = tail.first_chunk().is_some_and(|scale| f32::from_le_bytes(*scale) == 0.0);
            return if is_unscaled { Some(Suspicion::Empty) } else { suspect_codes(codes) };
        };
        let count = (VALUES.div_ceil(columns)).min(size / block);
        let is_uniform = |window: &[u8]| {
            let weights = self.decode(&bytes.slice_ref(window), 1, count * columns, I2sLayout::default());
            let contents = weights.ok().and_then(|weights| Contents::of(&weights, &mut |_| ControlFlow::Continue(())));
            contents.is_some_and(|contents| match contents.values {
                Counts::Trits { .. } => contents.uniform_rows > 0,
                Counts::Floats { .. } => contents.is_zero(),
            })
        };
        judge(&windows(&bytes, count * block, block), is_uniform)
    }
}

/// The same, of codes in whatever order.
pub(crate) fn suspect_codes(codes: &[u8]) -> Option<Suspicion> {
    let is_uniform = |window: &[u8]| {
        let mut seen = [false; 256];
        window.iter().for_each(|&byte| seen[usize::from(byte)] = true);
        seen.iter().filter(|seen| **seen).count() <= WINDOW.1
    };
    judge(&windows(codes, WINDOW.0, 1), is_uniform)
}

/// Head, middle and tail, of so many bytes each, that begin at multiples of a unit.
fn windows(bytes: &[u8], length: usize, unit: usize) -> [&[u8]; 3] {
    let length = length.min(bytes.len());
    let last = bytes.len() - length;
    [0, last / 2 / unit * unit, last / unit * unit].map(|begin| &bytes[begin..begin + length])
}

fn judge(windows: &[&[u8]; 3], is_uniform: impl Fn(&[u8]) -> bool) -> Option<Suspicion> {
    match () {
        () if windows.iter().all(|window| is_uniform(window)) => Some(Suspicion::Empty),
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

fn plausible(scale: f32) -> Result<(), String> {
    if is_plausible(scale) { Ok(()) } else { Err(format!("{scale} is no likely scale")) }
}
