//! Weights of a checkpoint by role: whatever holds them, linear layers become trits and scales, the rest floats.

use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::format::encodings::absmean::absmean;
use crate::format::encodings::hidden::{Hidden, hidden_ternary};
use crate::format::encodings::{Encoding, Suspicion, float, mlx, packed_rows, suspect_codes};
use crate::format::safetensors::{Checkpoint, Dtype, StoredTensor};
use crate::format::{Dense, Scales, Values, Weights};
use crate::model::directory::named;
use crate::model::huggingface::config::{Form, WeightRule};
use crate::model::huggingface::tensors::Tensors;
use crate::model::huggingface::{head_order, names};
use crate::model::soundness::blank;
use crate::model::{Config, Part, Role, WeightSource};

/// Rows of an embedding or a head that are looked at when a model is opened.
const SAMPLE_ROWS: usize = 16;

/// A checkpoint whose tensors fit its config.
pub(super) struct DirectoryWeights {
    checkpoint: Checkpoint,
    config: Config,
    tensors: Tensors,
    rule: WeightRule,
    gains_less_one: bool,
    divisors: Vec<(Role, Vec<f32>)>, // of rotary frequencies, which config.json holds instead of a tensor
}

impl DirectoryWeights {
    pub(super) fn new(
        checkpoint: Checkpoint,
        config: Config,
        tensors: Tensors,
        rule: WeightRule,
        gains_less_one: bool,
        divisors: Vec<(Role, Vec<f32>)>,
    ) -> Self {
        Self { checkpoint, config, tensors, rule, gains_less_one, divisors }
    }

    /// A tensor that the search has found.
    fn stored(&self, stem: &str, ending: &str) -> &StoredTensor {
        self.checkpoint.tensor(&format!("{stem}{ending}")).expect("the tensors were found when the model was opened")
    }

    fn packed(&self, stem: &str, rows: usize, cols: usize) -> Result<Weights> {
        let stored = dense(self.stored(stem, ".weight_scale"), 1, 1)?.to_f32()[0];
        let factor = self.rule.factor(stored);
        if stored == 0.0 || !factor.is_finite() {
            return Err(Error::Malformed(format!("its weight_scale is {stored}")));
        }
        let scales = Scales::Tensor(factor);
        packed_rows::decode(&self.stored(stem, ".weight").data, rows, cols, scales).map(Weights::Ternary)
    }

    fn words(&self, role: Role, stem: &str, rows: usize, bits: usize, columns: usize) -> Result<Weights> {
        let (_, cols) = role.shape(&self.config);
        let (scales, biases) = (self.stored(stem, ".scales"), self.stored(stem, ".biases"));
        let groups = cols / columns;
        let integers = mlx::Integers {
            bits,
            columns,
            words: &self.stored(stem, ".weight").data[..rows * cols * bits / 8],
            scales: dense(scales, rows, groups)?,
            biases: dense(biases, rows, groups)?,
        };
        if role.is_dense() {
            return integers.dense(rows, cols).map(Weights::Dense);
        }
        match integers.ternary(rows, cols)? {
            Some(ternary) if role.is_linear() || self.is_ternary_throughout() => Ok(Weights::Ternary(ternary)),
            _ if role.is_linear() => Err(Error::Unsupported(format!(
                "integers of {bits} bits in groups of {columns} columns that are not ternary: that is 2 bits, codes 0 to 2, \
                 each bias = −scale, and one scale for each 128 columns"
            ))),
            _ => integers.dense(rows, cols).map(Weights::Dense),
        }
    }

    fn floats(&self, role: Role, stem: &str, rows: usize) -> Result<Weights> {
        let (_, cols) = role.shape(&self.config);
        let tensor = self.stored(stem, names::ending(role));
        let floats = dense(tensor, rows, cols)?;
        if role.is_linear() {
            if self.rule.rounds_floats {
                return absmean(&floats).map(Weights::Ternary);
            }
            return self.hidden(tensor, &floats).map(|hidden| Weights::Ternary(hidden.ternary));
        }
        if self.gains_less_one && is_gain_of_the_family(role) {
            let gains: Vec<u8> = floats.try_to_f32()?.iter().flat_map(|gain| (gain + 1.0).to_le_bytes()).collect();
            return Dense::new(rows, cols, Values::F32(gains.into())).map(Weights::Dense);
        }
        let may_be_ternary = role.may_be_ternary() && self.is_ternary_throughout();
        if may_be_ternary && let Some(hidden) = hidden_ternary(&floats)? {
            return Ok(Weights::Ternary(hidden.ternary));
        }
        Ok(Weights::Dense(floats))
    }

    /// Floats that must be trits already.
    fn hidden(&self, tensor: &StoredTensor, floats: &Dense) -> Result<Hidden> {
        hidden_ternary(floats)?.ok_or_else(|| {
            Error::Unsupported(format!(
                "a linear layer of {} values that are not ternary (0 or ± one scale for a tensor, a row or 128 columns), and \
                 config.json does not say how to round them (a quantization_config of quant_method bitnet, its mode online)",
                tensor.dtype
            ))
        })
    }

    /// What is found in a linear layer of floats that must be trits already; none where there are no such layers. A
    /// model of other floats is refused here, before anything is made for it.
    pub(super) fn probe(&self) -> Result<Option<Decision>> {
        // The smallest there is.
        let attends = (0..self.config.layers).find(|&layer| !self.config.is_recurrent(layer));
        let role = attends.map_or(Role::Layer(0, Part::DeltaOutput), |layer| Role::Layer(layer, Part::Key));
        let Some((stem, Form::Floats)) = self.tensors.place(role).filter(|_| !self.rule.rounds_floats) else {
            return Ok(None);
        };
        let (rows, cols) = role.shape(&self.config);
        let tensor = self.stored(stem, ".weight");
        let name = format!("{stem}.weight");
        let hidden = dense(tensor, rows, cols).and_then(|floats| self.hidden(tensor, &floats));
        let hidden = hidden.map_err(|error| named(&name, error))?;
        let choice = format!("hidden in {}: {hidden}", tensor.dtype);
        Ok(Some(Decision::new("ternary weights", choice, format!("found in \"{name}\", the smallest such layer"))))
    }

    /// What the embedding and the head seem to be, told by their first rows: to look at all of them would read a large
    /// part of the model twice.
    pub(super) fn samples(&self) -> Result<Vec<Decision>> {
        let mut decisions = Vec::new();
        for (role, subject) in [(Role::Embedding, "embedding"), (Role::Head, "head values")] {
            let Some((stem, form)) = self.tensors.place(role).filter(|_| self.is_ternary_throughout()) else {
                continue;
            };
            let rows = SAMPLE_ROWS.min(role.shape(&self.config).0);
            let name = format!("{stem}.weight");
            let sample = self.first_rows(role, stem, *form, rows).map_err(|error| named(&name, error))?;
            let (choice, why) = match sample {
                Weights::Ternary(_) => (
                    format!("trits and scales, if all rows are like the first {rows}, which are ternary; else floats"),
                    format!("the rest of \"{name}\" is looked at when it is loaded"),
                ),
                Weights::Dense(_) => ("floats".into(), format!("the first {rows} rows of \"{name}\" are not ternary")),
            };
            decisions.push(Decision::new(subject, choice, why));
        }
        Ok(decisions)
    }

    /// The first rows of a role's weights.
    fn first_rows(&self, role: Role, stem: &str, form: Form, rows: usize) -> Result<Weights> {
        match form {
            Form::Floats => self.floats(role, stem, rows),
            Form::Packed => {
                let (rows, cols) = role.shape(&self.config); // four rows lie in one: all or none
                self.packed(stem, rows, cols)
            }
            Form::Words { bits, columns } => self.words(role, stem, rows, bits, columns),
        }
    }

    /// BitNet models keep embeddings and heads in floats; in others they may be trits.
    fn is_ternary_throughout(&self) -> bool {
        !self.rule.is_bitnet()
    }
}

impl WeightSource for DirectoryWeights {
    fn weights(&self, role: Role) -> Result<Option<Weights>> {
        let (rows, cols) = role.shape(&self.config);
        if let Some((_, divisors)) = self.divisors.iter().find(|(place, _)| *place == role) {
            let values = Values::F32(float::encode_f32(divisors).into());
            return Dense::new(rows, cols, values).map(|divisors| Some(Weights::Dense(divisors)));
        }
        let Some((stem, form)) = self.tensors.place(role) else { return Ok(None) };
        let weights = self.first_rows(role, stem, *form, rows);
        let in_order = weights.and_then(|weights| head_order::in_order(role, weights, &self.config));
        in_order.map(Some).map_err(|error| named(&self.name(role), error))
    }

    fn has(&self, role: Role) -> bool {
        self.tensors.place(role).is_some() || self.divisors.iter().any(|(place, _)| *place == role)
    }

    fn suspect(&self, role: Role, rows: usize) -> Result<Option<Suspicion>> {
        let (Some((stem, form)), cols) = (self.tensors.place(role), role.shape(&self.config).1) else {
            return Ok(None);
        };
        let suspect = |tensor: &StoredTensor, rows, cols| match encoding(tensor) {
            Some(encoding) => encoding.suspect(&tensor.data.clone().into(), rows, cols),
            None => Ok(None),
        };
        let weight = self.stored(stem, ".weight");
        match *form {
            Form::Floats => suspect(weight, rows, cols),
            Form::Packed => suspect_codes(&weight.data.clone().into()),
            // Of words that look sound, the scales may be zero.
            Form::Words { bits, columns } => {
                let scales = suspect(self.stored(stem, ".scales"), 1, rows * (cols / columns))?;
                let words = suspect_codes(&weight.data.slice(..rows * cols * bits / 8).into())?;
                Ok(words.or(scales.filter(|suspicion| *suspicion == Suspicion::Empty)))
            }
        }
    }

    fn blank_bytes(&self, role: Role) -> Result<Option<usize>> {
        let Some((stem, form)) = self.tensors.place(role) else { return Ok(None) };
        Ok(blank(&self.stored(stem, ".weight").data, *form != Form::Floats))
    }

    fn name(&self, role: Role) -> String {
        let stored = |(stem, _): &(String, Form)| format!("{stem}{}", names::ending(role));
        self.tensors.place(role).map_or_else(|| role.gguf_name(), stored)
    }
}

/// Whether it is the gain of a norm that the family itself has, and not of one that was put before a linear layer.
fn is_gain_of_the_family(role: Role) -> bool {
    match role {
        Role::OutputNorm => true,
        // The norm of a delta net's outputs has plain gains.
        Role::Layer(_, part) => part.is_gain() && !part.is_input_norm() && part != Part::DeltaNorm,
        _ => false,
    }
}

/// The encoding of floats.
fn encoding(tensor: &StoredTensor) -> Option<Encoding> {
    match tensor.dtype {
        Dtype::F32 => Some(Encoding::F32),
        Dtype::F16 => Some(Encoding::F16),
        Dtype::BF16 => Some(Encoding::Bf16),
        _ => None,
    }
}

/// The first rows of floats, as they lie in the file.
pub(super) fn dense(tensor: &StoredTensor, rows: usize, cols: usize) -> Result<Dense> {
    let first = |width: usize| tensor.data.slice(..tensor.data.len().min(rows * cols * width));
    let values = match tensor.dtype {
        Dtype::F32 => Values::F32(first(4)),
        Dtype::F16 => Values::F16(first(2)),
        Dtype::BF16 => Values::Bf16(first(2)),
        other => return Err(Error::Unsupported(format!("{other} where floats are needed"))),
    };
    Dense::new(rows, cols, values)
}
