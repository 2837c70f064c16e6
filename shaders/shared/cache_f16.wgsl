// Two neighbouring features of a cached key or value, as halves of a word. A head that has no place in halves is held as NaN in
// every feature, so that nothing that attends to it is a number: TOO_LARGE or TOO_SMALL, by which the host tells why.
alias Pair = u32;

const BEYOND_HALVES: u32 = 0x477ff000u; // bits of 65520, which would become infinity
const FEW_BITS: u32 = 0x37800000u;      // bits of 2^-16: of a head's largest below that, halves keep fewer than 8 bits
const TOO_LARGE: u32 = 0x7e017e01u;
const TOO_SMALL: u32 = 0x7e027e02u;

// `largest`: the bits of the largest magnitude of the head.
fn narrow_of(largest: u32, v: vec2<f32>) -> Pair {
    if largest >= BEYOND_HALVES && largest < INFINITY_BITS {
        return TOO_LARGE;
    }
    if largest > 0u && largest < FEW_BITS {
        return TOO_SMALL;
    }
    return narrow(v);
}

fn narrow(v: vec2<f32>) -> Pair {
    return pack2x16float(v);
}

fn widen(pair: Pair) -> vec2<f32> {
    return unpack2x16float(pair);
}
