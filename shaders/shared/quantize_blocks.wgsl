// As quantize_row, with a scale for each block of 128 columns: `store_fact` takes the bits of the scale, and the sums of the
// codes whose columns lie in the first and in the second half of a weight block, 16 bits each (each is at most 64 * 128).
// Eight threads share a block, four quads each.
const TEAM: u32 = 8u;
const SHARE: u32 = 4u;                                                            // quads of a thread that follow each other
const BLOCKS: u32 = PADDED_QUADS / (TEAM * SHARE);                                // of a row
const TURNS: u32 = (PADDED_QUADS + THREADS * SHARE - 1u) / (THREADS * SHARE) * SHARE;
const_assert BATCH % SHARE == 0u;

var<workgroup> block_absmax: array<u32, THREADS>;
var<workgroup> block_sums: array<i32, THREADS>;

fn place_of(turn: u32, thread: u32) -> u32 {
    return (turn / SHARE * THREADS + thread) * SHARE + turn % SHARE;
}

fn quantize_blocks(row: u32, epsilon: f32, thread: u32) {
    var squares = 0.0;
    for (var first = 0u; first < TURNS; first += BATCH) {
        squares += load_batch(row, first, thread);
    }
    if NORM {
        squares_of[thread] = squares;
        workgroupBarrier();
        if thread < PARTS {
            add_squares(thread);
        }
        workgroupBarrier();
    }
    let factor = norm_factor(epsilon);
    let leader = thread - thread % TEAM;
    for (var first = 0u; first < TURNS; first += BATCH) {
        if BATCH < TURNS {
            _ = load_batch(row, first, thread);
        }
        for (var share = 0u; share < BATCH; share += SHARE) {
            let block = (first + share) / SHARE * (THREADS / TEAM) + thread / TEAM;
            var absmax = 0u;
            for (var i = 0u; i < SHARE; i++) {
                absmax = max(absmax, quad_magnitude(y[share + i]));
            }
            block_absmax[thread] = absmax;
            workgroupBarrier();
            for (var other = 0u; other < TEAM; other++) {
                absmax = max(absmax, block_absmax[leader + other]);
            }
            let scales = multipliers(absmax, factor);
            var sum = 0;
            for (var i = 0u; i < SHARE; i++) {
                let codes = codes_of(y[share + i], scales.y);
                sum += codes.x + codes.y + codes.z + codes.w;
                if block < BLOCKS {
                    store(row, place_of(first + share + i, thread), pack4xI8(codes));
                }
            }
            block_sums[thread] = sum;
            workgroupBarrier();
            if block < BLOCKS && thread == leader {
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
