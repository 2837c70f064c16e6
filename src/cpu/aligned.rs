//! Memory that begins with a cache line.

use std::ops::{Deref, DerefMut};

use bytemuck::Zeroable;

use crate::error::{Error, Result};

/// Values that begin with a cache line, so that no vector of rows of whole lines lies across two of them, which would be two loads.
#[derive(Debug, Default)]
pub(crate) struct Aligned<T> {
    values: Box<[T]>, // never moved
    begin: usize,
    len: usize,
}

impl<T: Zeroable + Copy> Aligned<T> {
    /// Zeros, in pages of memory that are not there before they are written.
    ///
    /// # Errors
    /// [`Error::Device`] if there is no memory for them.
    pub(crate) fn zeroed(len: usize) -> Result<Self> {
        const LINE: usize = 64;
        let no_memory = || Error::out_of_memory(format!("no memory for {len} values of {} bytes", size_of::<T>()));
        if len == 0 {
            return Ok(Self { values: Box::default(), begin: 0, len });
        }
        let room = len.checked_add(LINE / size_of::<T>()).ok_or_else(no_memory)?;
        room.checked_mul(size_of::<T>()).filter(|&bytes| isize::try_from(bytes).is_ok()).ok_or_else(no_memory)?;
        let values: Box<[T]> = bytemuck::allocation::try_zeroed_slice_box(room).map_err(|()| no_memory())?;
        // `align_offset` may not know, and then answers `usize::MAX`: alignment is for speed alone.
        let begin = Some(values.as_ptr().align_offset(LINE)).filter(|&begin| begin <= room - len).unwrap_or(0);
        Ok(Self { values, begin, len })
    }

    /// The same value everywhere.
    ///
    /// # Errors
    /// [`Error::Device`] if there is no memory for them.
    pub(crate) fn filled(len: usize, value: T) -> Result<Self> {
        let mut values = Self::zeroed(len)?;
        values.fill(value);
        Ok(values)
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values[self.begin..][..self.len]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values[self.begin..][..self.len]
    }
}
