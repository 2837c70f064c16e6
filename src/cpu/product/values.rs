//! The values of a tile of a product: what the kernels' sums are multiplied with, and in which order they are added.

use std::ops::Range;

use crate::backend::Numerics;
use crate::cpu::kernels::{BlockTile, FloatTile, Kernels, TILE_ROWS, Tile};
use crate::cpu::matrix::{OUTPUTS, SUMS};
use crate::cpu::tensor::Quantized;
use crate::format::ternary::{BLOCK, BLOCK_BYTES};
use crate::format::{Scales, Ternary};

/// `values[(row, output)]` of some weight rows and activation rows, in whichever form both are. `ones`: one for each block.
pub(crate) fn tile_values(
    kernels: &dyn Kernels,
    values: &mut [f32],
    w: &Ternary,
    ones: &[f32],
    x: &Quantized,
    outputs: Range<usize>,
    rows: Range<usize>,
) {
    match (x.numerics, w.scales()) {
        (Numerics::Int8Rows, Scales::Groups { columns, values: scales }) => {
            group_products(kernels, values, w, *columns, scales, x, outputs, rows);
        }
        (Numerics::Int8Rows, _) => products(kernels, values, w, x, outputs, rows),
        (Numerics::Int8Groups, _) => block_products(kernels, values, w, ones, x, outputs, rows),
        (Numerics::Float, _) => float_products(kernels, values, w, ones, x, outputs, rows),
    }
}

/// `values[(row, output)]`, where one scale covers a whole weight row: the integer sum, then one multiplication.
pub(super) fn products(
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
#[expect(clippy::too_many_arguments, reason = "the scales of `w`, taken apart, and what `products` takes")]
pub(super) fn group_products(
    kernels: &dyn Kernels,
    values: &mut [f32],
    w: &Ternary,
    columns: usize,
    scales: &[f32],
    x: &Quantized,
    outputs: Range<usize>,
    rows: Range<usize>,
) {
    /// Most groups of a tile: half the buffer for a weight row and the most activation rows.
    const GROUPS: usize = SUMS / TILE_ROWS;
    let mut sums = [0i32; SUMS];
    let (blocks, group) = (x.blocks(), columns / BLOCK);
    let all_groups = blocks.div_ceil(group);
    values.fill(0.0);
    for (place, output) in outputs.clone().enumerate() {
        let scales = &scales[output * all_groups..][..all_groups];
        for first in (0..all_groups).step_by(GROUPS) {
            let groups = first..all_groups.min(first + GROUPS);
            let span = groups.start * group..blocks.min(groups.end * group);
            let sums = &mut sums[..rows.len() * groups.len()];
            kernels.dot_codes(sums, &tile(w, x, &(output..output + 1), &rows, span, group));
            for ((i, row), sums) in rows.clone().enumerate().zip(sums.chunks_exact(groups.len())) {
                let block_sums = &x.block_sums[row * blocks..][..blocks];
                let value = &mut values[i * outputs.len() + place];
                for (g, sum) in groups.clone().zip(sums) {
                    let x_sum: i32 = block_sums[g * group..blocks.min((g + 1) * group)].iter().sum();
                    *value += (*sum - x_sum) as f32 * scales[g];
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

/// Blocks at a time, where scales that cover several are written once for each.
const BLOCKS: usize = 128;
/// Weight rows at a time: the lanes of the widest kernel.
const LANES: usize = 16;

/// The scales of some weight rows, of each of some blocks, and how many there are from one row to the next. `room` is written
/// where a scale covers several blocks, for at most [`BLOCKS`] of them.
fn scales_of<'a>(
    w: &'a Ternary,
    ones: &'a [f32],
    outputs: &Range<usize>,
    blocks: &Range<usize>,
    room: &'a mut [f32],
) -> (&'a [f32], usize) {
    let Scales::Groups { columns, values } = w.scales() else { return (&ones[blocks.clone()], 0) };
    let (group, stride) = (columns / BLOCK, w.cols().div_ceil(*columns));
    if group == 1 {
        return (&values[outputs.start * stride + blocks.start..], stride);
    }
    for (output, scales) in outputs.clone().zip(room.chunks_exact_mut(blocks.len())) {
        let values = &values[output * stride..];
        scales.iter_mut().zip(blocks.clone()).for_each(|(scale, block)| *scale = values[block / group]);
    }
    (room, blocks.len())
}

/// The scale of all blocks of a weight row, where they have none of their own.
fn scale_of_row(w: &Ternary, output: usize) -> f32 {
    match w.scales() {
        Scales::Groups { .. } => 1.0,
        _ => w.scale(output, 0),
    }
}

/// `values[(row, output)]`, where each block of activations has its own scale. `ones`: one for each block.
pub(super) fn block_products(
    kernels: &dyn Kernels,
    values: &mut [f32],
    w: &Ternary,
    ones: &[f32],
    x: &Quantized,
    outputs: Range<usize>,
    rows: Range<usize>,
) {
    let mut dots = [0.0f32; LANES * TILE_ROWS];
    let all_outputs = outputs.len();
    let mut copies;
    let (at_once, room): (usize, &mut [f32]) = if needs_room(w) {
        copies = [0.0f32; LANES * BLOCKS];
        (BLOCKS, &mut copies)
    } else {
        (x.blocks(), &mut [])
    };
    for first in outputs.clone().step_by(LANES) {
        let some = first..outputs.end.min(first + LANES);
        for first_block in (0..x.blocks()).step_by(at_once) {
            let blocks = first_block..x.blocks().min(first_block + at_once);
            let dots = &mut dots[..some.len() * rows.len()];
            kernels.dot_blocks(dots, &block_tile(w, ones, x, &some, &rows, blocks, room));
            for (output, dots) in some.clone().zip(dots.chunks_exact(rows.len())) {
                let scale = scale_of_row(w, output);
                for (row, dot) in dots.iter().enumerate() {
                    let value = &mut values[row * all_outputs + (output - outputs.start)];
                    *value = if first_block == 0 { dot * scale } else { *value + dot * scale };
                }
            }
        }
    }
}

/// The tile of some weight rows, activation rows and blocks that have their scales. `room` is for scales that cover several.
pub(super) fn block_tile<'a>(
    w: &'a Ternary,
    ones: &'a [f32],
    x: &'a Quantized,
    outputs: &Range<usize>,
    rows: &Range<usize>,
    blocks: Range<usize>,
    room: &'a mut [f32],
) -> BlockTile<'a> {
    let (scales, scales_stride) = scales_of(w, ones, outputs, &blocks, room);
    let (first, len) = (rows.start * x.blocks() + blocks.start, blocks.len());
    let (x_sums, steps) = (&x.block_sums[first..], &x.steps[first..]);
    BlockTile { tile: tile(w, x, outputs, rows, blocks, len), scales, scales_stride, x_sums, steps }
}

/// Whether scales cover several blocks, so that a [`block_tile`] needs room for them.
pub(super) fn needs_room(w: &Ternary) -> bool {
    matches!(w.scales(), Scales::Groups { columns, .. } if *columns > BLOCK)
}

/// [`scale_of_row`] of some weight rows.
pub(super) fn scales_of_rows(scales: &mut [f32], w: &Ternary, outputs: Range<usize>) {
    match w.scales() {
        Scales::Groups { .. } => scales.fill(1.0),
        Scales::Tensor(scale) => scales.fill(*scale),
        Scales::Rows(values) => scales.copy_from_slice(&values[outputs]),
        Scales::RowRanges(_) => {
            scales.iter_mut().zip(outputs).for_each(|(scale, output)| *scale = w.scale(output, 0));
        }
    }
}

/// `values[(row, output)]` of activations in f32. Each value is added in the order of spans, whatever is done first.
pub(super) fn float_products(
    kernels: &dyn Kernels,
    values: &mut [f32],
    w: &Ternary,
    ones: &[f32],
    x: &Quantized,
    outputs: Range<usize>,
    rows: Range<usize>,
) {
    /// Blocks at a time: those of the most activation rows, 32 KiB, stay near while all weight rows pass over them.
    const SPAN: usize = 8;
    let (mut room, mut dots) = ([0.0f32; SPAN], [0.0f32; TILE_ROWS]);
    let dots = &mut dots[..rows.len()];
    values.fill(0.0);
    let mut add = |output: usize, first: usize| {
        let span = first..x.blocks().min(first + SPAN);
        let (scales, _) = scales_of(w, ones, &(output..output + 1), &span, &mut room);
        let x_values = &x.floats[rows.start * x.stride + span.start * BLOCK..];
        let codes = &w.codes()[output * w.row_bytes()..][..w.row_bytes()].as_chunks().0[span.clone()];
        let tile = FloatTile { codes, scales: &scales[..span.len()], x: x_values, x_stride: x.stride };
        kernels.dot_floats(dots, &tile);
        let (scale, place) = (scale_of_row(w, output), output - outputs.start);
        for (row, dot) in dots.iter().enumerate() {
            values[row * outputs.len() + place] += dot * scale;
        }
    };
    let spans = || (0..x.blocks()).step_by(SPAN);
    if rows.len() == 1 {
        // The weights are what takes time, and are read in one stream.
        outputs.clone().for_each(|output| spans().for_each(|first| add(output, first)));
    } else {
        spans().for_each(|first| outputs.clone().for_each(|output| add(output, first)));
    }
}
