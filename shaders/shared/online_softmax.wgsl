// Softmax-weighted sums of parts of a context, merged one after the other (Milakov and Gimelshein, arXiv 1805.02867).
struct Part {
    largest: f32, // score of the part
    total: f32,   // of exp(score - largest)
}

// What the sums of `before` and of `part` are multiplied with when they are added.
fn merge_factors(before: Part, part: Part) -> vec2<f32> {
    let largest = max(before.largest, part.largest);
    return vec2<f32>(exp(before.largest - largest), exp(part.largest - largest));
}

fn merge(before: Part, part: Part) -> Part {
    let factors = merge_factors(before, part);
    return Part(max(before.largest, part.largest), before.total * factors.x + part.total * factors.y);
}

// Before the first part: finite, so that no difference is NaN.
const NO_PART: Part = Part(-3.0e38, 0.0);
