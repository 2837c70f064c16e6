// Two neighbouring features of a cached key or value, as halves of a word.
alias Pair = u32;

fn narrow(v: vec2<f32>) -> Pair {
    return pack2x16float(v);
}

fn widen(pair: Pair) -> vec2<f32> {
    return unpack2x16float(pair);
}
