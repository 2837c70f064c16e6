// Softmax-weighted sums over stretches of a context, merged one after the other (Milakov and Gimelshein, arXiv 1805.02867).
struct Partial {
    largest: f32, // score of the stretch
    total: f32,   // of exp(score - largest)
}

// What the sums of `before` and of `next` are multiplied with when they are added.
fn merge_factors(before: Partial, next: Partial) -> vec2<f32> {
    let largest = max(before.largest, next.largest);
    return vec2<f32>(exp(before.largest - largest), exp(next.largest - largest));
}

fn merge(before: Partial, next: Partial) -> Partial {
    let factors = merge_factors(before, next);
    return Partial(max(before.largest, next.largest), before.total * factors.x + next.total * factors.y);
}

// Below all scores, and finite, so that no difference is NaN.
const LOWEST: f32 = -3.0e38;
// Before the first.
const NO_PARTIAL: Partial = Partial(LOWEST, 0.0);
