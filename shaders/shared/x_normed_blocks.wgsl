// As x_normed, with a scale for each block of 128 columns.
@group(0) @binding(5) var<storage, read> x: array<f32>;     // [cols]
@group(0) @binding(6) var<storage, read> gain: array<f32>;  // [cols]

var<workgroup> x_row: array<vec4<u32>, VECTORS>;              // [4 * pieces], int8
var<workgroup> x_row_facts: array<vec2<u32>, VECTORS / TEAM>; // [blocks]

fn load(row: u32, col: u32) -> f32 {
    return x[col];
}

fn store(row: u32, vector: u32, codes: vec4<u32>) {
    x_row[vector] = codes;
}

fn store_fact(row: u32, block: u32, fact: vec2<u32>) {
    x_row_facts[block] = fact;
}

fn prepare_x(thread: u32) {
    quantize_blocks(0u, params.cols, VECTORS / TEAM, params.epsilon, thread);
    workgroupBarrier();
}

fn x_codes(row: u32, at: u32) -> vec4<u32> {
    return x_row[at];
}

// Of a block: there is but one row.
fn x_fact(place: u32) -> vec2<u32> {
    return x_row_facts[place];
}
