//! The numbers that GGUF files give to encodings. ggml owns the small ones; forks took others, and some took the same.

use super::{Encoding, TlScale};
use crate::error::{Error, Result};

impl Encoding {
    /// The encoding with this ggml type number, if the number has one meaning only. Others need the whole file: see
    /// [`resolve`](crate::format::gguf::resolve).
    ///
    /// # Errors
    /// [`Error::Unsupported`] for every other number, with the type's name where it is known. Forks of ggml have given
    /// some numbers several meanings; the text then lists them.
    pub fn from_ggml(type_id: u32) -> Result<Encoding> {
        Ok(match type_id {
            0 => Encoding::F32,
            1 => Encoding::F16,
            2 => Encoding::Q4_0,
            3 => Encoding::Q4_1,
            6 => Encoding::Q5_0,
            7 => Encoding::Q5_1,
            8 => Encoding::Q8_0,
            10 => Encoding::Q2K,
            11 => Encoding::Q3K,
            12 => Encoding::Q4K,
            13 => Encoding::Q5K,
            14 => Encoding::Q6K,
            30 => Encoding::Bf16,
            34 => Encoding::Tq1_0,
            35 => Encoding::Tq2_0,
            36 => Encoding::I2S,
            45 => Encoding::I1V,
            46 => Encoding::I1V2,
            134 => Encoding::Iq1Bn,
            135 => Encoding::Iq2Bn,
            335 => Encoding::Iq2BnR4,
            other => {
                let meanings = meanings(other);
                if !meanings.is_empty() {
                    return Err(Error::Unsupported(format!(
                        "tensor type {other} ({}) means several things; only the whole file tells which",
                        list(meanings)
                    )));
                }
                let name = unsupported_name(other).unwrap_or("an unknown type");
                return Err(Error::Unsupported(format!(
                    "tensor type {other} ({name}) cannot be read by this version; convert the file to I2_S, TQ1_0, \
                     TQ2_0, Q8_0, Q6_K or floats"
                )));
            }
        })
    }
}

impl Encoding {
    /// The type number that the program which owns the encoding writes. [`Encoding::from_ggml`] is no inverse of it where
    /// other programs use the number too.
    pub fn ggml_type(self) -> u32 {
        match self {
            Encoding::F32 => 0,
            Encoding::F16 => 1,
            Encoding::Q4_0 => 2,
            Encoding::Q4_1 => 3,
            Encoding::Q5_0 => 6,
            Encoding::Q5_1 => 7,
            Encoding::Q8_0 => 8,
            Encoding::Q2K => 10,
            Encoding::Q3K => 11,
            Encoding::Q4K => 12,
            Encoding::Q5K => 13,
            Encoding::Q6K => 14,
            Encoding::Bf16 => 30,
            Encoding::Tq1_0 => 34,
            Encoding::Tq2_0 => 35,
            Encoding::I2S => 36,
            Encoding::Tl1(_) => 38,
            Encoding::Tl2(_) => 39,
            Encoding::I2V => 40,
            Encoding::Q2_0 | Encoding::Stq1_0 | Encoding::I2V4 => 42,
            Encoding::I2V8 => 43,
            Encoding::I1V => 45,
            Encoding::I1V2 => 46,
            Encoding::Iq1Bn => 134,
            Encoding::Iq2Bn => 135,
            Encoding::Pq2_0 => 142,
            Encoding::Ptq1_0 => 143,
            Encoding::Iq2BnR4 => 335,
        }
    }
}

/// One of several meanings of a type number.
pub(crate) struct Meaning {
    /// Its name, and whose it is.
    pub(crate) name: &'static str,
    /// What it is, if this version reads it.
    pub(crate) encoding: Option<Encoding>,
    /// For those that are not read, enough to know them by their size: bytes before the blocks of a row, columns and
    /// bytes of a block.
    pub(crate) frame: (usize, usize, usize),
    /// Values of `general.file_type` that files of it have.
    pub(crate) file_types: &'static [u64],
    /// Values of `general.architecture` that only files of it have.
    pub(crate) architectures: &'static [&'static str],
    /// Whether its files may have keys that begin with `prism.`.
    pub(crate) is_prism: bool,
}

const fn read(name: &'static str, encoding: Encoding, file_types: &'static [u64]) -> Meaning {
    Meaning { name, encoding: Some(encoding), frame: (0, 1, 0), file_types, architectures: &[], is_prism: false }
}

const fn known(name: &'static str, frame: (usize, usize, usize), file_types: &'static [u64]) -> Meaning {
    Meaning { name, encoding: None, frame, file_types, architectures: &[], is_prism: false }
}

const fn prism(meaning: Meaning) -> Meaning {
    Meaning { is_prism: true, ..meaning }
}

const fn only(architectures: &'static [&'static str], meaning: Meaning) -> Meaning {
    Meaning { architectures, ..meaning }
}

/// The meanings of a number that has several; empty for all other numbers.
pub(crate) fn meanings(type_id: u32) -> &'static [Meaning] {
    const TL1: [Meaning; 2] = [
        read("TL1 with its scale, of bitnet.cpp", Encoding::Tl1(TlScale::Inside), &[38]),
        read("TL1 without scale, of bitnet.cpp's Python converter", Encoding::Tl1(TlScale::Beside), &[38]),
    ];
    const TL2: [Meaning; 4] = [
        read("TL2 with its scale, of bitnet.cpp", Encoding::Tl2(TlScale::Inside), &[39]),
        read("TL2 without scale, of bitnet.cpp's Python converter", Encoding::Tl2(TlScale::Beside), &[39]),
        known("MXFP4", (0, 32, 17), &[38]),
        known("I8_V of vlut.cpp", (0, 1, 1), &[]),
    ];
    const FORTY: [Meaning; 3] = [
        read("I2_V of vlut.cpp", Encoding::I2V, &[38]),
        known("NVFP4", (0, 64, 36), &[39]),
        prism(known("Q1_0 in groups of 32, of PrismML", (0, 32, 6), &[])),
    ];
    const FORTY_ONE: [Meaning; 2] = [known("Q1_0", (0, 128, 18), &[40]), known("I2_V_2 of vlut.cpp", (0, 4, 1), &[])];
    const FORTY_TWO: [Meaning; 5] = [
        read("Q2_0 in groups of 64", Encoding::Q2_0, &[41]),
        prism(read("Q2_0 in groups of 128, as PQ2_0 of PrismML", Encoding::Pq2_0, &[41, 128, 141])),
        only(&["hunyuan-dense"], read("STQ1_0 of AngelSlim", Encoding::Stq1_0, &[41, 42])),
        read("I2_V_4 of vlut.cpp", Encoding::I2V4, &[39]),
        only(&["parakeet"], known("TRQ1_0", (0, 256, 68), &[])),
    ];
    const FORTY_THREE: [Meaning; 2] = [
        only(&["hunyuan-dense"], read("STQ1_0 of AngelSlim", Encoding::Stq1_0, &[41, 42])),
        read("I2_V_8 of vlut.cpp", Encoding::I2V8, &[40]),
    ];
    const PQ2_0: [Meaning; 2] = [
        prism(read("PQ2_0 of PrismML", Encoding::Pq2_0, &[128, 141])),
        known("IQ2_TN of ik_llama.cpp", (4, 256, 64), &[]),
    ];
    const PTQ1_0: [Meaning; 2] =
        [prism(read("PTQ1_0 of PrismML", Encoding::Ptq1_0, &[])), known("IQ1_TN of ik_llama.cpp", (2, 64, 13), &[])];
    match type_id {
        38 => &TL1,
        39 => &TL2,
        40 => &FORTY,
        41 => &FORTY_ONE,
        42 => &FORTY_TWO,
        43 => &FORTY_THREE,
        142 => &PQ2_0,
        143 => &PTQ1_0,
        _ => &[],
    }
}

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

/// Names of types that are not decoded, so that the error says what the file is. Owners other than ggml are named.
fn unsupported_name(type_id: u32) -> Option<&'static str> {
    Some(match type_id {
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        37 => "I8_S of bitnet.cpp",
        _ => return None,
    })
}
