// Copies x to some columns of out, with zeros where `width` is more than x has.

struct Params {
    cols: u32,      // of `x`
    width: u32,     // that are written
    first_col: u32, // of `out`, from which on
    stride: u32,    // columns of `out`
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;          // [rows, cols]
@group(0) @binding(2) var<storage, read_write> out: array<f32>;  // [rows, stride]

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < params.width {
        var value = 0.0;
        if id.x < params.cols {
            value = x[id.y * params.cols + id.x];
        }
        out[id.y * params.stride + params.first_col + id.x] = value;
    }
}
