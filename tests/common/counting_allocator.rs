//! Counts the bytes that each thread holds, so that a test can say how much memory a call took at its peak. Tests run
//! on threads of their own, so they do not disturb each other.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    // Constants without destructors, so that the allocator may touch them at any time without allocating.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// Calls `work`; also returns the most bytes it held at one time, beside what the thread held before.
pub fn peak_bytes<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let result = work();
    (result, (PEAK.get() - before) as usize)
}

fn count(change: isize) {
    let held = HELD.get() + change; // negative where a thread frees what another one allocated
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
}

// SAFETY: all requests go to `System` unchanged; beside that only thread-local integers are updated. The provided
// `realloc` and `alloc_zeroed` are made of these two, so that a growing vector counts with its old and new buffer.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises about `layout` are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: `pointer` came from `System` with this layout, because `alloc` above is the only source.
        unsafe { System.dealloc(pointer, layout) }
    }
}
