// What a workgroup of a product takes: rows, and the weights that they are multiplied with.
struct Part {
    weights: u32,      // the first of these weight rows in the shard
    weight_rows: u32,
    first: u32,        // of the rows
    end: u32,          // rows from here on are not there; some before may be another workgroup's
}
