// As x_normed, with a scale for each block of 128 columns.
var<workgroup> x_row: array<vec4<u32>, PADDED_QUADS / 4u>; // [4 * pieces], int8
var<workgroup> x_row_facts: array<vec2<u32>, BLOCKS>;

fn store(row: u32, quad: u32, codes: u32) {
    x_row[quad / 4u][quad % 4u] = codes;
}

fn store_fact(row: u32, block: u32, fact: vec2<u32>) {
    x_row_facts[block] = fact;
}

fn prepare_x(thread: u32) {
    quantize_blocks(0u, params.epsilon, thread);
    workgroupBarrier();
}

fn x_codes(row: u32, at: u32) -> vec4<u32> {
    return x_row[at];
}

// Of a block: there is but one row.
fn x_fact(place: u32) -> vec2<u32> {
    return x_row_facts[place];
}
