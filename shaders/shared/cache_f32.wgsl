// Two neighbouring features of a cached key or value, in single precision.
alias Pair = vec2<f32>;

fn narrow(v: vec2<f32>) -> Pair {
    return v;
}

fn widen(pair: Pair) -> vec2<f32> {
    return pair;
}
