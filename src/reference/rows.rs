//! What verbs do with one row: multiply, norm, quantise.

use crate::backend::SMALLEST_ABSMAX;

/// `Σ trit·x`, exactly.
pub(super) fn integer_sum(trits: &[i8], x: &[i8]) -> i32 {
    assert!(trits.len() == x.len() && trits.len() < 1 << 23);
    // Code 3 counts as 2: fewer than 2^23 products, of at most 256, do not wrap.
    trits.iter().zip(x).fold(0i32, |sum, (&t, &x)| sum.wrapping_add(i32::from(t).wrapping_mul(i32::from(x))))
}

/// `Σ trit·scale·x` as the sum of eight sums, of every eighth term: a single one would wait for each addition.
pub(super) fn float_sum(trits: &[i8], scales: &[f32], x: &[f32]) -> f64 {
    assert!(trits.len() == scales.len() && trits.len() == x.len());
    let mut sums = [0.0; 8];
    for ((trits, scales), x) in trits.chunks(8).zip(scales.chunks(8)).zip(x.chunks(8)) {
        for (((sum, &t), &s), &x) in sums.iter_mut().zip(trits).zip(scales).zip(x) {
            *sum += f64::from(t) * f64::from(s) * f64::from(x);
        }
    }
    sums.iter().sum()
}

/// `x / sqrt(mean(x²) + epsilon) * gain`.
pub(super) fn rms_norm(x: &[f32], gain: &[f32], epsilon: f32) -> Vec<f32> {
    assert_eq!(x.len(), gain.len());
    let mean_square = x.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>() / x.len() as f64;
    let factor = (mean_square + f64::from(epsilon)).sqrt().recip();
    x.iter().zip(gain).map(|(&v, &g)| (f64::from(v) * factor * f64::from(g)) as f32).collect()
}

/// Quantises one row to `out` and returns its multiplier: NaN where a value is not finite, so that nothing made of the row is a
/// number. This much is f32 arithmetic everywhere, bit for bit.
pub(super) fn quantize_row(out: &mut [i8], x: &[f32]) -> f32 {
    let absmax = x.iter().fold(SMALLEST_ABSMAX, |m, v| m.max(v.abs()));
    let scale = if x.iter().all(|v| v.is_finite()) { 127.0 / absmax } else { f32::NAN };
    for (o, v) in out.iter_mut().zip(x) {
        *o = (v * scale).round_ties_even().clamp(-128.0, 127.0) as i8;
    }
    scale
}
