// What the rows of a step are; written once a step.
struct Step {
    rows: u32,
    selected: u32,
    sequences: u32,
    tiles: u32,
    entries: array<StepEntry>, // [most rows]
}

struct StepEntry {
    sequence: u32, // cache slot
    position: u32,
    selected: u32, // of entry i: the row of the step that is the i-th to want logits
    begin: u32,    // of entry i: the first row of the step that belongs to its i-th sequence
    tile: u32,     // of entry i: the first row of its i-th tile, rows of one sequence that follow each other
    large_tile: u32, // the same of tiles four times as large
}
