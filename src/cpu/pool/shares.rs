//! Which thread does which tasks of a job. Each begins with a share of tasks that follow each other, as what they read does too: what a
//! task asks memory for ahead of itself is then its thread's next task. A thread that is done takes over the latter half of what is left
//! of the largest share, so none waits for one that is slow, or that has not come. What is just being taken over is nobody else's, so a
//! thread that the system stops in that moment is waited for.

use super::sync::{AtomicBool, AtomicU64, Ordering};

/// The shares of all threads.
pub(super) struct Shares {
    shares: Box<[Share]>,
    is_over: AtomicBool,
}

/// Tasks that nobody has begun: the first of them (32 bits), and the one after the last (the lower 32). In cache lines of its own, of
/// which some processors fetch two at once.
///
/// A task is part of one share, and of none once it is begun. So a share never is again what it was before in the same job, and an
/// exchange that succeeds gives tasks to one thread alone. No other memory is ordered by it: the gate does that.
#[repr(align(128))]
struct Share(AtomicU64);

fn share(first: usize, end: usize) -> u64 {
    (first as u64) << 32 | end as u64
}

fn tasks(share: u64) -> (usize, usize) {
    ((share >> 32) as usize, (share & u64::from(u32::MAX)) as usize)
}

impl Shares {
    pub(super) fn new(threads: usize) -> Self {
        let shares = (0..threads).map(|_| Share(AtomicU64::new(0))).collect();
        Self { shares, is_over: AtomicBool::new(false) }
    }

    /// Deals the tasks of a job, before anybody takes one.
    pub(super) fn deal(&self, count: usize) {
        assert!(u32::try_from(count).is_ok(), "{count} tasks are more than a job has");
        self.is_over.store(false, Ordering::Relaxed);
        let threads = self.shares.len() as u64;
        let begin = |thread: usize| (count as u64 * thread as u64 / threads) as usize;
        for (thread, Share(own)) in self.shares.iter().enumerate() {
            own.store(share(begin(thread), begin(thread + 1)), Ordering::Relaxed);
        }
    }

    /// The next task of a thread: of its own share, or of one that it takes over. None when nobody has any left.
    pub(super) fn take(&self, thread: usize) -> Option<usize> {
        while !self.is_over.load(Ordering::Relaxed) {
            let Share(own) = &self.shares[thread];
            let before = own.load(Ordering::Relaxed);
            let (first, end) = tasks(before);
            if first == end {
                return self.take_over(thread);
            }
            if own.compare_exchange(before, share(first + 1, end), Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return Some(first);
            }
        }
        None
    }

    /// Takes over the latter half of the largest share, for a thread whose own is empty: the first of these tasks is returned, the others
    /// become its share.
    fn take_over(&self, thread: usize) -> Option<usize> {
        while !self.is_over.load(Ordering::Relaxed) {
            let left = |Share(other): &Share| {
                let share = other.load(Ordering::Relaxed);
                let (first, end) = tasks(share);
                (end - first, share)
            };
            let largest = self.shares.iter().map(|other| (left(other), other)).max_by_key(|((count, _), _)| *count);
            let ((count, before), Share(other)) = largest?;
            if count == 0 {
                return None;
            }
            let (first, end) = tasks(before);
            let middle = end - count.div_ceil(2);
            if other.compare_exchange(before, share(first, middle), Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                // Nobody takes from a share without tasks, so nobody else writes it.
                self.shares[thread].0.store(share(middle + 1, end), Ordering::Relaxed);
                return Some(middle);
            }
        }
        None
    }

    /// Lets nobody take a task any more.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn threads_begin_with_tasks_that_follow_each_other_and_help_where_most_is_left() {
        let shares = Shares::new(3);
        shares.deal(11);
        let take =
            |thread: usize, count: usize| -> Vec<usize> { (0..count).map_while(|_| shares.take(thread)).collect() };
        assert_eq!(take(1, 4), [3, 4, 5, 6]);
        assert_eq!(take(0, 1), [0]);
        assert_eq!(take(1, 1), [9], "the latter half of the last thread's");
        assert_eq!(take(0, 2), [1, 2]);
        assert_eq!(take(0, 9), [8, 7, 10]);
        assert!(take(2, 1).is_empty());
        shares.deal(2);
        assert_eq!(take(2, 9), [1, 0], "a thread that has not come keeps nothing back");
        shares.deal(5);
        assert_eq!(take(1, 1), [1]);
        shares.end();
        assert!(take(0, 1).is_empty());
    }
}
