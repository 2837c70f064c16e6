//! Memory whose size a file or a caller decides: where the system has none, that is an error and no abort.

use crate::error::{Error, Result};

/// A vector of `len` copies of `value`.
///
/// # Errors
/// [`Error::Device`] if there is no memory for it.
pub(crate) fn filled<T: Clone>(len: usize, value: T) -> Result<Vec<T>> {
    let mut values = reserved(len)?;
    values.resize(len, value);
    Ok(values)
}

/// An empty vector with room for `len` values.
///
/// # Errors
/// [`Error::Device`] if there is no memory for it.
pub(crate) fn reserved<T>(len: usize) -> Result<Vec<T>> {
    let mut values = Vec::new();
    reserve(&mut values, len)?;
    Ok(values)
}

/// Room for `more` values beside those that are there.
///
/// # Errors
/// [`Error::Device`] if there is no memory for it.
pub(crate) fn reserve<T>(values: &mut Vec<T>, more: usize) -> Result<()> {
    values
        .try_reserve_exact(more)
        .map_err(|e| Error::out_of_memory(format!("no memory for {more} values of {} bytes: {e}", size_of::<T>())))
}

/// `rows * cols`.
///
/// # Errors
/// [`Error::Device`] if that is beyond any memory.
pub(crate) fn area(rows: usize, cols: usize) -> Result<usize> {
    rows.checked_mul(cols).ok_or_else(|| Error::out_of_memory(format!("no memory for [{rows}, {cols}]")))
}
