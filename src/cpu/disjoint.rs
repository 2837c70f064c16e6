//! One slice that several threads write, each its own places. The compiler cannot see that a strip of a row-major
//! output belongs to one task; whoever cuts the strips promises it here, in one line that can be read and checked.

use std::marker::PhantomData;
use std::ops::Range;

/// A mutable slice that can be cut from several threads at once.
pub(crate) struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    borrowed: PhantomData<&'a mut [T]>,
}

// SAFETY: it stands for a `&mut [T]`, which may be sent where `T` may be. Sharing gives out only what `cut` gives out,
// whose callers promise that no place is given out twice at a time.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), borrowed: PhantomData }
    }

    /// The places of `range`, to write.
    ///
    /// # Safety
    /// No two cuts that live at the same time may overlap.
    ///
    /// # Panics
    /// If the range is not inside the slice.
    #[expect(clippy::mut_from_ref, reason = "that is its purpose; the caller promises what the borrow checker cannot")]
    pub(crate) unsafe fn cut(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: the range lies inside the slice that `new` borrowed for `'a`; the caller promises that nobody else
        // uses these places meanwhile.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
