//! Which rows of a step are worked on together: those of a prompt that follow each other, as they see the same positions.

use std::ops::Range;

use crate::backend::{CacheShape, Heads, Row};

/// Queries that are worked on together, unless one row has more: with them, widening what is read of the cache takes little time.
const QUERIES: usize = 64;

/// Fewest queries of a group that is cut so that there are more groups: blocks of positions can be shared, too.
const LEAST_QUERIES: usize = 16;

/// The query heads that share a key/value head, of rows that follow each other and lie in one tile of positions.
#[derive(Clone, Copy)]
pub(super) struct Group {
    pub(super) row: usize,
    pub(super) rows: usize,
    pub(super) kv_head: usize,
}

/// All groups of a step.
pub(super) struct Groups<'a> {
    rows: &'a [Row],
    heads: Heads,
    shape: CacheShape,
    runs: &'a [Range<usize>], // of rows
    most: usize,              // rows of a run, at most
}

/// Most rows that are worked on together: a power of two, so that they lie in one tile where they begin at a multiple of it.
fn most_together(heads: Heads) -> usize {
    match QUERIES * heads.kv_heads / heads.heads {
        0 | 1 => 1,
        rows => 1 << rows.ilog2(),
    }
}

impl<'a> Groups<'a> {
    /// Most queries of a group of any step.
    pub(super) fn most_queries(heads: Heads) -> usize {
        most_together(heads) * heads.heads / heads.kv_heads
    }

    /// The groups of some rows, smaller ones if there would be fewer than `wanted`. What rows get does not depend on it.
    pub(super) fn of(
        rows: &'a [Row],
        heads: Heads,
        shape: CacheShape,
        wanted: usize,
        runs: &'a mut Vec<Range<usize>>,
    ) -> Self {
        let mut most = most_together(heads);
        loop {
            runs.clear();
            for row in 0..rows.len() {
                match runs.last_mut() {
                    Some(run) if continues(rows, row, most, &shape) => run.end = row + 1,
                    _ => runs.push(row..row + 1),
                }
            }
            let can_be_cut = most > 1 && most * heads.heads / heads.kv_heads > LEAST_QUERIES;
            if !can_be_cut || runs.len() * heads.kv_heads >= wanted {
                return Self { rows, heads, shape, runs, most };
            }
            most /= 2;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.runs.len() * self.heads.kv_heads
    }

    /// The groups of one key/value head after those of another, so that what they read is near; of each head the last rows first: in a
    /// chunk of a prompt they see the most positions, and long tasks should not end a run.
    pub(super) fn get(&self, index: usize) -> Group {
        let (kv_head, run) = (index / self.runs.len(), &self.runs[self.runs.len() - 1 - index % self.runs.len()]);
        Group { row: run.start, rows: run.len(), kv_head }
    }

    /// The first row of a group.
    pub(super) fn first_row(&self, group: Group) -> Row {
        self.rows[group.row]
    }

    /// Query heads of a row of a group.
    fn heads_together(&self) -> usize {
        self.heads.heads / self.heads.kv_heads
    }

    /// Queries of a group.
    pub(super) fn queries(&self, group: Group) -> usize {
        group.rows * self.heads_together()
    }

    /// Queries of a group of this step, at most.
    pub(super) fn queries_at_most(&self) -> usize {
        self.most * self.heads_together()
    }

    /// Columns of a group in a row of `qkv` and of the output.
    pub(super) fn columns(&self, group: Group) -> Range<usize> {
        let cols = self.heads_together() * self.heads.head_dim;
        group.kv_head * cols..(group.kv_head + 1) * cols
    }

    /// The first position that the first row of a group sees. If there are more rows, all see from the first position on.
    pub(super) fn first_seen(&self, group: Group) -> usize {
        self.shape.first_seen(self.first_row(group).position as usize)
    }

    /// Blocks of so many positions that a group sees, counted from the first that it sees.
    pub(super) fn blocks(&self, group: Group, block: usize) -> usize {
        self.first_row(group).position as usize / block + 1 - self.first_seen(group) / block
    }

    /// The same of the group that sees the most.
    pub(super) fn most_blocks(&self, block: usize) -> usize {
        (0..self.runs.len()).map(|index| self.blocks(self.get(index), block)).max().unwrap_or(0)
    }

    /// Positions that all rows see.
    pub(super) fn positions_seen(&self) -> usize {
        self.rows.iter().map(|row| self.seen(row)).sum()
    }

    /// Positions that are read, each for all rows that are worked on together: without those beside them whose keys lie together with theirs.
    pub(super) fn positions_read(&self) -> usize {
        self.runs.iter().map(|run| self.seen(&self.rows[run.end - 1])).sum()
    }

    fn seen(&self, row: &Row) -> usize {
        let position = row.position as usize;
        position + 1 - self.shape.first_seen(position)
    }
}

/// Whether a row is worked on together with the one before it.
fn continues(rows: &[Row], row: usize, most: usize, shape: &CacheShape) -> bool {
    let Some(before) = row.checked_sub(1).map(|before| rows[before]) else { return false };
    let Row { sequence, position, .. } = rows[row];
    let follows = before.sequence == sequence && before.position.checked_add(1) == Some(position);
    follows && !(position as usize).is_multiple_of(most) && shape.first_seen(position as usize) == 0
}
