// Normalises and quantises one row with all threads of a workgroup: `load` gives its values, `store` takes vectors of
// sixteen codes.

var<workgroup> row_absmax: array<u32, THREADS>;
var<workgroup> row_squares: array<f32, THREADS>;
var<workgroup> row_sum: atomic<i32>;

// Returns the bits of the scale and the sum of the codes, to every thread.
fn quantize_row(row: u32, cols: u32, vectors: u32, epsilon: f32, thread: u32) -> vec2<u32> {
    var absmax = 0u;
    var squares = 0.0;
    for (var col = thread; col < cols; col += THREADS) {
        absmax = max(absmax, magnitude_bits(gained(row, col, cols)));
        if NORM {
            let v = load(row, col);
            squares += v * v;
        }
    }
    row_absmax[thread] = absmax;
    row_squares[thread] = squares;
    if thread == 0u {
        atomicStore(&row_sum, 0);
    }
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if thread < half {
            row_absmax[thread] = max(row_absmax[thread], row_absmax[thread + half]);
            row_squares[thread] += row_squares[thread + half];
        }
        workgroupBarrier();
    }

    var factor = 1.0;
    if NORM {
        factor = rms_factor(row_squares[0], cols, epsilon);
    }
    let scales = multipliers(row_absmax[0], factor);

    var sum = 0;
    for (var vector = thread; vector < vectors; vector += THREADS) {
        let packed = pack_codes(row, vector, cols, scales.y);
        sum += packed.sum;
        store(row, vector, packed.codes);
    }
    atomicAdd(&row_sum, sum);
    workgroupBarrier();
    return vec2<u32>(bitcast<u32>(scales.x), bitcast<u32>(atomicLoad(&row_sum)));
}
