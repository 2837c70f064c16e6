// Normalises and quantises one row with all threads of a workgroup: `load` gives its values, `store` takes vectors of
// sixteen codes, `gain` is bound by the shader. NORM says whether there is a norm at all.

var<workgroup> row_absmax: array<u32, THREADS>;
var<workgroup> row_squares: array<f32, THREADS>;
var<workgroup> row_sum: atomic<i32>;

fn gained(row: u32, col: u32, cols: u32) -> f32 {
    if col >= cols {
        return 0.0;
    }
    if NORM {
        return load(row, col) * gain[col];
    }
    return load(row, col);
}

// Returns the bits of the scale and the sum of the codes, to every thread.
fn quantize_row(row: u32, cols: u32, vectors: u32, epsilon: f32, thread: u32) -> vec2<u32> {
    var absmax = 0u;
    var squares = 0.0;
    for (var col = thread; col < cols; col += THREADS) {
        let bits = magnitude_bits(gained(row, col, cols));
        absmax = max(absmax, select(bits, 0u, bits > INFINITY_BITS));
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

    // `steps` makes the codes of y, `scale` is what they are to be divided by.
    let largest = row_absmax[0];
    var scale = 0.0;
    var steps = 0.0;
    if NORM {
        let factor = inverseSqrt(row_squares[0] / f32(cols) + epsilon);
        let normed = bitcast<f32>(largest) * factor;
        if magnitude_bits(normed) >= INFINITY_BITS {
            scale = scale_of(SMALLEST_ABSMAX); // an infinite row has a factor of 0
        } else if normed < SMALLEST_ABSMAX {
            scale = scale_of(SMALLEST_ABSMAX);
            steps = scale * factor;
        } else {
            scale = scale_of(normed);
            steps = 127.0 / bitcast<f32>(largest);
        }
    } else if largest < INFINITY_BITS {
        scale = scale_of(max(bitcast<f32>(largest), SMALLEST_ABSMAX));
        steps = scale;
    }

    var sum = 0;
    for (var vector = thread; vector < vectors; vector += THREADS) {
        var words: vec4<u32>;
        for (var word = 0u; word < 4u; word++) {
            let col = vector * 16u + word * 4u;
            let codes = vec4<i32>(
                code_of(gained(row, col, cols), steps),
                code_of(gained(row, col + 1u, cols), steps),
                code_of(gained(row, col + 2u, cols), steps),
                code_of(gained(row, col + 3u, cols), steps),
            );
            sum += codes.x + codes.y + codes.z + codes.w;
            words[word] = pack4xI8(codes);
        }
        store(row, vector, words);
    }
    atomicAdd(&row_sum, sum);
    workgroupBarrier();
    return vec2<u32>(bitcast<u32>(scale), bitcast<u32>(atomicLoad(&row_sum)));
}
