//! Integers in two planes of four bits, for the screened head.

/// The largest integer of both planes together: 16 · 7 + 7.
pub(crate) const LEVELS: f32 = 119.0;

/// Columns that share a line of each plane.
const COLUMNS: usize = 128;

/// Rounds `v`, whole blocks of 128 whose largest magnitude is `absmax`, to integers of −119 to 119 times `absmax / 119`: `16 c + f` with c
/// of −7 to 7 in `coarse` and f of −8 to 7 in `fine`, both with 8 added, two to a byte (byte j of 64 has column j in its low half, column
/// 64 + j in its high half). Of `v` remains what `16 c` leaves. Returns the sum of the squares of what both leave.
#[inline(always)]
pub(crate) fn halve(coarse: &mut [u8], fine: &mut [u8], v: &mut [f32], absmax: f32) -> f64 {
    // 1.5 * 2^23: floats of this size are whole numbers, so the addition itself rounds, half to even.
    const WHOLE: f32 = 12_582_912.0;
    let (multiplier, scale) = (LEVELS / absmax, absmax / LEVELS);
    let mut squares = 0.0f64;
    let planes = coarse.as_chunks_mut::<{ COLUMNS / 2 }>().0.iter_mut().zip(fine.as_chunks_mut::<{ COLUMNS / 2 }>().0);
    for (v, (coarse, fine)) in v.as_chunks_mut::<COLUMNS>().0.iter_mut().zip(planes) {
        let (mut high, mut low) = ([0i32; COLUMNS], [0i32; COLUMNS]);
        let mut lanes = [0.0f32; 16];
        let codes = high.as_chunks_mut::<16>().0.iter_mut().zip(low.as_chunks_mut::<16>().0);
        for (v, (high, low)) in v.as_chunks_mut::<16>().0.iter_mut().zip(codes) {
            for lane in 0..16 {
                let code = ((v[lane] * multiplier + WHOLE).to_bits() as i32).wrapping_sub(WHOLE.to_bits() as i32);
                let c = code.wrapping_add(8) >> 4;
                let left = v[lane] - scale * code as f32;
                lanes[lane] += left * left;
                v[lane] -= scale * c.wrapping_mul(16) as f32;
                (high[lane], low[lane]) = (c.wrapping_add(8), code.wrapping_sub(c.wrapping_mul(16)).wrapping_add(8));
            }
        }
        squares += f64::from(lanes.iter().sum::<f32>());
        for j in 0..COLUMNS / 2 {
            coarse[j] = (high[j] | high[j + COLUMNS / 2] << 4) as u8;
            fine[j] = (low[j] | low[j + COLUMNS / 2] << 4) as u8;
        }
    }
    squares
}

/// `u · v`, each product and each sum rounded once.
#[inline(always)]
pub(crate) fn inner(u: &[f32], v: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 32];
    let ((u, u_rest), (v, v_rest)) = (u.as_chunks::<32>(), v.as_chunks::<32>());
    for (u, v) in u.iter().zip(v) {
        for lane in 0..32 {
            lanes[lane] += u[lane] * v[lane];
        }
    }
    lanes.iter().sum::<f32>() + u_rest.iter().zip(v_rest).map(|(u, v)| u * v).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_planes_hold_the_nearest_integers() {
        let original: Vec<f32> = (0..256).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.173).collect();
        let absmax = original.iter().fold(0.0f32, |most, v| most.max(v.abs()));
        let (mut coarse, mut fine, mut v) = ([0u8; 128], [0u8; 128], original.clone());
        let squares = halve(&mut coarse, &mut fine, &mut v, absmax);
        let scale = absmax / LEVELS;
        let mut expected = 0.0;
        for (j, (&was, &left)) in original.iter().zip(&v).enumerate() {
            let byte = j / 128 * 64 + j % 64;
            let half = |plane: &[u8]| i32::from(if j % 128 < 64 { plane[byte] & 15 } else { plane[byte] >> 4 }) - 8;
            let (c, f) = (half(&coarse), half(&fine));
            assert!((-7..=7).contains(&c) && (-8..=7).contains(&f));
            let rest = was - scale * (16 * c + f) as f32;
            assert!(rest.abs() <= 0.501 * scale && (left - (was - scale * (16 * c) as f32)).abs() < 1e-5);
            expected += f64::from(rest * rest);
        }
        assert!((squares - expected).abs() < 1e-6 * expected);
    }
}
