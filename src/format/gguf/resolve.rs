//! Which encodings a file's type numbers mean. Several programs took the same number for different encodings, and no
//! field of the file says whose it is. But they differ in size, and the file tells how many bytes each tensor has. So
//! the meanings of a number are ruled out one after the other, by
//!
//! 1. the bytes of every tensor of that number, and whether its scale is beside it where the encoding holds none;
//! 2. keys that begin with `prism.`, then `general.file_type`, then `general.architecture`;
//! 3. a look at some blocks: scales that are likely, codes that are trits.
//!
//! What is left must be one. There is no guess: two are an error, and so is none.

use std::collections::BTreeMap;

use super::{Gguf, TensorInfo, quoted};
use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::format::encodings::Encoding;
use crate::format::encodings::type_numbers::{Meaning, list, meanings};

/// Tensors of a number that are looked into, and places in each of them.
const LOOKS: (usize, usize) = (8, 8);

/// The encodings of a file's type numbers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Encodings {
    /// Of the numbers that have several meanings.
    resolved: BTreeMap<u32, Encoding>,
    decisions: Vec<Decision>,
}

impl Encodings {
    /// The encoding that a type number has in this file.
    ///
    /// # Errors
    /// As [`Encoding::from_ggml`], for a number that the file's directory does not have.
    pub fn of(&self, type_id: u32) -> Result<Encoding> {
        self.resolved.get(&type_id).map_or_else(|| Encoding::from_ggml(type_id), |&encoding| Ok(encoding))
    }

    /// For each number with several meanings: which one it has, why, and what ruled out the others.
    pub fn decisions(&self) -> &[Decision] {
        &self.decisions
    }
}

/// Finds what each type number of the file means. Numbers that this version does not know are no error here.
///
/// # Errors
/// [`Error::Unsupported`] if a number with several meanings can mean none of them here, or more than one, or one that
/// this version does not read. The text lists all meanings and what ruled them out. [`Error::Io`] if a piece of the file cannot be read.
pub fn resolve(gguf: &Gguf) -> Result<Encodings> {
    let mut by_number = BTreeMap::<u32, Vec<&TensorInfo>>::new();
    for info in gguf.tensors() {
        by_number.entry(info.type_id).or_default().push(info);
    }
    let mut encodings = Encodings { resolved: BTreeMap::new(), decisions: Vec::new() };
    for (number, tensors) in by_number {
        let meanings = meanings(number);
        if meanings.len() < 2 {
            continue;
        }
        let (encoding, decision) = Search { gguf, number, tensors, left: meanings, out: Vec::new() }.run()?;
        encodings.resolved.insert(number, encoding);
        encodings.decisions.push(decision);
    }
    Ok(encodings)
}

/// The search for the meaning of one number.
struct Search<'a> {
    gguf: &'a Gguf,
    number: u32,
    /// All tensors of that number, at least one.
    tensors: Vec<&'a TensorInfo>,
    left: Vec<Meaning>,
    /// What was ruled out, and why.
    out: Vec<String>,
}

impl Search<'_> {
    fn run(mut self) -> Result<(Encoding, Decision)> {
        self.rule_out(|search, meaning| search.tensors.iter().find_map(|info| misfit(search.gguf, meaning, info)));
        let mut why = "only its size fits each of their tensors";
        if self.left.len() > 1 {
            why = "it fits the tensors' sizes and the keys";
            self.ask_keys()?;
        }
        self.look()?;
        match self.left.as_slice() {
            [Meaning { name, encoding: Some(encoding), .. }] => {
                let reason = match self.out.is_empty() {
                    true => why.to_owned(),
                    false => format!("{why}; not {}", self.out.join("; not ")),
                };
                let count = self.tensors.len();
                let choice = format!("{} is {name} ({count} tensors)", self.number);
                Ok((*encoding, Decision::new("tensor type", choice, reason)))
            }
            [Meaning { name, .. }] => Err(self.error(&format!("is {name}, which this version cannot read"))),
            [] => Err(self.error("is nothing that this version knows")),
            _ => Err(self.error(&format!("may be {}", list(&self.left)))),
        }
    }

    /// Drops each meaning for which `why_not` has a reason.
    fn rule_out(&mut self, why_not: impl Fn(&Self, &Meaning) -> Option<String>) {
        for meaning in std::mem::take(&mut self.left) {
            let reason = why_not(self, &meaning);
            self.judge(meaning, reason);
        }
    }

    /// Drops a meaning if there is a reason.
    fn judge(&mut self, meaning: Meaning, reason: Option<String>) {
        match reason {
            Some(reason) => self.out.push(format!("{}: {reason}", meaning.name)),
            None => self.left.push(meaning),
        }
    }

    /// Keeps the meanings that a key speaks for, if it speaks for any.
    fn ask_keys(&mut self) -> Result<()> {
        let metadata = self.gguf.metadata();
        if metadata.iter().any(|(key, _)| key.starts_with("prism.")) {
            self.prefer(|meaning| meaning.number.is_prism, "the file has keys of PrismML");
        }
        if let Some(file_type) = metadata.unsigned("general.file_type")? {
            let why = format!("\"general.file_type\" is {file_type}");
            self.prefer(|meaning| meaning.number.file_types.contains(&file_type), &why);
        }
        if let Some(architecture) = metadata.string("general.architecture")? {
            let why = format!("\"general.architecture\" is {}", quoted(architecture));
            self.prefer(|meaning| meaning.number.architectures.contains(&architecture), &why);
            self.prefer(|meaning| meaning.number.architectures.is_empty(), &why);
        }
        Ok(())
    }

    fn prefer(&mut self, speaks_for: impl Fn(&Meaning) -> bool, why: &str) {
        if self.left.len() > 1 && self.left.iter().any(&speaks_for) {
            self.rule_out(|_, meaning| (!speaks_for(meaning)).then(|| why.to_owned()));
        }
    }

    /// Drops each meaning that some blocks of some tensors contradict.
    ///
    /// # Errors
    /// As [`Gguf::read_data`]: bytes that cannot be read speak against no meaning.
    fn look(&mut self) -> Result<()> {
        for meaning in std::mem::take(&mut self.left) {
            let reason = self.contradiction(&meaning)?;
            self.judge(meaning, reason);
        }
        Ok(())
    }

    fn contradiction(&self, meaning: &Meaning) -> Result<Option<String>> {
        let Some(encoding) = meaning.encoding else { return Ok(None) };
        let (tensors, places) = LOOKS;
        let step = self.tensors.len().div_ceil(tensors);
        for info in self.tensors.iter().step_by(step) {
            let (rows, cols) = matrix(info);
            let reason = encoding.sample(&self.gguf.section(info), rows, cols, places)?;
            if reason.is_some() {
                return Ok(reason);
            }
        }
        Ok(None)
    }

    fn error(&self, what: &str) -> Error {
        // The tensor that tells most: small ones are padded to the size of others.
        let largest = self.tensors.iter().max_by_key(|info| info.span).expect("the number has tensors");
        let others = match self.tensors.len() - 1 {
            0 => String::new(),
            count => format!(" and {count} more"),
        };
        let out = if self.out.is_empty() { String::new() } else { format!("; it is not {}", self.out.join("; not ")) };
        Error::Unsupported(format!(
            "tensor type {} ({}{others}) {what}{out}; convert the file to I2_S, TQ1_0 or TQ2_0",
            self.number,
            quoted(&largest.name)
        ))
    }
}

/// Rows and columns of a tensor, all axes but the first as rows.
fn matrix(info: &TensorInfo) -> (usize, usize) {
    let cols = info.shape[0];
    (info.elements() / cols, cols)
}

/// Why a tensor cannot have this encoding.
fn misfit(gguf: &Gguf, meaning: &Meaning, info: &TensorInfo) -> Option<String> {
    let (rows, cols) = matrix(info);
    let size = match meaning.size(rows, cols) {
        Ok(size) => size,
        Err(reason) => return Some(reason),
    };
    if !gguf.is_filled(info, size) {
        return Some(format!("it would take {size} bytes of {}", info.span));
    }
    let holds_scale = meaning.encoding.is_none_or(Encoding::holds_scale);
    (!holds_scale && gguf.scale_beside(&info.name).is_none()).then(|| "no scale is beside it".into())
}

impl Gguf {
    /// The tensor with the scale of a weight tensor, if it is stored beside it: for `blk.0.attn_q.weight` that is
    /// `blk.0.attn_q.scale` (vlut.cpp, and llama.cpp for BitNet) or `blk.0.attn_q.weight_scale` (bitnet.cpp's TL1,
    /// TL2).
    pub fn scale_beside(&self, weight: &str) -> Option<&TensorInfo> {
        let stem = weight.strip_suffix(".weight")?;
        [".scale", ".weight_scale"].iter().find_map(|ending| self.tensor(&format!("{stem}{ending}")))
    }
}
