// Rotary position embedding: pairs of features are turned by the angles of the row's position.
@group(0) @binding(2) var<storage, read> rotations: array<f32>; // [rows, 2 * pairs], cosines first

// Feature `i` of a head after its pair (a, b) was turned: (a cos - b sin, a sin + b cos). `feature(first, i)` gives it as it
// was before; features beyond the pairs stay as they are.
fn turn(first: u32, i: u32, row: u32, pairs: u32) -> f32 {
    if i >= 2u * pairs {
        return feature(first, i);
    }
    var pair = i % pairs;
    var second = i >= pairs;
    var other = select(i + pairs, i - pairs, second);
    if INTERLEAVED {
        pair = i / 2u;
        second = i % 2u == 1u;
        other = i ^ 1u;
    }
    let cos = rotations[row * 2u * pairs + pair];
    let sin = rotations[row * 2u * pairs + pairs + pair];
    let mine = feature(first, i);
    let theirs = feature(first, other);
    return select(mine * cos - theirs * sin, theirs * sin + mine * cos, second);
}
