//! A small thread pool for work that lasts microseconds: one job at a time, whose tasks are dealt to all threads.
//!
//! A verb of the forward pass is over in 5 to 500 µs, so the hand-over must cost less than one: workers look for work
//! for a short while before they sleep, and a job never waits for a worker that has not come. A worker enters a job
//! while it is open; the caller works too, closes the job when the tasks are gone, and waits only for workers inside.
//! So on a machine with too few cores the caller does the work alone, instead of waiting for the scheduler; and so does
//! a forked child of the process, which inherits the pool without its workers.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::PoisonError;
use std::time::Duration;

use crate::error::{Error, Result};

mod shares;
mod sync;

use shares::Shares;
use sync::{
    Arc, AtomicBool, AtomicU64, AtomicUsize, Builder, Condvar, JoinHandle, Mutex, MutexGuard, Ordering, UnsafeCell,
    fence, process, spin,
};

/// How long a thread looks for a change before it sleeps: longer than the caller's work between two jobs of a step,
/// shorter than anything a person would notice on an otherwise busy machine.
const PATIENCE: Duration = Duration::from_micros(40);

/// What a job does: task, thread.
type Work<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// Threads that run tasks together with the calling thread.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    process: u32, // that started them
}

/// The gate's bits, from below: the workers inside (16), whether the job is open, whether the caller sleeps until the
/// last has left, and the number of the job (the upper half).
const INSIDE: u64 = 0xffff;
const OPEN: u64 = 1 << 16;
const WAITED_FOR: u64 = 1 << 17;
const NUMBER_SHIFT: u32 = 32;

struct Shared {
    gate: AtomicU64,
    job: UnsafeCell<Option<Job>>,
    shares: Shares,
    sleepers: AtomicUsize,
    bed: Mutex<()>,
    opened: Condvar, // a sleeping worker waits for this
    left: Condvar,   // the caller waits for this
    stop: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// The work that is going on.
type Job = &'static Work<'static>;

// SAFETY: `job` is the only field that is not `Sync` by itself. `Pool::run` writes it while the gate is closed and
// nobody is inside; workers read it only while they are inside. `Pool::run` takes `&mut self`, so it is never entered
// twice at once. What the job refers to is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: nothing in it belongs to one thread: the job's work is `Sync`, the panic payload is `Send`.
unsafe impl Send for Shared {}

impl Pool {
    /// A pool that works with `threads` threads, the caller among them.
    ///
    /// # Errors
    /// [`Error::Device`] if the system refuses a thread.
    pub(crate) fn new(threads: usize) -> Result<Self> {
        assert!((1..=INSIDE as usize).contains(&threads));
        let shared = Arc::new(Shared {
            gate: AtomicU64::new(0),
            job: UnsafeCell::new(None),
            shares: Shares::new(threads),
            sleepers: AtomicUsize::new(0),
            bed: Mutex::new(()),
            opened: Condvar::new(),
            left: Condvar::new(),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let mut pool = Self { shared, workers: Vec::with_capacity(threads - 1), process: process() };
        for thread in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let worker = Builder::new().name(format!("sterna-{thread}")).spawn(move || shared.serve(thread)).map_err(
                |cause| {
                    let why = "out of threads or memory for them";
                    Error::refused(format!("cannot start thread {thread} of {threads}, {why}; ask for fewer ({cause})"))
                },
            )?;
            pool.workers.push(worker);
        }
        Ok(pool)
    }

    /// Threads that work, the caller among them.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `work(task, thread)` once for each task below `tasks`; `thread` is below [`Pool::threads`], and no two
    /// calls with the same `thread` overlap. Returns when all are done.
    ///
    /// # Panics
    /// With the first panic of a task. Tasks that were not begun by then are left out.
    pub(crate) fn run(&mut self, tasks: usize, work: &Work<'_>) {
        if self.workers.is_empty() || tasks < 2 {
            return (0..tasks).for_each(|task| work(task, 0));
        }
        let shared = &*self.shared;
        shared.shares.deal(tasks);
        // SAFETY: only the lifetime changes. The reference is used by threads inside the gate alone, and `run` does not
        // return or unwind before the gate is closed and all have left: nothing between here and `close` can panic,
        // because `hand_out` catches the panics of tasks.
        let work = unsafe { std::mem::transmute::<&Work<'_>, &'static Work<'static>>(work) };
        // SAFETY: the gate is closed and nobody is inside: at first because it was made so, later because the last
        // `run` ended so. `&mut self` keeps every other caller out.
        shared.job.with_mut(|place| unsafe { *place = Some(work) });
        let number = (shared.gate.load(Ordering::Relaxed) >> NUMBER_SHIFT) + 1;
        shared.gate.store(number << NUMBER_SHIFT | OPEN, Ordering::Release);
        // A worker counts itself as sleeper before it looks at the gate for the last time. A fence lies between the two
        // there, as here, and all fences have one order: either the worker sees the gate open, or it is seen here.
        fence(Ordering::SeqCst);
        if shared.sleepers.load(Ordering::Relaxed) > 0 && !self.is_forked() {
            let _bed = lock(&shared.bed);
            shared.opened.notify_all();
        }
        shared.hand_out(work, 0);
        shared.close();
        let panic = lock(&shared.panic).take(); // The lock is let go first, or unwinding would poison it.
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }

    /// Whether this process is a fork of the one that started the workers. It has none of them, whatever the pool counts,
    /// and `bed` may be locked for ever by one that held it. Asks the system, so it is asked only where a worker would
    /// have to be woken.
    fn is_forked(&self) -> bool {
        self.process != process()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.is_forked() {
            // There is nobody to notify. Even to let go of a handle names a thread to the system that it may have
            // given to another.
            return self.workers.drain(..).for_each(std::mem::forget);
        }
        self.shared.stop.store(true, Ordering::Relaxed);
        {
            // Whoever is about to sleep has looked at `stop` under this lock, or will.
            let _bed = lock(&self.shared.bed);
            self.shared.opened.notify_all();
        }
        for worker in self.workers.drain(..) {
            // A worker cannot panic: tasks run inside `catch_unwind`.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// The life of a worker.
    fn serve(&self, thread: usize) {
        let mut seen = 0;
        while let Some(gate) = self.await_job(seen) {
            if self.gate.compare_exchange(gate, gate + 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
                // Another came or left, or the job was closed. Look again.
                continue;
            }
            seen = gate >> NUMBER_SHIFT;
            // SAFETY: this thread is inside, so `run` does not write the job; it was written before the gate was
            // opened, and the exchange acquired that.
            if let Some(job) = self.job.with(|place| unsafe { *place }) {
                self.hand_out(job, thread);
            }
            let before = self.gate.fetch_sub(1, Ordering::Release);
            if before & WAITED_FOR != 0 && before & INSIDE == 1 {
                let _bed = lock(&self.bed);
                self.left.notify_all();
            }
        }
    }

    /// Waits for an open job other than `seen`; the gate as it was then, or `None` at the end.
    fn await_job(&self, seen: u64) -> Option<u64> {
        let news = || {
            let gate = self.gate.load(Ordering::Relaxed);
            (gate & OPEN != 0 && gate >> NUMBER_SHIFT != seen).then_some(gate)
        };
        let stopped = || self.stop.load(Ordering::Relaxed);
        if let Some(gate) = spin(PATIENCE, || news().map(Some).or_else(|| stopped().then_some(None))) {
            return gate;
        }
        let mut bed = lock(&self.bed);
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst); // See `run`.
        let gate = loop {
            if stopped() {
                break None;
            }
            if let Some(gate) = news() {
                break Some(gate);
            }
            bed = self.opened.wait(bed).unwrap_or_else(PoisonError::into_inner);
        };
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
        gate
    }

    /// Takes tasks until none are left. A panic is kept for the caller, and ends the hand-out.
    fn hand_out(&self, job: Job, thread: usize) {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            while let Some(task) = self.shares.take(thread) {
                job(task, thread);
            }
        }));
        if let Err(payload) = outcome {
            self.shares.end();
            let mut kept = lock(&self.panic);
            let surplus = if kept.is_none() { kept.replace(payload) } else { Some(payload) };
            drop(kept);
            // Destructors of payloads are foreign code, too: a thread that one unwinds would never leave the job.
            if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(surplus))) {
                std::mem::forget(another);
            }
        }
    }

    /// Lets nobody in any more and waits until all have left.
    fn close(&self) {
        self.gate.fetch_and(!OPEN, Ordering::Acquire);
        let empty = || self.gate.load(Ordering::Acquire) & INSIDE == 0;
        if spin(PATIENCE, || empty().then_some(())).is_some() {
            return;
        }
        let mut bed = lock(&self.bed);
        // The last to leave either has gone already, or sees this bit and takes the lock before it notifies.
        if self.gate.fetch_or(WAITED_FOR, Ordering::AcqRel) & INSIDE != 0 {
            while !empty() {
                bed = self.left.wait(bed).unwrap_or_else(PoisonError::into_inner);
            }
        }
        self.gate.fetch_and(!WAITED_FOR, Ordering::AcqRel);
    }
}

/// A poisoned lock is sound here: no code that can panic runs while one is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;
