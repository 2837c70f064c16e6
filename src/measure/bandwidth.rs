//! How fast this machine reads its memory. Making one token reads every weight once, so this figure over the bytes of
//! the weights is the most tokens a second that any program can make: the roof that a speed is held against.
//!
//! The definition is that of a plain read (as the read test of `likwid-bench`, or STREAM without its writes): memory far
//! larger than the caches, in order, each thread its own part, by the widest loads that the CPU has, with no software
//! prefetch. Narrower loads give less: 10.6 GB/s a thread by those of 16 bytes, 14.4 by 32 and 15.8 by 64 (a virtual
//! Emerald Rapids, 2026-11-30, huge pages).

use std::hint::black_box;
use std::sync::{Barrier, OnceLock};
use std::thread::Builder;

use memmap2::MmapMut;

use crate::cpu::{HugePages, KernelSet, huge_pages_are_given};
use crate::error::{Error, Result};
use crate::time::Instant;

/// Bytes that are read where there is enough memory: about the weights of a 2B model, and beyond any cache of today.
const MOST_BYTES: usize = 1 << 30;
/// Bytes that are read where the memory available is not known.
const USUAL_BYTES: usize = 256 << 20;
/// The share of the available memory that a measurement may take.
const SHARE: usize = 4;
/// Passes over the buffer; one more, which is not timed, goes before.
const PASSES: usize = 9;
/// Parts of the buffer begin at whole pages of 2 MiB.
const PAGE_BYTES: usize = 2 << 20;

/// Bytes a second that were read in some passes over the memory, with pages of the size that is read faster.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Bandwidth {
    /// The middle one.
    pub median: f64,
    /// The slowest.
    pub least: f64,
    /// The fastest.
    pub most: f64,
    /// Whether those were huge pages.
    pub huge_pages: bool,
}

/// Bytes a second that `threads` threads read from memory together: the median of [`Bandwidth::measure`].
///
/// # Errors
/// As [`Bandwidth::measure`].
///
/// # Panics
/// If there are no threads.
pub fn read_bandwidth(threads: usize) -> Result<f64> {
    Ok(Bandwidth::measure(threads)?.median)
}

impl Bandwidth {
    /// Reads up to 1 GiB nine times with `threads` threads, or as many of them as the system starts, in small pages and, on Linux, in
    /// huge ones, which takes two to four seconds.
    ///
    /// # Errors
    /// [`Error::Device`] if the system refuses the memory: a quarter of what it calls available.
    ///
    /// # Panics
    /// If there are no threads.
    pub fn measure(threads: usize) -> Result<Self> {
        assert!(threads > 0, "somebody must read");
        let small = Self::of_pages(threads, HugePages::Never)?;
        if !huge_pages_are_given() {
            return Ok(small);
        }
        let huge = Self::of_pages(threads, HugePages::WhereGiven)?;
        Ok(if huge.median > small.median { huge } else { small })
    }

    fn of_pages(threads: usize, pages: HugePages) -> Result<Self> {
        let part_bytes = (buffer_bytes() / threads).next_multiple_of(PAGE_BYTES);
        let refused = |e| Error::out_of_memory(format!("no memory to read for a measurement of its bandwidth: {e}"));
        let mut buffer = MmapMut::map_anon(part_bytes * threads).map_err(refused)?;
        // A refusal leaves what there is.
        #[cfg(target_os = "linux")]
        let _ = buffer.advise(match pages {
            HugePages::Never => memmap2::Advice::NoHugePage,
            _ => memmap2::Advice::HugePage,
        });
        let words: &mut [u64] = bytemuck::cast_slice_mut(&mut buffer);
        let barrier = OnceLock::new(); // for as many threads as have started, the calling one among them
        let (mut times, mut readers) = (Vec::new(), 1);
        std::thread::scope(|scope| {
            let barrier = &barrier;
            let mut parts = words.chunks_exact_mut(part_bytes / size_of::<u64>());
            let own = parts.next().expect("there is a part for each thread");
            for part in parts {
                if Builder::new().spawn_scoped(scope, move || read_passes(part, barrier.wait())).is_err() {
                    break; // nor would the next one start
                }
                readers += 1;
            }
            times = read_passes(own, barrier.get_or_init(|| Barrier::new(readers)));
        });
        let mut rates: Vec<f64> = times.iter().map(|seconds| (part_bytes * readers) as f64 / seconds).collect();
        rates.sort_by(f64::total_cmp);
        let huge_pages = pages == HugePages::WhereGiven;
        Ok(Self { median: rates[PASSES / 2], least: rates[0], most: rates[PASSES - 1], huge_pages })
    }
}

/// Fills a part, then reads it again and again, together with the other threads: the seconds of each pass.
fn read_passes(part: &mut [u64], barrier: &Barrier) -> Vec<f64> {
    // Touched by the thread that reads it, so that the pages lie near it, and with values that no one can foresee.
    part.iter_mut().zip(1u64..).for_each(|(word, i)| *word = i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let kernels = KernelSet::best().table().expect("the best set is one that the CPU has");
    let pass = |_| {
        barrier.wait();
        let start = Instant::now();
        black_box(kernels.sum_words(black_box(part)));
        barrier.wait();
        start.elapsed().as_secs_f64()
    };
    (0..PASSES + 1).map(pass).skip(1).collect()
}

fn buffer_bytes() -> usize {
    let available = super::available_memory_bytes();
    available.map_or(USUAL_BYTES, |bytes| (bytes as usize / SHARE).clamp(PAGE_BYTES, MOST_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_is_plausible() {
        for threads in [1, 3] {
            let Bandwidth { median, least, most, .. } = Bandwidth::measure(threads).unwrap();
            assert!(least <= median && median <= most);
            assert!((1e8..1e13).contains(&median), "{threads} threads read {median:e} bytes a second");
        }
    }
}
