//! The tensors of a checkpoint, held against the config before a weight is read: each role has its tensor, in a form
//! that can be brought to trits or floats, with the right shape, and no tensor is there that would be ignored.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::config::{Form, WeightRule};
use super::names::{self, IGNORED_ENDINGS};
use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::format::gguf::quoted;
use crate::format::safetensors::{Checkpoint, Dtype, StoredTensor};
use crate::model::config::Architecture;
use crate::model::huggingface::weights::dense;
use crate::model::{Config, Part, Role, padding};

/// Where the weights of each role are.
pub(super) struct Tensors {
    places: HashMap<Role, (String, Form)>, // the name without its ending
}

impl Tensors {
    /// Finds and checks all of them.
    pub(super) fn find(
        checkpoint: &Checkpoint,
        config: &Config,
        architecture: &'static Architecture,
        ties_head: bool,
    ) -> Result<Self> {
        let mut search = Search {
            checkpoint,
            config,
            prefix: names::prefix(checkpoint),
            architecture,
            used: HashSet::new(),
            found: Tensors { places: HashMap::new() },
        };
        search.take(Role::Embedding)?;
        search.take(Role::OutputNorm)?;
        if !ties_head {
            search.take(Role::Head)?;
        }
        for layer in 0..config.layers {
            // The count of layers is the file's claim; a missing layer ends this loop at once.
            for (part, _) in Part::ALL.iter().filter(|(part, _)| part.is_in(config, layer)) {
                search.take(Role::Layer(layer, *part))?;
            }
        }
        search.refuse_others(ties_head)?;
        Ok(search.found)
    }

    /// The name of a role's tensor without its ending, and its form.
    pub(super) fn place(&self, role: Role) -> Option<&(String, Form)> {
        self.places.get(&role)
    }

    /// The matrices that are trits or may be, as they are stored.
    pub(super) fn matrices<'a>(
        &'a self,
        checkpoint: &'a Checkpoint,
        config: &'a Config,
    ) -> impl Iterator<Item = padding::Stored<'a>> {
        self.places.iter().filter(|(role, _)| role.may_be_ternary()).filter_map(move |(role, (stem, _))| {
            let (rows, cols) = role.shape(config);
            let bytes = checkpoint.tensor(&format!("{stem}.weight"))?.data.len();
            Some(padding::Stored { name: stem, rows, cols, bytes })
        })
    }

    /// Refuses linear layers of which the config does not say what they are.
    pub(super) fn check_forms(&self, rule: WeightRule) -> Result<()> {
        self.linear_forms().into_iter().try_for_each(|form| rule.check(form))
    }

    fn linear_forms(&self) -> Vec<Form> {
        let forms: HashSet<Form> =
            self.places.iter().filter(|(role, _)| role.is_linear()).map(|(_, (_, form))| *form).collect();
        let mut forms: Vec<Form> = forms.into_iter().collect();
        forms.sort();
        forms
    }

    /// What was found, and what follows from it.
    pub(super) fn decisions(&self, checkpoint: &Checkpoint, rule: WeightRule) -> Vec<Decision> {
        let mut counts = BTreeMap::<String, usize>::new();
        for (_, tensor) in checkpoint.tensors() {
            *counts.entry(tensor.dtype.to_string()).or_default() += 1;
        }
        let counts: Vec<String> = counts.iter().map(|(dtype, count)| format!("{count} {dtype}")).collect();
        let why =
            format!("what the headers of {} say", if checkpoint.files() == 1 { "the file" } else { "the shards" });
        let mut decisions = vec![Decision::new("encodings", counts.join(", "), why)];
        decisions.extend(self.linear_forms().into_iter().map(|form| rule.decision(form)));
        decisions
    }
}

struct Search<'a> {
    checkpoint: &'a Checkpoint,
    config: &'a Config,
    prefix: &'static str,
    architecture: &'static Architecture,
    used: HashSet<String>,
    found: Tensors,
}

impl<'a> Search<'a> {
    /// Finds the tensor of a role that must be there, with all that belongs to it.
    fn take(&mut self, role: Role) -> Result<()> {
        let stems = names::stems(role, self.prefix, self.architecture.names);
        let ending = names::ending(role);
        let has_weight = |stem: &&String| self.checkpoint.tensor(&format!("{stem}{ending}")).is_some();
        let Some(stem) = stems.iter().find(has_weight).or(stems.first()) else {
            return Err(Error::Unsupported(format!("a {role:?}, which this version finds in GGUF files only")));
        };
        let form = self.form(role, stem)?;
        self.check_signs(role, stem)?;
        self.found.places.insert(role, (stem.clone(), form));
        Ok(())
    }

    /// Signs stand beside a matrix in a rotated basis, too.
    fn check_signs(&mut self, role: Role, stem: &str) -> Result<()> {
        let Some(hadamard) = &self.config.hadamard else { return Ok(()) };
        let is_rotated = match role {
            Role::Embedding => hadamard.embedding,
            Role::Head => hadamard.head,
            _ => role.is_linear(),
        };
        if !is_rotated || hadamard.signs.is_none() && self.checkpoint.tensor(&format!("{stem}.signs")).is_none() {
            return Ok(());
        }
        let wanted = hadamard.signs(role.shape(self.config).1);
        let signs = self.tensor(stem, ".signs")?;
        let is_same =
            signs.elements() == wanted.len() && is_float(signs) && dense(signs, 1, wanted.len())?.to_f32() == wanted;
        match is_same {
            true => Ok(()),
            false => Err(Error::Model(format!(
                "tensor \"{stem}.signs\" is {signs:?}, and not the {} signs of the basis",
                wanted.len()
            ))),
        }
    }

    fn form(&mut self, role: Role, stem: &str) -> Result<Form> {
        let (rows, cols) = role.shape(self.config);
        let weight = self.tensor(stem, names::ending(role))?;
        let wrong = |tensor: &StoredTensor, ending: &str, wanted: &str| {
            Error::Model(format!("tensor \"{stem}{ending}\" is {tensor:?}, but the config implies {wanted}"))
        };
        match weight.dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => {
                let is_convolution = matches!(role, Role::Layer(_, Part::DeltaConvolution));
                let fits = match () {
                    () if is_convolution => weight.shape == [rows, 1, cols] || weight.shape == [rows, cols],
                    () if rows == 1 => weight.elements() == cols,
                    () => weight.shape == [rows, cols],
                };
                let wanted = if rows == 1 { format!("[{cols}]") } else { format!("[{rows}, {cols}]") };
                if fits { Ok(Form::Floats) } else { Err(wrong(weight, names::ending(role), &wanted)) }
            }
            Dtype::U8 if role.is_linear() => {
                let packed = rows.div_ceil(4);
                if weight.shape != [packed, cols] {
                    return Err(wrong(weight, ".weight", &format!("[{packed}, {cols}], four of {rows} rows in one")));
                }
                let scale = self.tensor(stem, ".weight_scale")?;
                if scale.elements() != 1 || !is_float(scale) {
                    return Err(wrong(scale, ".weight_scale", "one float"));
                }
                Ok(Form::Packed)
            }
            Dtype::U32 if role.may_be_ternary() || role.is_dense() => {
                let (scales, biases) = (self.tensor(stem, ".scales")?, self.tensor(stem, ".biases")?);
                let words = weight.shape.get(1).copied().unwrap_or(0);
                let groups = scales.shape.get(1).copied().unwrap_or(0);
                let bits = (words * 32).checked_div(cols).unwrap_or(0);
                let columns = cols.checked_div(groups).unwrap_or(0);
                let divides = bits * cols == words * 32 && columns * groups == cols && matches!(bits, 2 | 4 | 8);
                if !divides || weight.shape != [rows, words] {
                    let wanted = format!("[{rows}, {cols}] integers of 2, 4 or 8 bits in words of 32");
                    return Err(wrong(weight, ".weight", &wanted));
                }
                for (tensor, ending) in [(scales, ".scales"), (biases, ".biases")] {
                    if tensor.shape != [rows, groups] || !is_float(tensor) || tensor.dtype != scales.dtype {
                        return Err(wrong(tensor, ending, &format!("[{rows}, {groups}] floats of one format")));
                    }
                }
                Ok(Form::Words { bits, columns })
            }
            other => Err(Error::Unsupported(format!(
                "tensor \"{stem}.weight\" holds {other}; this version reads floats, linear layers of packed trits (U8), and \
                 matrices as MLX quantises them (U32)"
            ))),
        }
    }

    /// A tensor that must be there; afterwards it counts as used.
    fn tensor(&mut self, stem: &str, ending: &str) -> Result<&'a StoredTensor> {
        let name = format!("{stem}{ending}");
        match self.checkpoint.tensor(&name) {
            Some(tensor) => {
                self.used.insert(name);
                Ok(tensor)
            }
            None => Err(Error::Model(format!("the tensor \"{name}\" is missing"))),
        }
    }

    /// A tensor that no role claims would silently change the output if it were ignored.
    fn refuse_others(&self, ties_head: bool) -> Result<()> {
        let head = names::stems(Role::Head, self.prefix, self.architecture.names).remove(0);
        for (name, _) in self.checkpoint.tensors() {
            let is_other_part = self.architecture.other_parts.iter().any(|begin| name.starts_with(begin));
            let is_ignored = is_other_part || IGNORED_ENDINGS.iter().any(|ending| name.ends_with(ending));
            // Where the head is tied, the embedding takes its place, as in the models' own code.
            let is_tied_head = ties_head && name.strip_prefix(&head).is_some_and(|rest| rest.starts_with('.'));
            if !self.used.contains(name) && !is_ignored && !is_tied_head {
                return Err(Error::Unsupported(format!(
                    "the tensor {} has no place in a {} model of {} layers as this version knows it",
                    quoted(name),
                    self.config.architecture,
                    self.config.layers
                )));
            }
        }
        Ok(())
    }
}

fn is_float(tensor: &StoredTensor) -> bool {
    matches!(tensor.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)
}
