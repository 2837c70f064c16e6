// As x_normed, with a scale for each block of 128 columns.
var<workgroup> x_row_facts: array<vec2<u32>, BLOCKS>;

fn store_fact(row: u32, block: u32, fact: vec2<u32>) {
    x_row_facts[block] = fact;
}

fn prepare_x(thread: u32) {
    quantize_blocks(0u, params.epsilon, thread);
    workgroupBarrier();
}

// Of a block: there is but one row.
fn x_fact(place: u32) -> vec2<u32> {
    return x_row_facts[place];
}
