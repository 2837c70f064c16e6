// What all other shaders rest on, computed of a few words for the host to look at: halves, packing, integer products, rounding.

struct Params {
    cases: u32,
}

struct Results {
    low: f32,
    high: f32,
    halves: u32,
    dot: i32,
    product: u32,
    bytes: u32,
    rounded: i32,
    also_rounded: i32,
    upper: i32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> cases: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> results: array<Results>; // [cases]

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) thread: u32) {
    if thread >= params.cases {
        return;
    }
    let case_of = cases[thread];
    let halves = unpack2x16float(case_of.x);
    let floats = bitcast<vec2<f32>>(case_of);
    var found: Results;
    found.low = halves.x;
    found.high = halves.y;
    found.halves = pack2x16float(floats);
    found.dot = dot4I8Packed(case_of.x, case_of.y);
    found.product = case_of.x * case_of.y;
    found.bytes = pack4xI8(unpack4xI8(case_of.x));
    let rounded = vec2<i32>(round(clamp(floats, vec2<f32>(-1e6), vec2<f32>(1e6))));
    found.rounded = rounded.x;
    found.also_rounded = rounded.y;
    found.upper = extractBits(bitcast<i32>(case_of.x), 16u, 16u);
    results[thread] = found;
}
