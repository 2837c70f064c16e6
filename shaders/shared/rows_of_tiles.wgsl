// Products of the places of a mixture of experts, a tile of one expert's in each workgroup, with the weights of that expert; shards are
// whole experts, of as many weight rows as there are outputs. Rows are numbered as places are sorted.
@group(0) @binding(1) var<storage, read> tiles: array<ExpertTile>;
@group(0) @binding(7) var<storage, read> sorted: array<u32>; // [places + GROUP_ROWS]: the place

fn part_of(group: u32) -> Part {
    let tile = tiles[group];
    return Part((tile.expert - params.first) * params.outputs, params.outputs, tile.first, tile.end);
}

// Whether the weights of a workgroup lie in another shard: one before it as well, as numbers wrap, and those of no expert.
fn is_elsewhere(group: u32) -> bool {
    return tiles[group].expert - params.first >= params.rows / params.outputs;
}

// The row of `x`, which several places may have.
fn x_row_of(row: u32) -> u32 {
    return sorted[row] / params.share;
}

// Where a product lies in `out`.
fn out_at(row: u32, weight: u32) -> u32 {
    return sorted[row] * params.outputs + weight;
}
