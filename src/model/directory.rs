//! The tensor directory of a file, held against the config before a weight is read: every tensor that is needed is
//! there, with the right shape, type and bytes, and none is there that would be ignored.

use crate::error::{Error, Result};
use crate::format::gguf::{Encodings, Gguf, TensorInfo, quoted};
use crate::model::{Config, Part, Role};

/// Tensors that older converters wrote and no forward pass needs.
const IGNORED_ENDINGS: [&str; 1] = [".attn_rot_embd.weight"];

/// The vocabulary is what the embedding says it is: some files have more rows than tokens.
pub(super) fn embedding_rows(gguf: &Gguf) -> Result<usize> {
    let name = Role::Embedding.gguf_name();
    match gguf.tensor(&name).map(|info| info.shape.as_slice()) {
        Some(&[_, rows]) => Ok(rows),
        Some(shape) => Err(Error::Model(format!("tensor \"{name}\" is {}, not a matrix", shape_text(shape)))),
        None => Err(Error::Model(format!("the tensor \"{name}\" is missing"))),
    }
}

/// Holds the whole directory against the config.
pub(super) fn check(gguf: &Gguf, encodings: &Encodings, config: &Config) -> Result<()> {
    let drafters = Config::drafters(gguf.metadata())?;
    let directory = Directory { gguf, encodings, config, drafters };
    directory.check_roles([Role::Embedding, Role::OutputNorm].into_iter(), true)?;
    directory.check_roles([Role::Head].into_iter(), config.mixture.is_some())?;
    let optional = [Role::RopeFactors, Role::ShortRopeFactors, Role::LongRopeFactors];
    directory.check_roles(optional.into_iter(), false)?;
    for layer in 0..config.layers {
        // The count of layers is the file's claim; a missing layer ends this loop at once.
        let parts = Part::ALL.iter().filter(|(part, _)| part.is_in(config, layer));
        directory.check_roles(parts.map(|&(part, _)| Role::Layer(layer, part)), true)?;
    }
    gguf.tensors().iter().try_for_each(|info| directory.check_known(info))
}

struct Directory<'a> {
    gguf: &'a Gguf,
    encodings: &'a Encodings,
    config: &'a Config,
    /// Blocks behind the layers, of which nothing is read.
    drafters: usize,
}

impl Directory<'_> {
    fn check_roles(&self, roles: impl Iterator<Item = Role>, required: bool) -> Result<()> {
        for role in roles {
            let name = role.gguf_name();
            match self.gguf.tensor(&name) {
                Some(info) => self.check_tensor(info, role)?,
                None if required => return Err(Error::Model(format!("the tensor \"{name}\" is missing"))),
                None => {}
            }
        }
        Ok(())
    }

    fn check_tensor(&self, info: &TensorInfo, role: Role) -> Result<()> {
        let ((rows, cols), matrices) = (role.shape(self.config), role.matrices(self.config));
        let fits = match info.shape.as_slice() {
            [c] => rows == 1 && *c == cols,
            [c, r] => matrices == 1 && *c == cols && *r == rows,
            [c, r, m] => matrices > 1 && *m == matrices && *c == cols && *r * *m == rows,
            _ => false,
        };
        if !fits {
            let wanted = match () {
                () if matrices > 1 => shape_text(&[cols, rows / matrices, matrices]),
                () if rows == 1 => shape_text(&[cols]),
                () => shape_text(&[cols, rows]),
            };
            return Err(Error::Model(format!(
                "tensor \"{}\" is {}, but the config implies {wanted} (input features first)",
                info.name,
                shape_text(&info.shape)
            )));
        }
        self.check_encoding(info, rows, cols, role.may_be_ternary())
    }

    /// The type is known, its bytes are there, and it is not ternary where the network needs numbers of many values.
    fn check_encoding(&self, info: &TensorInfo, rows: usize, cols: usize, may_be_ternary: bool) -> Result<()> {
        let in_tensor = |error| named(&info.name, error);
        let encoding = self.encodings.of(info.type_id).map_err(in_tensor)?;
        if encoding.is_ternary() && !may_be_ternary {
            return Err(in_tensor(Error::Model(format!("it is ternary ({encoding}), and no matrix"))));
        }
        if !encoding.holds_scale() && self.gguf.scale_beside(&info.name).is_none() {
            let text = format!("it is {encoding}, which holds no scale, and none is beside it (\"….scale\")");
            return Err(in_tensor(Error::Model(text)));
        }
        let size = encoding.size(rows, cols).map_err(in_tensor)?;
        if size > info.span {
            return Err(Error::Malformed(format!(
                "tensor \"{}\" needs {size} bytes, but only {} lie before the next tensor or the end of the file",
                info.name, info.span
            )));
        }
        if !self.gguf.is_filled(info, size) {
            return Err(Error::Malformed(format!(
                "tensor \"{}\" needs {size} bytes as {encoding} (type {}), but {} lie before the next tensor: its type \
                 number means something else in this file",
                info.name, info.type_id, info.span
            )));
        }
        Ok(())
    }

    /// Whether the weight tensor is multiplied with this scale. Of two scales only one is; and where the tensor holds
    /// its own, nobody knows what a `weight_scale` beside it means.
    fn uses_scale(&self, weight: &str, scale: &str) -> bool {
        let weight_type = self.gguf.tensor(weight).map(|info| self.encodings.of(info.type_id));
        let holds_scale = weight_type.is_none_or(|encoding| encoding.is_ok_and(|encoding| encoding.holds_scale()));
        let is_found = self.gguf.scale_beside(weight).is_some_and(|found| found.name == scale);
        is_found && !(holds_scale && scale.ends_with(".weight_scale"))
    }

    /// Whether a tensor belongs to a block that drafts for the network.
    fn is_drafter(&self, name: &str) -> bool {
        let block = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')).map(|(block, _)| block);
        let first = self.config.layers;
        (first..first + self.drafters).any(|drafter| block == Some(&drafter.to_string()[..]))
    }

    /// A tensor that no role claims would silently change the output if it were ignored.
    fn check_known(&self, info: &TensorInfo) -> Result<()> {
        let name = &info.name;
        let role = Role::from_gguf_name(name);
        let scale_of = [".scale", ".weight_scale"].iter().find_map(|ending| name.strip_suffix(ending));
        let weight = scale_of.map(|stem| format!("{stem}.weight"));
        let is_used = weight.is_some_and(|weight| self.uses_scale(&weight, name));
        let scale_of = scale_of.filter(|_| is_used).and_then(Role::from_gguf_stem);
        let known = match (role, scale_of) {
            _ if self.is_drafter(name) => true,
            (Some(Role::Layer(layer, part)), _) => layer < self.config.layers && part.is_in(self.config, layer),
            (Some(_), _) => true,
            (None, Some(role @ Role::Layer(layer, _)))
                if role.is_linear() && layer < self.config.layers && info.elements() == 1 =>
            {
                return self.check_encoding(info, 1, 1, false);
            }
            _ => IGNORED_ENDINGS.iter().any(|ending| name.ends_with(ending)),
        };
        if known {
            return Ok(());
        }
        Err(Error::Unsupported(format!(
            "the tensor {} has no place in a {} model of {} layers as this version knows it",
            quoted(name),
            self.config.architecture,
            self.config.layers
        )))
    }
}

/// Adds the tensor's name to an error about its bytes.
pub(super) fn named(name: &str, error: Error) -> Error {
    match error {
        Error::Malformed(what) => Error::Malformed(format!("tensor \"{name}\": {what}")),
        Error::Unsupported(what) => Error::Unsupported(format!("tensor \"{name}\": {what}")),
        Error::Model(what) => Error::Model(format!("tensor \"{name}\": {what}")),
        other => other,
    }
}

fn shape_text(shape: &[usize]) -> String {
    format!("{shape:?}")
}
