// As quantize_row, with a scale for each block of 128 columns: `store_fact` takes the bits of the scale, and the sums of the
// codes whose columns lie in the first and in the second half of a weight block, 16 bits each (each is at most 64 * 128).
// Eight threads share a block, sixteen columns each.

const TEAM: u32 = 8u;

var<workgroup> row_squares: array<f32, THREADS>;
var<workgroup> block_absmax: array<u32, THREADS>;
var<workgroup> block_sums: array<i32, THREADS>;

fn quantize_blocks(row: u32, cols: u32, blocks: u32, epsilon: f32, thread: u32) {
    var factor = 1.0;
    if NORM {
        factor = norm_factor(row, cols, epsilon, thread);
    }
    let leader = thread - thread % TEAM;
    for (var first = 0u; first < blocks; first += THREADS / TEAM) {
        let block = first + thread / TEAM;
        let vector = block * TEAM + thread % TEAM;
        var absmax = 0u;
        for (var i = 0u; i < 16u; i++) {
            absmax = max(absmax, magnitude_bits(gained(row, vector * 16u + i, cols)));
        }
        block_absmax[thread] = absmax;
        workgroupBarrier();
        for (var other = 0u; other < TEAM; other++) {
            absmax = max(absmax, block_absmax[leader + other]);
        }
        let scales = multipliers(absmax, factor);
        let packed = pack_codes(row, vector, cols, scales.y);
        block_sums[thread] = packed.sum;
        workgroupBarrier();
        if block < blocks {
            store(row, vector, packed.codes);
            if thread == leader {
                // Columns 32q + 16h.. are those of half h.
                var halves = vec2<i32>(0);
                for (var other = 0u; other < TEAM; other += 2u) {
                    halves += vec2<i32>(block_sums[leader + other], block_sums[leader + other + 1u]);
                }
                let sums = bitcast<u32>(halves.x & 0xffff) | bitcast<u32>(halves.y << 16u);
                store_fact(row, block, vec2<u32>(bitcast<u32>(scales.x), sums));
            }
        }
    }
}

fn norm_factor(row: u32, cols: u32, epsilon: f32, thread: u32) -> f32 {
    var sum = 0.0;
    for (var col = thread; col < cols; col += THREADS) {
        let v = load(row, col);
        sum += v * v;
    }
    row_squares[thread] = sum;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if thread < half {
            row_squares[thread] += row_squares[thread + half];
        }
        workgroupBarrier();
    }
    return rms_factor(row_squares[0], cols, epsilon);
}
