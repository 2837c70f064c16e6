//! The values of a tile of a product: what the kernels' sums are multiplied with, and in which order they are added.

use std::cell::RefCell;
use std::ops::Range;

use crate::backend::Numerics;
use crate::cpu::kernels::{BlockTile, FloatTile, Kernels, SCALED_BLOCKS, SCALES_TOGETHER, TILE_ROWS, Tile, TileScales};
use crate::cpu::matrix::{OUTPUTS, Part, SUMS};
use crate::cpu::scales::GroupScales;
use crate::cpu::tensor::Quantized;
use crate::format::ternary::{BLOCK, BLOCK_BYTES};
use crate::format::{Scales, Ternary};

/// Room for the scales of sixteen weight rows, block by block.
type Room = [[f32; SCALES_TOGETHER]; SCALED_BLOCKS];

thread_local! {
    /// Kept by each thread, rather than cleared for each tile.
    static SCALES: RefCell<Room> = const { RefCell::new([[0.0; SCALES_TOGETHER]; SCALED_BLOCKS]) };
}

/// `values[(row, output)]` of some weight rows and activation rows, in whichever form both are. Of the weight rows, the first is the first
/// of [`SCALES_TOGETHER`].
pub(crate) fn tile_values(
    kernels: &dyn Kernels,
    values: &mut [f32],
    part: &Part,
    x: &Quantized,
    outputs: Range<usize>,
    rows: Range<usize>,
) {
    match (x.numerics, &part.groups) {
        (Numerics::Int8Rows, Some(groups)) => {
            group_products(kernels, values, part.trits(), groups, x, outputs, rows);
        }
        (Numerics::Int8Rows, None) => products(kernels, values, part.trits(), x, outputs, rows),
        (Numerics::Int8Groups, _) => {
            SCALES.with_borrow_mut(|room| block_products(kernels, values, part, x, outputs, rows, room));
        }
        (Numerics::Float, _) => {
            SCALES.with_borrow_mut(|room| float_products(kernels, values, part, x, outputs, rows, room));
        }
    }
}

/// `values[(row, output)]`, where one scale covers a whole weight row: the integer sum, then one multiplication.
fn products(
    kernels: &dyn Kernels,
    values: &mut [f32],
    w: &Ternary,
    x: &Quantized,
    outputs: Range<usize>,
    rows: Range<usize>,
) {
    let mut sums = [0i32; SUMS];
    let sums = &mut sums[..values.len()];
    let blocks = x.blocks();
    kernels.dot_codes(sums, &tile(w, x, &outputs, &rows, 0..blocks, blocks));
    let (mut scales, mut of_row) = ([0.0; OUTPUTS], [0; OUTPUTS]);
    let (scales, of_row) = (&mut scales[..outputs.len()], &mut of_row[..outputs.len()]);
    scales_of_rows(scales, w, outputs.clone());
    for ((i, row), values) in rows.clone().enumerate().zip(values.chunks_exact_mut(outputs.len())) {
        let sums = sums[i..].iter().step_by(rows.len());
        // Codes are trits + 1, so the sum of the activations is too much.
        of_row.iter_mut().zip(sums).for_each(|(of_row, sum)| *of_row = sum - x.sums[row]);
        kernels.scale_sums(values, of_row, scales, x.scales[row]);
    }
}

/// `values[(row, output)]`, where each group of columns has its own scale: floats are added in the order of the groups.
fn group_products(
    kernels: &dyn Kernels,
    values: &mut [f32],
    w: &Ternary,
    groups: &GroupScales,
    x: &Quantized,
    outputs: Range<usize>,
    rows: Range<usize>,
) {
    /// Most groups of a tile: half the buffer for a weight row and the most activation rows.
    const GROUPS: usize = SUMS / TILE_ROWS;
    let (mut sums, mut scales) = ([0i32; SUMS], [[0.0f32; SCALES_TOGETHER]; GROUPS]);
    let (blocks, group, all_groups) = (x.blocks(), groups.blocks(), groups.groups());
    values.fill(0.0);
    for sixteen in sixteens(&outputs) {
        for first in (0..all_groups).step_by(GROUPS) {
            let some = first..all_groups.min(first + GROUPS);
            let span = some.start * group..blocks.min(some.end * group);
            groups.of_groups(kernels, &mut scales[..some.len()], sixteen.start, some.clone());
            for output in sixteen.clone() {
                let sums = &mut sums[..rows.len() * some.len()];
                kernels.dot_codes(sums, &tile(w, x, &(output..output + 1), &rows, span.clone(), group));
                for ((i, row), sums) in rows.clone().enumerate().zip(sums.chunks_exact(some.len())) {
                    let block_sums = &x.block_sums[row * blocks..][..blocks];
                    let value = &mut values[i * outputs.len() + (output - outputs.start)];
                    for (g, (sum, scales)) in some.clone().zip(sums.iter().zip(&scales)) {
                        let x_sum: i32 = block_sums[g * group..blocks.min((g + 1) * group)].iter().sum();
                        *value += (*sum - x_sum) as f32 * scales[output - sixteen.start];
                    }
                }
            }
        }
    }
    for (row, values) in rows.zip(values.chunks_exact_mut(outputs.len())) {
        values.iter_mut().for_each(|v| *v /= x.scales[row]);
    }
}

/// The tile of some weight rows, activation rows and blocks.
pub(super) fn tile<'a>(
    w: &'a Ternary,
    x: &'a Quantized,
    outputs: &Range<usize>,
    rows: &Range<usize>,
    blocks: Range<usize>,
    group: usize,
) -> Tile<'a> {
    Tile {
        codes: &w.codes()[outputs.start * w.row_bytes() + blocks.start * BLOCK_BYTES..],
        codes_stride: w.row_bytes(),
        outputs: outputs.len(),
        x: &x.values[rows.start * x.stride + blocks.start * BLOCK..],
        x_stride: x.stride,
        rows: rows.len(),
        blocks: blocks.len(),
        group,
    }
}

/// Weight rows whose scales lie side by side, [`SCALES_TOGETHER`] but for the last.
fn sixteens(outputs: &Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let Range { start, end } = *outputs;
    (start..end).step_by(SCALES_TOGETHER).map(move |first| first..end.min(first + SCALES_TOGETHER))
}

/// The scales of some blocks of the sixteen weight rows from `output` on, in `room`; ones where a row has one in all.
pub(super) fn block_scales<'a>(
    kernels: &dyn Kernels,
    part: &'a Part,
    room: &'a mut [[f32; SCALES_TOGETHER]],
    output: usize,
    blocks: Range<usize>,
) -> TileScales<'a> {
    match &part.groups {
        Some(groups) => groups.of_blocks(kernels, room, output, blocks),
        None => {
            let values = &mut room[..blocks.len()];
            values.fill([1.0; SCALES_TOGETHER]);
            TileScales { values, soon: &[] }
        }
    }
}

/// `values[(row, output)]`, where each block of activations has its own scale.
fn block_products(
    kernels: &dyn Kernels,
    values: &mut [f32],
    part: &Part,
    x: &Quantized,
    outputs: Range<usize>,
    rows: Range<usize>,
    room: &mut Room,
) {
    let w = part.trits();
    let mut dots = [0.0f32; SCALES_TOGETHER * TILE_ROWS];
    for some in sixteens(&outputs) {
        let dots = &mut dots[..some.len() * rows.len()];
        dots.fill(0.0);
        for first in (0..x.blocks()).step_by(SCALED_BLOCKS) {
            let blocks = first..x.blocks().min(first + SCALED_BLOCKS);
            let scales = block_scales(kernels, part, room, some.start, blocks.clone());
            kernels.dot_blocks(dots, &block_tile(w, x, &some, &rows, blocks), scales);
        }
        for (output, dots) in some.zip(dots.chunks_exact(rows.len())) {
            let scale = w.scale(output, 0);
            for (row, dot) in dots.iter().enumerate() {
                values[row * outputs.len() + (output - outputs.start)] = dot * scale;
            }
        }
    }
}

/// The tile of some weight rows, activation rows and blocks that have their scales.
pub(super) fn block_tile<'a>(
    w: &'a Ternary,
    x: &'a Quantized,
    outputs: &Range<usize>,
    rows: &Range<usize>,
    blocks: Range<usize>,
) -> BlockTile<'a> {
    let (first, len) = (rows.start * x.blocks() + blocks.start, blocks.len());
    let (x_sums, steps) = (&x.block_sums[first..], &x.steps[first..]);
    BlockTile { tile: tile(w, x, outputs, rows, blocks, len), x_sums, steps }
}

/// The scales that whole weight rows have; ones where scales change within a row.
pub(super) fn scales_of_rows(scales: &mut [f32], w: &Ternary, outputs: Range<usize>) {
    match w.scales() {
        Scales::Tensor(scale) => scales.fill(*scale),
        Scales::Rows(values) => scales.copy_from_slice(&values[outputs]),
        Scales::RowRanges(_) => {
            scales.iter_mut().zip(outputs).for_each(|(scale, output)| *scale = w.scale(output, 0));
        }
        Scales::Groups { .. } => unreachable!("a matrix keeps scales of groups apart"),
    }
}

/// `values[(row, output)]` of activations in f32. Each value is added in the order of spans, whatever is done first.
fn float_products(
    kernels: &dyn Kernels,
    values: &mut [f32],
    part: &Part,
    x: &Quantized,
    outputs: Range<usize>,
    rows: Range<usize>,
    room: &mut Room,
) {
    /// Blocks at a time: those of the most activation rows, 32 KiB, stay near while all weight rows pass over them.
    const SPAN: usize = 8;
    let (w, mut dots) = (part.trits(), [0.0f32; TILE_ROWS]);
    let dots = &mut dots[..rows.len()];
    values.fill(0.0);
    let mut add = |some: Range<usize>, blocks: Range<usize>| {
        let of_blocks = block_scales(kernels, part, room, some.start, blocks.clone());
        for output in some.clone() {
            let (of_row, place) = (w.scale(output, 0), output - outputs.start);
            let codes = &w.codes()[output * w.row_bytes()..][..w.row_bytes()].as_chunks().0[blocks.clone()];
            for (span, (codes, scales)) in codes.chunks(SPAN).zip(of_blocks.values.chunks(SPAN)).enumerate() {
                let first = rows.start * x.stride + (blocks.start + span * SPAN) * BLOCK;
                let (lane, x_stride) = (output - some.start, x.stride);
                let tile = FloatTile { codes, scales, lane, x: &x.floats[first..], x_stride };
                kernels.dot_floats(dots, &tile);
                for (row, dot) in dots.iter().enumerate() {
                    values[row * outputs.len() + place] += dot * of_row;
                }
            }
        }
    };
    let stretches =
        |blocks: usize| (0..x.blocks()).step_by(blocks).map(move |first| first..x.blocks().min(first + blocks));
    if rows.len() == 1 {
        // The weights are what takes time, and are read in one stream.
        sixteens(&outputs).for_each(|some| stretches(SCALED_BLOCKS).for_each(|blocks| add(some.clone(), blocks)));
    } else {
        stretches(SPAN).for_each(|blocks| sixteens(&outputs).for_each(|some| add(some, blocks.clone())));
    }
}
