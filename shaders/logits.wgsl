// out = x headᵀ in floats, for a few of the rows that want logits, or for all rows (ALL). As matvec: LANES threads share a row of the head,
// 16 bytes each at a time.

struct Params {
    pieces: u32,     // 16-byte pieces of a row of the head
    rows: u32,       // rows of the head in this shard
    first: u32,      // the output that this shard begins with
    outputs: u32,    // columns of `out`: the vocabulary
    width: u32,      // columns of `x`
    group: u32,      // columns that a scale covers
    row_scales: u32, // scales of a row
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> head: array<vec4<u32>>;  // [rows, pieces]
@group(0) @binding(3) var<storage, read> scales: array<f32>;      // [rows, row_scales]
// Binding 4: `x`, [selected, width], of the fragment `vectors_aligned` or `vectors_any`.
@group(0) @binding(5) var<storage, read_write> out: array<f32>;   // [selected, outputs]

alias Sum = f32;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let rows = select(step.selected, step.rows, ALL);
    let lane = thread % LANES;
    let first = (group.x + group.y * groups.x) * TEAMS * OUTPUTS; // row of the shard
    let first_row = group.z * ROWS;                               // of the selected
    var sums: array<f32, SUMS>;
    for (var piece = lane; piece < params.pieces; piece += LANES) {
        var weights: array<array<vec4<f32>, PIECE_VECTORS>, OUTPUTS>;
        for (var output = 0u; output < OUTPUTS; output++) {
            let row = min(first + output * TEAMS + thread / LANES, params.rows - 1u);
            weights[output] = unpack_piece(head[row * params.pieces + piece], row, piece);
        }
        for (var row = 0u; row < ROWS; row++) {
            let source = min(first_row + row, rows - 1u);
            for (var vector = 0u; vector < PIECE_VECTORS; vector++) {
                // Columns beyond the width meet weights of 0.
                let values = x_vector(source, piece * PIECE_VECTORS + vector);
                for (var output = 0u; output < OUTPUTS; output++) {
                    sums[output * ROWS + row] += dot(weights[output][vector], values);
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
        let row = i / (TEAMS * OUTPUTS);
        var sum = lanes_sum(team, output, row);
        let weight = first + output * TEAMS + team;
        if weight < params.rows && first_row + row < rows {
            if SCALED_AFTER {
                sum *= scales[weight];
            }
            out[(first_row + row) * params.outputs + params.first + weight] = sum;
        }
    }
}
