//! Attention over the cache.
//!
//! Softmax takes one pass: scores come in tiles of positions, and what was summed so far is scaled down whenever a tile
//! holds a larger score (Milakov and Gimelshein, arXiv 1805.02867). So scores need no buffer that grows with the context.
//! Blocks of positions are summed apart and then added in order, so that several threads can share one head of a long
//! context and still make the bits that one thread makes. Rows of a prompt that follow each other share what they read of the cache.

mod cache;
mod tile;

use std::ops::Range;

pub use cache::Cache;
pub(crate) use cache::{Norming, Turning, rope_append_head};

use crate::allocation::{area, filled};
use crate::backend::{Heads, Row};
use crate::cpu::attention::tile::Queries;
use crate::cpu::disjoint::Disjoint;
use crate::cpu::kernels::{HEADS, Kernels};
use crate::cpu::tensor::Tensor;
use crate::cpu::workers::{WORTH_SHARING, Workers};
use crate::error::Result;

/// Positions of a tile: its keys, 16 KiB in half precision of 128 features, stay in the nearest cache.
const POSITIONS: usize = 64;

/// Positions that are summed apart: a task of 64 KiB of cache in half precision of 128 features, next to which the time
/// and the memory of a part are small.
const BLOCK: usize = 2 * POSITIONS;

/// Groups of heads for each thread, in all rows of a step, with which no finer tasks are needed: threads then wait for
/// each other a quarter of the time at the very most.
const GROUPS_A_THREAD: usize = 4;

/// Parts for each thread, at most: of the longest contexts, as many blocks are summed apart at a time as make tasks enough.
const PARTS_A_THREAD: usize = 64;

/// Bytes of parts for each thread beyond which there are no more than the two that it needs.
const PART_BYTES: usize = 1 << 20;

/// Makes room for the parts of any step on a cache.
///
/// # Errors
/// [`crate::Error::Device`] if there is no memory for it.
pub(crate) fn reserve(room: &mut Vec<f32>, cache: &Cache, heads: Heads, threads: usize) -> Result<()> {
    let blocks = cache.positions().div_ceil(BLOCK);
    let useful = (GROUPS_A_THREAD * threads).saturating_mul(blocks).min(PARTS_A_THREAD * threads);
    let affordable = threads * PART_BYTES / (part_len(heads) * size_of::<f32>()).max(1);
    let len = area(useful.min(affordable).max(2 * threads), part_len(heads))?;
    if room.len() < len {
        *room = filled(len, 0.0)?;
    }
    Ok(())
}

/// Floats of a part, `[queries * head_dim | queries * head_dim | queries | queries]`: the queries; sums of values, not yet divided; the
/// largest score; the sums of the weights.
fn part_len(heads: Heads) -> usize {
    most_together(heads) * heads.heads / heads.kv_heads * (2 * heads.head_dim + 2)
}

/// Most rows that are worked on together: a power of two, so that they lie in one tile where they begin at a multiple of it.
fn most_together(heads: Heads) -> usize {
    match HEADS * heads.kv_heads / heads.heads {
        0 | 1 => 1,
        rows => 1 << rows.ilog2(),
    }
}

/// What one call of `attend` works on.
pub(crate) struct Attention<'a> {
    pub(crate) kernels: &'static dyn Kernels,
    pub(crate) rows: &'a [Row],
    pub(crate) qkv: &'a Tensor, // [rows, heads.qkv_cols()]
    pub(crate) cache: &'a Cache,
    pub(crate) heads: Heads,
}

/// The query heads that share a key/value head, of rows that follow each other.
#[derive(Clone, Copy)]
struct Group {
    row: usize,
    rows: usize, // 0 if the row belongs to a group that begins before it
    kv_head: usize,
}

impl Attention<'_> {
    /// `out: [rows, heads.query_cols()]`. `room` was [reserved](reserve).
    pub(crate) fn run(&self, workers: &Workers, room: &mut [f32], out: &mut [f32]) {
        let (threads, groups) = (workers.threads(), self.rows.len() * self.heads.kv_heads);
        let positions: usize = self.rows.iter().map(|row| self.cache.seen(row.position as usize)).sum();
        let work = positions * self.heads.query_cols() / 4;
        let most_blocks = (0..self.rows.len()).map(|row| self.blocks(row)).max().unwrap_or(0);
        // Each group has a part for its sum, and as many others as are left for blocks that are summed apart.
        let blocks_at_once = (room.len() / self.part_len() / groups.max(1)).saturating_sub(1).min(most_blocks);
        let (room, out) = (Disjoint::new(room), Disjoint::new(out));
        if threads > 1 && groups < GROUPS_A_THREAD * threads && most_blocks > 1 && blocks_at_once > 1 {
            for first in (0..most_blocks).step_by(blocks_at_once) {
                workers.share(work, groups * blocks_at_once, &|task, _| {
                    let (group, block) = (self.group(task / blocks_at_once), first + task % blocks_at_once);
                    if group.rows > 0 && block < self.blocks(group.row) {
                        // SAFETY: each task has a part of its own, behind those of the sums.
                        self.attend(unsafe { room.cut(self.part(groups + task)) }, group, block);
                    }
                });
                for index in 0..groups {
                    let Group { row, rows, .. } = self.group(index);
                    let blocks = if rows > 0 { self.blocks(row).saturating_sub(first).min(blocks_at_once) } else { 0 };
                    // SAFETY: the tasks are done, and each group has a sum of its own.
                    let sum = unsafe { room.cut(self.part(index)) };
                    for place in 0..blocks {
                        // SAFETY: as above; this is a part of a block.
                        let next = unsafe { room.cut(self.part(groups + index * blocks_at_once + place)) };
                        match first + place {
                            0 => sum.copy_from_slice(next),
                            _ => self.add(sum, next, rows),
                        }
                    }
                }
            }
            for index in 0..groups {
                let group = self.group(index);
                if group.rows > 0 {
                    // SAFETY: each group has a sum of its own, and is finished once.
                    unsafe { self.finish(&out, group, room.cut(self.part(index))) };
                }
            }
            return;
        }
        let whole = |index: usize, thread: usize| {
            let group = self.group(index);
            if group.rows == 0 {
                return;
            }
            // SAFETY: each thread has two parts of its own, and does one task at a time.
            let (sum, next) = unsafe { (room.cut(self.part(2 * thread)), room.cut(self.part(2 * thread + 1))) };
            self.attend(sum, group, 0);
            for block in 1..self.blocks(group.row) {
                self.attend(next, group, block);
                self.add(sum, next, group.rows);
            }
            // SAFETY: each group is one task.
            unsafe { self.finish(&out, group, sum) };
        };
        if work < WORTH_SHARING {
            (0..groups).for_each(|index| whole(index, 0));
        } else {
            workers.run(groups, &whole);
        }
    }

    /// The last rows first: in a chunk of a prompt they see the most positions, and long tasks should not end a run.
    fn group(&self, index: usize) -> Group {
        let kv_heads = self.heads.kv_heads;
        let row = self.rows.len() - 1 - index / kv_heads;
        Group { row, rows: self.rows_together(row), kv_head: index % kv_heads }
    }

    /// Positions that are read, each for all rows that are worked on together.
    pub(crate) fn positions_read(&self) -> usize {
        let together = (0..self.rows.len()).map(|row| (row, self.rows_together(row))).filter(|&(_, rows)| rows > 0);
        together.map(|(row, rows)| self.cache.seen(self.rows[row + rows - 1].position as usize)).sum()
    }

    /// How many rows from this one on are worked on together; none if it belongs to a group that begins before it. All see the cache
    /// from its first position on.
    fn rows_together(&self, row: usize) -> usize {
        let most = most_together(self.heads);
        let continues = |row: usize| {
            let Some(before) = row.checked_sub(1).map(|before| self.rows[before]) else { return false };
            let Row { sequence, position, .. } = self.rows[row];
            let follows = before.sequence == sequence && before.position.checked_add(1) == Some(position);
            follows && !(position as usize).is_multiple_of(most) && self.cache.first_seen(position as usize) == 0
        };
        match continues(row) {
            true => 0,
            false => 1 + (row + 1..self.rows.len()).take_while(|&row| continues(row)).count(),
        }
    }

    /// Query heads of a row of a group.
    fn group_heads(&self) -> usize {
        self.heads.heads / self.heads.kv_heads
    }

    /// Blocks that a row sees, counted from the first that it sees.
    fn blocks(&self, row: usize) -> usize {
        let position = self.rows[row].position as usize;
        position / BLOCK + 1 - self.first_block(row)
    }

    /// The block of the first position that a row sees.
    fn first_block(&self, row: usize) -> usize {
        self.cache.first_seen(self.rows[row].position as usize) / BLOCK
    }

    fn part_len(&self) -> usize {
        part_len(self.heads)
    }

    fn part(&self, place: usize) -> Range<usize> {
        place * self.part_len()..(place + 1) * self.part_len()
    }

    /// Columns of a group in a row of `qkv` and of the output.
    fn columns(&self, group: Group) -> Range<usize> {
        let cols = self.group_heads() * self.heads.head_dim;
        group.kv_head * cols..(group.kv_head + 1) * cols
    }

    /// The part of one block of the positions that the rows see, the first of them block 0.
    fn attend(&self, part: &mut [f32], group: Group, block: usize) {
        let Row { sequence, position, .. } = self.rows[group.row];
        let (row_len, head_dim) = (self.group_heads() * self.heads.head_dim, self.heads.head_dim);
        let (block, position) = (self.first_block(group.row) + block, position as usize);
        // What the first row sees, all do.
        let block =
            self.cache.first_seen(position).max(block * BLOCK)..(position + group.rows).min((block + 1) * BLOCK);
        let [q, out, largest, totals] = self.split(part, group.rows);
        for (row, q) in (group.row..).zip(q.chunks_exact_mut(row_len)) {
            q.copy_from_slice(&self.qkv.row(row)[self.columns(group)]);
        }
        out.fill(0.0);
        largest.fill(f32::NEG_INFINITY);
        totals.fill(0.0);
        let some_heads = out.chunks_mut(HEADS * head_dim).zip(q.chunks(HEADS * head_dim));
        for ((out, q), (largest, totals)) in some_heads.zip(largest.chunks_mut(HEADS).zip(totals.chunks_mut(HEADS))) {
            let mut queries = Queries { kernels: self.kernels, rows: group.rows, head_dim, q, out, largest, totals };
            for first in block.clone().step_by(POSITIONS) {
                let end = block.end.min(first + POSITIONS);
                let all_see = end.min(position + 1) - first;
                queries.attend(all_see, end - first, &|places| {
                    self.cache.entries(sequence, group.kv_head, first + places.start..first + places.end)
                });
            }
        }
    }

    /// The pieces of a part of so many rows.
    fn split<'p>(&self, part: &'p mut [f32], rows: usize) -> [&'p mut [f32]; 4] {
        let queries = rows * self.group_heads();
        let (q, rest) = part.split_at_mut(queries * self.heads.head_dim);
        let (out, rest) = rest.split_at_mut(queries * self.heads.head_dim);
        let (largest, rest) = rest.split_at_mut(queries);
        [q, out, largest, &mut rest[..queries]]
    }

    /// `part += next`, the part of so many rows and of the following block.
    fn add(&self, part: &mut [f32], next: &mut [f32], rows: usize) {
        let [_, out, largest, totals] = self.split(part, rows);
        let [_, next_out, next_largest, next_totals] = self.split(next, rows);
        let features = out.chunks_exact_mut(self.heads.head_dim).zip(next_out.chunks_exact(self.heads.head_dim));
        for (query, (out, next)) in features.enumerate() {
            let most = if next_largest[query] > largest[query] { next_largest[query] } else { largest[query] };
            let (shrink, shrink_next) = ((largest[query] - most).exp(), (next_largest[query] - most).exp());
            for (value, next) in out.iter_mut().zip(next) {
                *value = *value * shrink + next * shrink_next;
            }
            totals[query] = totals[query] * shrink + next_totals[query] * shrink_next;
            largest[query] = most;
        }
    }

    /// A group's columns of the output: its sums over its totals.
    ///
    /// # Safety
    /// No group may be finished twice at a time, nor may anything else use `out`.
    unsafe fn finish(&self, out: &Disjoint<'_, f32>, group: Group, part: &mut [f32]) {
        let (head_dim, columns) = (self.heads.head_dim, self.columns(group));
        let [_, sums, _, totals] = self.split(part, group.rows);
        let of_rows = sums.chunks_exact(columns.len()).zip(totals.chunks_exact(self.group_heads()));
        for (row, (sums, totals)) in (group.row..).zip(of_rows) {
            let row = row * self.heads.query_cols();
            // SAFETY: these columns of this row belong to the group, which the caller finishes once.
            let out = unsafe { out.cut(row + columns.start..row + columns.end) };
            for ((out, sums), total) in out.chunks_exact_mut(head_dim).zip(sums.chunks_exact(head_dim)).zip(totals) {
                out.iter_mut().zip(sums).for_each(|(o, sum)| *o = sum / *total);
            }
        }
    }
}
