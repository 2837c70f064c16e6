// out[row] = table[tokens[row]], for the rows whose token lies in this shard of the table.

struct Params {
    width: u32,       // columns of a row
    first: u32,       // row of the table that this shard begins with
    rows: u32,        // rows in this shard
    row_words: u32,   // words of a row in the table
    group: u32,       // columns of a scale
    row_scales: u32,  // scales of a row
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> tokens: array<u32>;       // [rows of the step]
@group(0) @binding(2) var<storage, read> table: array<u32>;        // [rows, row_words]
@group(0) @binding(3) var<storage, read> scales: array<f32>;       // [rows, row_scales]
@group(0) @binding(4) var<storage, read_write> out: array<f32>;    // [rows of the step, width]

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let col = id.x;
    let token = tokens[id.y];
    if col >= params.width || token < params.first || token - params.first >= params.rows {
        return;
    }
    let row = token - params.first;
    out[id.y * params.width + col] = weight(row, col);
}
