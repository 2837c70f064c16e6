// The last stage: what stretches found in, of equals the smaller token first; tokens and logits out.
@group(0) @binding(2) var<storage, read_write> tokens: array<u32>;    // [selected, MOST]
@group(0) @binding(3) var<storage, read_write> values: array<u32>;    // [selected, MOST], the bits of floats

alias Candidate = vec2<u32>; // key, token

const NAN_BITS: u32 = 0x7fc00000u;

fn key_of(row: u32, col: u32) -> u32 {
    return logits[row + col].x;
}

fn token_of(row: u32, col: u32) -> u32 {
    return logits[row + col].y;
}

fn keep(row: u32, stretch: u32, stretches: u32, place: u32, best: vec2<u32>) {
    tokens[row * MOST + place] = best.y;
    values[row * MOST + place] = select(select(rank_bits(best.x), NEGATIVE_INFINITY_BITS, best.x == 0u), NAN_BITS, best.x == NO_NUMBER);
}
