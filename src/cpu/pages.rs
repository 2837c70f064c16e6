//! Memory for weights in huge pages. A token reads all weights once, in order; with pages of 4 KiB the processor looks up an address
//! for each 64 cache lines of them, with pages of 2 MiB for each 32768. On Linux the map of a file has small pages, so what a token
//! reads is copied out of it at load, and the pages of the map are given back. Measured on a Sapphire Rapids VM of two cores
//! (2026-11-29), the 2B-4T shape, pairs by turns: decoding 1.21 times as fast with one thread, 1.08 with two.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::{MmapMut, MmapRaw};

use crate::cpu::HugePages;
use crate::cpu::disjoint::Disjoint;
use crate::cpu::workers::Workers;
use crate::error::{Error, Result};
use crate::format::file::{give_back, is_mapped};
use crate::measure::available_memory_bytes;

/// Bytes of a huge page.
const HUGE_PAGE: usize = 2 << 20;
/// The most bytes that are taken for matrices to come: an area that is not filled costs addresses and no memory.
const MOST_AHEAD: usize = 64 << 20;
/// Where each matrix begins: with a cache line, which is the longest vector too.
const ALIGNMENT: usize = 64;
/// The share of the memory available at first that copies may take, 1 in this many: the rest is for caches of keys and values, and
/// for others.
const SHARE: u64 = 2;
/// Bytes that a thread copies at once.
const PIECE: usize = 1 << 20;

/// Copies weights into huge pages, one matrix after another.
#[derive(Debug)]
pub(crate) struct Pages {
    wanted: HugePages,
    left: Option<u64>, // bytes that may still be copied; not known before the first
    latest: Option<Arc<MmapRaw>>,
    used: usize,  // bytes of the latest area
    taken: usize, // bytes of all areas
}

/// A part of an area: written once, and read from then on.
struct Written {
    area: Arc<MmapRaw>,
    range: Range<usize>,
}

impl AsRef<[u8]> for Written {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the range lies in the area, was written before this was made, and is never written again, as `Pages` gives out
        // each place once. The area is unmapped when the last of its parts is dropped.
        unsafe { std::slice::from_raw_parts(self.area.as_ptr().add(self.range.start), self.range.len()) }
    }
}

impl Pages {
    pub(crate) fn new(wanted: HugePages) -> Self {
        Self { wanted, left: None, latest: None, used: 0, taken: 0 }
    }

    pub(crate) fn wanted(&self) -> HugePages {
        self.wanted
    }

    /// Whether weights are copied, as far as there is memory.
    pub(crate) fn are_given(&self) -> bool {
        self.left != Some(0) && self.wanted == HugePages::WhereGiven && huge_pages_are_given()
    }

    /// A copy of `bytes` in huge pages, made by all threads. The bytes as they lie where the system gives no such pages, has too little
    /// memory for a copy, or where somebody else keeps them in memory as well: a copy is worth that of one that is given back.
    pub(crate) fn place(&mut self, bytes: &Bytes, workers: &Workers) -> Bytes {
        match is_mapped(bytes) || bytes.is_unique() {
            true => self.place_part(bytes, workers),
            false => bytes.clone(),
        }
    }

    /// The same of bytes that nobody keeps, whatever their count of owners says: those that the caller gives up at once, and parts of others
    /// that it gives up together.
    pub(crate) fn place_part(&mut self, bytes: &Bytes, workers: &Workers) -> Bytes {
        let left = match self.left {
            Some(left) => left,
            None if self.are_given() => available_memory_bytes().unwrap_or(0) / SHARE,
            None => 0,
        };
        self.left = Some(left);
        if bytes.is_empty() || left < bytes.len() as u64 {
            return bytes.clone();
        }
        let Ok((area, first)) = self.room(bytes.len()) else {
            self.left = Some(0);
            return bytes.clone();
        };
        self.left = Some(left - bytes.len() as u64);
        let range = first..first + bytes.len();
        self.used = range.end;
        // SAFETY: the range lies in the area, and nobody else was given it.
        let copy = unsafe { std::slice::from_raw_parts_mut(area.as_mut_ptr().add(first), bytes.len()) };
        let copy = Disjoint::new(copy);
        // Whatever a session's interrupt says: what is half copied is no matrix.
        workers.take().pool.run(bytes.len().div_ceil(PIECE), &|piece, _| {
            let places = piece * PIECE..bytes.len().min((piece + 1) * PIECE);
            // SAFETY: each piece is one task.
            unsafe { copy.cut(places.clone()) }.copy_from_slice(&bytes[places]);
        });
        give_back(bytes);
        Bytes::from_owner(Written { area, range })
    }

    /// An area with room, and where in it.
    fn room(&mut self, len: usize) -> Result<(Arc<MmapRaw>, usize)> {
        let first = self.used.next_multiple_of(ALIGNMENT);
        if let Some(area) = self.latest.as_ref().filter(|area| area.len() - first.min(area.len()) >= len) {
            return Ok((area.clone(), first));
        }
        let ahead = self.taken.min(MOST_AHEAD).max(len).next_multiple_of(HUGE_PAGE);
        let area = Arc::new(MmapRaw::from(mapped_zeros(ahead, self.wanted)?));
        (self.used, self.taken) = (0, self.taken + ahead);
        self.latest = Some(area.clone());
        Ok((area, 0))
    }
}

/// Memory whose pages are asked for.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) type Area = MmapMut;
/// WebAssembly has one memory, and nobody to ask for pages of it.
#[cfg(target_arch = "wasm32")]
pub(crate) type Area = Vec<u8>;

/// Zeros, in huge pages if they are wanted and the system gives them.
///
/// # Errors
/// [`Error::Device`] if there is no memory for them.
pub(crate) fn zeros(len: usize, wanted: HugePages) -> Result<Area> {
    #[cfg(not(target_arch = "wasm32"))]
    return mapped_zeros(len, wanted);
    #[cfg(target_arch = "wasm32")]
    {
        let _ = wanted;
        crate::allocation::filled(len, 0)
    }
}

fn mapped_zeros(len: usize, wanted: HugePages) -> Result<MmapMut> {
    let area = MmapMut::map_anon(len);
    let area = area.map_err(|e| Error::out_of_memory(format!("no memory for {len} bytes of weights: {e}")))?;
    #[cfg(target_os = "linux")]
    if wanted == HugePages::WhereGiven {
        // A refusal leaves small pages.
        let _ = area.advise(memmap2::Advice::HugePage);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = wanted;
    Ok(area)
}

/// Whether memory that asks for huge pages gets them.
pub(crate) fn huge_pages_are_given() -> bool {
    let enabled = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    cfg!(target_os = "linux") && (enabled.contains("[madvise]") || enabled.contains("[always]"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::KernelSet;

    fn workers() -> Workers {
        Workers::start(3, KernelSet::Portable.table().unwrap()).unwrap()
    }

    fn sample(len: usize, seed: usize) -> Bytes {
        (0..len).map(|i| (i * 7 + seed + i / 251) as u8).collect()
    }

    #[test]
    fn copies_are_equal_and_aligned_and_outlive_what_made_them() {
        let workers = workers();
        let mut pages = Pages::new(HugePages::WhereGiven);
        pages.left = Some(1 << 30); // as where such pages are given
        let sizes = [1, 64, 65, 1000, PIECE - 1, PIECE, 3 * PIECE + 5, HUGE_PAGE, 5 * HUGE_PAGE + 1, 7];
        let samples: Vec<Bytes> = sizes.iter().enumerate().map(|(i, &len)| sample(len, i)).collect();
        let copies: Vec<Bytes> = samples.iter().map(|sample| pages.place(sample, &workers)).collect();
        drop(pages);
        for (copy, sample) in copies.iter().zip(&samples) {
            assert!(copy == sample && copy.as_ptr() != sample.as_ptr());
            assert_eq!(copy.as_ptr().addr() % ALIGNMENT, 0);
        }
    }

    #[test]
    fn areas_grow_with_what_was_copied_and_no_more_is_copied_than_may_be() {
        let workers = workers();
        let mut pages = Pages::new(HugePages::WhereGiven);
        pages.left = Some(3000);
        let bytes = sample(1000, 0);
        let copies: Vec<Bytes> = (0..4).map(|_| pages.place(&bytes, &workers)).collect();
        let is_copied = |copy: &Bytes| copy.as_ptr() != bytes.as_ptr();
        assert_eq!(copies.iter().map(is_copied).collect::<Vec<_>>(), [true, true, true, false]);
        assert_eq!((pages.taken, pages.left), (HUGE_PAGE, Some(0)));

        let kept = bytes.clone();
        pages.left = Some(3000);
        assert!(!is_copied(&pages.place(&bytes, &workers)), "somebody keeps them");
        drop(kept);

        let mut never = Pages::new(HugePages::Never);
        assert_eq!(never.place(&bytes, &workers).as_ptr(), bytes.as_ptr());
        assert_eq!(never.taken, 0);
    }
}
