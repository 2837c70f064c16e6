//! The hidden vector's share of the bounds: its integers, and the four numbers that depend on it alone. It is made by one
//! thread while the others wait, so its loops are such that the compiler makes vectors of them.

use super::{LARGEST_NORM, SLACK};

/// Columns of the hidden vector beyond this many root mean squares of the others are bounded one by one: √12.
const LARGE: f64 = 3.464;

/// What a hidden vector contributes to estimates and errors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    pub(super) factor: f64,      // a
    pub(super) of_residual: f32, // B, at least a·‖p_small‖
    pub(super) of_scale: f32,    // A, at least 0.51·a·Σ_large|p|
    pub(super) of_norm: f32,     // C, at least ‖d‖ + γ·‖x‖
}

impl Probe {
    /// Turns a hidden vector to integers, `p: [stride]` of the screen; none if its size forbids bounds. (Then `p` is
    /// unspecified.)
    pub(crate) fn new(p: &mut [i16], x: &[f32]) -> Option<Self> {
        let norm = in_lanes(x, |v| v * v).sqrt();
        if !(1.0 / LARGEST_NORM..=LARGEST_NORM).contains(&norm) {
            return None;
        }
        // So that the sum of 127·|p_j| over a row fits 31 bits.
        let levels = f64::from((i32::MAX / (127 * p.len() as i32)).min(i32::from(i16::MAX)));
        let peak = x.iter().fold(0.0f32, |peak, v| peak.max(v.abs()));
        let factor = f64::from(peak) / levels;
        let level = |v: f64| round(v / factor).clamp(-levels, levels);
        let (p, padding) = p.split_at_mut(x.len());
        padding.fill(0);
        for (p, &v) in p.iter_mut().zip(x) {
            *p = level(f64::from(v)) as i16;
        }
        let rest = in_lanes(x, |v| (v - factor * level(v)).powi(2));
        // Sums of integers: at most 2^22 squares, of at most 2^30 each.
        let sizes = || p.iter().map(|p| p.unsigned_abs());
        let small = |limit: u16| sizes().map(|p| if p <= limit { u64::from(p).pow(2) } else { 0 }).sum::<u64>() as f64;
        let mut limit = u16::MAX;
        for _ in 0..4 {
            limit = (LARGE * (small(limit) / x.len() as f64).sqrt()) as u16;
        }
        let large = sizes().map(|p| if p > limit { u64::from(p) } else { 0 }).sum::<u64>() as f64;
        let terms = (x.len() + 2) as f64 / f64::from(1 << 24);
        let of_norm = rest.sqrt() + norm * (terms / (1.0 - terms) + f64::EPSILON * 2.0);
        Some(Self {
            factor,
            of_residual: (factor * small(limit).sqrt() * SLACK) as f32 + f32::MIN_POSITIVE,
            of_scale: (0.51 * factor * large * SLACK) as f32,
            of_norm: (of_norm * SLACK) as f32,
        })
    }
}

/// `Σ term(x)` in eight lanes, which the compiler makes vectors of.
fn in_lanes(x: &[f32], term: impl Fn(f64) -> f64) -> f64 {
    let mut lanes = [0.0; 8];
    let (eights, rest) = x.as_chunks::<8>();
    for eight in eights {
        for (lane, &v) in lanes.iter_mut().zip(eight) {
            *lane += term(f64::from(v));
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|&v| term(f64::from(v))).sum::<f64>()
}

/// The nearest integer, of two the even one, for sizes below 2^51: a sum with 1.5·2^52 has no bits for a fraction. (What
/// every CPU has an addition for, older ones have no rounding for.)
fn round(v: f64) -> f64 {
    const NO_FRACTION: f64 = 1.5 * (1u64 << 52) as f64;
    v + NO_FRACTION - NO_FRACTION
}
