//! Reading as such: the sum of 64-bit words, the cheapest use of memory that needs all of it. How fast weights can be read at most is
//! measured by it, with the widest loads that a set has.

/// The sum of all words, without what is beyond 64 bits. `LANES` sums run side by side, so that additions never wait for each other:
/// eight vectors of a set.
#[inline(always)]
pub(crate) fn sum<const LANES: usize>(words: &[u64]) -> u64 {
    let mut lanes = [0u64; LANES];
    let (chunks, rest) = words.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, word) in lanes.iter_mut().zip(chunk) {
            *lane = lane.wrapping_add(*word);
        }
    }
    lanes.iter().chain(rest).fold(0, |total, word| total.wrapping_add(*word))
}

#[cfg(test)]
mod tests {
    use crate::cpu::KernelSet;

    #[test]
    fn every_word_is_summed() {
        for set in KernelSet::available() {
            let kernels = set.table().expect("a set that is available");
            for len in [0, 1, 15, 16, 31, 32, 33, 64, 65, 1000] {
                let words: Vec<u64> = (0..len).map(|i| i << 40).collect();
                assert_eq!(kernels.sum_words(&words), (len * len.saturating_sub(1) / 2) << 40, "{set}: {len} words");
            }
            assert_eq!(kernels.sum_words(&[u64::MAX; 100]), 0u64.wrapping_sub(100), "{set}");
        }
    }
}
