//! The hidden vector's share of the bounds: its integers, and the few numbers that depend on it alone. That of one
//! vector is made by one thread while the others wait, so its loops are such that the compiler makes vectors of them.

use super::{LARGEST_NORM, SLACK, Screen};
use crate::cpu::kernels::bounds::{DIRECTIONS, Factors, Shares};

/// Columns of the hidden vector beyond this many root mean squares of the others are bounded one by one: √12.
const LARGE: f64 = 3.464;
/// What a code of 8 bits may be wrong by, of its scale.
const HALF: f64 = 0.51;
/// What a code of 4 bits may be wrong by, of the scale of one of 8.
const EIGHT_AND_HALF: f64 = 8.51;

/// The largest share of a value that its codes may stand for: 16 steps begin at 7.49.
const MOST_OF_ROUNDED: f64 = 2.2;

/// What a hidden vector contributes to estimates and errors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    pub(super) eights: [i32; 2], // 8·Σh and 8·Σl, which codes without a sign have too much
    pub(super) factors: Factors,
    pub(super) coarse: Shares, // of the errors of the first plane
    pub(super) fine: Shares,   // of both planes
}

/// Where a probe is made.
pub(crate) struct Scratch<'a> {
    pub(crate) outliers: &'a mut [i16], // [size.outliers]
    pub(crate) high: &'a mut [i8],      // [size.others]
    pub(crate) low: &'a mut [i8],       // [size.others]
    pub(crate) y: &'a mut [f32],        // [size.cols]
}

impl Probe {
    /// Turns a hidden vector to integers; none if its size forbids bounds. (Then the integers are unspecified.)
    pub(crate) fn new(screen: &Screen, scratch: Scratch<'_>, x: &[f32]) -> Option<Self> {
        let Scratch { outliers, high, low, y } = scratch;
        let norm = in_lanes(x, |v| v * v).sqrt();
        if !(1.0 / LARGEST_NORM..=LARGEST_NORM).contains(&norm) {
            return None;
        }
        let peak_of = |x: &[f32]| f64::from(x.iter().fold(f32::MIN_POSITIVE, |peak, v| peak.max(v.abs())));
        // So that the sum of 136·|p_j| over a row fits 31 bits: 16·8 + 8, of rows that have no codes, is the most.
        let levels_of = |columns: usize, most: i32| f64::from((i32::MAX / (136 * columns as i32)).min(most));
        let levels = levels_of(outliers.len(), i32::from(i16::MAX));
        let outlier_factor = peak_of(x) / levels;
        // The other columns, zeros in place of the outliers.
        y.copy_from_slice(x);
        let (mut squares, mut rests) = (0.0, 0.0);
        outliers.fill(0);
        for (outlier, &column) in outliers.iter_mut().zip(&screen.places) {
            let v = f64::from(std::mem::take(&mut y[column as usize]));
            let level = round(v / outlier_factor).clamp(-levels, levels);
            *outlier = level as i16;
            squares += v * v;
            rests += (v - outlier_factor * level).powi(2);
        }
        let levels = levels_of(high.len(), i32::from(i8::MAX));
        let (factor, base) = (peak_of(y) / levels, 2.0 * levels);
        let split = |v: f64| {
            let high = round(v / factor).clamp(-levels, levels);
            (high, round((v / factor - high) * base))
        };
        high[x.len()..].fill(0);
        low[x.len()..].fill(0);
        let mut eights = [0i32; 2];
        for ((high, low), &v) in high.iter_mut().zip(low.iter_mut()).zip(&*y) {
            let digits = split(f64::from(v));
            (*high, *low) = (digits.0 as i8, digits.1 as i8);
            eights[0] += 8 * i32::from(*high);
            eights[1] += 8 * i32::from(*low);
        }
        let of_others = in_lanes(y, |v| {
            let (high, low) = split(v);
            (v - factor * (high + low / base)).powi(2)
        });
        let rest = (rests + of_others).sqrt();
        let mut parts = [0.0; DIRECTIONS];
        for (part, direction) in parts.iter_mut().zip(screen.directions.chunks_exact(x.len())) {
            *part = dot(direction, x);
        }
        let terms = (x.len() + 2) as f64 / f64::from(1 << 24);
        let rounding = terms / (1.0 - terms);
        let sizes: f64 = parts.iter().map(|part| part.abs()).sum();
        // Of U'e, for each ‖e‖.
        let of_parts = 1.01 * rounding * sizes;
        let of_norm = MOST_OF_ROUNDED * rest + norm * rounding + (norm + 1.01 * sizes) / f64::from(1 << 20);
        let of_parts_lost = sizes * f64::from(f32::MIN_POSITIVE);
        let constant = norm * in_lanes(&screen.mean, |v| v * v).sqrt() / f64::from(1 << 30) + of_parts_lost;
        let shares = |y: &[f32], squares: f64, half: f64, of_parts: f64| {
            let (small, large) = small_and_large(y);
            let outliers = HALF * (screen.places.len() as f64).sqrt();
            Shares {
                of_residual: up(small + of_parts),
                of_scale: up(half * large),
                of_outlier_scale: up(outliers * (squares.sqrt() + of_parts)),
                of_norm: up(of_norm),
                constant: up(constant),
            }
        };
        let fine = shares(y, squares, HALF, 0.0);
        subtract(y, x, &screen.directions, &parts);
        let squares =
            screen.places.iter().map(|&column| f64::from(std::mem::take(&mut y[column as usize])).powi(2)).sum();
        let coarse = shares(y, squares, EIGHT_AND_HALF, of_parts);
        let constant = dot(&screen.mean, x);
        let factors = Factors { constant, outliers: outlier_factor, high: factor, low: factor / base, parts };
        Some(Self { eights, factors, coarse, fine })
    }
}

/// `value`, enlarged, as f32.
fn up(value: f64) -> f32 {
    (value * SLACK) as f32 + f32::MIN_POSITIVE
}

/// `y = x − Σ part · direction`.
fn subtract(y: &mut [f32], x: &[f32], directions: &[f32], parts: &[f64; DIRECTIONS]) {
    const TOGETHER: usize = 64;
    for (first, (y, x)) in (0..).step_by(TOGETHER).zip(y.chunks_mut(TOGETHER).zip(x.chunks(TOGETHER))) {
        let mut left = [0.0f64; TOGETHER];
        left.iter_mut().zip(x).for_each(|(left, &x)| *left = f64::from(x));
        for (part, direction) in parts.iter().zip(directions.chunks_exact(directions.len() / DIRECTIONS)) {
            for (left, &u) in left.iter_mut().zip(&direction[first..][..x.len()]) {
                *left -= part * f64::from(u);
            }
        }
        y.iter_mut().zip(&left).for_each(|(y, &left)| *y = left as f32);
    }
}

/// The norm of the small values and the sum of the magnitudes of the large ones.
fn small_and_large(y: &[f32]) -> (f64, f64) {
    let small = |limit: f64| in_lanes(y, |v| if v.abs() <= limit { v * v } else { 0.0 });
    let mut limit = f64::INFINITY;
    for _ in 0..4 {
        limit = LARGE * (small(limit) / y.len() as f64).sqrt();
    }
    (small(limit).sqrt(), in_lanes(y, |v| if v.abs() <= limit { 0.0 } else { v.abs() }))
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

/// `u · x` in f64, whose products of two f32 are exact.
pub(super) fn dot(u: &[f32], x: &[f32]) -> f64 {
    let mut lanes = [0.0; 8];
    let ((u, u_rest), (x, x_rest)) = (u.as_chunks::<8>(), x.as_chunks::<8>());
    for (u, x) in u.iter().zip(x) {
        for lane in 0..8 {
            lanes[lane] += f64::from(u[lane]) * f64::from(x[lane]);
        }
    }
    let rest = u_rest.iter().zip(x_rest).map(|(&u, &x)| f64::from(u) * f64::from(x));
    lanes.iter().sum::<f64>() + rest.sum::<f64>()
}

/// The nearest integer, of two the even one, for sizes below 2^51: a sum with 1.5·2^52 has no bits for a fraction. (What
/// every CPU has an addition for, older ones have no rounding for.)
fn round(v: f64) -> f64 {
    const NO_FRACTION: f64 = 1.5 * (1u64 << 52) as f64;
    v + NO_FRACTION - NO_FRACTION
}
