//! Writing weights in an encoding, for converters: ternary encodings without loss, dense ones by rounding.

use super::Encoding;
use super::entry::{DenseEncoder, Kind};
use crate::error::{Error, Result};
use crate::format::{Scales, Ternary, Weights};

impl Encoding {
    /// The bytes of `weights` in this encoding; the inverse of [`decode`](Self::decode).
    ///
    /// Trits are kept, or refused. A scale is kept too, except that encodings with f16 scales round it to the nearest.
    /// F16, BF16, Q8_0 and Q6_K round weights to the nearest they have; what was decoded from Q8_0 becomes the same
    /// Q8_0 again. I2_S is written in the layout of published files.
    ///
    /// # Errors
    /// [`Error::Input`], saying why, if the encoding cannot hold these weights: a shape that is no whole blocks, more
    /// scales than it has places for, floats in a ternary encoding, a value out of its range; or if this version does
    /// not write it.
    pub fn encode(self, weights: &Weights) -> Result<Vec<u8>> {
        match (&self.entry().kind, weights) {
            (Kind::Ternary { encode, .. }, Weights::Ternary(ternary)) => encode(self, ternary),
            (Kind::Ternary { .. }, Weights::Dense(_)) => {
                Err(Error::Input(format!("{self} stores trits, but these weights are dense")))
            }
            (Kind::Dense { encoder: Some(encoder), .. }, _) => (encoder.encode)(self, weights),
            (Kind::Dense { encoder: None, .. }, _) => {
                Err(Error::Input(format!("{self} is read but not written; F16, Q8_0 and Q6_K are")))
            }
        }
    }

    /// Whether it has a place for exactly this value, whatever stands beside it.
    pub(crate) fn holds(self, value: f32) -> bool {
        self.dense_encoder().and_then(|encoder| encoder.holds).is_some_and(|holds| holds(value))
    }

    /// Whether each value is a float of its own.
    pub(crate) fn is_float(self) -> bool {
        self.dense_encoder().is_some_and(|encoder| encoder.holds.is_some())
    }

    /// The largest change of a value by rounding, relative to the largest of its row, if it is dense and written.
    pub(crate) fn largest_change(self) -> Option<f32> {
        self.dense_encoder().map(|encoder| encoder.largest_change)
    }

    fn dense_encoder(self) -> Option<&'static DenseEncoder> {
        match &self.entry().kind {
            Kind::Ternary { .. } => None,
            Kind::Dense { encoder, .. } => encoder.as_ref(),
        }
    }

    /// [`size`](Self::size), for weights of the caller.
    pub(crate) fn encoded_size(self, rows: usize, cols: usize) -> Result<usize> {
        self.size(rows, cols).map_err(|error| match error {
            Error::Malformed(text) | Error::Unsupported(text) => Error::Input(text),
            other => other,
        })
    }

    /// The one scale of `weights`, which is 1 where this encoding has no place for it.
    pub(super) fn tensor_scale(self, weights: &Ternary) -> Result<f32> {
        match weights.scales() {
            &Scales::Tensor(scale) if self.holds_scale() || scale == 1.0 => Ok(scale),
            Scales::Tensor(scale) => Err(Error::Input(format!(
                "{self} has no place for the scale {scale}: store it beside the tensor and encode the trits with scale 1"
            ))),
            _ => Err(Error::Input(format!("{self} has one scale for a tensor, but these weights have several"))),
        }
    }
}

/// Encodes weights of any kind by rows, because a whole embedding as f32 is gigabytes. `largest` is the largest magnitude
/// that the encoding has; `encode_row` gets the values of a row.
pub(super) fn encode_rows(
    encoding: Encoding,
    weights: &Weights,
    largest: f32,
    encode_row: impl Fn(&[f32]) -> Result<Vec<u8>>,
) -> Result<Vec<u8>> {
    let (rows, cols) = (weights.rows(), weights.cols());
    let mut bytes = Vec::with_capacity(encoding.encoded_size(rows, cols)?);
    let mut values = vec![0.0; cols];
    for row in 0..rows {
        weights.row_to_f32(row, &mut values);
        if let Some(value) = values.iter().find(|value| value.is_nan() || value.abs() > largest) {
            return Err(Error::Input(format!("{encoding}: the value {value} in row {row} is out of its range")));
        }
        bytes.extend(encode_row(&values)?);
    }
    Ok(bytes)
}
