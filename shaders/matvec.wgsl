// out = x wᵀ for a few rows of x: ternary weights, int8 activations, exact integer sums. Reading the weights is what it
// costs, so each is read once: LANES threads share a weight row, 16 bytes each at a time, and every thread holds
// OUTPUTS weight rows against the same activations.

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
@group(0) @binding(5) var<storage, read> facts: array<vec2<u32>>;   // [rows of the step]: bits of the scale, sum
@group(0) @binding(6) var<storage, read_write> out: array<f32>;     // [rows of the step, outputs]

const TEAMS: u32 = THREADS / LANES; // weight rows that are worked on at once
const SUMS: u32 = OUTPUTS * ROWS;   // of a thread

// Sums of all threads: i32, or f32 where groups of columns have their own scales.
var<workgroup> partial: array<array<Sum, THREADS>, SUMS>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let lane = thread % LANES;
    let first = (group.x + group.y * groups.x) * TEAMS * OUTPUTS; // weight row of the shard
    var sums: array<Sum, SUMS>;
    for (var piece = lane; piece < params.pieces; piece += LANES) {
        // A piece is half a block: words 4h.. of its eight, and so columns 32q + 16h.. of its 128.
        let columns = piece / 2u * 8u + piece % 2u;
        var weights: array<vec4<u32>, OUTPUTS>;
        for (var output = 0u; output < OUTPUTS; output++) {
            weights[output] = codes[weight_row(first, thread, output) * params.pieces + piece];
        }
        for (var row = 0u; row < ROWS; row++) {
            let at = min(row, step.rows - 1u) * params.pieces * 4u + columns;
            let x0 = x[at];
            let x1 = x[at + 2u];
            let x2 = x[at + 4u];
            let x3 = x[at + 6u];
            for (var output = 0u; output < OUTPUTS; output++) {
                let sum = dot_piece(weights[output], x0, x1, x2, x3);
                let scale_at = weight_row(first, thread, output) * params.row_scales + piece / params.group;
                sums[output * ROWS + row] += piece_sum(sum, scale_at, x0, x1, x2, x3);
            }
        }
    }
    for (var i = 0u; i < SUMS; i++) {
        partial[i][thread] = sums[i];
    }
    workgroupBarrier();

    // Each thread finishes some of the outputs.
    for (var i = thread; i < TEAMS * SUMS; i += THREADS) {
        let team = i % TEAMS;
        let output = i / TEAMS % OUTPUTS;
        let row = i / (TEAMS * OUTPUTS);
        var sum = partial[output * ROWS + row][team * LANES];
        for (var other = 1u; other < LANES; other++) {
            sum += partial[output * ROWS + row][team * LANES + other];
        }
        let weight = first + output * TEAMS + team;
        if weight < params.rows && row < step.rows {
            let place = row * params.outputs + params.first + weight;
            let value = product(sum, weight * params.row_scales, facts[row]);
            if ADD {
                out[place] += value;
            } else {
                out[place] = value;
            }
        }
    }
}

// The row of the shard that a thread's `output` lies in; rows beyond the shard repeat its last one and are not stored.
fn weight_row(first: u32, thread: u32, output: u32) -> u32 {
    return min(first + output * TEAMS + thread / LANES, params.rows - 1u);
}
