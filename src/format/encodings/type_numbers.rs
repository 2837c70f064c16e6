//! The numbers that GGUF files give to encodings. ggml owns the small ones; forks took others, and some took the same. The
//! entry of an encoding says which numbers it has; what is here are those that nothing reads.

use super::entry::TypeNumber;
use super::{Encoding, TABLE};
use crate::error::{Error, Result};

impl Encoding {
    /// The encoding with this ggml type number, if the number has one meaning only. Others need the whole file: see
    /// [`resolve`](crate::format::gguf::resolve).
    ///
    /// # Errors
    /// [`Error::Unsupported`] for every other number, with the type's name where it is known. Forks of ggml have given
    /// some numbers several meanings; the text then lists them.
    pub fn from_ggml(type_id: u32) -> Result<Encoding> {
        let name = match meanings(type_id).as_slice() {
            [Meaning { encoding: Some(encoding), .. }] => return Ok(*encoding),
            [] => UNREAD.iter().find(|(id, _)| *id == type_id).map_or("an unknown type", |(_, name)| name),
            [one] => one.name,
            several => {
                return Err(Error::Unsupported(format!(
                    "tensor type {type_id} ({}) means several things; only the whole file tells which",
                    list(several)
                )));
            }
        };
        Err(Error::Unsupported(format!(
            "tensor type {type_id} ({name}) cannot be read by this version; convert the file to I2_S, TQ1_0, TQ2_0, Q8_0, \
             Q6_K or floats"
        )))
    }

    /// The type number that the program which owns the encoding writes. [`Encoding::from_ggml`] is no inverse of it where
    /// other programs use the number too.
    pub fn ggml_type(self) -> u32 {
        self.entry().number.id
    }

    /// The value of `general.file_type` that the program which owns the encoding writes, where it is known.
    pub(crate) fn file_type(self) -> Option<u64> {
        self.entry().number.file_types.first().copied()
    }
}

/// One meaning of a type number.
#[derive(Clone, Copy)]
pub(crate) struct Meaning {
    /// Its name, and whose it is.
    pub(crate) name: &'static str,
    /// What it is, if this version reads it.
    pub(crate) encoding: Option<Encoding>,
    /// What files of it have.
    pub(crate) number: &'static TypeNumber,
    /// For those that are not read, enough to know them by their size: bytes before the blocks of a row, columns and
    /// bytes of a block.
    frame: (usize, usize, usize),
}

/// All meanings of a number, those that are read first.
pub(crate) fn meanings(type_id: u32) -> Vec<Meaning> {
    let read = TABLE.iter().flat_map(|(encoding, entry)| {
        let numbers = std::iter::once(&entry.number).chain(entry.also);
        numbers.map(|number| (number, number.name.unwrap_or(entry.name), Some(*encoding), (0, 1, 0)))
    });
    let others = UNREAD_OF_SHARED.iter().map(|(name, number, frame)| (number, *name, None, *frame));
    let of_it = read.chain(others).filter(|(number, ..)| number.id == type_id);
    of_it.map(|(number, name, encoding, frame)| Meaning { name, encoding, number, frame }).collect()
}

/// Encodings that are not read and share their number: name, number, frame.
static UNREAD_OF_SHARED: &[(&str, TypeNumber, (usize, usize, usize))] = &[
    ("MXFP4", TypeNumber::new(39).file_types(&[38]), (0, 32, 17)),
    ("I8_V of vlut.cpp", TypeNumber::new(39), (0, 1, 1)),
    ("NVFP4", TypeNumber::new(40).file_types(&[39]), (0, 64, 36)),
    ("Q1_0 in groups of 32, of PrismML", TypeNumber::new(40).prism(), (0, 32, 6)),
    ("Q1_0", TypeNumber::new(41).file_types(&[40]), (0, 128, 18)),
    ("I2_V_2 of vlut.cpp", TypeNumber::new(41), (0, 4, 1)),
    ("TRQ1_0", TypeNumber::new(42).only(&["parakeet"]), (0, 256, 68)),
    ("IQ2_TN of ik_llama.cpp", TypeNumber::new(142), (4, 256, 64)),
    ("IQ1_TN of ik_llama.cpp", TypeNumber::new(143), (2, 64, 13)),
];

/// Encodings that are not read and have a number of their own, so that the error says what the file is. Owners other than
/// ggml are named.
static UNREAD: &[(u32, &str)] = &[
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (37, "I8_S of bitnet.cpp"),
];

impl Meaning {
    /// Bytes of a tensor `[rows, cols]`, or why there can be none.
    pub(crate) fn size(&self, rows: usize, cols: usize) -> Result<usize, String> {
        if let Some(encoding) = self.encoding {
            return encoding.size(rows, cols).map_err(|error| error.to_string());
        }
        let (head, columns, bytes) = self.frame;
        let whole = cols.is_multiple_of(columns).then_some(cols / columns);
        let row = whole.and_then(|blocks| blocks.checked_mul(bytes)?.checked_add(head));
        row.and_then(|row| row.checked_mul(rows)).ok_or_else(|| format!("a row of {cols} is no blocks of {columns}"))
    }
}

/// The names of some meanings, for a text.
pub(crate) fn list<'a>(meanings: impl IntoIterator<Item = &'a Meaning>) -> String {
    meanings.into_iter().map(|meaning| meaning.name).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_something_reads_is_not_among_the_unread() {
        for &(id, name) in UNREAD {
            assert!(meanings(id).is_empty(), "{id} ({name}) is read, or is shared");
        }
        for (name, number, _) in UNREAD_OF_SHARED {
            assert!(meanings(number.id).len() > 1, "{name} has its number for itself");
        }
    }

    #[test]
    fn whoever_shares_a_number_has_a_name_that_says_whose_it_is() {
        for (encoding, entry) in TABLE {
            for number in std::iter::once(&entry.number).chain(entry.also) {
                assert!(number.name.is_some() || meanings(number.id).len() == 1, "{encoding}, {}", number.id);
            }
        }
    }
}
