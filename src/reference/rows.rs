//! What verbs do with one row: multiply, norm, quantise.

use crate::backend::SMALLEST_ABSMAX;

/// Exact integer sums over each run of equal scale, then floats.
pub(super) fn ternary_product(trits: &[i8], scales: &[f32], activations: &[i8], activation_scale: f32) -> f64 {
    let mut result = 0.0f64;
    let mut place = 0;
    while place < trits.len() {
        let scale = scales[place];
        let run = scales[place..].iter().take_while(|&&s| s == scale).count();
        let run = place..place + run;
        let sum: i64 =
            trits[run.clone()].iter().zip(&activations[run.clone()]).map(|(&t, &a)| i64::from(t) * i64::from(a)).sum();
        result += sum as f64 * f64::from(scale);
        place = run.end;
    }
    result / f64::from(activation_scale)
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
