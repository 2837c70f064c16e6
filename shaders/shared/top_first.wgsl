// The first stage: logits in, the best of a stretch out.
@group(0) @binding(2) var<storage, read_write> found: array<vec2<u32>>; // [selected, stretches, count], key and token

alias Candidate = f32;

fn key_of(row: u32, col: u32) -> u32 {
    let key = rank_key(logits[row + col]);
    return select(key, NO_NUMBER, key == 0u);
}

fn token_of(row: u32, col: u32) -> u32 {
    return col;
}

fn keep(row: u32, stretch: u32, stretches: u32, place: u32, best: vec2<u32>) {
    found[(row * stretches + stretch) * params.count + place] = best;
}
