//! The Sylvester-Walsh-Hadamard transform of a block.

/// `block = H block / √len`, in place, for a length that is a power of two. Sums are added in one order on all devices: neighbours first.
#[inline(always)]
pub(crate) fn hadamard(block: &mut [f32]) {
    let len = block.len();
    let mut apart = 1;
    // The first three stages stay within eight values, in registers.
    let (eights, rest) = block.as_chunks_mut::<8>();
    if rest.is_empty() && !eights.is_empty() {
        for v in eights {
            let a = [
                v[0] + v[1],
                v[0] - v[1],
                v[2] + v[3],
                v[2] - v[3],
                v[4] + v[5],
                v[4] - v[5],
                v[6] + v[7],
                v[6] - v[7],
            ];
            let b = [
                a[0] + a[2],
                a[1] + a[3],
                a[0] - a[2],
                a[1] - a[3],
                a[4] + a[6],
                a[5] + a[7],
                a[4] - a[6],
                a[5] - a[7],
            ];
            *v = [
                b[0] + b[4],
                b[1] + b[5],
                b[2] + b[6],
                b[3] + b[7],
                b[0] - b[4],
                b[1] - b[5],
                b[2] - b[6],
                b[3] - b[7],
            ];
        }
        apart = 8;
    }
    while apart < len {
        for pair in block.chunks_exact_mut(2 * apart) {
            let (first, second) = pair.split_at_mut(apart);
            for (a, b) in first.iter_mut().zip(second) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        apart *= 2;
    }
    let factor = 1.0 / (len as f32).sqrt();
    block.iter_mut().for_each(|v| *v *= factor);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_its_own_inverse_and_has_the_signs_of_sylvester() {
        for log in 0..12 {
            let len = 1usize << log;
            let mut block: Vec<f32> = (0..len).map(|i| if i == 5 % len { 1.0 } else { 0.0 }).collect();
            let before = block.clone();
            hadamard(&mut block);
            let root = (len as f32).sqrt();
            let sign = |i: usize| if (i & (5 % len)).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
            assert!(block.iter().enumerate().all(|(i, v)| (v * root - sign(i)).abs() < 1e-5), "{len}");
            hadamard(&mut block);
            assert!(block.iter().zip(&before).all(|(a, b)| (a - b).abs() < 1e-5), "{len}");
        }
    }
}
