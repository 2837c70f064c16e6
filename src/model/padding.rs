//! What matrices take in memory, held against what they take in the file, before any is made. Rows are kept in whole blocks
//! of 128 columns ([`crate::format::ternary`]), so that a matrix of one column, which no model has, would take 128 times its
//! bytes.

use crate::error::{Error, Result};
use crate::format::gguf::quoted;
use crate::format::ternary::{MAX_COLS, padded};

/// The most bytes that matrices may take in memory for each byte of the file. Those of rows of 32 columns, in two bits each,
/// take four.
const MOST: usize = 4;
/// What they may take however small the file is.
const FREE: usize = 16 << 20;

/// A matrix that becomes trits, as it is stored.
pub(super) struct Stored<'a> {
    pub(super) name: &'a str,
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// In the file.
    pub(super) bytes: usize,
}

impl Stored<'_> {
    fn in_memory(&self) -> usize {
        (padded(self.cols) / 4).saturating_mul(self.rows)
    }
}

/// Refuses a file of so many bytes whose matrices would take far more in memory, or have rows that nothing can sum.
pub(super) fn check<'a>(matrices: impl Iterator<Item = Stored<'a>>, file_bytes: usize) -> Result<()> {
    let (mut all, mut worst) = (0_usize, None::<(usize, Stored)>);
    for matrix in matrices {
        if matrix.cols > MAX_COLS {
            let (name, cols) = (quoted(matrix.name), matrix.cols);
            return Err(Error::Unsupported(format!("tensor {name}: rows of {cols} weights; the most is {MAX_COLS}")));
        }
        let bytes = matrix.in_memory();
        all = all.saturating_add(bytes);
        let more = bytes.saturating_sub(matrix.bytes);
        if worst.as_ref().is_none_or(|(most, _)| more > *most) {
            worst = Some((more, matrix));
        }
    }
    match worst {
        Some((_, worst)) if all > file_bytes.saturating_mul(MOST).saturating_add(FREE) => {
            Err(Error::Unsupported(format!(
                "tensor {}: its {} rows of {} weights take {} bytes in the file and {} in memory, where rows are whole blocks \
                 of 128; with the others that is {all} bytes, and at most {MOST} for each of the file's {file_bytes} are taken",
                quoted(worst.name),
                worst.rows,
                worst.cols,
                worst.bytes,
                worst.in_memory(),
            )))
        }
        _ => Ok(()),
    }
}
