// The same as matmul, for weights without groups of columns, by cooperative matrices of SIDE × SIDE: those that a subgroup
// multiplies as a whole, on units made for it where a device has them. Trits and int8 are exact in f16, their products and
// sums are integers of at most 2^24 (the host sees to it), exact in f32 in any order: the results are those of matmul.
//
// A workgroup makes a tile of TILE rows × TILE outputs. TEAMS subgroups share it, in TEAM_OUTPUTS columns: each has every
// TEAM_ROWS-th SIDE rows and every TEAM_OUTPUTS-th SIDE outputs. Workgroups are TEAMS subgroups of the largest size that the device
// has, so there are that many or more: those beyond repeat the first, as cooperative matrices have to be met by all threads of a
// workgroup.
//
// Two values are unpacked at once. 0x6400 is 1024 in f16, and what is put into its lower bits is added to it. So a code c, where it
// lies in its byte, makes 1024 + c, 4c, 16c or 64c, and one multiplication and addition, exact on the way, makes c - 1 of that; an
// int8 whose sign is turned makes 1024 + 128 + v.
//
// Run, and exact to the last bit: by llvmpipe of Mesa 26.1, with matrices of 8 × 8, which it lists, in tiles of 64; and once each with
// 16 × 16, which it does not list, and in tiles of 128 with 8 × 8. Never run by any graphics card, nor by Metal: where it is used
// unasked, a trial has shown it right and faster when the device was opened. What two compilers make of it is in benches/gpu-compilers.md.

struct Params {
    pieces: u32,     // 16-byte pieces of a weight row: 64 columns each
    rows: u32,       // weight rows in this shard
    first: u32,      // the output that this shard begins with
    outputs: u32,    // columns of `out`
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> codes: array<vec2<u32>>;   // [rows, 2 * pieces]
@group(0) @binding(3) var<storage, read> scales: array<f32>;        // [rows]
@group(0) @binding(4) var<storage, read> x: array<vec4<u32>>;       // [rows of the step, 4 * pieces], int8
@group(0) @binding(5) var<storage, read> facts: array<vec2<u32>>;   // [rows of the step]: bits of the scale, sum
@group(0) @binding(6) var<storage, read_write> out: array<f32>;     // [rows of the step, outputs]

const TEAM_ROWS: u32 = TEAMS / TEAM_OUTPUTS;
const HEIGHT: u32 = TEAM_ROWS * SIDE;    // rows of which each team has one matrix
const WIDTH: u32 = TEAM_OUTPUTS * SIDE;  // outputs likewise
const ROWS: u32 = TILE / HEIGHT;         // matrices of a team along the rows of the tile
const OUTPUTS: u32 = TILE / WIDTH;       // and along its outputs
const COLUMNS: u32 = 32u;                // at once: a quarter of a block, two bits of each of its bytes; STRIDE apart
const W_PARTS: u32 = 4u;                 // of a block of a weight row: two words, which a thread unpacks
const X_PARTS: u32 = 2u;                 // of COLUMNS activations: four words
const W_LOADS: u32 = (TILE * W_PARTS + THREADS - 1u) / THREADS; // of a thread
const X_LOADS: u32 = (TILE * X_PARTS + THREADS - 1u) / THREADS;
const_assert TEAM_ROWS * TEAM_OUTPUTS == TEAMS && ROWS * HEIGHT == TILE && OUTPUTS * WIDTH == TILE;
const_assert COLUMNS % SIDE == 0u && STRIDE >= COLUMNS && STRIDE % 8u == 0u;

var<workgroup> tile_w: array<f16, TILE * STRIDE>; // [outputs, COLUMNS]: trits
var<workgroup> tile_x: array<f16, TILE * STRIDE>; // [rows, COLUMNS]
var<workgroup> sums: array<f32, HEIGHT * WIDTH>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) team: u32,
) {
    let first_weight = group.x * TILE;
    let first_row = group.y * TILE;
    let at_row = team % TEAMS / TEAM_OUTPUTS * SIDE; // of the team's first matrix
    let at_output = team % TEAM_OUTPUTS * SIDE;
    let blocks = params.pieces / 2u;
    var results: array<MatrixC, ROWS * OUTPUTS>;
    var packed: array<vec2<u32>, W_LOADS>; // of the present block
    var values: array<vec4<u32>, X_LOADS>; // of its present quarter
    for (var i = 0u; i < W_LOADS; i++) {
        packed[i] = codes[w_source(first_weight, i * THREADS + thread, blocks)];
    }
    for (var i = 0u; i < X_LOADS; i++) {
        values[i] = x[x_source(first_row, i * THREADS + thread, blocks)];
    }
    for (var block = 0u; block < blocks; block++) {
        for (var quarter = 0u; quarter < 4u; quarter++) {
            for (var i = 0u; i < W_LOADS; i++) {
                unpack_w(i * THREADS + thread, packed[i], quarter);
            }
            for (var i = 0u; i < X_LOADS; i++) {
                unpack_x(i * THREADS + thread, values[i]);
            }
            workgroupBarrier();

            // The next are on their way while these are multiplied; after the last, itself.
            let next = min(block * 4u + quarter + 1u, blocks * 4u - 1u);
            for (var i = 0u; i < X_LOADS; i++) {
                values[i] = x[x_source(first_row, i * THREADS + thread, blocks) + next * X_PARTS];
            }
            if quarter == 3u {
                for (var i = 0u; i < W_LOADS; i++) {
                    packed[i] = codes[w_source(first_weight, i * THREADS + thread, blocks) + next / 4u * W_PARTS];
                }
            }
            for (var k = 0u; k < COLUMNS; k += SIDE) {
                var w: array<MatrixB, OUTPUTS>; // [COLUMNS, outputs]: columns of it are rows of tile_w
                for (var j = 0u; j < OUTPUTS; j++) {
                    w[j] = coopLoad<MatrixB>(&tile_w[(j * WIDTH + at_output) * STRIDE + k], STRIDE);
                }
                for (var i = 0u; i < ROWS; i++) {
                    let rows = coopLoadT<MatrixA>(&tile_x[(i * HEIGHT + at_row) * STRIDE + k], STRIDE);
                    for (var j = 0u; j < OUTPUTS; j++) {
                        results[i * OUTPUTS + j] = coopMultiplyAdd(rows, w[j], results[i * OUTPUTS + j]);
                    }
                }
            }
            workgroupBarrier();
        }
    }

    // Matrices cannot be scaled or written in part, so they go out through workgroup memory, one of each team at a time.
    for (var i = 0u; i < ROWS; i++) {
        for (var j = 0u; j < OUTPUTS; j++) {
            coopStoreT(results[i * OUTPUTS + j], &sums[at_row * WIDTH + at_output], WIDTH);
            workgroupBarrier();
            for (var place = thread; place < HEIGHT * WIDTH; place += THREADS) {
                let row = first_row + i * HEIGHT + place / WIDTH;
                finish(row, first_weight + j * WIDTH + place % WIDTH, sums[place]);
            }
            workgroupBarrier();
        }
    }
}

// Where a part of the first block of a weight row lies, and a part of the first columns of a row of activations; of those that no
// thread needs, and beyond the last row, others.
fn w_source(first_weight: u32, part: u32, blocks: u32) -> u32 {
    return min(first_weight + part / W_PARTS % TILE, params.rows - 1u) * blocks * W_PARTS + part % W_PARTS;
}

fn x_source(first_row: u32, part: u32, blocks: u32) -> u32 {
    return min(first_row + part / X_PARTS % TILE, step.rows - 1u) * blocks * 4u * X_PARTS + part % X_PARTS;
}

// Puts 8 weights into workgroup memory. Of four in a word the second and the third change places, as those of activations do: sums
// do not care.
fn unpack_w(part: u32, words: vec2<u32>, quarter: u32) {
    if W_LOADS * THREADS == TILE * W_PARTS || part < TILE * W_PARTS {
        let to = part / W_PARTS * STRIDE + part % W_PARTS * 8u;
        let mask = 0x00c000c0u >> (2u * quarter);
        let unit = vec2<f16>(bitcast<f16>(u16(0x2400u + quarter * 0x0800u))); // 1/64, 1/16, 1/4, 1
        let less = vec2<f16>(-1.0h) - vec2<f16>(1024.0h) * unit;
        for (var i = 0u; i < 2u; i++) {
            let even = fma(halves(words[i] & mask), unit, less);
            let odd = fma(halves((words[i] >> 8u) & mask), unit, less);
            tile_w[to + 4u * i] = even.x;
            tile_w[to + 4u * i + 1u] = even.y;
            tile_w[to + 4u * i + 2u] = odd.x;
            tile_w[to + 4u * i + 3u] = odd.y;
        }
    }
}

// Puts 16 activations into workgroup memory.
fn unpack_x(part: u32, words: vec4<u32>) {
    if X_LOADS * THREADS == TILE * X_PARTS || part < TILE * X_PARTS {
        let to = part / X_PARTS * STRIDE + part % X_PARTS * 16u;
        let unsigned = words ^ vec4<u32>(0x80808080u);
        for (var i = 0u; i < 4u; i++) {
            let even = halves(unsigned[i] & 0x00ff00ffu) - vec2<f16>(1152.0h);
            let odd = halves((unsigned[i] >> 8u) & 0x00ff00ffu) - vec2<f16>(1152.0h);
            tile_x[to + 4u * i] = even.x;
            tile_x[to + 4u * i + 1u] = even.y;
            tile_x[to + 4u * i + 2u] = odd.x;
            tile_x[to + 4u * i + 3u] = odd.y;
        }
    }
}

// 1024 more than each half of a word, which is less than 1024.
fn halves(word: u32) -> vec2<f16> {
    let both = word | 0x64006400u;
    return bitcast<vec2<f16>>(vec2<u16>(u16(both), u16(both >> 16u)));
}

fn finish(row: u32, weight: u32, sum: f32) {
    if row < step.rows && weight < params.rows {
        let place = row * params.outputs + params.first + weight;
        let value = sum * (scales[weight] / bitcast<f32>(facts[row].x));
        if ADD {
            out[place] += value;
        } else {
            out[place] = value;
        }
    }
}
