// Normalises and quantises one row with all threads of a workgroup: `x_quad` and `gain_quad` give its values, `store` takes four
// codes, which are those of a quad.
const TURNS: u32 = (PADDED_QUADS + THREADS - 1u) / THREADS;

// Each thread's largest magnitude; after that is known, the sum of its codes.
var<workgroup> row_words: array<u32, THREADS>;
var<workgroup> row_parts: array<u32, PARTS>;

fn four_words(at: u32) -> vec4<u32> {
    return vec4<u32>(row_words[4u * at], row_words[4u * at + 1u], row_words[4u * at + 2u], row_words[4u * at + 3u]);
}

fn four_row_parts(at: u32) -> vec4<u32> {
    return vec4<u32>(row_parts[4u * at], row_parts[4u * at + 1u], row_parts[4u * at + 2u], row_parts[4u * at + 3u]);
}

fn place_of(turn: u32, thread: u32) -> u32 {
    return turn * THREADS + thread;
}

// Returns the scale, to every thread. After a barrier the codes are stored, and the first PARTS threads may `add_codes`.
fn quantize_row(row: u32, epsilon: f32, thread: u32) -> f32 {
    var absmax = 0u;
    var squares = 0.0;
    for (var first = 0u; first < TURNS; first += BATCH) {
        squares += load_batch(row, first, thread);
        for (var i = 0u; i < BATCH; i++) {
            absmax = max(absmax, quad_magnitude(y[i]));
        }
    }
    row_words[thread] = absmax;
    squares_of[thread] = squares;
    workgroupBarrier();
    if thread < PARTS {
        var largest = four_words(thread * 4u);
        for (var i = 1u; i < 4u; i++) {
            largest = max(largest, four_words(thread * 4u + i));
        }
        row_parts[thread] = max(max(largest.x, largest.y), max(largest.z, largest.w));
        add_squares(thread);
    }
    workgroupBarrier();
    var largest = four_row_parts(0u);
    for (var i = 1u; i < PARTS / 4u; i++) {
        largest = max(largest, four_row_parts(i));
    }
    let scales = multipliers(max(max(largest.x, largest.y), max(largest.z, largest.w)), norm_factor(epsilon));

    var sum = 0;
    for (var first = 0u; first < TURNS; first += BATCH) {
        if BATCH < TURNS {
            _ = load_batch(row, first, thread);
        }
        for (var i = 0u; i < BATCH; i++) {
            let place = place_of(first + i, thread);
            let codes = codes_of(y[i], scales.y);
            sum += codes.x + codes.y + codes.z + codes.w; // 0 beyond the row
            if place < PADDED_QUADS {
                store(row, place, pack4xI8(codes));
            }
        }
    }
    row_words[thread] = bitcast<u32>(sum);
    return scales.x;
}

// Between two barriers, by the first PARTS threads.
fn add_codes(thread: u32) {
    var sum = four_words(thread * 4u);
    for (var i = 1u; i < 4u; i++) {
        sum += four_words(thread * 4u + i);
    }
    row_parts[thread] = sum.x + sum.y + sum.z + sum.w;
}

// The bits of the sum of all codes, after the second.
fn sum_of_codes() -> u32 {
    var sum = four_row_parts(0u);
    for (var i = 1u; i < PARTS / 4u; i++) {
        sum += four_row_parts(i);
    }
    return sum.x + sum.y + sum.z + sum.w;
}
