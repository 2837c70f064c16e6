// The last stage: the best of each stretch in, the token out.
alias Candidate = vec2<u32>; // key, token
alias Chosen = u32;

fn candidate(stretch: vec2<u32>, col: u32) -> vec2<u32> {
    return stretch;
}

fn chosen(best: vec2<u32>) -> u32 {
    return best.y;
}
