//! The values of a tile of a product: what the kernels' sums are multiplied with, and in which order they are added.

use std::ops::Range;

use crate::cpu::kernels::{DenseRow, Kernels, TILE_ROWS, Tile};
use crate::cpu::matrix::SUMS;
use crate::cpu::tensor::Quantized;
use crate::format::Ternary;
use crate::format::ternary::{BLOCK, BLOCK_BYTES};

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
    let per_output = sums.chunks_exact(rows.len());
    for (place, (output, sums)) in outputs.clone().zip(per_output).enumerate() {
        let scale = w.scale(output, 0);
        for ((i, row), sum) in rows.clone().enumerate().zip(sums) {
            // Codes are trits + 1, so the sum of the activations is too much.
            values[i * outputs.len() + place] = (sum - x.sums[row]) as f32 * (scale / x.scales[row]);
        }
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

/// `values[(row, output)]`, where each block of activations has its own scale: floats are added in the order of the blocks, in
/// eight lanes.
pub(super) fn block_products(
    kernels: &dyn Kernels,
    values: &mut [f32],
    w: &Ternary,
    x: &Quantized,
    outputs: Range<usize>,
    rows: Range<usize>,
) {
    let mut sums = [0i32; SUMS];
    let mut scales = [0.0f32; SUMS];
    let blocks = x.blocks();
    let span = blocks.min(SUMS / rows.len());
    let at_once = SUMS / (rows.len() * span);
    values.fill(0.0);
    for first_block in (0..blocks).step_by(span) {
        let span = first_block..blocks.min(first_block + span);
        for first in outputs.clone().step_by(at_once) {
            let some = first..outputs.end.min(first + at_once);
            let sums = &mut sums[..some.len() * rows.len() * span.len()];
            kernels.dot_codes(sums, &tile(w, x, &some, &rows, span.clone(), 1));
            let mut sums = sums.chunks_exact(span.len());
            for output in some {
                let scales = &mut scales[..span.len()];
                scales.iter_mut().zip(span.clone()).for_each(|(s, block)| *s = w.scale(output, block * BLOCK));
                for (i, row) in rows.clone().enumerate() {
                    let places = row * blocks + span.start..row * blocks + span.end;
                    let (x_sums, steps) = (&x.block_sums[places.clone()], &x.steps[places]);
                    let sums = sums.next().expect("sums for each row of each output");
                    values[i * outputs.len() + output - outputs.start] += weigh(sums, x_sums, steps, scales);
                }
            }
        }
    }
}

/// `Σ (sums - x_sums) * steps * scales`.
fn weigh(sums: &[i32], x_sums: &[i32], steps: &[f32], scales: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    let of = |((sum, x_sum), (step, scale)): ((&i32, &i32), (&f32, &f32))| (sum - x_sum) as f32 * (step * scale);
    let pieces = sums.chunks(8).zip(x_sums.chunks(8)).zip(steps.chunks(8).zip(scales.chunks(8)));
    for ((sums, x_sums), (steps, scales)) in pieces {
        let terms = sums.iter().zip(x_sums).zip(steps.iter().zip(scales)).map(of);
        lanes.iter_mut().zip(terms).for_each(|(lane, term)| *lane += term);
    }
    lanes.iter().sum()
}

/// `values[(row, output)]` of activations in f32.
pub(super) fn float_products(
    kernels: &dyn Kernels,
    values: &mut [f32],
    w: &Ternary,
    x: &Quantized,
    outputs: Range<usize>,
    rows: Range<usize>,
) {
    /// Blocks at a time: their trits as floats stay in the nearest cache.
    const BLOCKS: usize = 8;
    let mut weights = [0.0f32; BLOCKS * BLOCK];
    values.fill(0.0);
    for (place, output) in outputs.clone().enumerate() {
        let codes = &w.codes()[output * w.row_bytes()..][..w.row_bytes()];
        for (piece, codes) in codes.chunks(BLOCKS * BLOCK_BYTES).enumerate() {
            let first = piece * BLOCKS * BLOCK;
            let weights = &mut weights[..codes.len() * 4];
            kernels.unpack(weights, codes);
            for (block, weights) in weights.chunks_exact_mut(BLOCK).enumerate() {
                let scale = w.scale(output, (first + block * BLOCK).min(w.cols() - 1));
                weights.iter_mut().for_each(|weight| *weight *= scale);
            }
            for (i, row) in rows.clone().enumerate() {
                let x = &x.floats[row * x.stride + first..][..weights.len()];
                let mut dot = [0.0];
                kernels.dot_dense(&mut dot, DenseRow::F32(bytemuck::cast_slice(weights)), x);
                values[i * outputs.len() + place] += dot[0];
            }
        }
    }
}
