//! Every task once, whatever sleeps, panics or comes late.

use std::time::Instant;

use super::*;

#[cfg(unix)]
#[path = "../../../tests/common/fork.rs"]
mod fork;
#[cfg(unix)]
use fork::in_a_child;

#[test]
fn every_task_runs_once_in_every_run() {
    for threads in [1, 2, 3, 16] {
        let mut pool = Pool::new(threads).unwrap();
        for run in 0..2000 {
            let tasks = run % 67;
            let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
            pool.run(tasks, &|task, thread| {
                assert!(thread < threads);
                counts[task].fetch_add(1, Ordering::Relaxed);
            });
            assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1), "{threads} threads, run {run}");
        }
    }
}

#[test]
fn sleeping_workers_wake_up() {
    let mut pool = Pool::new(2).unwrap();
    for _ in 0..5 {
        std::thread::sleep(PATIENCE * 50);
        // Two tasks that wait for each other can only end on two threads.
        let met = AtomicUsize::new(0);
        pool.run(2, &|_, _| {
            met.fetch_add(1, Ordering::SeqCst);
            while met.load(Ordering::SeqCst) < 2 {
                std::thread::yield_now();
            }
        });
    }
}

#[test]
fn the_caller_sleeps_until_a_slow_worker_has_left() {
    let mut pool = Pool::new(3).unwrap();
    for _ in 0..5 {
        let done = AtomicUsize::new(0);
        pool.run(3, &|_, thread| {
            std::thread::sleep(PATIENCE * if thread == 0 { 1 } else { 20 });
            done.fetch_add(1, Ordering::SeqCst);
        });
        assert_eq!(done.load(Ordering::SeqCst), 3);
    }
}

#[test]
fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
    for threads in [1, 2, 5] {
        let mut pool = Pool::new(threads).unwrap();
        for bad in [0, 7, 99] {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                pool.run(100, &|task, _| assert!(task != bad, "task {bad} fails"));
            }));
            let payload = outcome.expect_err("the panic is passed on");
            assert_eq!(payload.downcast_ref::<String>().unwrap(), &format!("task {bad} fails"));
            let sum = AtomicUsize::new(0);
            pool.run(100, &|task, _| {
                sum.fetch_add(task, Ordering::Relaxed);
            });
            assert_eq!(sum.load(Ordering::Relaxed), 4950);
        }
    }
}

/// A run costs less than starting as many threads for it would, which takes some hundred microseconds; a thread that waited
/// for the scheduler at each run would take milliseconds. Both are timed by turns, so that what else the machine does slows
/// down both.
#[test]
fn more_threads_than_cores_do_not_collapse() {
    const THREADS: usize = 16;
    let task = || {
        std::hint::black_box((0..std::hint::black_box(500)).sum::<usize>());
    };
    let timed = |run: &mut dyn FnMut()| {
        let begin = Instant::now();
        (0..100).for_each(|_| run());
        begin.elapsed()
    };
    let mut pool = Pool::new(THREADS).unwrap();
    let (mut pooled, mut started) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..5 {
        pooled += timed(&mut || pool.run(2 * THREADS, &|_, _| task()));
        started += timed(&mut || {
            std::thread::scope(|scope| {
                (0..THREADS).for_each(|_| drop(scope.spawn(|| [task(), task()])));
            });
        });
    }
    assert!(pooled < started, "500 runs took {pooled:?}; with threads of their own, {started:?}");
}

/// A panic's payload that panics itself when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a payload panics when it is dropped");
    }
}

#[test]
fn payloads_that_panic_when_dropped_end_neither_workers_nor_caller() {
    for threads in [2, 3] {
        let mut pool = Pool::new(threads).unwrap();
        for _ in 0..3 {
            // All threads are in a task before the first panics, so that every thread panics.
            let begun = AtomicUsize::new(0);
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                pool.run(threads, &|_, _| {
                    begun.fetch_add(1, Ordering::SeqCst);
                    while begun.load(Ordering::SeqCst) < threads {
                        std::thread::yield_now();
                    }
                    resume_unwind(Box::new(Bomb));
                });
            }));
            let payload = outcome.expect_err("the first panic is passed on");
            assert!(payload.is::<Bomb>());
            std::mem::forget(payload);
            every_task_runs_once(&mut pool, 10);
        }
    }
}

#[cfg(unix)]
#[test]
fn a_forked_child_runs_jobs_alone_and_drops_the_pool() {
    for asleep in [false, true] {
        let mut pool = Pool::new(3).unwrap();
        every_task_runs_once(&mut pool, 10);
        if asleep {
            fall_asleep(&pool);
        }
        in_a_child(&format!("workers sleep: {asleep}"), || {
            for _ in 0..3 {
                every_task_runs_once(&mut pool, 10);
            }
            drop(pool);
        });
    }
}

#[cfg(unix)]
#[test]
fn a_lock_that_was_held_at_the_fork_stops_no_child() {
    let pool = Pool::new(2).unwrap();
    fall_asleep(&pool);
    let shared = Arc::clone(&pool.shared);
    let mut pool = Some(pool);
    let held = lock(&shared.bed);
    in_a_child("a lock is held", || {
        let mut pool = pool.take().expect("it is there until the child drops it");
        every_task_runs_once(&mut pool, 10);
    });
    drop(held);
    every_task_runs_once(pool.as_mut().expect("the child took its own"), 10);
}

fn every_task_runs_once(pool: &mut Pool, tasks: usize) {
    let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
    pool.run(tasks, &|task, _| {
        counts[task].fetch_add(1, Ordering::Relaxed);
    });
    assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
}

/// Waits until all workers sleep.
fn fall_asleep(pool: &Pool) {
    while pool.shared.sleepers.load(Ordering::Relaxed) < pool.workers.len() {
        std::thread::sleep(PATIENCE);
    }
}
