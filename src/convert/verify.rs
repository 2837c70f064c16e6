//! Reads the new file back, and compares it with the model: keys, network, trits, scales, tables, gains.

use std::ops::ControlFlow;
use std::path::Path;

use super::fit::stored;
use super::keys::same_network;
use super::table::{Table, Way};
use super::{Conversion, Pairs, Progress, Stage, named};
use crate::error::{Error, Result};
use crate::format::encodings::Encoding;
use crate::format::gguf::{Metadata, Value};
use crate::format::ternary::{BLOCK, BLOCK_BYTES, Ternary, ZERO_BYTE};
use crate::format::{Dense, Weights};
use crate::model::{Model, OpenOptions, Role};

pub(super) fn verify(
    conversion: &Conversion,
    path: &Path,
    metadata: &Pairs,
    tables: &[(Role, Table)],
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<ControlFlow<()>> {
    let written = Model::open_with(path, &OpenOptions::default())?.with_all_rows();
    if !same_keys(metadata, written.metadata()) {
        return Err(wrong("its keys are not those that were written"));
    }
    same_network(conversion.model.config(), written.config())?;
    if written.roles() != conversion.roles {
        return Err(wrong("its tensors are not those that were written"));
    }
    let total = conversion.roles.len();
    for (done, &role) in conversion.roles.iter().enumerate() {
        if progress(Progress { stage: Stage::Verifying, done, total }).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        let found = written.required(role)?;
        let is_same = match (tables.iter().find(|(place, _)| *place == role), found) {
            (Some((_, table)), found) => same_table(table, &conversion.model.required(role)?, &found),
            (None, Weights::Ternary(found)) if role.is_linear() => {
                let (wanted, _) = conversion.linear(role)?;
                same_trits(&wanted, &found, conversion.options.linear)
            }
            (None, Weights::Dense(found)) => same_bits(&conversion.vector(role)?, &found),
            (None, Weights::Ternary(_)) => false,
        };
        if !is_same {
            return Err(named(role, wrong("it is not what was written")));
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn wrong(what: &str) -> Error {
    Error::Model(format!("the new file was read back, and {what}: the disk, the memory or this program is at fault"))
}

/// Whether all keys are equal; a number that is none equals itself.
fn same_keys(wanted: &Pairs, found: &Metadata) -> bool {
    let same = |wanted: &Value, found: &Value| match (wanted, found) {
        (Value::Float(wanted), Value::Float(found)) => wanted.to_bits() == found.to_bits(),
        _ => wanted == found,
    };
    let found: Vec<_> = found.iter().collect();
    let mut both = wanted.iter().zip(&found);
    wanted.len() == found.len() && both.all(|(wanted, found)| wanted.0 == found.0 && same(&wanted.1, found.1))
}

/// Whether all trits are equal, and all scales that multiply any.
fn same_trits(wanted: &Ternary, found: &Ternary, encoding: Encoding) -> bool {
    if (wanted.rows(), wanted.cols()) != (found.rows(), found.cols()) || wanted.codes() != found.codes() {
        return false;
    }
    let groups = wanted.cols().div_ceil(BLOCK);
    let stored = stored(encoding);
    let (blocks, _) = wanted.codes().as_chunks::<BLOCK_BYTES>(); // [rows, groups]
    let mut used = blocks.iter().enumerate().filter(|(_, block)| **block != [ZERO_BYTE; BLOCK_BYTES]);
    used.all(|(place, _)| {
        let (row, col) = (place / groups, place % groups * BLOCK);
        found.scale(row, col).to_bits() == stored(wanted.scale(row, col)).to_bits()
    })
}

fn same_bits(wanted: &[f32], found: &Dense) -> bool {
    let found = found.to_f32();
    wanted.len() == found.len() && wanted.iter().zip(&found).all(|(w, f)| w.to_bits() == f.to_bits())
}

pub(super) fn same_table(table: &Table, wanted: &Weights, found: &Weights) -> bool {
    if (wanted.rows(), wanted.cols()) != (found.rows(), found.cols()) {
        return false;
    }
    if let (Weights::Ternary(wanted), Weights::Ternary(found)) = (wanted, found) {
        return same_trits(wanted, found, table.encoding);
    }
    let most = table.encoding.largest_change().unwrap_or(0.0);
    let (mut a, mut b) = (vec![0f32; wanted.cols()], vec![0f32; wanted.cols()]);
    (0..wanted.rows()).all(|place| {
        wanted.row_to_f32(place, &mut a);
        found.row_to_f32(place, &mut b);
        let largest = a.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        a.iter().zip(&b).all(|(a, b)| match table.way {
            Way::Rounded => (a - b).abs() <= most * largest,
            // Zero has two signs, and a trit only one.
            Way::Copied | Way::Exact => a.to_bits() == b.to_bits() || (*a == 0.0 && *b == 0.0),
        })
    })
}
