//! Weights of a checkpoint by role: whatever holds them, linear layers become trits and scales, the rest floats.

use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::format::encodings::absmean::absmean;
use crate::format::encodings::hidden::{Hidden, hidden_ternary};
use crate::format::encodings::{mlx, packed_rows};
use crate::format::safetensors::{Checkpoint, Dtype, StoredTensor};
use crate::format::{Dense, Scales, Values, Weights};
use crate::model::directory::named;
use crate::model::huggingface::config::WeightRule;
use crate::model::huggingface::tensors::{Form, Tensors};
use crate::model::{Config, Part, Role, WeightSource};

/// A checkpoint whose tensors fit its config.
pub(super) struct DirectoryWeights {
    checkpoint: Checkpoint,
    config: Config,
    tensors: Tensors,
    rule: WeightRule,
    gains_less_one: bool,
}

impl DirectoryWeights {
    pub(super) fn new(
        checkpoint: Checkpoint,
        config: Config,
        tensors: Tensors,
        rule: WeightRule,
        gains_less_one: bool,
    ) -> Self {
        Self { checkpoint, config, tensors, rule, gains_less_one }
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

    fn words(&self, role: Role, stem: &str, bits: usize, columns: usize) -> Result<Weights> {
        let (rows, cols) = role.shape(&self.config);
        let (scales, biases) = (self.stored(stem, ".scales"), self.stored(stem, ".biases"));
        let groups = cols / columns;
        let integers = mlx::Integers {
            bits,
            columns,
            words: &self.stored(stem, ".weight").data,
            scales: dense(scales, rows, groups)?,
            biases: dense(biases, rows, groups)?,
        };
        match integers.ternary(rows, cols)? {
            Some(ternary) if role.is_linear() || self.is_ternary_throughout() => Ok(Weights::Ternary(ternary)),
            _ if role.is_linear() => Err(Error::Unsupported(format!(
                "integers of {bits} bits in groups of {columns} columns that are not ternary (bias = −scale, codes 0 to 2, \
                 groups of a multiple of 128)"
            ))),
            _ => integers.dense(rows, cols).map(Weights::Dense),
        }
    }

    fn floats(&self, role: Role, stem: &str) -> Result<Weights> {
        let (rows, cols) = role.shape(&self.config);
        let tensor = self.stored(stem, ".weight");
        let floats = dense(tensor, rows, cols)?;
        if role.is_linear() {
            if self.rule.rounds_floats {
                return absmean(&floats).map(Weights::Ternary);
            }
            return self.hidden(tensor, &floats).map(|hidden| Weights::Ternary(hidden.ternary));
        }
        if self.gains_less_one && is_gain_of_the_family(role) {
            let gains: Vec<u8> = floats.to_f32().iter().flat_map(|gain| (gain + 1.0).to_le_bytes()).collect();
            return Dense::new(rows, cols, Values::F32(gains.into())).map(Weights::Dense);
        }
        let may_be_ternary = role.may_be_ternary() && self.is_ternary_throughout();
        match may_be_ternary.then(|| hidden_ternary(&floats)).flatten() {
            Some(hidden) => Ok(Weights::Ternary(hidden.ternary)),
            None => Ok(Weights::Dense(floats)),
        }
    }

    /// Floats that must be trits already.
    fn hidden(&self, tensor: &StoredTensor, floats: &Dense) -> Result<Hidden> {
        hidden_ternary(floats).ok_or_else(|| {
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
        let role = Role::Layer(0, Part::Key); // the smallest
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

    /// BitNet models keep embeddings and heads in floats; in others they may be trits.
    fn is_ternary_throughout(&self) -> bool {
        !self.rule.is_bitnet()
    }
}

impl WeightSource for DirectoryWeights {
    fn weights(&self, role: Role) -> Result<Option<Weights>> {
        let Some((stem, form)) = self.tensors.place(role) else { return Ok(None) };
        let (rows, cols) = role.shape(&self.config);
        let weights = match *form {
            Form::Floats => self.floats(role, stem),
            Form::Packed => self.packed(stem, rows, cols),
            Form::Words { bits, columns } => self.words(role, stem, bits, columns),
        };
        weights.map(Some).map_err(|error| named(&format!("{stem}.weight"), error))
    }

    fn name(&self, role: Role) -> String {
        self.tensors.place(role).map_or_else(|| role.gguf_name(), |(stem, _)| format!("{stem}.weight"))
    }
}

/// Whether it is the gain of a norm that the family itself has, and not of one that was put before a linear layer.
fn is_gain_of_the_family(role: Role) -> bool {
    match role {
        Role::OutputNorm => true,
        Role::Layer(_, part) => !part.is_linear() && !part.is_input_norm(),
        _ => false,
    }
}

/// Floats as they lie in the file.
fn dense(tensor: &StoredTensor, rows: usize, cols: usize) -> Result<Dense> {
    let bytes = tensor.data.clone();
    let values = match tensor.dtype {
        Dtype::F32 => Values::F32(bytes),
        Dtype::F16 => Values::F16(bytes),
        Dtype::BF16 => Values::Bf16(bytes),
        other => return Err(Error::Unsupported(format!("{other} where floats are needed"))),
    };
    Dense::new(rows, cols, values)
}
