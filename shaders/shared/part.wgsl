// What a workgroup of a product takes: rows, at most GROUP_ROWS, and the weights that they are multiplied with.
struct Part {
    weights: u32,      // the first of these weight rows in the shard
    weight_rows: u32,
    first: u32,        // of the rows
    end: u32,
}
