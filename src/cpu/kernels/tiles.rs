//! What the kernels are called with: weights, activations and cache entries as they lie in memory, and how many of each.

use std::ops::Range;

use crate::format::dense::{Dense, Values};
use crate::format::ternary::{BLOCK, BLOCK_BYTES};

/// Most activation rows of a [`Tile`].
pub(crate) const TILE_ROWS: usize = 8;

/// Some rows of packed weights against some rows of activations, over some of their blocks of 128 columns.
#[derive(Clone, Copy)]
pub(crate) struct Tile<'a> {
    /// Packed codes of the first weight row's first block, and of all that follow it.
    pub(crate) codes: &'a [u8],
    /// Bytes from one weight row to the next.
    pub(crate) codes_stride: usize,
    /// Weight rows.
    pub(crate) outputs: usize,
    /// Activations of the first row's first block, and of all that follow them.
    pub(crate) x: &'a [i8],
    /// Activations from one row to the next.
    pub(crate) x_stride: usize,
    /// Activation rows, 1 to [`TILE_ROWS`], or as many as a [span](super::spans) has.
    pub(crate) rows: usize,
    /// Blocks of 128 columns.
    pub(crate) blocks: usize,
    /// Blocks that one sum covers; the last sum of a row may cover fewer.
    pub(crate) group: usize,
}

impl Tile<'_> {
    /// Sums of one weight row with one activation row.
    pub(crate) fn groups(&self) -> usize {
        self.blocks.div_ceil(self.group)
    }

    /// The sums of the whole tile.
    pub(crate) fn sums(&self) -> usize {
        self.outputs * self.rows * self.groups()
    }

    /// The blocks of one weight row, checked to lie inside.
    #[inline(always)]
    pub(crate) fn weights(&self, output: usize) -> &[[u8; 32]] {
        &self.codes[output * self.codes_stride..].as_chunks().0[..self.blocks]
    }

    /// The blocks of one activation row, checked to lie inside.
    #[inline(always)]
    pub(crate) fn activations(&self, row: usize) -> &[[i8; 128]] {
        &self.x[row * self.x_stride..].as_chunks().0[..self.blocks]
    }
}

/// The same, where each block of an activation row has a scale of its own, and each block of a weight row may have one.
#[derive(Clone, Copy)]
pub(crate) struct BlockTile<'a> {
    /// Codes and activations; sums cover blocks, whatever its `group` says.
    pub(crate) tile: Tile<'a>,
    /// The sum of the activations of each block of the first row, and of all rows that follow it.
    pub(crate) x_sums: &'a [i32],
    /// What one step of each block's activations stands for, as `x_sums`.
    pub(crate) steps: &'a [f32],
}

/// Weight rows whose scales lie side by side: the lanes of the widest vector, and the most of a [`BlockTile`] that is no span.
pub(crate) const SCALES_TOGETHER: usize = 16;
/// Most blocks of such a tile, whose scales are at hand together: rows of more than 20480 columns are not read in one stream.
pub(crate) const SCALED_BLOCKS: usize = 160;

/// The scales of the weight rows of a [`BlockTile`].
#[derive(Clone, Copy)]
pub(crate) struct TileScales<'a> {
    /// Of each block; ones where a row has one scale in all.
    pub(crate) values: &'a [[f32; SCALES_TOGETHER]],
    /// Those of the weight rows that come next, as they lie in memory: they are read soon.
    #[cfg_attr(not(any(target_arch = "x86_64", test)), expect(dead_code, reason = "only sets of x86-64 fetch ahead"))]
    pub(crate) soon: &'a [u8],
}

/// Who writes the scales of each block of the sixteen weight rows from one on: `(first weight row, scales of each block)`.
pub(crate) type TakeScales<'a> = &'a dyn Fn(usize, &mut [[f32; SCALES_TOGETHER]]);

/// The blocks of one activation row.
#[derive(Clone, Copy)]
pub(crate) struct BlockRow<'a> {
    pub(crate) x: &'a [[i8; BLOCK]],
    pub(crate) sums: &'a [i32],
    pub(crate) steps: &'a [f32],
}

impl BlockTile<'_> {
    /// The blocks of one activation row, as many as there are of a weight row.
    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> BlockRow<'_> {
        let first = row * (self.tile.x_stride / BLOCK);
        BlockRow {
            x: self.tile.activations(row),
            sums: &self.x_sums[first..][..self.tile.blocks],
            steps: &self.steps[first..][..self.tile.blocks],
        }
    }
}

/// One row of packed weights against some rows of activations in f32.
#[derive(Clone, Copy)]
pub(crate) struct FloatTile<'a> {
    /// Packed codes of the weight row.
    pub(crate) codes: &'a [[u8; BLOCK_BYTES]],
    /// The scales of each block of weight rows, or ones where a row has one in all.
    pub(crate) scales: &'a [[f32; SCALES_TOGETHER]],
    /// Which of these weight rows this is.
    pub(crate) lane: usize,
    /// Activations of the first row, and of all that follow it.
    pub(crate) x: &'a [f32],
    /// Activations from one row to the next.
    pub(crate) x_stride: usize,
}

/// The blocks of one row of activations in f32.
pub(crate) type FloatRow<'a> = &'a [[f32; BLOCK]];

impl FloatTile<'_> {
    /// The blocks of one activation row, checked to be as many as there are codes and scales.
    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> FloatRow<'_> {
        assert_eq!(self.scales.len(), self.codes.len());
        &self.x[row * self.x_stride..].as_chunks().0[..self.codes.len()]
    }
}

/// One row of dense weights, as stored.
#[derive(Clone, Copy)]
pub(crate) enum DenseRow<'a> {
    /// Little-endian, 4 bytes each.
    F32(&'a [u8]),
    /// IEEE half, little-endian, 2 bytes each.
    F16(&'a [u8]),
    /// bfloat16, little-endian, 2 bytes each.
    Bf16(&'a [u8]),
    /// int8 with a scale for each `columns`.
    Int8 { codes: &'a [u8], scales: &'a [f32], columns: usize },
}

impl<'a> DenseRow<'a> {
    pub(crate) fn new(dense: &'a Dense, row: usize) -> Self {
        let cols = dense.cols();
        match dense.values() {
            Values::F32(bytes) => DenseRow::F32(&bytes[row * cols * 4..][..cols * 4]),
            Values::F16(bytes) => DenseRow::F16(&bytes[row * cols * 2..][..cols * 2]),
            Values::Bf16(bytes) => DenseRow::Bf16(&bytes[row * cols * 2..][..cols * 2]),
            Values::Int8 { columns, codes, scales } => {
                let groups = cols / columns;
                let scales = &scales[row * groups..][..groups];
                DenseRow::Int8 { codes: &codes[row * cols..][..cols], scales, columns: *columns }
            }
        }
    }
}

/// Rows of weights of 0 to 15, two in a byte: byte j of each line of 64 has column j of 128 in its low half, column 64 + j in its high half.
#[derive(Clone, Copy)]
pub(crate) struct NibbleRows<'a> {
    bytes: &'a [u8], // from the first row on
    rows: usize,
    len: usize,    // of a row, in bytes
    stride: usize, // from one row to the next
    soon: Option<&'a [u8]>,
}

impl<'a> NibbleRows<'a> {
    /// `rows` rows of `len` bytes, `stride` bytes apart. What lies behind them is read next.
    pub(crate) fn new(bytes: &'a [u8], rows: usize, len: usize, stride: usize) -> Self {
        assert!(rows > 0 && len > 0);
        Self { bytes, rows, len, stride, soon: None }
    }

    /// The same where not what lies behind them, but another row is read soon.
    pub(crate) fn before(self, soon: &'a [u8]) -> Self {
        Self { soon: Some(soon), ..self }
    }

    /// The row that is read soon, where what lies behind these is not.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only sets of x86-64 fetch ahead"))]
    pub(crate) fn soon(&self) -> Option<&'a [u8]> {
        self.soon
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of a row: half as many as it has columns.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> &'a [u8] {
        &self.bytes[row * self.stride..][..self.len]
    }
}

/// Positions of a tile of attention.
pub(crate) const POSITIONS: usize = 64;

/// Most queries for which keys and values are read where they lie in the cache. Of more they are [widened](super::Kernels::widen) once
/// for all, and are near.
pub(crate) const FEW_QUERIES: usize = 8;

/// Queries that share each load of an entry, and each conversion.
pub(crate) const QUERIES_TOGETHER: usize = 4;

/// Positions whose keys lie together, feature by feature: a load has the same feature of as many positions as a vector has lanes, so
/// that no score is a sum over lanes.
pub(crate) const KEYS_TOGETHER: usize = 16;

/// The scores, or the weights, of a query with the positions of a tile.
pub(crate) type Scores = [f32; POSITIONS];

/// Keys of consecutive positions, `[positions / KEYS_TOGETHER, head_dim, KEYS_TOGETHER]`, or values, `[positions, head_dim]`.
#[derive(Clone, Copy)]
pub(crate) enum Entries<'a> {
    /// IEEE half.
    F16(&'a [u16]),
    /// Single.
    F32(&'a [f32]),
}

impl<'a> Entries<'a> {
    /// Some of the entries.
    pub(crate) fn slice(self, places: Range<usize>) -> Entries<'a> {
        match self {
            Entries::F16(entries) => Entries::F16(&entries[places]),
            Entries::F32(entries) => Entries::F32(&entries[places]),
        }
    }
}
