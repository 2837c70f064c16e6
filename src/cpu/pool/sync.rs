//! What the pool is made of: the standard library's threads, locks and atomics, or loom's, which run a model through
//! every order that the memory model allows (`tests/loom.sh`). The pool's source is the same for both.

#[cfg(not(loom))]
pub(super) use std::{
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread::{Builder, JoinHandle},
};

#[cfg(loom)]
pub(super) use loom::{
    cell::UnsafeCell,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread::{Builder, JoinHandle},
};

/// The standard cell with the interface of loom's, which sees when an access begins and ends.
#[cfg(not(loom))]
pub(super) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(super) fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    pub(super) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    pub(super) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

/// Asks again and again, for `patience` at most. Offers the core to others before giving up.
#[cfg(not(loom))]
pub(super) fn spin<T>(patience: std::time::Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let mut begin = None;
    loop {
        for _ in 0..64 {
            if let Some(answer) = ask() {
                return Some(answer);
            }
            std::hint::spin_loop();
        }
        if begin.get_or_insert_with(std::time::Instant::now).elapsed() > patience {
            std::thread::yield_now();
            return ask();
        }
    }
}

/// Asks once: loom has no clock, and runs every order in which one question gets the answer of many.
#[cfg(loom)]
pub(super) fn spin<T>(_patience: std::time::Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    ask()
}

/// The number of this process. A page has one, without a number.
pub(super) fn process() -> u32 {
    if cfg!(target_arch = "wasm32") { 0 } else { std::process::id() }
}
