// The last stage, of which only the last of the wanted is told.
@group(0) @binding(2) var<storage, read_write> floor_of: array<vec2<u32>>; // [selected], key and token

alias Candidate = vec2<u32>; // key, token

fn key_of(row: u32, col: u32) -> u32 {
    return logits[row + col].x;
}

fn token_of(row: u32, col: u32) -> u32 {
    return logits[row + col].y;
}

fn keep(row: u32, stretch: u32, stretches: u32, place: u32, best: vec2<u32>) {
    if place == params.count - 1u {
        floor_of[row] = best;
    }
}
