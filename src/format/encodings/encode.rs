//! Writing weights in an encoding, for converters: ternary encodings without loss, dense ones by rounding.

use half::f16;

use super::{
    Encoding, I2sLayout, float, i2_s, iq1_bn, iq2_bn, ptq1_0, q2_0, q6_k, q8_0, stq1_0, tl1, tl2, tq1_0, tq2_0, vlut,
};
use crate::error::{Error, Result};
use crate::format::{Dense, Scales, Ternary, Values, Weights};

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
        match (self, weights) {
            (Encoding::F32 | Encoding::F16 | Encoding::Bf16 | Encoding::Q8_0 | Encoding::Q6K, _) => {
                self.encode_dense(weights)
            }
            (_, Weights::Ternary(ternary)) if self.is_ternary() => self.encode_ternary(ternary),
            (_, Weights::Dense(_)) if self.is_ternary() => {
                Err(Error::Input(format!("{self} stores trits, but these weights are dense")))
            }
            _ => Err(Error::Input(format!("{self} is read but not written; F16, Q8_0 and Q6_K are"))),
        }
    }

    fn encode_ternary(self, weights: &Ternary) -> Result<Vec<u8>> {
        match self {
            Encoding::I2S => i2_s::encode(weights, I2sLayout::default()),
            Encoding::Tq1_0 => tq1_0::encode(weights),
            Encoding::Tq2_0 => tq2_0::encode(weights),
            Encoding::Q2_0 | Encoding::Pq2_0 => q2_0::encode(self, weights),
            Encoding::Ptq1_0 => ptq1_0::encode(weights),
            Encoding::Iq1Bn => iq1_bn::encode(weights),
            Encoding::Iq2Bn | Encoding::Iq2BnR4 => iq2_bn::encode(self, weights),
            Encoding::Stq1_0 => stq1_0::encode(weights),
            Encoding::Tl1(_) => tl1::encode(self, weights),
            Encoding::Tl2(_) => tl2::encode(self, weights),
            _ => vlut::encode(self, weights),
        }
    }

    fn encode_dense(self, weights: &Weights) -> Result<Vec<u8>> {
        let (rows, cols) = (weights.rows(), weights.cols());
        let mut bytes = Vec::with_capacity(self.encoded_size(rows, cols)?);
        if let (Encoding::Q8_0, Weights::Dense(dense)) = (self, weights)
            && let Some(bytes) = same_q8_0(dense)
        {
            return Ok(bytes);
        }
        let mut values = vec![0.0; cols]; // a row at a time, because a whole embedding as f32 is gigabytes
        for row in 0..rows {
            match weights {
                Weights::Dense(dense) => dense.row_to_f32(row, &mut values),
                Weights::Ternary(ternary) => {
                    for (col, (value, trit)) in values.iter_mut().zip(ternary.row_trits(row)).enumerate() {
                        *value = f32::from(trit) * ternary.scale(row, col);
                    }
                }
            }
            let limit = match self {
                Encoding::F16 => f16::MAX.to_f32(),
                _ => f32::MAX,
            };
            if let Some(value) = values.iter().find(|value| value.is_nan() || value.abs() > limit) {
                return Err(Error::Input(format!("{self}: the value {value} in row {row} is out of its range")));
            }
            bytes.extend(match self {
                Encoding::F32 => float::encode_f32(&values),
                Encoding::F16 => float::encode_f16(&values),
                Encoding::Bf16 => float::encode_bf16(&values),
                Encoding::Q8_0 => q8_0::quantize(&values)?,
                _ => q6_k::quantize(&values)?,
            });
        }
        Ok(bytes)
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

/// The same integers and scales, if they are those of Q8_0.
fn same_q8_0(dense: &Dense) -> Option<Vec<u8>> {
    let Values::Int8 { columns: q8_0::COLUMNS, codes, scales } = dense.values() else { return None };
    let halves: Vec<f16> = scales.iter().map(|&scale| f16::from_f32(scale)).collect();
    let is_exact = halves.iter().zip(scales).all(|(half, scale)| half.to_f32() == *scale);
    is_exact.then(|| q8_0::encode(bytemuck::cast_slice(codes), &halves))
}
