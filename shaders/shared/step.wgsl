// What the rows of a step are; written once a step.
struct Step {
    rows: u32,
    selected: u32,
    padding: vec2<u32>,
    entries: array<StepEntry>, // [most rows]
}

struct StepEntry {
    sequence: u32, // cache slot
    position: u32,
    selected: u32, // of entry i: the row of the step that is the i-th to want logits
    padding: u32,
}
