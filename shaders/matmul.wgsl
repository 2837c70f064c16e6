// out = x wᵀ for many rows of x: ternary weights, int8 activations, exact integer sums. A workgroup makes a tile of
// TILE rows × TILE outputs; codes are unpacked once a tile, into workgroup memory, and every thread makes 4 × 4 sums. GROUPED
// says that groups of columns have scales of their own; BLOCKS, that each block of activations has.

struct Params {
    pieces: u32,     // 16-byte pieces of a weight row: 64 columns each
    rows: u32,       // weight rows in this shard
    first: u32,      // the output that this shard begins with
    outputs: u32,    // columns of `out`
    group: u32,      // pieces that a scale covers
    row_scales: u32, // scales of a weight row
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> codes: array<vec4<u32>>;   // [rows, pieces]
@group(0) @binding(3) var<storage, read> scales: array<f32>;        // [rows, row_scales]
@group(0) @binding(4) var<storage, read> x: array<vec4<u32>>;       // [rows of the step, 4 * pieces], int8
// [rows of the step], or [rows of the step, pieces / 2] if BLOCKS: bits of the scale, sums.
@group(0) @binding(5) var<storage, read> facts: array<vec2<u32>>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;     // [rows of the step, outputs]

const THREADS: u32 = 256u;
const SIDE: u32 = 16u;     // threads along each side of the tile
const WORDS: u32 = 16u;    // of a piece, unpacked
const STRIDE: u32 = 17u;   // in workgroup memory: odd, so that rows begin in different banks
const BLOCK: u32 = 2u;     // pieces
const_assert TILE == 4u * SIDE && THREADS == SIDE * SIDE && THREADS == 4u * TILE;

var<workgroup> tile_w: array<u32, TILE * STRIDE>; // [outputs, columns / 4]
var<workgroup> tile_x: array<u32, TILE * STRIDE>; // [rows, columns / 4]

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first_weight = group.x * TILE;
    let first_row = group.y * TILE;
    var sums: array<array<i32, 4>, 4>;   // [rows, outputs], of this group of columns
    var totals: array<array<f32, 4>, 4>; // of the groups before, if GROUPED
    var x_sums: array<i32, 4>;           // of the activations of this group, if GROUPED
    // A quarter of the threads unpack a weight row's piece each; all load a quarter of a row's activations.
    let weight = min(first_weight + thread % TILE, params.rows - 1u) * params.pieces;
    let source = min(first_row + thread / 4u, step.rows - 1u) * params.pieces * 4u + thread % 4u * 2u;
    var packed = codes[weight];
    var values = x[source];
    for (var piece = 0u; piece < params.pieces; piece++) {
        if thread < TILE {
            for (var quarter = 0u; quarter < 4u; quarter++) {
                let unpacked = (packed >> vec4<u32>(6u - 2u * quarter)) & vec4<u32>(0x03030303u);
                put_w(thread * STRIDE + quarter * 4u, unpacked);
            }
        }
        put_x(thread / 4u * STRIDE + thread % 4u * 4u, values);
        workgroupBarrier();

        // The next are on their way while these are multiplied; after the last, itself.
        let next = min(piece + 1u, params.pieces - 1u);
        packed = codes[weight + next];
        values = x[source + next / 2u * 8u + next % 2u];
        for (var word = 0u; word < WORDS; word++) {
            var w: array<u32, 4>;
            for (var i = 0u; i < 4u; i++) {
                w[i] = tile_w[(thread % SIDE + i * SIDE) * STRIDE + word];
            }
            for (var i = 0u; i < 4u; i++) {
                let four = tile_x[(thread / SIDE + i * SIDE) * STRIDE + word];
                for (var j = 0u; j < 4u; j++) {
                    sums[i][j] += dot_codes(w[j], four);
                }
                if GROUPED && !BLOCKS {
                    x_sums[i] += dot_codes(0x01010101u, four);
                }
            }
        }
        workgroupBarrier();

        if GROUPED && ((piece + 1u) % select(params.group, BLOCK, BLOCKS) == 0u || piece + 1u == params.pieces) {
            var x_steps = array<f32, 4>(1.0, 1.0, 1.0, 1.0);
            if BLOCKS {
                for (var i = 0u; i < 4u; i++) {
                    let row = min(first_row + thread / SIDE + i * SIDE, step.rows - 1u);
                    let fact = facts[row * (params.pieces / BLOCK) + piece / BLOCK];
                    let halves = bitcast<i32>(fact.y);
                    x_sums[i] = extractBits(halves, 0u, 16u) + extractBits(halves, 16u, 16u);
                    x_steps[i] = 1.0 / bitcast<f32>(fact.x);
                }
            }
            for (var j = 0u; j < 4u; j++) {
                let weight = min(first_weight + thread % SIDE + j * SIDE, params.rows - 1u);
                let scale = scales[weight * params.row_scales + piece / params.group];
                for (var i = 0u; i < 4u; i++) {
                    totals[i][j] += f32(sums[i][j] - x_sums[i]) * (scale * x_steps[i]);
                    sums[i][j] = 0;
                }
            }
            x_sums = array<i32, 4>();
        }
    }

    for (var i = 0u; i < 4u; i++) {
        let row = first_row + thread / SIDE + i * SIDE;
        for (var j = 0u; j < 4u; j++) {
            let weight = first_weight + thread % SIDE + j * SIDE;
            if row < step.rows && weight < params.rows {
                let place = row * params.outputs + params.first + weight;
                var value = totals[i][j];
                if !BLOCKS {
                    value /= bitcast<f32>(facts[row].x);
                }
                if !GROUPED {
                    // Codes are trits + 1, so the sum of the activations is too much.
                    value = f32(sums[i][j] - bitcast<i32>(facts[row].y)) * (scales[weight] / bitcast<f32>(facts[row].x));
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

fn put_w(at: u32, words: vec4<u32>) {
    tile_w[at] = words.x;
    tile_w[at + 1u] = words.y;
    tile_w[at + 2u] = words.z;
    tile_w[at + 3u] = words.w;
}

fn put_x(at: u32, words: vec4<u32>) {
    tile_x[at] = words.x;
    tile_x[at + 1u] = words.y;
    tile_x[at + 2u] = words.z;
    tile_x[at + 3u] = words.w;
}
