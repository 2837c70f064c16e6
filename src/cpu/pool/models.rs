//! The pool under loom: each model is run through all orders of its threads, up to a number of preemptions. A race, a
//! deadlock (so a wake-up that is lost) and a broken assertion end it. `tests/loom.sh` runs them.

use std::sync::atomic::{AtomicUsize as Plain, Ordering::Relaxed};

use super::*;

/// Runs `runs` jobs of `tasks` tasks on `threads` threads, and drops the pool.
fn model(threads: usize, runs: usize, tasks: usize, preemptions: usize) {
    explore(&format!("{threads} threads, {runs} runs of {tasks} tasks"), preemptions, move || {
        let mut pool = Pool::new(threads).unwrap();
        for _ in 0..runs {
            do_every_task_once(&mut pool, tasks);
        }
    });
}

/// Runs `body` in every order that has at most so many `preemptions`, and prints how many those are.
fn explore(what: &str, preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    let executions = std::sync::Arc::new(Plain::new(0));
    let counter = std::sync::Arc::clone(&executions);
    builder.check(move || {
        counter.fetch_add(1, Relaxed);
        body();
    });
    println!("{what}: {} executions of at most {preemptions} preemptions", executions.load(Relaxed));
}

/// Every task writes a cell of its own, which the caller reads after the run: without an order between the two, loom
/// reports a race.
fn do_every_task_once(pool: &mut Pool, tasks: usize) {
    let cells: Vec<_> = (0..tasks).map(|_| Cell(UnsafeCell::new(0))).collect();
    // SAFETY: no task is handed out twice; loom would report it.
    pool.run(tasks, &|task, _| cells[task].0.with_mut(|place| unsafe { *place += 1 }));
    for cell in cells {
        // SAFETY: the run is over, so nobody else writes; loom would report it.
        cell.0.with(|place| assert_eq!(unsafe { *place }, 1));
    }
}

struct Cell(UnsafeCell<usize>);

// SAFETY: the models are about this promise: each cell is used by one thread at a time, and loom watches.
unsafe impl Sync for Cell {}

#[test]
fn two_threads_do_every_task_once_and_end() {
    model(2, 1, 2, 3);
    model(2, 2, 2, 3);
    model(2, 3, 2, 2);
}

/// Halves of what another has, taken over while it goes on.
#[test]
fn two_threads_take_tasks_over_from_each_other() {
    model(2, 1, 5, 3);
}

#[test]
fn three_threads_do_every_task_once_and_end() {
    model(3, 1, 3, 2);
    model(3, 2, 2, 2);
}

#[test]
fn panics_of_all_tasks_end_a_run_but_not_the_pool() {
    explore("2 threads, 1 run of 3 panics and 1 of 2 tasks", 3, || {
        let mut pool = Pool::new(2).unwrap();
        // Not by `panic!`, whose hook would print it in each execution.
        let outcome = catch_unwind(AssertUnwindSafe(|| pool.run(3, &|_, _| resume_unwind(Box::new(7)))));
        assert_eq!(outcome.unwrap_err().downcast_ref::<i32>(), Some(&7));
        do_every_task_once(&mut pool, 2);
    });
}

#[test]
fn workers_that_sleep_are_woken() {
    for (threads, runs, preemptions) in [(2, 2, 3), (3, 1, 2)] {
        explore(&format!("{threads} threads, {runs} runs of tasks that meet"), preemptions, move || {
            let mut pool = Pool::new(threads).unwrap();
            for _ in 0..runs {
                meet(&mut pool);
            }
        });
    }
}

/// Runs a task for each thread, none of which ends before all have begun. If a worker sleeps on, nobody goes on: the
/// pool promises no such thing to its users, but a worker that sleeps through a job is a core that is lost.
fn meet(pool: &mut Pool) {
    let threads = pool.threads();
    let (begun, all) = (Mutex::new(0), Condvar::new());
    pool.run(threads, &|_, _| {
        let mut count = lock(&begun);
        *count += 1;
        all.notify_all();
        while *count < threads {
            count = all.wait(count).unwrap_or_else(PoisonError::into_inner);
        }
    });
}
