//! The kernels in plain Rust. They say what each kernel computes, and run where no faster set does; loops are shaped so
//! that the compiler can use the vector instructions that every CPU of the target has. Integers are added by what may wrap and does not: to
//! look for it, as tests are built to, would keep the compiler from vectors.

mod heads;

use std::ops::Range;

pub(crate) use heads::mix;

use crate::cpu::floats::{self, brain, half};
use crate::cpu::kernels::bounds::{self, BoundedRows, Factors, RowBounds, Shares, Sums};
use crate::cpu::kernels::spans::{SPAN, SpanLimits};
use crate::cpu::kernels::{
    BlockRow, BlockTile, DenseRow, Entries, FloatTile, KernelSet, Kernels, NibbleRows, Scores, Tile, TileScales, words,
};

/// The set that every CPU can run.
pub(crate) struct Portable;

impl Portable {
    /// The kernels, which need nothing.
    pub(crate) fn detect() -> Option<&'static Self> {
        Some(&Portable)
    }
}

impl Kernels for Portable {
    fn set(&self) -> KernelSet {
        KernelSet::Portable
    }

    fn older(&self) -> &dyn Kernels {
        unreachable!("the portable set computes everything itself")
    }

    fn span_limits(&self) -> SpanLimits {
        SpanLimits { rows: 1, shortest: SPAN }
    }

    fn dot_blocks(&self, out: &mut [f32], tile: &BlockTile<'_>, scales: TileScales<'_>) {
        blocks_by_codes(self, out, tile, scales);
    }

    fn dot_codes(&self, sums: &mut [i32], tile: &Tile<'_>) {
        dot_codes(sums, tile);
    }

    fn dot_dense(&self, out: &mut [f32], w: DenseRow<'_>, x: &[f32]) {
        dot_dense(out, w, x);
    }

    fn dot_bytes(&self, out: &mut [i32], w: &[i8], x: &[i16]) {
        dot_bytes(out, w, x);
    }

    fn dot_nibbles(&self, out: &mut [i32], w: NibbleRows<'_>, x: &[i8]) {
        dot_nibbles(out, w, x);
    }

    fn bound(&self, out: RowBounds<'_>, sums: &Sums, rows: &BoundedRows<'_>, factors: &Factors, shares: &Shares) {
        bounds::bound(out, sums, rows, factors, shares);
    }

    fn scores(&self, scores: &mut [Scores], q: &[f32], keys: Entries<'_>, factor: f32) {
        heads::scores(scores, q, keys, factor);
    }

    fn mix(&self, out: &mut [f32], weights: &[Scores], positions: Range<usize>, values: Entries<'_>) {
        mix(out, weights, positions, values, 0);
    }

    fn widen(&self, out: &mut [f32], halves: &[u16]) {
        assert_eq!(out.len(), halves.len());
        out.iter_mut().zip(halves).for_each(|(o, &bits)| *o = half(bits));
    }

    fn absmax(&self, x: &[f32]) -> f32 {
        floats::absmax(x)
    }

    fn round(&self, out: &mut [i8], x: &[f32], scale: f32) {
        floats::round(out, x, scale);
    }

    fn block_sums(&self, out: &mut [i32], x: &[i8]) {
        floats::block_sums(out, x);
    }

    fn sum_words(&self, words: &[u64]) -> u64 {
        words::sum::<16>(words)
    }

    fn sum_squares(&self, x: &[f32]) -> f64 {
        floats::sum_squares(x)
    }

    fn inner(&self, u: &[f32], v: &[f32]) -> f32 {
        floats::inner(u, v)
    }

    fn halve(&self, coarse: &mut [u8], fine: &mut [u8], v: &mut [f32], absmax: f32) -> f64 {
        floats::halve(coarse, fine, v, absmax)
    }

    fn scale_sums(&self, out: &mut [f32], sums: &[i32], scales: &[f32], divisor: f32) {
        floats::scale_sums(out, sums, scales, divisor);
    }

    fn norm(&self, out: &mut [f32], x: &[f32], factor: f32, gain: &[f32]) {
        floats::norm(out, x, factor, gain);
    }

    fn squared_relu(&self, out: &mut [f32], gate: &[f32], up: &[f32]) {
        floats::squared_relu(out, gate, up);
    }

    fn hadamard(&self, block: &mut [f32]) {
        floats::hadamard(block);
    }

    fn recall(&self, with_key: &mut [f32], with_query: &mut [f32], memory: &[f32], key: &[f32], query: &[f32]) {
        floats::recall(with_key, with_query, memory, key, query);
    }

    fn remember(&self, memory: &mut [f32], fade: f32, key: &[f32], update: &[f32]) {
        floats::remember(memory, fade, key, update);
    }

    fn silu(&self, out: &mut [f32], gate: &[f32], up: &[f32]) {
        floats::silu(out, gate, up);
    }

    fn gelu(&self, out: &mut [f32], gate: &[f32], up: &[f32]) {
        floats::gelu(out, gate, up);
    }

    fn dot_floats(&self, out: &mut [f32], tile: &FloatTile<'_>) {
        dot_floats(out, tile);
    }

    fn exp_sum(&self, scores: &mut [f32], largest: f32) -> f32 {
        floats::exp_sum(scores, largest)
    }

    fn extremes(&self, x: &[f32]) -> (f32, f32) {
        floats::extremes(x)
    }

    fn largest(&self, x: &[f32]) -> Option<usize> {
        floats::largest(x)
    }
}

/// [`Kernels::dot_blocks`] by a set's [`Kernels::dot_codes`].
pub(crate) fn blocks_by_codes(kernels: &dyn Kernels, out: &mut [f32], tile: &BlockTile<'_>, scales: TileScales<'_>) {
    /// Blocks of a stretch.
    const STRETCH: usize = 64;
    let mut dots = [0i32; STRETCH];
    for (output, out) in out.chunks_exact_mut(tile.tile.rows).enumerate() {
        let codes = tile.tile.weights(output);
        for (row, out) in out.iter_mut().enumerate() {
            let BlockRow { x, sums, steps } = tile.row(row);
            for (stretch, codes) in codes.chunks(STRETCH).enumerate() {
                let places = stretch * STRETCH..stretch * STRETCH + codes.len();
                let (blocks, dots) = (codes.len(), &mut dots[..codes.len()]);
                let (codes, x) = (codes.as_flattened(), x[places.clone()].as_flattened());
                let (codes_stride, x_stride) = (codes.len(), x.len());
                kernels
                    .dot_codes(dots, &Tile { codes, codes_stride, outputs: 1, x, x_stride, rows: 1, blocks, group: 1 });
                // Codes are trits + 1, so the sum of the activations is too much.
                let factors = steps[places.clone()].iter().zip(&scales.values[places.clone()]);
                for ((dot, sum), (step, scales)) in dots.iter().zip(&sums[places]).zip(factors) {
                    *out += (dot - sum) as f32 * (step * scales[output]);
                }
            }
        }
    }
}

/// [`Kernels::dot_floats`], in lanes of eight, which the compiler makes vectors of.
fn dot_floats(out: &mut [f32], tile: &FloatTile<'_>) {
    out.fill(0.0);
    let mut codes = [0; 128];
    for (block, (packed, scales)) in tile.codes.iter().zip(tile.scales).enumerate() {
        unpack(&mut codes, packed);
        let trits = codes.map(|code| f32::from(code.wrapping_sub(1)));
        for (row, out) in out.iter_mut().enumerate() {
            let mut lanes = [0.0; 8];
            for (trits, x) in trits.as_chunks::<8>().0.iter().zip(tile.row(row)[block].as_chunks::<8>().0) {
                lanes.iter_mut().zip(trits).zip(x).for_each(|((lane, trit), x)| *lane += trit * x);
            }
            *out += lanes.iter().sum::<f32>() * scales[tile.lane];
        }
    }
}

/// [`Kernels::dot_codes`]. A group of a weight row is unpacked in stretches, and each stretch serves all activation rows.
pub(crate) fn dot_codes(sums: &mut [i32], tile: &Tile<'_>) {
    const STRETCH: usize = 8; // blocks
    let groups = tile.groups();
    assert_eq!(sums.len(), tile.sums());
    sums.fill(0);
    let mut unpacked = [[0i16; 128]; STRETCH];
    for output in 0..tile.outputs {
        for (g, group) in tile.weights(output).chunks(tile.group).enumerate() {
            for (p, stretch) in group.chunks(STRETCH).enumerate() {
                for (codes, block) in unpacked.iter_mut().zip(stretch) {
                    unpack(codes, block);
                }
                let codes = &unpacked[..stretch.len()];
                for row in 0..tile.rows {
                    let x = &tile.activations(row)[g * tile.group + p * STRETCH..][..stretch.len()];
                    sums[(output * tile.rows + row) * groups + g] += dot_stretch(codes, x);
                }
            }
        }
    }
}

/// The 128 codes of a block in the order of their columns.
fn unpack(codes: &mut [i16; 128], block: &[u8; 32]) {
    for (quarter, shift) in codes.as_chunks_mut::<32>().0.iter_mut().zip([6, 4, 2, 0]) {
        for (code, byte) in quarter.iter_mut().zip(block) {
            *code = i16::from(byte >> shift & 3);
        }
    }
}

/// `Σ code·x`.
fn dot_stretch(codes: &[[i16; 128]], x: &[[i8; 128]]) -> i32 {
    let halves = codes.as_flattened().as_chunks::<64>().0.iter().zip(x.as_flattened().as_chunks::<64>().0);
    halves.fold(0, |sum, (codes, x)| {
        // Products are 3·128 at most, so 64 of them come to 24576 and fit 16 bits.
        let products = codes.iter().zip(x).map(|(code, &x)| code.wrapping_mul(i16::from(x)));
        sum.wrapping_add(i32::from(products.fold(0, i16::wrapping_add)))
    })
}

/// Vectors that each widened weight is multiplied with.
const TOGETHER: usize = 4;

/// [`Kernels::dot_dense`]. Weights are widened once for several vectors, whose sums do not wait for one another.
pub(crate) fn dot_dense(out: &mut [f32], w: DenseRow<'_>, x: &[f32]) {
    let cols = x.len() / out.len();
    let (several, rest) = out.as_chunks_mut::<TOGETHER>();
    let (x_several, x_rest) = x.split_at(several.len() * TOGETHER * cols);
    for (out, x) in several.iter_mut().zip(x_several.chunks_exact(TOGETHER * cols)) {
        *out = dot_dense_with(w, std::array::from_fn(|i| &x[i * cols..][..cols]));
    }
    for (out, x) in rest.iter_mut().zip(x_rest.chunks_exact(cols)) {
        [*out] = dot_dense_with(w, [x]);
    }
}

fn dot_dense_with<const N: usize>(w: DenseRow<'_>, x: [&[f32]; N]) -> [f32; N] {
    match w {
        DenseRow::F32(w) => dot(w.as_chunks().0, x, |&b| f32::from_le_bytes(b)),
        DenseRow::F16(w) => dot(w.as_chunks().0, x, |&b| half(u16::from_le_bytes(b))),
        DenseRow::Bf16(w) => dot(w.as_chunks().0, x, |&b| brain(u16::from_le_bytes(b))),
        DenseRow::Int8 { codes, scales, columns } => {
            let mut sums = [0.0; N];
            for (group, (codes, scale)) in codes.chunks_exact(columns).zip(scales).enumerate() {
                let of_group = dot(codes, x.map(|x| &x[group * columns..][..columns]), |&c| f32::from(c as i8));
                sums.iter_mut().zip(of_group).for_each(|(sum, of_group)| *sum += of_group * scale);
            }
            sums
        }
    }
}

/// `Σ read(w) * x` of each vector in eight lanes: column `c` belongs to lane `c % 8`.
#[inline(always)]
fn dot<W, const N: usize>(w: &[W], x: [&[f32]; N], read: impl Fn(&W) -> f32) -> [f32; N] {
    let (w, w_rest) = w.as_chunks::<8>();
    let x = x.map(|x| x.as_chunks::<8>());
    assert!(x.iter().all(|(x, x_rest)| x.len() == w.len() && x_rest.len() == w_rest.len()));
    let mut lanes = [[0.0f32; 8]; N];
    for (place, w) in w.iter().enumerate() {
        let w: [f32; 8] = std::array::from_fn(|lane| read(&w[lane]));
        for (lanes, (x, _)) in lanes.iter_mut().zip(&x) {
            for ((sum, w), x) in lanes.iter_mut().zip(&w).zip(&x[place]) {
                *sum += w * x;
            }
        }
    }
    for (lanes, (_, x)) in lanes.iter_mut().zip(x) {
        for ((sum, w), x) in lanes.iter_mut().zip(w_rest).zip(x) {
            *sum += read(w) * x;
        }
    }
    lanes.map(|lanes| lanes.iter().sum())
}

/// [`Kernels::dot_bytes`]. What is asked of its callers keeps the sums within 32 bits.
pub(crate) fn dot_bytes(out: &mut [i32], w: &[i8], x: &[i16]) {
    for (o, x) in out.iter_mut().zip(x.chunks_exact(w.len())) {
        let products = w.iter().zip(x).map(|(&w, &x)| i32::from(w).wrapping_mul(i32::from(x)));
        *o = products.fold(0, i32::wrapping_add);
    }
}

/// [`Kernels::dot_nibbles`].
pub(crate) fn dot_nibbles(out: &mut [i32], w: NibbleRows<'_>, x: &[i8]) {
    let vectors = x.len() / (2 * w.len());
    assert_eq!(out.len(), vectors * w.rows());
    for (row, out) in out.chunks_exact_mut(vectors).enumerate() {
        for (o, x) in out.iter_mut().zip(x.chunks_exact(2 * w.len())) {
            let mut sum = 0i32;
            for (w, x) in w.row(row).as_chunks::<64>().0.iter().zip(x.as_chunks::<128>().0) {
                let (low, high) = x.split_at(64);
                for ((&w, &low), &high) in w.iter().zip(low).zip(high) {
                    // Two products of at most 15·128.
                    let both = i16::from(w & 15).wrapping_mul(i16::from(low));
                    let both = both.wrapping_add(i16::from(w >> 4).wrapping_mul(i16::from(high)));
                    sum = sum.wrapping_add(i32::from(both));
                }
            }
            *o = sum;
        }
    }
}
