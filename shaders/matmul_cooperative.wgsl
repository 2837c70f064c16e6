// The same as matmul, for weights without groups of columns, by cooperative matrices of SIDE × SIDE: those that a subgroup
// multiplies as a whole, on units made for it where a device has them. Trits and int8 are exact in f16, their products and
// sums are integers of at most 2^24 (the host sees to it), exact in f32 in any order: the results are those of matmul.
//
// A workgroup makes a tile of TILE rows × TILE outputs, of which each of TEAMS subgroups has every other SIDE rows and every
// other SIDE outputs. Workgroups are TEAMS subgroups of the largest size that the device has, so there are that many or more:
// those beyond repeat the first, as cooperative matrices have to be met by all threads of a workgroup.
//
// Run, and exact to the last bit: by llvmpipe of Mesa 26.1, with matrices of 8 × 8, which it lists, and once with 16 × 16,
// which it does not list. Never run by any graphics card, nor by Metal. llvmpipe is not faster for it; nothing else was timed.

struct Params {
    pieces: u32,     // 16-byte pieces of a weight row: 64 columns each
    rows: u32,       // weight rows in this shard
    first: u32,      // the output that this shard begins with
    outputs: u32,    // columns of `out`
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> codes: array<vec4<u32>>;   // [rows, pieces]
@group(0) @binding(3) var<storage, read> scales: array<f32>;        // [rows]
@group(0) @binding(4) var<storage, read> x: array<vec4<u32>>;       // [rows of the step, 4 * pieces], int8
@group(0) @binding(5) var<storage, read> facts: array<vec2<u32>>;   // [rows of the step]: bits of the scale, sum
@group(0) @binding(6) var<storage, read_write> out: array<f32>;     // [rows of the step, outputs]

const MATRICES: u32 = TILE / 2u / SIDE; // matrices of a team along each side of the tile
const COLUMNS: u32 = 32u;               // at once: half a piece
const STRIDE: u32 = 40u;                // in workgroup memory: whole 16 bytes, as matrices need; rows begin in other banks
const_assert TEAMS == 4u && TILE % (2u * SIDE) == 0u && COLUMNS % SIDE == 0u && STRIDE >= COLUMNS && STRIDE % 8u == 0u;

var<workgroup> tile_w: array<f16, TILE * STRIDE>;     // [outputs, COLUMNS]: trits
var<workgroup> tile_x: array<f16, TILE * STRIDE>;     // [rows, COLUMNS]
var<workgroup> sums: array<f32, TEAMS * SIDE * SIDE>; // [2 * SIDE rows, 2 * SIDE outputs]

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) team: u32,
) {
    let first_weight = group.x * TILE;
    let first_row = group.y * TILE;
    let at_row = team % TEAMS / 2u * SIDE; // of the team's first matrix
    let at_output = team % 2u * SIDE;
    var results: array<MatrixC, MATRICES * MATRICES>;
    for (var half_piece = 0u; half_piece < 2u * params.pieces; half_piece++) {
        for (var vector = thread; vector < 2u * TILE; vector += THREADS) {
            unpack(first_weight, first_row, vector / 2u, half_piece / 2u, half_piece % 2u * 2u + vector % 2u);
        }
        workgroupBarrier();
        for (var k = 0u; k < COLUMNS; k += SIDE) {
            var w: array<MatrixB, MATRICES>; // [COLUMNS, outputs]: columns of it are rows of tile_w
            for (var j = 0u; j < MATRICES; j++) {
                w[j] = coopLoad<MatrixB>(&tile_w[(j * 2u * SIDE + at_output) * STRIDE + k], STRIDE);
            }
            for (var i = 0u; i < MATRICES; i++) {
                let rows = coopLoadT<MatrixA>(&tile_x[(i * 2u * SIDE + at_row) * STRIDE + k], STRIDE);
                for (var j = 0u; j < MATRICES; j++) {
                    results[i * MATRICES + j] = coopMultiplyAdd(rows, w[j], results[i * MATRICES + j]);
                }
            }
        }
        workgroupBarrier();
    }

    // Matrices cannot be scaled or written in part, so they go out through workgroup memory, one of each team at a time.
    for (var i = 0u; i < MATRICES; i++) {
        for (var j = 0u; j < MATRICES; j++) {
            coopStoreT(results[i * MATRICES + j], &sums[at_row * 2u * SIDE + at_output], 2u * SIDE);
            workgroupBarrier();
            for (var place = thread; place < TEAMS * SIDE * SIDE; place += THREADS) {
                let row = first_row + i * 2u * SIDE + place / (2u * SIDE);
                finish(row, first_weight + j * 2u * SIDE + place % (2u * SIDE), sums[place]);
            }
            workgroupBarrier();
        }
    }
}

// Puts 16 columns, a quarter of a piece, of a weight row and of a row of activations into workgroup memory.
fn unpack(first_weight: u32, first_row: u32, line: u32, piece: u32, quarter: u32) {
    let to = line * STRIDE + quarter % 2u * 16u;
    let packed = codes[min(first_weight + line, params.rows - 1u) * params.pieces + piece];
    let unpacked = (packed >> vec4<u32>(6u - 2u * quarter)) & vec4<u32>(0x03030303u);
    let row = min(first_row + line, step.rows - 1u);
    let values = x[row * params.pieces * 4u + piece / 2u * 8u + piece % 2u + quarter * 2u];
    for (var word = 0u; word < 4u; word++) {
        let w = vec4<f16>(unpack4xU8(unpacked[word])) - vec4<f16>(1.0h);
        let x = vec4<f16>(unpack4xI8(values[word]));
        for (var i = 0u; i < 4u; i++) {
            tile_w[to + word * 4u + i] = w[i];
            tile_x[to + word * 4u + i] = x[i];
        }
    }
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
