// Products of the rows of a step, each with all weights.
@group(0) @binding(1) var<storage, read> step: Step;

fn part_of(group: u32) -> Part {
    return Part(0u, params.rows, group * GROUP_ROWS, step.rows);
}

// Whether the weights of a workgroup lie in another shard: never, as all shards are multiplied with all rows.
fn is_elsewhere(group: u32) -> bool {
    return false;
}

// The row of `x`; those beyond the step repeat its last one.
fn x_row_of(row: u32) -> u32 {
    return min(row, step.rows - 1u);
}

// Where a product lies in `out`.
fn out_at(row: u32, weight: u32) -> u32 {
    return row * params.outputs + params.first + weight;
}
