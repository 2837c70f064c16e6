// out = x wᵀ for each place, with the ternary weights of its expert. As matvec: LANES threads share a weight row, 16 bytes each at a
// time, and each thread holds OUTPUTS weight rows. Activations are int8 or f32, as the fragment of `x` has it: products with trits
// are exact either way, sums of a piece of int8 too.

struct Params {
    pieces: u32,     // 16-byte pieces of a weight row: 64 columns each
    outputs: u32,    // weight rows of an expert, and columns of `out`
    first: u32,      // the expert that this shard begins with
    experts: u32,    // in this shard
    group: u32,      // pieces that a scale covers
    row_scales: u32, // scales of a weight row
    share: u32,      // places that have one row of `x`
    x_scales: u32,   // scales of a row of `x`
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> choices: array<u32>;       // [places]: the expert
@group(0) @binding(2) var<storage, read> codes: array<vec4<u32>>;   // [experts, outputs, pieces]
@group(0) @binding(3) var<storage, read> scales: array<f32>;        // [experts, outputs, row_scales]
// Bindings 4 and 5: `x` and its facts, of the fragment `places_int8` or `places_f32`.
@group(0) @binding(6) var<storage, read_write> out: array<f32>;     // [places, outputs]

const TEAMS: u32 = THREADS / LANES;

var<workgroup> lane_sums: array<array<f32, THREADS>, OUTPUTS>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let expert = choices[group.z];
    if expert < params.first || expert - params.first >= params.experts {
        return; // another shard has it
    }
    let source = group.z / params.share;
    let first = (group.x + group.y * groups.x) * TEAMS * OUTPUTS;
    let base = (expert - params.first) * params.outputs;
    var sums: array<f32, OUTPUTS>;
    for (var piece = thread % LANES; piece < params.pieces; piece += LANES) {
        var packed: array<vec4<u32>, OUTPUTS>;
        var factors: array<f32, OUTPUTS>;
        let step = x_step(source, piece);
        for (var output = 0u; output < OUTPUTS; output++) {
            let row = base + min(first + output * TEAMS + thread / LANES, params.outputs - 1u);
            packed[output] = codes[row * params.pieces + piece];
            factors[output] = scales[row * params.row_scales + piece / params.group] * step;
        }
        var of_piece: array<f32, OUTPUTS>;
        for (var quarter = 0u; quarter < 4u; quarter++) {
            for (var word = 0u; word < 4u; word++) {
                // A piece is half a block: columns 32q + 16h.. of its 128.
                let vector = piece / 2u * 32u + quarter * 8u + piece % 2u * 4u + word;
                let values = x_vector(source, vector);
                for (var output = 0u; output < OUTPUTS; output++) {
                    let four = (packed[output][word] >> (6u - 2u * quarter)) & 0x03030303u;
                    of_piece[output] += dot(vec4<f32>(unpack4xU8(four)) - 1.0, values);
                }
            }
        }
        for (var output = 0u; output < OUTPUTS; output++) {
            sums[output] += of_piece[output] * factors[output];
        }
    }
    for (var output = 0u; output < OUTPUTS; output++) {
        lane_sums[output][thread] = sums[output];
    }
    workgroupBarrier();

    for (var i = thread; i < TEAMS * OUTPUTS; i += THREADS) {
        let team = i % TEAMS;
        let output = i / TEAMS;
        var sum = 0.0;
        for (var lane = 0u; lane < LANES; lane++) {
            sum += lane_sums[output][team * LANES + lane];
        }
        let to = first + output * TEAMS + team;
        if to < params.outputs {
            out[group.z * params.outputs + to] = sum;
        }
    }
}
