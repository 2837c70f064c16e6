// RMSNorm of a head that lies in workgroup memory.
@group(0) @binding(6) var<storage, read> query_gain: array<f32>; // [HEAD_DIM]
@group(0) @binding(7) var<storage, read> key_gain: array<f32>;   // [HEAD_DIM]

fn norm_head(is_query: bool, thread: u32) {
    var sum = 0.0;
    for (var i = thread; i < HEAD_DIM; i += THREADS) {
        sum += head[i] * head[i];
    }
    let factor = rms_factor(sum_shares(sum, thread), HEAD_DIM, params.epsilon);
    for (var i = thread; i < HEAD_DIM; i += THREADS) {
        head[i] = head[i] * factor * select(key_gain[i], query_gain[i], is_query);
    }
    workgroupBarrier();
}
