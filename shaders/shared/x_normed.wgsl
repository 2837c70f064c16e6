// Activations of a step's only row, which have one scale.
var<workgroup> x_row_scale: vec4<u32>; // its bits; four words, so that rows begin at 16 bytes

fn prepare_x(thread: u32) {
    let scale = quantize_row(0u, params.epsilon, thread);
    if thread == 0u {
        x_row_scale = vec4<u32>(bitcast<u32>(scale));
    }
    workgroupBarrier();
    if thread < PARTS {
        add_codes(thread);
    }
}

// Known after the barrier that follows.
fn x_fact(row: u32) -> vec2<u32> {
    return vec2<u32>(x_row_scale.x, sum_of_codes());
}
