//! A look at a few places of a tensor: would they be sound if it had this encoding? Wrong readings of a block put other
//! bits where the scale is, and sooner or later a code that is no trit, so some tens of blocks tell with near
//! certainty.

use bytes::Bytes;

use super::{Encoding, I2sLayout};
use crate::format::Weights;

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
        if let Some((columns, block)) = self.block() {
            for place in places(bytes.len() / block) {
                let block = bytes.slice(place * block..(place + 1) * block);
                let weights =
                    self.decode(&block, 1, columns, I2sLayout::default()).map_err(|error| error.to_string())?;
                let Weights::Ternary(ternary) = weights else { return Ok(()) };
                plausible(ternary.scale(0, 0))?;
            }
            return Ok(());
        }
        let is_wrong: fn(u8) -> bool = match self {
            Encoding::I2V | Encoding::I2V4 | Encoding::I2V8 => |byte| byte >= 81,
            Encoding::Tl1(_) => |byte| byte >> 4 > 8 || byte & 15 > 8,
            Encoding::Tl2(_) => |byte| byte >> 4 > 13 || byte & 15 > 13,
            _ => |_| false,
        };
        // Of TL2, only the first half are magnitudes of triples for certain.
        let codes = if matches!(self, Encoding::Tl2(_)) { bytes.len() / 2 } else { rows * cols / 4 };
        let runs = places(codes / RUN).map(|place| &bytes[place * RUN..(place + 1) * RUN]);
        match runs.flatten().find(|&&byte| is_wrong(byte)) {
            Some(byte) => Err(format!("the byte {byte} is no trits")),
            None => Ok(()),
        }
    }
}

/// Bytes that are looked at in one place, where there are no blocks.
const RUN: usize = 32;

fn plausible(scale: f32) -> Result<(), String> {
    let is_plausible = scale == 0.0 || PLAUSIBLE_SCALES.contains(&scale.abs());
    if is_plausible { Ok(()) } else { Err(format!("{scale} is no likely scale")) }
}
