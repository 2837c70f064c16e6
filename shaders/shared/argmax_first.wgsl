// The first stage: logits in, the best of a stretch out.
alias Candidate = f32;
alias Chosen = vec2<u32>; // key, token

fn candidate(logit: f32, col: u32) -> vec2<u32> {
    let key = rank_key(logit);
    // One logit that is not finite is enough for there to be no token: its key is above all others.
    return select(vec2<u32>(key, col), vec2<u32>(0xffffffffu, NO_TOKEN), key == 0u);
}

fn chosen(best: vec2<u32>) -> vec2<u32> {
    return best;
}
