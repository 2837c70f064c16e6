// Activations of a step's only row, which every workgroup normalises and quantises for itself: that is less work than
// waiting for another shader to do it once.
var<workgroup> x_row: array<u32, PADDED_QUADS>; // [16 * pieces], four int8 each: scalars, as four threads write a vector's worth
var<workgroup> x_row_scale: vec4<u32>;          // the bits of the scale; four words, so that rows begin at 16 bytes

fn store(row: u32, quad: u32, codes: u32) {
    x_row[quad] = codes;
}

fn prepare_x(thread: u32) {
    let scale = quantize_row(0u, params.epsilon, thread);
    if thread == 0u {
        x_row_scale.x = bitcast<u32>(scale);
    }
    workgroupBarrier();
    if thread < PARTS {
        add_codes(thread);
    }
}

fn x_codes(row: u32, at: u32) -> vec4<u32> {
    return vec4<u32>(x_row[4u * at], x_row[4u * at + 1u], x_row[4u * at + 2u], x_row[4u * at + 3u]);
}

// Known after the barrier that follows.
fn x_fact(row: u32) -> vec2<u32> {
    return vec2<u32>(x_row_scale.x, sum_of_codes());
}
