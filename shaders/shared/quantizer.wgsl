// int8 as BitNet b1.58 quantises activations: scale = 127 / max|x|, code = round_half_even(x * scale). NORM says whether
// there is a norm before it: with y = x · gain, the norm's factor cancels in the codes, which are round(y · 127 / max|y|), and
// only the scale 127 / (max|y| · factor) depends on it.

const SMALLEST_ABSMAX: f32 = 1e-5;

// 127 / m, correctly rounded: WGSL's division may be off by 2.5 units in the last place, and all devices must make the
// same codes. `m` is finite and at least 1e-5. With the 24-bit integers d of m and q of the quotient, the remainder is
// 127 · 2^s - q · d for some s of at least 39; it is small, so its low 32 bits, those of -q · d, tell all of it.
fn scale_of(m: f32) -> f32 {
    let divisor = (bitcast<u32>(m) & 0x7fffffu) | 0x800000u;
    var quotient_bits = bitcast<u32>(127.0 / m);
    for (var i = 0; i < 4; i++) {
        let quotient = (quotient_bits & 0x7fffffu) | 0x800000u;
        let remainder = bitcast<i32>(0u - quotient * divisor);
        if 2 * remainder > i32(divisor) {
            quotient_bits++;
        } else if 2 * remainder < -i32(divisor) {
            quotient_bits--;
        } else {
            break;
        }
    }
    return bitcast<f32>(quotient_bits);
}

// Where a product is NaN its code means nothing, and is 0.
fn codes_of(v: vec4<f32>, scale: f32) -> vec4<i32> {
    let product = v * scale;
    let is_nan = (bitcast<vec4<u32>>(product) & vec4<u32>(0x7fffffffu)) > vec4<u32>(INFINITY_BITS);
    return select(vec4<i32>(round(clamp(product, vec4<f32>(-128.0), vec4<f32>(127.0)))), vec4<i32>(0), is_nan);
}

// The scale that codes are to be divided by, and what y is multiplied with to make them. `largest` are the bits of max|y|, which
// are infinity's or NaN's where a y is not finite; `factor` is that of the norm. What is not finite gets the scale NaN, so that
// nothing that is made of its codes is a number.
fn multipliers(largest: u32, factor: f32) -> vec2<f32> {
    let absmax = bitcast<f32>(largest) * factor;
    if largest >= INFINITY_BITS || !is_finite_bits(absmax) || !is_finite_bits(factor) {
        return vec2<f32>(not_finite(largest | magnitude_bits(factor)), 0.0);
    }
    let scale = scale_of(max(absmax, SMALLEST_ABSMAX));
    if !NORM {
        return vec2<f32>(scale);
    }
    return vec2<f32>(scale, select(127.0 / bitcast<f32>(largest), scale * factor, absmax < SMALLEST_ABSMAX));
}

// A thread's share of a row: quads, four columns each, which stay in registers between the two passes unless there are too
// many. Which quads these are is the matter of `place_of(turn, thread)`, for `turn` below TURNS.
const QUADS: u32 = (COLS + 3u) / 4u;                  // of a row
const PADDED_QUADS: u32 = (COLS + 127u) / 128u * 32u; // with those of its padding
const BATCH: u32 = min(TURNS, 8u);                    // quads that are asked for before the first is used

var<private> y: array<vec4<f32>, BATCH>;

// Fills `y` with x · gain (or x) of the quads from turn `first` on, 0 beyond the row. Returns the sum of the squares of x.
fn load_batch(row: u32, first: u32, thread: u32) -> f32 {
    var gains: array<vec4<f32>, BATCH>;
    for (var i = 0u; i < BATCH; i++) {
        y[i] = x_quad(row, place_of(first + i, thread));
        if NORM {
            gains[i] = gain_quad(place_of(first + i, thread));
        }
    }
    var squares = 0.0;
    for (var i = 0u; i < BATCH; i++) {
        let columns = place_of(first + i, thread) * 4u + vec4<u32>(0u, 1u, 2u, 3u);
        y[i] = select(vec4<f32>(0.0), y[i], columns < vec4<u32>(COLS));
        if NORM {
            squares += dot(y[i], y[i]);
            y[i] *= gains[i];
        }
    }
    return squares;
}

// The bits of the largest magnitude of a quad.
fn quad_magnitude(v: vec4<f32>) -> u32 {
    let bits = bitcast<vec4<u32>>(v) & vec4<u32>(0x7fffffffu);
    return max(max(bits.x, bits.y), max(bits.z, bits.w));
}

// Sums of squares that each thread lays here are added in two stages: sixteen threads add sixteen each, then all add what these have.
const PARTS: u32 = 16u;
const_assert THREADS == PARTS * PARTS;

// Scalars, as whoever writes a component of a vector may write all of it: Metal and Direct3D promise no less.
var<workgroup> squares_of: array<f32, THREADS>;
var<workgroup> squares_parts: array<f32, PARTS>;

fn four_squares(at: u32) -> vec4<f32> {
    return vec4<f32>(squares_of[4u * at], squares_of[4u * at + 1u], squares_of[4u * at + 2u], squares_of[4u * at + 3u]);
}

fn four_parts(at: u32) -> vec4<f32> {
    return vec4<f32>(squares_parts[4u * at], squares_parts[4u * at + 1u], squares_parts[4u * at + 2u], squares_parts[4u * at + 3u]);
}

// Between two barriers, by the first PARTS threads.
fn add_squares(thread: u32) {
    var sum = four_squares(thread * 4u);
    for (var i = 1u; i < 4u; i++) {
        sum += four_squares(thread * 4u + i);
    }
    squares_parts[thread] = (sum.x + sum.y) + (sum.z + sum.w);
}

// After the second.
fn norm_factor(epsilon: f32) -> f32 {
    if !NORM {
        return 1.0;
    }
    var sum = four_parts(0u);
    for (var i = 1u; i < PARTS / 4u; i++) {
        sum += four_parts(i);
    }
    return rms_factor((sum.x + sum.y) + (sum.z + sum.w), COLS, epsilon);
}
