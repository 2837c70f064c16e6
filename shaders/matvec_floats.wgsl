// out = x wᵀ of ternary weights and activations in f32, for ROWS rows of x at a time. As matvec: LANES threads share a weight
// row, 16 bytes each at a time, and every thread holds OUTPUTS weight rows against the same activations; which rows a workgroup takes, and
// with which weights, is a fragment's matter (rows_of_step, rows_of_places).

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
@group(0) @binding(4) var<storage, read> x: array<vec4<f32>>;       // [rows, 16 * pieces]: zeros beyond the columns
@group(0) @binding(5) var<storage, read_write> out: array<f32>;     // [rows, outputs]

alias Sum = f32;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    if is_elsewhere(group.z) {
        return;
    }
    let part = part_of(group.z);
    let first = (group.x + group.y * groups.x) * TEAMS * OUTPUTS; // row of the part
    var sums: array<f32, SUMS>;
    for (var piece = thread % LANES; piece < params.pieces; piece += LANES) {
        var packed: array<vec4<u32>, OUTPUTS>;
        var factors: array<f32, OUTPUTS>;
        for (var output = 0u; output < OUTPUTS; output++) {
            let row = part.weights + min(first + output * TEAMS + thread / LANES, part.weight_rows - 1u);
            packed[output] = codes[row * params.pieces + piece];
            factors[output] = scales[row * params.row_scales + piece / params.group];
        }
        for (var quarter = 0u; quarter < 4u; quarter++) {
            for (var word = 0u; word < 4u; word++) {
                // A piece is half a block: columns 32q + 16h.. of its 128.
                let vector = piece / 2u * 32u + quarter * 8u + piece % 2u * 4u + word;
                var weights: array<vec4<f32>, OUTPUTS>;
                for (var output = 0u; output < OUTPUTS; output++) {
                    let four = (packed[output][word] >> (6u - 2u * quarter)) & 0x03030303u;
                    weights[output] = (vec4<f32>(unpack4xU8(four)) - 1.0) * factors[output];
                }
                for (var row = 0u; row < ROWS; row++) {
                    let values = x[x_row_of(part.first + row) * params.pieces * 16u + vector];
                    for (var output = 0u; output < OUTPUTS; output++) {
                        sums[output * ROWS + row] += dot(weights[output], values);
                    }
                }
            }
        }
    }
    for (var i = 0u; i < SUMS; i++) {
        lane_sums[i][thread] = sums[i];
    }
    workgroupBarrier();

    for (var i = thread; i < TEAMS * SUMS; i += THREADS) {
        let team = i % TEAMS;
        let output = i / TEAMS % OUTPUTS;
        let within = i / (TEAMS * OUTPUTS);
        let row = part.first + within;
        let sum = lanes_sum(team, output, within);
        let weight = first + output * TEAMS + team;
        if weight < part.weight_rows && row < part.end {
            if ADD {
                out[out_at(row, weight)] += sum;
            } else {
                out[out_at(row, weight)] = sum;
            }
        }
    }
}
