// RMSNorm (or not), then int8 with a scale for each block of 128 columns. One workgroup a row; eight threads share a block,
// sixteen columns each.

struct Params {
    cols: u32,
    blocks: u32, // of a quantised row
    epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;                    // [rows, cols]
@group(0) @binding(2) var<storage, read> gain: array<f32>;                 // [cols]
@group(0) @binding(3) var<storage, read_write> out: array<vec4<u32>>;      // [rows, blocks, TEAM], sixteen int8 each
// The bits of the scale; the sums of the codes whose columns lie in the first and in the second half of a weight block, 16
// bits each: each is at most 64 * 128.
@group(0) @binding(4) var<storage, read_write> facts: array<vec2<u32>>;    // [rows, blocks]

const TEAM: u32 = 8u;

var<workgroup> squares: array<f32, THREADS>;
var<workgroup> absmaxes: array<u32, THREADS>;
var<workgroup> sums: array<i32, THREADS>;

fn load(row: u32, col: u32) -> f32 {
    return x[row * params.cols + col];
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = group.x;
    var factor = 1.0;
    if NORM {
        factor = norm_factor(row, thread);
    }
    let leader = thread - thread % TEAM;
    for (var first = 0u; first < params.blocks; first += THREADS / TEAM) {
        let block = first + thread / TEAM;
        let vector = block * TEAM + thread % TEAM;
        var absmax = 0u;
        for (var i = 0u; i < 16u; i++) {
            let bits = magnitude_bits(gained(row, vector * 16u + i, params.cols));
            absmax = max(absmax, select(bits, 0u, bits > INFINITY_BITS));
        }
        absmaxes[thread] = absmax;
        workgroupBarrier();
        for (var other = 0u; other < TEAM; other++) {
            absmax = max(absmax, absmaxes[leader + other]);
        }
        let scales = multipliers(absmax, factor);
        var sum = 0;
        var words: vec4<u32>;
        for (var word = 0u; word < 4u; word++) {
            let col = vector * 16u + word * 4u;
            let codes = vec4<i32>(
                code_of(gained(row, col, params.cols), scales.y),
                code_of(gained(row, col + 1u, params.cols), scales.y),
                code_of(gained(row, col + 2u, params.cols), scales.y),
                code_of(gained(row, col + 3u, params.cols), scales.y),
            );
            sum += codes.x + codes.y + codes.z + codes.w;
            words[word] = pack4xI8(codes);
        }
        sums[thread] = sum;
        workgroupBarrier();
        if block < params.blocks {
            out[row * params.blocks * TEAM + vector] = words;
            if thread == leader {
                // Columns 32q + 16h.. are those of half h.
                let halves = vec2<i32>(
                    sums[leader] + sums[leader + 2u] + sums[leader + 4u] + sums[leader + 6u],
                    sums[leader + 1u] + sums[leader + 3u] + sums[leader + 5u] + sums[leader + 7u],
                );
                let packed = bitcast<u32>(halves.x & 0xffff) | bitcast<u32>(halves.y << 16u);
                facts[row * params.blocks + block] = vec2<u32>(bitcast<u32>(scales.x), packed);
            }
        }
    }
}

fn norm_factor(row: u32, thread: u32) -> f32 {
    var sum = 0.0;
    for (var col = thread; col < params.cols; col += THREADS) {
        let v = load(row, col);
        sum += v * v;
    }
    squares[thread] = sum;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if thread < half {
            squares[thread] += squares[thread + half];
        }
        workgroupBarrier();
    }
    return inverseSqrt(squares[0] / f32(params.cols) + params.epsilon);
}
