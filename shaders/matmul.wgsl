// out = x wᵀ for many rows of x: ternary weights, int8 activations, exact integer sums. A workgroup makes a tile of
// GROUP_ROWS rows × TILE outputs; codes are unpacked once a tile, into workgroup memory, and every thread makes ROWS × OUTPUTS sums.
// GROUPED says that groups of columns have scales of their own; BLOCKS, that each block of activations has. Which rows these are, and of
// which weights, is a fragment's matter (rows_of_step, rows_of_tiles).

struct Params {
    pieces: u32,     // 16-byte pieces of a weight row: 64 columns each
    rows: u32,       // weight rows in this shard
    first: u32,      // the output, or the expert, that this shard begins with
    outputs: u32,    // columns of `out`
    group: u32,      // pieces that a scale covers
    row_scales: u32, // scales of a weight row
    share: u32,      // places of experts that have one row of `x`
}

@group(0) @binding(0) var<uniform> params: Params;
// Binding 1: what says which rows these are, of the fragment that knows.
@group(0) @binding(2) var<storage, read> codes: array<vec4<u32>>;   // [rows, pieces]
@group(0) @binding(3) var<storage, read> scales: array<f32>;        // [rows, row_scales]
@group(0) @binding(4) var<storage, read> x: array<vec4<u32>>;       // [rows, 4 * pieces], int8
// [rows], or [rows, pieces / 2] if BLOCKS: bits of the scale, sums.
@group(0) @binding(5) var<storage, read> facts: array<vec2<u32>>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;     // [rows, outputs]

const WIDTH: u32 = TILE / OUTPUTS; // threads along the outputs of a tile
const THREADS: u32 = WIDTH * (GROUP_ROWS / ROWS);
const APART: u32 = GROUP_ROWS / ROWS; // between a thread's rows
const VECTORS: u32 = 4u;           // of a piece, unpacked: 16 columns each
const STRIDE: u32 = VECTORS + 1u;  // in workgroup memory: odd, so that rows begin in different banks
const BLOCK: u32 = 2u;             // pieces
const X_LOADS: u32 = GROUP_ROWS * VECTORS / THREADS; // of a thread
const_assert X_LOADS * THREADS == GROUP_ROWS * VECTORS && THREADS >= TILE;

var<workgroup> tile_w: array<vec4<u32>, TILE * STRIDE>; // [outputs, columns / 16]
var<workgroup> tile_x: array<vec4<u32>, GROUP_ROWS * STRIDE>; // [rows, columns / 16]

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    if is_elsewhere(group.y) {
        return;
    }
    let part = part_of(group.y);
    let first_weight = group.x * TILE;
    let at_weight = thread % WIDTH;
    let at_row = thread / WIDTH;
    var sums: array<array<i32, OUTPUTS>, ROWS>;   // of this group of columns
    var totals: array<array<f32, OUTPUTS>, ROWS>; // of the groups before, if GROUPED
    var x_sums: array<i32, ROWS>;                 // of the activations of this group, if GROUPED
    // As many threads as there are weight rows unpack a piece each; all load what there is of activations.
    let weight = weight_row(part, first_weight + thread % TILE) * params.pieces;
    var packed = codes[weight];
    var sources: array<u32, X_LOADS>;
    var values: array<vec4<u32>, X_LOADS>;
    for (var i = 0u; i < X_LOADS; i++) {
        sources[i] = source_of(part, i, thread);
        values[i] = x[sources[i]];
    }
    var x_rows: array<u32, ROWS>;
    for (var i = 0u; i < ROWS; i++) {
        x_rows[i] = x_row_of(part.first + at_row + i * APART);
    }
    for (var piece = 0u; piece < params.pieces; piece++) {
        if thread < TILE {
            for (var quarter = 0u; quarter < VECTORS; quarter++) {
                let unpacked = (packed >> vec4<u32>(6u - 2u * quarter)) & vec4<u32>(0x03030303u);
                tile_w[thread * STRIDE + quarter] = unpacked;
            }
        }
        for (var i = 0u; i < X_LOADS; i++) {
            let vector = i * THREADS + thread;
            tile_x[vector / VECTORS * STRIDE + vector % VECTORS] = values[i];
        }
        workgroupBarrier();

        // The next are on their way while these are multiplied; after the last, itself.
        let next = min(piece + 1u, params.pieces - 1u);
        packed = codes[weight + next];
        for (var i = 0u; i < X_LOADS; i++) {
            values[i] = x[sources[i] + next / 2u * 8u + next % 2u];
        }
        for (var vector = 0u; vector < VECTORS; vector++) {
            var w: array<vec4<u32>, OUTPUTS>;
            for (var j = 0u; j < OUTPUTS; j++) {
                w[j] = tile_w[(at_weight + j * WIDTH) * STRIDE + vector];
            }
            for (var i = 0u; i < ROWS; i++) {
                let sixteen = tile_x[(at_row + i * APART) * STRIDE + vector];
                for (var j = 0u; j < OUTPUTS; j++) {
                    sums[i][j] += dot_codes(w[j].x, sixteen.x);
                    sums[i][j] += dot_codes(w[j].y, sixteen.y);
                    sums[i][j] += dot_codes(w[j].z, sixteen.z);
                    sums[i][j] += dot_codes(w[j].w, sixteen.w);
                }
                if GROUPED && !BLOCKS {
                    x_sums[i] += dot_codes(0x01010101u, sixteen.x);
                    x_sums[i] += dot_codes(0x01010101u, sixteen.y);
                    x_sums[i] += dot_codes(0x01010101u, sixteen.z);
                    x_sums[i] += dot_codes(0x01010101u, sixteen.w);
                }
            }
        }
        workgroupBarrier();

        if GROUPED && ((piece + 1u) % select(params.group, BLOCK, BLOCKS) == 0u || piece + 1u == params.pieces) {
            var x_steps: array<f32, ROWS>;
            for (var i = 0u; i < ROWS; i++) {
                x_steps[i] = 1.0;
                if BLOCKS {
                    let fact = facts[x_rows[i] * (params.pieces / BLOCK) + piece / BLOCK];
                    let halves = bitcast<i32>(fact.y);
                    x_sums[i] = extractBits(halves, 0u, 16u) + extractBits(halves, 16u, 16u);
                    x_steps[i] = 1.0 / bitcast<f32>(fact.x);
                }
            }
            for (var j = 0u; j < OUTPUTS; j++) {
                let weight = weight_row(part, first_weight + at_weight + j * WIDTH);
                let scale = scales[weight * params.row_scales + piece / params.group];
                for (var i = 0u; i < ROWS; i++) {
                    totals[i][j] += f32(sums[i][j] - x_sums[i]) * (scale * x_steps[i]);
                    sums[i][j] = 0;
                }
            }
            x_sums = array<i32, ROWS>();
        }
    }

    for (var i = 0u; i < ROWS; i++) {
        let row = part.first + at_row + i * APART;
        for (var j = 0u; j < OUTPUTS; j++) {
            let weight = first_weight + at_weight + j * WIDTH;
            if row < part.end && weight < part.weight_rows {
                let place = out_at(row, weight);
                var value = totals[i][j];
                if !BLOCKS {
                    value /= bitcast<f32>(facts[x_row_of(row)].x);
                }
                if !GROUPED {
                    // Codes are trits + 1, so the sum of the activations is too much.
                    let fact = facts[x_row_of(row)];
                    let scale = scales[part.weights + weight];
                    value = f32(sums[i][j] - bitcast<i32>(fact.y)) * (scale / bitcast<f32>(fact.x));
                }
                if ADD {
                    out[place] += value;
                } else {
                    out[place] = value;
                }
            }
        }
    }
}

// The row of the shard; those beyond the part repeat its last one.
fn weight_row(part: Part, weight: u32) -> u32 {
    return part.weights + min(weight, part.weight_rows - 1u);
}

// Where the vector of the first piece lies that a thread loads: those of a block are laid out by quarters of both its pieces.
fn source_of(part: Part, i: u32, thread: u32) -> u32 {
    let vector = i * THREADS + thread;
    return x_row_of(part.first + vector / VECTORS) * params.pieces * 4u + vector % VECTORS * 2u;
}
