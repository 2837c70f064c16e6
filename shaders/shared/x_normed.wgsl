// Activations of a step's only row, which every workgroup normalises and quantises for itself: that is less work than
// waiting for another shader to do it once.
@group(0) @binding(5) var<storage, read> x: array<f32>;     // [cols]
@group(0) @binding(6) var<storage, read> gain: array<f32>;  // [cols]

var<workgroup> x_row: array<vec4<u32>, VECTORS>; // [4 * pieces], int8
var<workgroup> x_row_fact: vec2<u32>;

fn load(row: u32, col: u32) -> f32 {
    return x[col];
}

fn store(row: u32, vector: u32, codes: vec4<u32>) {
    x_row[vector] = codes;
}

fn prepare_x(thread: u32) {
    let fact = quantize_row(0u, params.cols, VECTORS, params.epsilon, thread);
    if thread == 0u {
        x_row_fact = fact;
    }
    workgroupBarrier();
}

fn x_codes(row: u32, at: u32) -> vec4<u32> {
    return x_row[at];
}

fn x_fact(row: u32) -> vec2<u32> {
    return x_row_fact;
}
