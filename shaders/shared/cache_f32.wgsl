// Two neighbouring features of a cached key or value, in single precision.
alias Pair = vec2<f32>;

// Every number has its place, whatever the bits of the largest of its head.
fn narrow_of(largest: u32, v: vec2<f32>) -> Pair {
    return v;
}

fn narrow(v: vec2<f32>) -> Pair {
    return v;
}

fn widen(pair: Pair) -> vec2<f32> {
    return pair;
}
