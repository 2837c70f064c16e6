// The Sylvester-Walsh-Hadamard transform of each block of BLOCK columns of a row, divided by √BLOCK: of signs · x behind a norm or
// without one, or turned back (INVERSE), where signs come last. One workgroup a block.

struct Params {
    cols: u32,
    stride: u32, // columns of `out`: those beyond `cols` become 0
    epsilon: f32,
    scale: f32,  // 1 / √BLOCK, rounded by the host: a device's root may be off by a little
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;          // [rows, cols]
@group(0) @binding(2) var<storage, read> gain: array<f32>;       // [cols]
@group(0) @binding(3) var<storage, read> signs: array<f32>;      // [cols]
@group(0) @binding(4) var<storage, read_write> out: array<f32>;  // [rows, stride]

var<workgroup> block: array<f32, BLOCK>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let source = group.y * params.cols;
    let first = group.x * BLOCK;
    var factor = 1.0;
    if NORM {
        // The order of the norms that stand alone.
        var sum = 0.0;
        for (var col = thread; col < params.cols; col += THREADS) {
            sum += x[source + col] * x[source + col];
        }
        factor = rms_factor(sum_shares(sum, thread), params.cols, params.epsilon);
    }
    for (var i = thread; i < BLOCK; i += THREADS) {
        var value = x[source + first + i];
        if NORM {
            value = value * factor * gain[first + i];
        }
        if !INVERSE {
            value *= signs[first + i];
        }
        block[i] = value;
    }
    workgroupBarrier();
    for (var apart = 1u; apart < BLOCK; apart *= 2u) {
        for (var pair = thread; pair < BLOCK / 2u; pair += THREADS) {
            let i = pair / apart * apart * 2u + pair % apart;
            let a = block[i];
            let b = block[i + apart];
            block[i] = a + b;
            block[i + apart] = a - b;
        }
        workgroupBarrier();
    }
    for (var i = thread; i < BLOCK; i += THREADS) {
        var value = block[i] * params.scale;
        if INVERSE {
            value *= signs[first + i];
        }
        out[group.y * params.stride + first + i] = value;
    }
    if group.x == 0u {
        for (var col = params.cols + thread; col < params.stride; col += THREADS) {
            out[group.y * params.stride + col] = 0.0;
        }
    }
}
