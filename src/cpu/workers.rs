//! The threads of a CPU device, shared by all its sessions, with what each thread works with.
//!
//! A machine has one set of cores, so a device has one pool, however many sessions compute on it. A verb takes the pool for
//! as long as it runs, a few milliseconds at most (but for the copy of a head, which is made once, in up to a second): sessions on several threads go on by turns, verb by verb. The lock is one
//! that is handed on to whoever waits (every half millisecond, on average), so that none of them starves.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::backend::Numerics;
use crate::cpu::disjoint::Disjoint;
use crate::cpu::kernels::Kernels;
use crate::cpu::kernels::spans::SpanRoom;
use crate::cpu::pool::Pool;
use crate::error::Result;
use crate::interrupt::Interrupt;

/// The least work, in values to compute or multiply, that is worth handing to other threads: about 5 µs.
pub(super) const WORTH_SHARING: usize = 1 << 14;

/// A handle on the threads. Clones have the same.
#[derive(Clone)]
pub(crate) struct Workers {
    crew: Arc<Mutex<Crew>>,
    threads: usize,
    /// Once it is set, tasks of this handle are left out.
    pub(super) interrupt: Option<Interrupt>,
}

/// The threads, while one verb has them.
pub(crate) struct Crew {
    pub(crate) pool: Pool,
    pub(crate) rooms: Vec<SpanRoom>, // [threads], if the kernels have spans
}

/// As [`Pool::run`]; once the interrupt is set, the tasks that were not begun are left out.
pub(crate) fn run_until(
    interrupt: Option<&Interrupt>,
    pool: &mut Pool,
    tasks: usize,
    task: &(dyn Fn(usize, usize) + Sync),
) {
    match interrupt {
        None => pool.run(tasks, task),
        Some(interrupt) => pool.run(tasks, &|index, thread| {
            if !interrupt.is_set() {
                task(index, thread);
            }
        }),
    }
}

impl Workers {
    /// Starts `threads` threads, the calling thread among them.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the system refuses a thread.
    pub(crate) fn start(threads: usize, kernels: &dyn Kernels) -> Result<Self> {
        let rooms = match kernels.span_rows(usize::MAX, Numerics::Int8Rows) {
            0 => Vec::new(),
            _ => (0..threads).map(|_| SpanRoom::new(kernels)).collect(),
        };
        let crew = Crew { pool: Pool::new(threads)?, rooms };
        Ok(Self { crew: Arc::new(Mutex::new(crew)), threads, interrupt: None })
    }

    /// Threads that work, the caller among them.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Takes the threads; waits while another session's verb has them.
    pub(crate) fn take(&self) -> MutexGuard<'_, Crew> {
        self.crew.lock()
    }

    /// As [`Pool::run`].
    pub(crate) fn run(&self, tasks: usize, task: &(dyn Fn(usize, usize) + Sync)) {
        run_until(self.interrupt.as_ref(), &mut self.take().pool, tasks, task);
    }

    /// Runs `task(i, thread)` on all threads, or here if `work` (in values) is too little to share.
    pub(crate) fn share(&self, work: usize, tasks: usize, task: &(dyn Fn(usize, usize) + Sync)) {
        if work < WORTH_SHARING {
            (0..tasks).for_each(|i| task(i, 0));
        } else {
            self.run(tasks, task);
        }
    }

    /// Runs `task(row, out_row)` for each row of `out: [rows, cols]`, with all threads if there is enough to do.
    pub(crate) fn share_rows(&self, out: &mut [f32], cols: usize, task: &(dyn Fn(usize, &mut [f32]) + Sync)) {
        let (len, rows) = (out.len(), out.len().checked_div(cols).unwrap_or(0));
        let out = Disjoint::new(out);
        self.share(len, rows, &|row, _| {
            // SAFETY: each row is one task.
            task(row, unsafe { out.cut(row * cols..(row + 1) * cols) });
        });
    }
}
