//! How verbs are cut into workgroups.

use crate::backend::{CacheShape, Heads};
use crate::format::ternary::{BLOCK, padded};
use crate::gpu::limits::{CHUNK, ELEMENTWISE_THREADS, MOST_GROUPS, QUANTIZE_THREADS, TILE_ROWS, WORKGROUP_BYTES};
use crate::gpu::shader::{Cached, Dot, HeadCut, Output, Product, RowsOf, Scaling, Shader, Shape, Tile};

/// Columns of a 16-byte piece of a weight row.
const PIECE_COLS: usize = 64;

/// `count` workgroups in two dimensions: shaders number them by rows.
pub(crate) fn grid(count: usize) -> [usize; 3] {
    let width = count.min(MOST_GROUPS as usize);
    [width, count.div_ceil(width.max(1)), 1]
}

/// How a product of some activation rows, at most 8 of them in a workgroup, and `weight_rows` weight rows is cut. `wide` says whether
/// threads have registers for 8 rows of 4 outputs: compilers of AMD and Intel spill them, or leave few subgroups at work.
pub(crate) fn matvec_shape(rows: usize, weight_rows: usize, wide: bool) -> Shape {
    let rows = rows.clamp(1, 8).next_power_of_two() as u32;
    // Short matrices need all their rows at work at once; long ones, and many activations, are better off where a thread
    // holds several weight rows against the same activations. Its sums stay in registers.
    let outputs = match rows {
        8 if wide => 4,
        8 => 2,
        _ if weight_rows >= 1 << 14 => 4,
        _ => 2,
    };
    Shape { rows, outputs, lanes: 8, threads: 64, ahead: if rows == 1 { 4 / outputs.min(2) } else { 1 } }
}

/// How the same is cut where each workgroup normalises and quantises the step's one row, of `cols` columns, for itself; none
/// where workgroup memory has no room for it. `outputs` are the weight rows that a team works on: 2 for a gated unit.
pub(crate) fn norm_matvec_shape(cols: usize, weight_rows: usize, glu: bool, scaling: Scaling) -> Option<Shape> {
    let outputs = if glu || weight_rows >= 1 << 13 { 2 } else { 1 };
    let all_pieces = (padded(cols) / PIECE_COLS) as u32;
    let lanes = match all_pieces {
        // A narrow row has no work for many threads, and every workgroup normalises all of it: few workgroups are best, whose threads
        // take whole rows or large parts of them.
        ..16 => (all_pieces / 4).next_power_of_two(),
        _ if weight_rows >= 1 << 13 => 8,
        // Short matrices need many workgroups to keep a device busy.
        _ => 16,
    };
    // As few rounds as there are with 4 pieces a thread, and no more pieces in each than that takes.
    let pieces = all_pieces.div_ceil(lanes);
    let ahead = pieces.div_ceil(pieces.div_ceil(4 / outputs));
    let shape = Shape { rows: 1, outputs, lanes, threads: QUANTIZE_THREADS, ahead };
    // The row, sums of all threads, what is reduced of squares and magnitudes; the facts and the sums of blocks.
    let (facts, reduced) = if scaling == Scaling::Blocks { (8 * padded(cols) / BLOCK, 3) } else { (0, 2) };
    let used = padded(cols) + facts + (outputs + reduced) as usize * 4 * QUANTIZE_THREADS as usize + 256;
    (used <= WORKGROUP_BYTES).then_some(shape)
}

/// How a device multiplies codes and int8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) dot: Dot,
    /// Whether a thread's registers hold the sums of 8 rows and many outputs.
    pub(crate) wide: bool,
}

impl Way {
    /// The shader of a product of many rows.
    pub(crate) fn matmul(self, scaling: Scaling, output: Output) -> Shader {
        let product = Product { output, scaling, dot: self.dot };
        Shader::Matmul { product, cut: matmul_cut(scaling, self), of: RowsOf::Step }
    }
}

/// What a thread makes of a tile of a product: as much as its registers hold. Scales of groups of columns, and floats in the place of
/// packed products, need them for other things.
pub(crate) fn matmul_cut(scaling: Scaling, way: Way) -> Tile {
    let (rows, outputs) = match (scaling, way.dot) {
        (Scaling::Rows, Dot::Packed) if way.wide => (8, 8),
        (Scaling::Rows, Dot::Packed) => (8, 4),
        _ => (4, 4),
    };
    Tile { rows, outputs }
}

/// What a thread makes of a tile of one expert's places: so that a workgroup has as many threads as a tile has weight rows, of which each
/// unpacks one.
pub(crate) const EXPERT_CUT: Tile = Tile { rows: 4, outputs: 4 };

/// Workgroups where each thread makes one element of `[rows, cols]`.
pub(crate) fn elementwise(rows: usize, cols: usize) -> [usize; 3] {
    [cols.div_ceil(ELEMENTWISE_THREADS), rows, 1]
}

/// How attention is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attention {
    pub(crate) heads: HeadCut,
    /// Query heads of a workgroup that takes a tile of rows; none where each row is taken alone.
    pub(crate) tile_heads: Option<u32>,
    /// Workgroups that share a row's context.
    pub(crate) splits: usize,
    /// Chunks of the longest context that the cache has room for.
    pub(crate) chunks: usize,
}

/// Workgroups that keep a large device busy.
const BUSY: usize = 1024;
/// Most memory for partial sums that are merged later.
const MOST_PARTIALS_BYTES: u64 = 64 << 20;

impl Attention {
    /// Cuts the attention of `rows` rows, each of which sees at most `longest` chunks of positions. `tiles` is how many tiles the rows
    /// make, none where they may not be taken so; where tiles would be less than half full, rows are taken alone too.
    pub(crate) fn new(
        shape: &CacheShape,
        heads: Heads,
        (rows, tiles): (usize, Option<usize>),
        longest: usize,
        largest_binding: u64,
    ) -> Self {
        let mut cut = Self::fitting(shape, heads.heads).expect("told when the cache was made");
        // As much is computed of a tile as of a full one.
        let full = tiles.filter(|tiles| rows >= tiles * TILE_ROWS / 2);
        let tiled = full
            .and_then(|tiles| Some((tiles, tile_heads(cut.heads.cache, heads.heads / heads.kv_heads)?)))
            .filter(|&(tiles, heads)| tiles * heads as usize <= MOST_GROUPS as usize);
        cut.tile_heads = tiled.map(|(_, heads)| heads);
        let workgroups = match tiled {
            Some((tiles, _)) => tiles * heads.heads,
            None => rows * heads.kv_heads * cut.heads.groups as usize,
        };
        let fits = cut.partials_bytes(heads, rows) <= MOST_PARTIALS_BYTES.min(largest_binding);
        if fits && workgroups < BUSY {
            // Powers of two, so that few kinds of bind groups are made as a context grows.
            let wanted = BUSY.div_ceil(workgroups.max(1)).next_power_of_two();
            cut.splits = longest.max(1).next_power_of_two().min(wanted);
        }
        cut
    }

    /// As many heads in a workgroup as its memory has room for; none where one head is too large.
    pub(crate) fn fitting(shape: &CacheShape, heads: usize) -> Option<Self> {
        let (cache, together) = (cached(shape), heads / shape.kv_heads);
        let cut = |heads: usize| {
            let (exchanged, at_once) = exchange(cache, heads)?;
            let groups = (together / heads) as u32;
            Some(HeadCut { cache, heads: heads as u32, groups, exchanged, together: at_once })
        };
        let mut counts = (1..=together.min(8)).rev().filter(|n| together.is_multiple_of(*n));
        let heads = counts.find_map(cut)?;
        Some(Self { heads, tile_heads: None, splits: 1, chunks: shape.positions.div_ceil(CHUNK) })
    }

    /// Bytes of the partial sums of all chunks.
    pub(crate) fn partials_bytes(&self, heads: Heads, rows: usize) -> u64 {
        (rows * heads.heads * self.chunks * (2 + heads.head_dim) * 4) as u64
    }
}

/// What shaders care for of a cache.
pub(crate) fn cached(shape: &CacheShape) -> Cached {
    Cached { precision: shape.precision, head_dim: shape.head_dim as u32 }
}

/// Query heads that a workgroup takes of each row of a tile, of `together` that share a key/value head; none where heads do not divide
/// as tiles need it.
pub(crate) fn tile_heads(cache: Cached, together: usize) -> Option<u32> {
    let divides = cache.piece_pairs() > 1 && cache.head_dim.is_power_of_two() && (64..=256).contains(&cache.head_dim);
    divides.then(|| 1 << together.trailing_zeros().min(TILE_ROWS.ilog2()))
}

/// Rounds of positions whose scores with `heads` heads are added up at once, and heads whose weighted sums are, as workgroup memory
/// has room for; none where it has none, or where a position is more than the threads can read at once.
fn exchange(cache: Cached, heads: usize) -> Option<(u32, u32)> {
    let (head_dim, piece) = (cache.head_dim as usize, cache.piece_pairs());
    let pair_bytes = 2 * cache.precision.bytes();
    let lanes = head_dim / 2 / piece;
    let slots = CHUNK.checked_div(lanes)?;
    // Queries, scores, what is reduced of both kinds, the row's own key and value and their largest; the rest is exchanged.
    let used = 4 * heads * head_dim + 4 * heads * CHUNK + 2 * 64 * heads + head_dim * pair_bytes + 64;
    let floats = WORKGROUP_BYTES.checked_sub(used)? / 4;
    let exchanged = [4, 2, 1].into_iter().find(|rounds| heads * rounds * slots * (lanes | 1) <= floats)?;
    let together = [2, 1].into_iter().find(|&n| n <= heads && n * slots * head_dim <= floats)?;
    (slots > 0).then_some((exchanged as u32, together as u32))
}
