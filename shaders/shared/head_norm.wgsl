// RMSNorm of a head that lies in workgroup memory.
@group(0) @binding(6) var<storage, read> query_gain: array<f32>; // [HEAD_DIM]
@group(0) @binding(7) var<storage, read> key_gain: array<f32>;   // [HEAD_DIM]

var<workgroup> squares: array<f32, THREADS>;

fn norm_head(is_query: bool, thread: u32) {
    var sum = 0.0;
    for (var i = thread; i < HEAD_DIM; i += THREADS) {
        sum += head[i] * head[i];
    }
    squares[thread] = sum;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if thread < half {
            squares[thread] += squares[thread + half];
        }
        workgroupBarrier();
    }
    let factor = rms_factor(squares[0], HEAD_DIM, params.epsilon);
    for (var i = thread; i < HEAD_DIM; i += THREADS) {
        head[i] = head[i] * factor * select(key_gain[i], query_gain[i], is_query);
    }
    workgroupBarrier();
}
