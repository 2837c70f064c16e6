// out = x wᵀ for a few rows of x: ternary weights, int8 activations, exact integer sums. Reading the weights is what it
// costs, so each is read once: LANES threads share a weight row, 16 bytes each at a time, and every thread holds
// OUTPUTS weight rows against the same activations. AHEAD pieces of each are asked for before the first is used, so that
// enough bytes are under way; the first of them, and what the results are scaled by and added to, before the activations are ready.
// Which rows a workgroup takes, and with which weights, is a fragment's matter (rows_of_step, rows_of_places); where the activations come
// from another's: quantised before (x_stored), or normalised and quantised by each workgroup for itself (x_normed).

struct Params {
    pieces: u32,     // 16-byte pieces of a weight row: 64 columns each
    rows: u32,       // weight rows in this shard
    first: u32,      // the output, or the expert, that this shard begins with
    outputs: u32,    // columns of `out`
    group: u32,      // pieces that a scale covers
    row_scales: u32, // scales of a weight row
    share: u32,      // places of experts that have one row of `x`
    epsilon: f32,    // of the norm
}

@group(0) @binding(0) var<uniform> params: Params;
// Binding 1: what says which rows these are, of the fragment that knows.
@group(0) @binding(2) var<storage, read> codes: array<vec4<u32>>;   // [rows, pieces]
@group(0) @binding(3) var<storage, read> scales: array<f32>;        // [rows, row_scales]
@group(0) @binding(4) var<storage, read_write> out: array<f32>;     // [rows, outputs]

const RESULTS: u32 = select(OUTPUTS, OUTPUTS / 2u, GLU); // of a team, for each row of `x`

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    if is_elsewhere(group.z) {
        return;
    }
    let lane = thread % LANES;
    let team = thread / LANES;
    let part = part_of(group.z);
    let first = (group.x + group.y * groups.x) * TEAMS * RESULTS; // result of the part
    var weights = load_weights(part, first, team, lane);
    var ahead_of_result: Ahead;
    if RESULTS_AHEAD {
        ahead_of_result = result_ahead(part, first, thread);
    }
    prepare_x(thread);
    var sums: array<Sum, SUMS>;
    for (var begin = lane; begin < params.pieces; begin += AHEAD * LANES) {
        for (var ahead = 0u; ahead < AHEAD; ahead++) {
            let piece = begin + ahead * LANES;
            if piece < params.pieces {
                // A piece is half a block: words 4h.. of its eight, and so columns 32q + 16h.. of its 128.
                let columns = piece / 2u * 8u + piece % 2u;
                for (var row = 0u; row < ROWS; row++) {
                    let x0 = x_codes(part.first + row, columns);
                    let x1 = x_codes(part.first + row, columns + 2u);
                    let x2 = x_codes(part.first + row, columns + 4u);
                    let x3 = x_codes(part.first + row, columns + 6u);
                    let about = piece_facts(part.first + row, piece, x0, x1, x2, x3);
                    for (var output = 0u; output < OUTPUTS; output++) {
                        let sum = dot_piece(weights[ahead][output], x0, x1, x2, x3);
                        let scale_at = weight_row(part, first, team, output) * params.row_scales + piece / params.group;
                        sums[output * ROWS + row] += piece_sum(sum, scale_at, about);
                    }
                }
            }
        }
        if ROWS > 1u || begin - lane + AHEAD * LANES < params.pieces {
            weights = load_weights(part, first, team, begin + AHEAD * LANES);
        }
    }
    for (var i = 0u; i < SUMS; i++) {
        lane_sums[i][thread] = sums[i];
    }
    workgroupBarrier();

    if RESULTS_AHEAD {
        finish(part, first, thread, ahead_of_result);
    } else {
        for (var i = thread; i < FINISHED; i += THREADS) {
            finish(part, first, i, result_ahead(part, first, i));
        }
    }
}

// Whether a thread finishes at most one result, so that what that takes from memory is asked for before all else.
const FINISHED: u32 = TEAMS * RESULTS * ROWS; // of a workgroup
const RESULTS_AHEAD: bool = FINISHED <= THREADS;

struct Ahead {
    scales: vec2<f32>, // of the gate and of the unit above it, or of the weight row
    before: f32,       // what the product is added to
}

// What finishing result `i` takes from memory; of those that no thread finishes, others'.
fn result_ahead(part: Part, first: u32, i: u32) -> Ahead {
    var ahead: Ahead;
    let team = i % TEAMS;
    let result = min(i / TEAMS, FINISHED / TEAMS - 1u) % RESULTS;
    if GLU {
        ahead.scales.x = row_scale(part, first, team, 2u * result);
        ahead.scales.y = row_scale(part, first, team, 2u * result + 1u);
    } else {
        ahead.scales.x = row_scale(part, first, team, result);
    }
    if ADD {
        let row = min(part.first + i / (TEAMS * RESULTS), part.end - 1u);
        let place = min(first + result * TEAMS + team, part.weight_rows - 1u);
        ahead.before = out[out_at(row, place)];
    }
    return ahead;
}

fn row_scale(part: Part, first: u32, team: u32, output: u32) -> f32 {
    return scale_ahead(weight_row(part, first, team, output) * params.row_scales);
}

fn finish(part: Part, first: u32, i: u32, ahead: Ahead) {
    let team = i % TEAMS;
    let result = i / TEAMS % RESULTS;
    let within = i / (TEAMS * RESULTS);
    let row = part.first + within;
    let place = first + result * TEAMS + team;
    if i >= FINISHED || row >= part.end {
        return;
    }
    if GLU {
        let gate = product(lanes_sum(team, 2u * result, within), ahead.scales.x, row);
        let up = product(lanes_sum(team, 2u * result + 1u, within), ahead.scales.y, row);
        if place < part.weight_rows / 2u {
            out[out_at(row, place)] = activated(gate) * up;
        }
    } else if place < part.weight_rows {
        let value = product(lanes_sum(team, result, within), ahead.scales.x, row);
        out[out_at(row, place)] = select(value, ahead.before + value, ADD);
    }
}

// The row of the shard that a team's `output` lies in: of a gated unit, gates and ups by turns. Rows beyond the part
// repeat its last one and are not stored.
fn weight_row(part: Part, first: u32, team: u32, output: u32) -> u32 {
    if GLU {
        let half = part.weight_rows / 2u;
        return part.weights + min(first + output / 2u * TEAMS + team, half - 1u) + output % 2u * half;
    }
    return part.weights + min(first + output * TEAMS + team, part.weight_rows - 1u);
}

// AHEAD pieces of each of a thread's weight rows, from its `piece` on; pieces beyond the row repeat its last one.
fn load_weights(part: Part, first: u32, team: u32, piece: u32) -> array<array<vec4<u32>, OUTPUTS>, AHEAD> {
    var weights: array<array<vec4<u32>, OUTPUTS>, AHEAD>;
    for (var ahead = 0u; ahead < AHEAD; ahead++) {
        let at = min(piece + ahead * LANES, params.pieces - 1u);
        for (var output = 0u; output < OUTPUTS; output++) {
            weights[ahead][output] = codes[weight_row(part, first, team, output) * params.pieces + at];
        }
    }
    return weights;
}
