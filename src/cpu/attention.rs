//! Attention over the cache.
//!
//! Softmax takes one pass: scores come in tiles of positions, and what was summed so far is scaled down whenever a tile
//! holds a larger score (Milakov and Gimelshein, arXiv 1805.02867). So scores need no buffer that grows with the context.
//! Blocks of positions are summed apart and then added in order, so that several threads can share one head of a long
//! context and still make the bits that one thread makes. Rows of a prompt that follow each other share what they read of the cache.

mod append;
mod cache;
mod groups;
mod sums;
#[cfg(test)]
mod tests;
mod tile;

use std::ops::Range;

pub(crate) use append::{Turning, rope_append_head};
pub use cache::Cache;

use crate::allocation::area;
use crate::backend::{Heads, Row};
use crate::cpu::aligned::Aligned;
use crate::cpu::attention::groups::{Group, Groups};
use crate::cpu::attention::sums::Sums;
use crate::cpu::attention::tile::{Desk, Seen};
use crate::cpu::disjoint::Disjoint;
use crate::cpu::kernels::{Kernels, POSITIONS};
use crate::cpu::tensor::Tensor;
use crate::cpu::workers::Workers;
use crate::error::Result;

/// Positions that are summed apart: 64 KiB of cache in half precision of 128 features, next to which the time and the memory of
/// their sums are small.
const BLOCK: usize = 2 * POSITIONS;

/// Groups of heads for each thread, in all rows of a step, with which no finer tasks are needed: threads then wait for
/// each other a quarter of the time at the very most.
const GROUPS_A_THREAD: usize = 4;

/// Tasks for each thread where blocks are summed apart.
const BLOCK_TASKS_A_THREAD: usize = 8;

/// Sums of the largest groups for each thread, at most: of the longest contexts, as many blocks are summed apart at a time as make
/// tasks enough.
const SUMS_A_THREAD: usize = 64;

/// Bytes of sums for each thread beyond which there are no more than the two that it needs.
const SUM_BYTES: usize = 1 << 20;

/// Where threads work, and which rows go together.
#[derive(Debug, Default)]
pub(crate) struct Room {
    desks: Aligned<f32>, // [threads, Desk]
    sums: Aligned<f32>,  // [_, Sums]
    runs: Vec<Range<usize>>,
}

impl Room {
    /// Makes room for steps of so many rows.
    pub(crate) fn reserve_rows(&mut self, rows: usize) {
        self.runs.reserve(rows);
    }

    /// Makes room for any step on a cache.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if there is no memory for it.
    pub(crate) fn reserve(&mut self, cache: &Cache, heads: Heads, threads: usize) -> Result<()> {
        let queries = Groups::most_queries(heads);
        let sums_len = Sums::len(queries, heads.head_dim);
        let blocks = cache.shape().positions.div_ceil(BLOCK);
        let useful = match threads {
            1 => 0, // nothing is shared
            _ => (GROUPS_A_THREAD * threads).saturating_mul(blocks).min(SUMS_A_THREAD * threads),
        };
        let affordable = threads * SUM_BYTES / (sums_len * size_of::<f32>()).max(1);
        grow(&mut self.desks, area(threads, Desk::len(queries, heads.head_dim))?)?;
        grow(&mut self.sums, area(useful.min(affordable).max(2 * threads), sums_len)?)
    }
}

fn grow(room: &mut Aligned<f32>, len: usize) -> Result<()> {
    if room.len() < len {
        *room = Aligned::zeroed(len)?;
    }
    Ok(())
}

/// What one call of `attend` works on.
pub(crate) struct Attention<'a> {
    pub(crate) kernels: &'static dyn Kernels,
    pub(crate) rows: &'a [Row],
    pub(crate) qkv: &'a Tensor, // [rows, heads.qkv_cols()]
    pub(crate) cache: &'a Cache,
    pub(crate) heads: Heads,
}

impl Attention<'_> {
    /// `out: [rows, heads.query_cols()]`. `room` was [reserved](Room::reserve) for these workers. Returns how many positions were read of
    /// the cache, each for all rows that are worked on together.
    pub(crate) fn run(&self, workers: &Workers, room: &mut Room, out: &mut [f32]) -> usize {
        let Room { desks, sums, runs } = room;
        let wanted = if workers.threads() > 1 { GROUPS_A_THREAD * workers.threads() } else { 1 };
        let groups = Groups::of(self.rows, self.heads, self.cache.shape(), wanted, runs);
        let sums_len = Sums::len(groups.queries_at_most(), self.heads.head_dim);
        // Each group has its sums, and as many others as are left for blocks that are summed apart.
        let places = (sums.len() / sums_len / groups.len().max(1)).saturating_sub(1);
        let blocks_at_once = groups.most_blocks(BLOCK).min(places);
        let step = Step {
            attention: self,
            work: groups.positions_seen() * self.heads.query_cols() / 4,
            groups: &groups,
            desk_len: Desk::len(Groups::most_queries(self.heads), self.heads.head_dim),
            desks: Disjoint::new(desks),
            sums_len,
            sums: Disjoint::new(sums),
            out: Disjoint::new(out),
        };
        match workers.threads() > 1 && groups.len() < wanted && blocks_at_once > 1 {
            true => step.by_blocks(workers, blocks_at_once),
            false => step.by_groups(workers),
        }
        groups.positions_read()
    }
}

/// The work of one call, as threads share it.
struct Step<'a> {
    attention: &'a Attention<'a>,
    work: usize, // in values
    groups: &'a Groups<'a>,
    desk_len: usize,
    desks: Disjoint<'a, f32>, // [threads, desk_len]
    sums_len: usize,
    sums: Disjoint<'a, f32>, // [_, sums_len]
    out: Disjoint<'a, f32>,  // [rows, heads.query_cols()]
}

impl Step<'_> {
    /// Each group is a task.
    fn by_groups(&self, workers: &Workers) {
        workers.share(self.work, self.groups.len(), &|index, thread| {
            let group = self.groups.get(index);
            // SAFETY: each thread has a desk and two sums of its own, and does one task at a time.
            let (mut desk, mut sums, mut next) =
                unsafe { (self.desk(thread, group), self.sums(2 * thread, group), self.sums(2 * thread + 1, group)) };
            self.attend(&mut desk, &mut sums, group, 0);
            for block in 1..self.groups.blocks(group, BLOCK) {
                self.attend(&mut desk, &mut next, group, block);
                sums.add(&next);
            }
            // SAFETY: each group is one task.
            unsafe { self.finish(group, &sums) };
        });
    }

    /// Some blocks of positions of a group are a task, which follow each other, so that a thread reads on where it was; so many blocks of
    /// each group at a time. The sums of the groups lie before those of their blocks.
    fn by_blocks(&self, workers: &Workers, blocks_at_once: usize) {
        let groups = self.groups.len();
        let blocks_a_task =
            (groups * blocks_at_once / (BLOCK_TASKS_A_THREAD * workers.threads())).clamp(1, blocks_at_once);
        let tasks_a_group = blocks_at_once.div_ceil(blocks_a_task);
        let blocks_from =
            |first: usize, group| self.groups.blocks(group, BLOCK).saturating_sub(first).min(blocks_at_once);
        for first in (0..self.groups.most_blocks(BLOCK)).step_by(blocks_at_once) {
            workers.share(self.work, groups * tasks_a_group, &|task, thread| {
                let index = task / tasks_a_group;
                let group = self.groups.get(index);
                let left = blocks_from(first, group);
                let begin = task % tasks_a_group * blocks_a_task;
                if begin >= left {
                    return;
                }
                // SAFETY: each thread has a desk of its own, and does one task at a time.
                let mut desk = unsafe { self.desk(thread, group) };
                for place in begin..left.min(begin + blocks_a_task) {
                    // SAFETY: each block has sums of its own, and belongs to one task.
                    let mut sums = unsafe { self.sums(groups + index * blocks_at_once + place, group) };
                    self.attend(&mut desk, &mut sums, group, first + place);
                }
            });
            for index in 0..groups {
                let group = self.groups.get(index);
                // SAFETY: the tasks are done, and each group has sums of its own.
                let mut sums = unsafe { self.sums(index, group) };
                for place in 0..blocks_from(first, group) {
                    // SAFETY: as above; these are the sums of a block.
                    let next = unsafe { self.sums(groups + index * blocks_at_once + place, group) };
                    match first + place {
                        0 => sums.copy(&next),
                        _ => sums.add(&next),
                    }
                }
            }
        }
        for index in 0..groups {
            let group = self.groups.get(index);
            // SAFETY: each group has sums of its own, and is finished once.
            unsafe { self.finish(group, &self.sums(index, group)) };
        }
    }

    /// A thread's desk, with the queries of a group.
    ///
    /// # Safety
    /// No two desks of a thread may be there at a time.
    unsafe fn desk(&self, thread: usize, group: Group) -> Desk<'_> {
        let Attention { qkv, heads, .. } = self.attention;
        // SAFETY: the caller has this desk alone.
        let room = unsafe { self.desks.cut(thread * self.desk_len..(thread + 1) * self.desk_len) };
        let desk = Desk::of(room, Groups::most_queries(*heads), heads.head_dim);
        let columns = self.groups.columns(group);
        for (row, q) in (group.row..group.row + group.rows).zip(desk.q.chunks_exact_mut(columns.len())) {
            q.copy_from_slice(&qkv.row(row)[columns.clone()]);
        }
        desk
    }

    /// The sums that lie at a place.
    ///
    /// # Safety
    /// No two of one place may be there at a time.
    unsafe fn sums(&self, place: usize, group: Group) -> Sums<'_> {
        // SAFETY: the caller has this place alone.
        let room = unsafe { self.sums.cut(place * self.sums_len..(place + 1) * self.sums_len) };
        Sums::of(room, self.groups.queries(group), self.attention.heads.head_dim)
    }

    /// What a group sums over one block of the positions that it sees, the first of them block 0.
    fn attend(&self, desk: &mut Desk<'_>, sums: &mut Sums<'_>, group: Group, block: usize) {
        let Attention { kernels, cache, .. } = self.attention;
        let (row, seen_from) = (self.groups.first_row(group), self.groups.first_seen(group));
        // What the first row sees, all do.
        let (all, end) = (row.position as usize + 1, row.position as usize + group.rows);
        let block = (seen_from / BLOCK + block) * BLOCK;
        sums.clear();
        for tile in (block..end.min(block + BLOCK)).step_by(POSITIONS).filter(|tile| tile + POSITIONS > seen_from) {
            let [first, all, end] = [seen_from, all, end].map(|position| position.saturating_sub(tile).min(POSITIONS));
            let keys = cache.keys(row.sequence, group.kv_head, tile..tile + end);
            let values = cache.values(row.sequence, group.kv_head, tile + first..tile + end);
            desk.attend(*kernels, group.rows, sums, Seen { first, all, end }, keys, values);
        }
    }

    /// A group's columns of the output.
    ///
    /// # Safety
    /// No group may be finished twice at a time.
    unsafe fn finish(&self, group: Group, sums: &Sums<'_>) {
        let (columns, cols) = (self.groups.columns(group), self.attention.heads.query_cols());
        for row in 0..group.rows {
            let begin = (group.row + row) * cols;
            // SAFETY: these columns of this row belong to the group, which the caller finishes once.
            let out = unsafe { self.out.cut(begin + columns.start..begin + columns.end) };
            sums.means(row * sums.totals.len() / group.rows, out);
        }
    }
}
