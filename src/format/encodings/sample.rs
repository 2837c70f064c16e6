//! A look at a few places of a tensor: would they be sound if it had this encoding? Wrong readings of a block put other
//! bits where the scale is, and sooner or later a code that is no trit, so some tens of blocks tell with near
//! certainty.

use bytes::Bytes;

use super::entry::Size;
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

/// Bytes that are looked at in one place, where there are no blocks.
const RUN: usize = 32;

fn plausible(scale: f32) -> Result<(), String> {
    let is_plausible = scale == 0.0 || PLAUSIBLE_SCALES.contains(&scale.abs());
    if is_plausible { Ok(()) } else { Err(format!("{scale} is no likely scale")) }
}
