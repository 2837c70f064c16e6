//! The form of weights that are not ternary: embeddings, heads and norms, in the precision of their file.

use bytes::Bytes;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::allocation::filled;
use crate::error::{Error, Result};

/// Dense weights `[rows, cols]`. Cheap to clone where the values lie in the map of a file.
#[derive(Clone, Debug)]
pub struct Dense {
    rows: usize,
    cols: usize,
    values: Values,
}

/// The values of a [`Dense`], row by row, little-endian, without padding. Byte slices need not be aligned.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Values {
    /// `[rows, cols]` f32, 4 bytes each.
    F32(Bytes),
    /// `[rows, cols]` IEEE half precision, 2 bytes each.
    F16(Bytes),
    /// `[rows, cols]` bfloat16, 2 bytes each.
    Bf16(Bytes),
    /// int8 times a scale for each group of `columns` consecutive columns; `cols` is a multiple of `columns`.
    /// Q8_0 (32 columns) and Q6_K (16 columns, values −32..=31) are this without loss.
    Int8 {
        /// Columns a scale covers.
        columns: usize,
        /// `[rows, cols]` int8.
        codes: Bytes,
        /// `[rows, cols / columns]`, finite.
        scales: Vec<f32>,
    },
}

impl Dense {
    /// Takes values whose sizes fit the shape.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the sizes disagree, a scale is not finite, or a shape is empty.
    pub fn new(rows: usize, cols: usize, values: Values) -> Result<Self> {
        let count = rows.checked_mul(cols).filter(|&n| n > 0);
        let (bytes, wanted) = match &values {
            Values::F32(bytes) => (bytes.len(), count.and_then(|n| n.checked_mul(4))),
            Values::F16(bytes) | Values::Bf16(bytes) => (bytes.len(), count.and_then(|n| n.checked_mul(2))),
            Values::Int8 { columns, codes, scales } => {
                let grouped = *columns > 0 && cols.is_multiple_of(*columns) && scales.len() == rows * (cols / columns);
                if !grouped || !scales.iter().all(|s| s.is_finite()) {
                    return Err(Error::Malformed(format!(
                        "int8 weights [{rows}, {cols}]: {} scales for groups of {columns}, or one is not finite",
                        scales.len()
                    )));
                }
                (codes.len(), count)
            }
        };
        if wanted != Some(bytes) {
            return Err(Error::Malformed(format!(
                "dense weights [{rows}, {cols}] need {wanted:?} bytes, but there are {bytes}"
            )));
        }
        Ok(Self { rows, cols, values })
    }

    /// The first `rows` rows, at least one; all if there are no more. Values are not copied.
    pub(crate) fn first_rows(self, rows: usize) -> Self {
        if rows >= self.rows {
            return self;
        }
        let places = rows * self.cols;
        let values = match self.values {
            Values::F32(bytes) => Values::F32(bytes.slice(..places * 4)),
            Values::F16(bytes) => Values::F16(bytes.slice(..places * 2)),
            Values::Bf16(bytes) => Values::Bf16(bytes.slice(..places * 2)),
            Values::Int8 { columns, codes, mut scales } => {
                scales.truncate(places / columns);
                Values::Int8 { columns, codes: codes.slice(..places), scales }
            }
        };
        Self { rows, cols: self.cols, values }
    }

    /// The same values, which lie where `place` puts them.
    pub(crate) fn placed(&self, place: &mut dyn FnMut(&Bytes) -> Bytes) -> Self {
        let values = match &self.values {
            Values::F32(bytes) => Values::F32(place(bytes)),
            Values::F16(bytes) => Values::F16(place(bytes)),
            Values::Bf16(bytes) => Values::Bf16(place(bytes)),
            Values::Int8 { columns, codes, scales } => {
                Values::Int8 { columns: *columns, codes: place(codes), scales: scales.clone() }
            }
        };
        Self { rows: self.rows, cols: self.cols, values }
    }

    /// Output features.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Input features.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The values as they are stored.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// Writes one row as f32 to `out` (`[cols]`).
    pub fn row_to_f32(&self, row: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.cols);
        self.columns_to_f32(row, 0, out);
    }

    /// Writes some columns of a row, from `first` on, as f32 to `out`.
    pub(crate) fn columns_to_f32(&self, row: usize, first: usize, out: &mut [f32]) {
        assert!(first + out.len() <= self.cols);
        let places = row * self.cols + first..row * self.cols + first + out.len();
        match &self.values {
            Values::F32(bytes) => {
                let bytes = &bytes[places.start * 4..places.end * 4];
                for (o, b) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *o = f32::from_le_bytes(*b);
                }
            }
            Values::F16(bytes) => {
                let bytes = &bytes[places.start * 2..places.end * 2];
                match bytemuck::try_cast_slice::<u8, f16>(bytes) {
                    // The crate's vectors.
                    Ok(halves) if cfg!(target_endian = "little") => halves.convert_to_f32_slice(out),
                    _ => {
                        for (o, b) in out.iter_mut().zip(bytes.as_chunks().0) {
                            *o = f16::from_le_bytes(*b).to_f32();
                        }
                    }
                }
            }
            Values::Bf16(bytes) => {
                for (o, b) in out.iter_mut().zip(bytes[places.start * 2..places.end * 2].as_chunks().0) {
                    *o = bf16::from_le_bytes(*b).to_f32();
                }
            }
            Values::Int8 { columns, codes, scales } => {
                for (i, (o, &code)) in out.iter_mut().zip(&codes[places.clone()]).enumerate() {
                    *o = code as i8 as f32 * scales[(places.start + i) / columns];
                }
            }
        }
    }

    /// All values as f32, row by row.
    ///
    /// # Panics
    /// If there is no memory for them.
    pub fn to_f32(&self) -> Vec<f32> {
        self.try_to_f32().expect("memory for all values of a tensor as f32")
    }

    /// [`Dense::to_f32`] of a tensor whose size a file decides.
    ///
    /// # Errors
    /// [`Error::Device`] if there is no memory for the values.
    pub(crate) fn try_to_f32(&self) -> Result<Vec<f32>> {
        let mut out = filled(self.rows * self.cols, 0.0)?;
        for (row, out) in out.chunks_exact_mut(self.cols).enumerate() {
            self.row_to_f32(row, out);
        }
        Ok(out)
    }
}
