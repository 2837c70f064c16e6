// Products of the places of a mixture of experts, one in each workgroup, with the weights of its expert; shards are whole experts, of
// as many weight rows as there are outputs.
@group(0) @binding(1) var<storage, read> experts: array<u32>; // [places]

const_assert ROWS == 1u;

fn part_of(group: u32) -> Part {
    return Part((experts[group] - params.first) * params.outputs, params.outputs, group, group + 1u);
}

// Whether the weights of a workgroup lie in another shard: one before it as well, as numbers wrap.
fn is_elsewhere(group: u32) -> bool {
    return experts[group] - params.first >= params.rows / params.outputs;
}

// The row of `x`, which several places may have.
fn x_row_of(place: u32) -> u32 {
    return place / params.share;
}

// Where a product lies in `out`.
fn out_at(place: u32, weight: u32) -> u32 {
    return place * params.outputs + weight;
}
