//! A checkpoint that is cut into several files: an index maps each tensor to the file that holds it. Its names are only
//! believed where they are plain names of files in the same directory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use serde::Deserialize;

use super::{BytesOf, Checkpoint};
use crate::error::{Error, Result};
use crate::format::file::read_short;
use crate::format::gguf::{quoted, within};

/// The weights of a model in one file.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// The index of the shards where there are several.
pub const INDEX_FILE: &str = "model.safetensors.index.json";

/// The longest accepted index, in bytes; one of 30,000 tensors has 3 MB.
const MAX_INDEX_BYTES: usize = 16 << 20;
/// More shards than any published model has.
const MAX_SHARDS: usize = 1024;

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Loads `model.safetensors`, or else every shard of the index: the order in which the models' authors look for them.
pub(super) fn open(directory: &Path, bytes: BytesOf) -> Result<Checkpoint> {
    let (whole, index) = (directory.join(WEIGHTS_FILE), directory.join(INDEX_FILE));
    if whole.exists() {
        return Checkpoint::load(&whole, bytes);
    }
    if !index.exists() {
        let cause = std::io::Error::new(
            std::io::ErrorKind::NotFound,
            format!("the directory has neither {WEIGHTS_FILE} nor {INDEX_FILE}"),
        );
        return Err(Error::io(directory, cause));
    }
    let text = read_short(&index, MAX_INDEX_BYTES)?;
    join(directory, &text, bytes).map_err(|error| within(index.display(), error))
}

fn join(directory: &Path, index: &[u8], bytes: BytesOf) -> Result<Checkpoint> {
    let Index { weight_map } = serde_json::from_slice(index)
        .map_err(|error| Error::Malformed(format!("no index of shards: {}", quoted(&error.to_string()))))?;
    let names: BTreeSet<&str> = weight_map.values().map(String::as_str).collect();
    if names.len() > MAX_SHARDS {
        return Err(Error::Unsupported(format!("{} shards; at most {MAX_SHARDS} are accepted", names.len())));
    }
    // All names before the first file is touched: an index that points elsewhere is not to be followed at all.
    names.iter().try_for_each(|name| check_name(name))?;
    let mut whole = Checkpoint { tensors: BTreeMap::new(), files: 0, bytes: 0 };
    for name in names {
        let shard = Checkpoint::load(&directory.join(name), bytes)?;
        whole.files += 1;
        whole.bytes += shard.bytes;
        for (tensor, stored) in shard.tensors {
            if weight_map.get(&tensor).is_some_and(|place| place != name) {
                let (tensor, name, place) = (quoted(&tensor), quoted(name), quoted(&weight_map[&tensor]));
                return Err(Error::Malformed(format!("tensor {tensor} lies in {name}, but belongs to {place}")));
            }
            if whole.tensors.contains_key(&tensor) {
                return Err(Error::Malformed(format!("tensor {} lies in two shards", quoted(&tensor))));
            }
            whole.tensors.insert(tensor, stored);
        }
    }
    match weight_map.iter().find(|(tensor, _)| !whole.tensors.contains_key(*tensor)) {
        None => Ok(whole),
        Some((tensor, place)) => {
            Err(Error::Malformed(format!("tensor {} is not in {}, as it should be", quoted(tensor), quoted(place))))
        }
    }
}

/// A plain name, the same on every system: no way leads out of the directory.
fn check_name(name: &str) -> Result<()> {
    let mut components = Path::new(name).components();
    let is_plain = matches!((components.next(), components.next()), (Some(Component::Normal(_)), None));
    if is_plain && !name.contains(['/', '\\', ':', '\0']) && name.ends_with(".safetensors") {
        return Ok(());
    }
    Err(Error::Malformed(format!(
        "a shard is called {}; only plain names that end in .safetensors are opened",
        quoted(name)
    )))
}
