//! Embedding and head: trits stay trits where the encoding of the linear layers holds them, floats stay exact, and what
//! was rounded already is copied as it lies in the file; or all of it is rounded to an encoding that was asked for.

use bytes::Bytes;

use super::verify::same_table;
use super::{ConvertOptions, fit};
use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::format::encodings::{Encoding, I2sLayout};
use crate::format::{Values, Weights};
use crate::model::{Model, Role};

/// What a table becomes.
pub(super) struct Table {
    pub(super) encoding: Encoding,
    pub(super) way: Way,
    pub(super) decision: Decision,
}

/// How its bytes are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// As they lie in the model's file.
    Copied,
    /// Each value is held by the encoding; trits have scales within f16.
    Exact,
    /// Each value becomes the nearest that the encoding has.
    Rounded,
}

impl Table {
    pub(super) fn choose(model: &Model, role: Role, options: &ConvertOptions) -> Result<Self> {
        let subject = if role == Role::Head { "head" } else { "embedding" };
        let table = |encoding: Encoding, way, why: &str| Self {
            encoding,
            way,
            decision: Decision::new(subject, encoding.name(), why),
        };
        // A table that was rounded already is copied, also where it is asked for in the encoding that it has.
        let stored = model.stored(role).map(|(encoding, _)| encoding).filter(|encoding| !encoding.is_ternary());
        if let Some(encoding) = stored.filter(|encoding| options.embeddings.is_none_or(|tables| tables == *encoding))
            && (!encoding.is_float() || options.embeddings.is_some() || encoding == Encoding::F16)
        {
            return Ok(table(encoding, Way::Copied, "copied byte by byte"));
        }
        let weights = model.required(role)?;
        if let Some(encoding) = options.embeddings {
            let way = if is_exact(&weights, encoding) { Way::Exact } else { Way::Rounded };
            let why =
                if way == Way::Exact { "asked for; every value is exact" } else { "asked for; values are rounded" };
            return Ok(table(encoding, way, why));
        }
        if let Weights::Ternary(ternary) = &weights
            && options.linear != Encoding::I2S // bitnet.cpp reads tables of floats beside it
            && fit::fit(ternary.clone(), options.linear, false).is_ok()
        {
            return Ok(table(options.linear, Way::Exact, "it is ternary, and its scales fit"));
        }
        if is_exact(&weights, Encoding::F16) {
            return Ok(table(Encoding::F16, Way::Exact, "every value is exact in f16"));
        }
        let (encoding, why) = match &weights {
            Weights::Dense(dense) if matches!(dense.values(), Values::Bf16(_)) => {
                (Encoding::Bf16, "kept, as f16 would not be exact")
            }
            _ => (Encoding::F32, "f16 would not be exact"),
        };
        Ok(table(encoding, Way::Exact, why))
    }

    pub(super) fn bytes(&self, model: &Model, role: Role) -> Result<Bytes> {
        if self.way == Way::Copied {
            return model.stored(role).expect("it was there when the way was chosen").1.read_all();
        }
        let bytes = match model.required(role)? {
            Weights::Ternary(ternary) if self.encoding.is_ternary() => {
                self.encoding.encode(&Weights::Ternary(fit::fit(ternary, self.encoding, false)?.0))
            }
            weights => {
                let bytes = Bytes::from(self.encoding.encode(&weights)?);
                self.check_rounded(&weights, &bytes)?;
                return Ok(bytes);
            }
        };
        bytes.map(Bytes::from)
    }

    /// Refuses values that the encoding does not round but lose: its scales are f16, which end long before f32 does.
    fn check_rounded(&self, weights: &Weights, bytes: &Bytes) -> Result<()> {
        if self.way != Way::Rounded {
            return Ok(());
        }
        let found = self.encoding.decode(bytes, weights.rows(), weights.cols(), I2sLayout::default())?;
        match same_table(self, weights, &found) {
            true => Ok(()),
            false => Err(Error::Input(format!(
                "some of its values are too large or too small for the scales of {}; another encoding holds them",
                self.encoding
            ))),
        }
    }
}

/// Whether a float encoding holds every value.
fn is_exact(weights: &Weights, encoding: Encoding) -> bool {
    let mut values = vec![0.0; weights.cols()];
    (0..weights.rows()).all(|place| {
        weights.row_to_f32(place, &mut values);
        values.iter().all(|&value| encoding.holds(value))
    })
}
