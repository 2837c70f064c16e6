//! Models in several files, as `llama-gguf-split` makes them: `name-00001-of-00003.gguf` and so on. Any of them opens all.
//! The first has the keys, and each some of the tensors; `split.no` says which it is, `split.count` of how many, and
//! `split.tensors.count` how many tensors they have together.
//!
//! A part is found by the name of the one that was asked for, never by what a file says, and each must be what its name says
//! it is: parts of two models, or of two splits of one, would make a model that nobody published.

use std::io::{Error as IoError, ErrorKind};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::directory::{self, MAX_TENSORS};
use super::{Gguf, Metadata, quoted, within};
use crate::error::{Error, Result};

const NUMBER: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

/// What a part says of itself.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Place {
    number: Option<u64>, // from 0
    count: u64,          // at least 2
    tensors: Option<u64>,
}

impl Place {
    /// None for a whole model. A "split" into one file is whole.
    pub(super) fn of(metadata: &Metadata) -> Result<Option<Self>> {
        let (number, count) = (metadata.unsigned(NUMBER)?, metadata.unsigned(COUNT)?);
        match count {
            None if number.is_some() => Err(Error::Malformed(format!("\"{NUMBER}\" is there, but \"{COUNT}\" is not"))),
            None | Some(0 | 1) => Ok(None),
            Some(count) => Ok(Some(Self { number, count, tensors: metadata.unsigned(TENSORS)? })),
        }
    }

    /// Such as "file 2 of 3".
    fn which(&self) -> String {
        match self.number {
            Some(number) => format!("file {} of {}", number.saturating_add(1), self.count),
            None => format!("one of {} files", self.count),
        }
    }

    /// The error where a part is given without its path, beside which the others are.
    pub(super) fn refused(&self) -> Error {
        Error::Unsupported(format!(
            "this is {} of a split model: open it by its path, or merge them with `llama-gguf-split --merge FIRST-FILE \
             MERGED-FILE`",
            self.which()
        ))
    }

    /// The end of a part's name, before `.gguf`.
    fn ending(&self, number: u64) -> String {
        format!("-{:05}-of-{:05}", number.saturating_add(1), self.count)
    }
}

/// Opens a file, and all others if it is one of several. `bytes_of` maps or reads one.
pub(super) fn open(path: &Path, bytes_of: fn(&Path) -> Result<Bytes>) -> Result<Gguf> {
    let given = parse(path, bytes_of(path)?)?;
    match Place::of(&given.metadata).map_err(|error| within(path.display(), error))? {
        None => Ok(given),
        Some(place) => join(path, given, place, bytes_of),
    }
}

fn parse(path: &Path, bytes: Bytes) -> Result<Gguf> {
    Gguf::parse_part(bytes).map_err(|error| within(path.display(), error))
}

/// Joins all parts to one model.
fn join(path: &Path, given: Gguf, place: Place, bytes_of: fn(&Path) -> Result<Bytes>) -> Result<Gguf> {
    let (stem, extension) = stem(path, &place).map_err(|error| within(path.display(), error))?;
    let path_of = |number| path.with_file_name(format!("{stem}{}{extension}", place.ending(number)));
    let mut given = Some(given);
    let mut joined: Option<Gguf> = None;
    for number in 0..place.count {
        let path = path_of(number);
        let part = match given.take_if(|_| Some(number) == place.number) {
            Some(given) => given,
            None => parse(&path, bytes_of(&path).map_err(|error| missing(error, &path, number, place.count))?)?,
        };
        check(&part, number, &place).map_err(|error| within(path.display(), error))?;
        let Some(whole) = &mut joined else {
            joined = Some(part);
            continue;
        };
        let (tensors, file) = (part.tensors.into_iter(), whole.parts.len());
        whole.tensors.extend(tensors.map(|info| directory::TensorInfo { part: file, ..info }));
        whole.parts.extend(part.parts);
        if whole.tensors.len() as u64 > MAX_TENSORS {
            return Err(Error::Unsupported(format!("{}: a model of more than {MAX_TENSORS} tensors", path.display())));
        }
    }
    let mut whole = joined.expect("there are at least two parts");
    let found = whole.tensors.len();
    if let Some(wanted) = place.tensors.filter(|&wanted| wanted != found as u64) {
        let text = format!("the parts have {found} tensors together, but \"{TENSORS}\" is {wanted}");
        return Err(within(path.display(), Error::Malformed(text)));
    }
    whole.by_name =
        directory::index_by_name(&whole.tensors).map_err(|error| repeated(&whole, &path_of).unwrap_or(error))?;
    Ok(whole)
}

/// The parts of a file's name before and behind its number.
fn stem<'a>(path: &'a Path, place: &Place) -> Result<(&'a str, &'a str)> {
    let (which, any) = (place.which(), format!("NAME-00001-of-{:05}.gguf", place.count));
    let name = path.file_name().and_then(|name| name.to_str());
    let of_its_number = |name: &'a str| {
        let (stem, extension) = name.split_at_checked(name.len().checked_sub(".gguf".len())?)?;
        let stem = stem.strip_suffix(&place.ending(place.number?))?;
        extension.eq_ignore_ascii_case(".gguf").then_some((stem, extension))
    };
    name.and_then(of_its_number).ok_or_else(|| {
        Error::Unsupported(format!(
            "this is {which} of a split model (\"{NUMBER}\", \"{COUNT}\"), and its name is not that of this part, such as \
             {any}, by which the others are found: give all their names back, or merge them with `llama-gguf-split --merge`"
        ))
    })
}

/// What is said where a part cannot be opened.
fn missing(error: Error, path: &Path, number: u64, count: u64) -> Error {
    match error {
        Error::Io { cause, .. } if cause.kind() == ErrorKind::NotFound => {
            let text = format!(
                "this is file {} of the {count} of a split model, and it is not there; all must lie in one directory",
                number + 1
            );
            Error::io(path, IoError::new(ErrorKind::NotFound, text))
        }
        other => other,
    }
}

/// Holds what a part says of itself against its name and the part that was asked for.
fn check(part: &Gguf, number: u64, wanted: &Place) -> Result<()> {
    let contradiction = |text: String| Err(Error::Malformed(format!("{text}: it is no part of this model")));
    let (part_number, count) = (part.metadata.unsigned(NUMBER)?, part.metadata.unsigned(COUNT)?);
    let tensors = part.metadata.unsigned(TENSORS)?;
    let text = |value: Option<u64>| value.map_or_else(|| "missing".into(), |value| value.to_string());
    for (key, found, wanted) in
        [(NUMBER, part_number, Some(number)), (COUNT, count, Some(wanted.count)), (TENSORS, tensors, wanted.tensors)]
    {
        if found != wanted {
            return contradiction(format!("\"{key}\" is {}, but should be {}", text(found), text(wanted)));
        }
    }
    // What describes the model stands in the first part alone, so that there are no two descriptions.
    let own = |key: &str| key.starts_with("split.") || key == "general.alignment";
    match part.metadata.iter().find(|(key, _)| number > 0 && !own(key)) {
        Some((key, _)) => contradiction(format!("the key {} stands in a part that is not the first", quoted(key))),
        None => Ok(()),
    }
}

/// The error for a tensor that two parts have.
fn repeated(whole: &Gguf, path_of: &dyn Fn(u64) -> PathBuf) -> Option<Error> {
    let mut places: Vec<_> = whole.tensors.iter().map(|info| (&info.name, info.part)).collect();
    places.sort_unstable();
    let pair = places.windows(2).find(|pair| pair[0].0 == pair[1].0)?;
    let path = |place: usize| path_of(pair[place].1 as u64);
    let text = format!("the tensor {} is in {} too", quoted(pair[1].0), path(0).display());
    Some(within(path(1).display(), Error::Malformed(text)))
}
