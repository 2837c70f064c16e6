// The screen of a head in f16: each row in int8 with one scale, and a bound of what a logit that is made of them is off by, for
// hidden vectors of length 1. Once, when a model is loaded; one workgroup a row.

struct Params {
    pieces: u32,    // 16-byte pieces of a row of the head
    rows: u32,      // of this shard
    first: u32,     // the row of the head that this shard begins with
    row_words: u32, // of a screened row, four int8 each
    width: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> head: array<vec4<u32>>;        // [rows, pieces], eight halves each
@group(0) @binding(2) var<storage, read_write> codes: array<u32>;       // [rows, row_words]
@group(0) @binding(3) var<storage, read_write> scales: array<f32>;      // [rows]
@group(0) @binding(4) var<storage, read_write> bounds: array<f32>;      // [rows of the head]

const THREADS: u32 = 64u;

var<workgroup> largest: atomic<u32>;                 // bits of the largest magnitude
var<workgroup> squares: array<vec2<f32>, THREADS>;   // of what the codes leave over; of the row

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = min(group.x + group.y * groups.x, params.rows - 1u);
    if thread == 0u {
        atomicStore(&largest, 0u);
    }
    workgroupBarrier();
    for (var piece = thread; piece < params.pieces; piece += THREADS) {
        let weights = unpack(head[row * params.pieces + piece]);
        let magnitudes = max(bits_of(weights[0]), bits_of(weights[1]));
        atomicMax(&largest, max(max(magnitudes.x, magnitudes.y), max(magnitudes.z, magnitudes.w)));
    }
    workgroupBarrier();
    let absmax = bitcast<f32>(atomicLoad(&largest));
    // Of a row of zeros all codes are 0.
    let scale = absmax / 127.0;
    let factor = select(127.0 / absmax, 0.0, absmax == 0.0);
    var sums: vec2<f32>;
    for (var piece = thread; piece < params.pieces; piece += THREADS) {
        let weights = unpack(head[row * params.pieces + piece]);
        for (var half = 0u; half < 2u; half++) {
            let rounded = clamp(round(weights[half] * factor), vec4<f32>(-127.0), vec4<f32>(127.0));
            let rest = weights[half] - rounded * scale;
            sums += vec2<f32>(dot(rest, rest), dot(weights[half], weights[half]));
            if piece * 2u + half < params.row_words {
                codes[row * params.row_words + piece * 2u + half] = pack4xI8(vec4<i32>(rounded));
            }
        }
    }
    squares[thread] = sums;
    workgroupBarrier();
    if thread == 0u {
        for (var other = 1u; other < THREADS; other++) {
            sums += squares[other];
        }
        // Sums of so many products in floats, both the screen's and the exact ones, are off by less than an eighth of `slack`
        // of what their magnitudes add up to, and so are those above.
        let slack = f32(params.width + 16u) * 4.8e-7;
        let lengths = sqrt(sums);
        scales[row] = scale;
        let bound = (lengths.x + lengths.y * slack) * (1.0 + slack);
        let is_finite = atomicLoad(&largest) < INFINITY_BITS;
        bounds[params.first + row] = select(not_finite(INFINITY_BITS), bound, is_finite);
    }
}

fn bits_of(v: vec4<f32>) -> vec4<u32> {
    return bitcast<vec4<u32>>(v) & vec4<u32>(0x7fffffffu);
}

fn unpack(bits: vec4<u32>) -> array<vec4<f32>, 2> {
    return array<vec4<f32>, 2>(
        vec4<f32>(unpack2x16float(bits.x), unpack2x16float(bits.y)),
        vec4<f32>(unpack2x16float(bits.z), unpack2x16float(bits.w)),
    );
}
