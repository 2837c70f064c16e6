//! What verbs do with one row: multiply, norm, quantise.

use crate::backend::SMALLEST_ABSMAX;

/// Exact integer sums over each run of equal scale, then floats.
pub(super) fn ternary_product(trits: &[i8], scales: &[f32], activations: &[i8], activation_scale: f32) -> f64 {
    assert!(trits.len() == scales.len() && trits.len() < 1 << 24);
    let (mut result, mut place) = (0.0f64, 0);
    for run in scales.chunk_by(|a, b| a == b) {
        let columns = place..place + run.len();
        place = columns.end;
        let products = trits[columns.clone()].iter().zip(&activations[columns]);
        // Fewer than 2^24 products, of at most 128, do not wrap.
        let sum = products.fold(0i32, |sum, (&t, &a)| sum.wrapping_add(i32::from(t) * i32::from(a)));
        result += f64::from(sum) * f64::from(run[0]);
    }
    result / f64::from(activation_scale)
}

/// The sum of eight sums, of every eighth term: a single one would wait for each addition.
pub(super) fn sum(terms: impl Iterator<Item = f64>) -> f64 {
    let mut sums = [0.0; 8];
    terms.enumerate().for_each(|(place, term)| sums[place % 8] += term);
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
