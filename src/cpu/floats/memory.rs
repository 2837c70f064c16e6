//! The loops over the memory of a recurrent head: `[keys, values]`, so that a row of it is one key's and loads are whole vectors.

/// Values of a memory that are summed together.
const TOGETHER: usize = 32;

/// `with_key = Sᵀkey` and `with_query = Sᵀquery` for the memory `S: [key.len(), with_key.len()]`.
#[inline(always)]
pub(crate) fn recall(with_key: &mut [f32], with_query: &mut [f32], memory: &[f32], key: &[f32], query: &[f32]) {
    let values = with_key.len();
    let outputs = with_key.chunks_mut(TOGETHER).zip(with_query.chunks_mut(TOGETHER));
    for (first, (with_key, with_query)) in (0..).step_by(TOGETHER).zip(outputs) {
        let (mut key_sums, mut query_sums) = ([0.0f32; TOGETHER], [0.0f32; TOGETHER]);
        let count = with_key.len();
        for ((row, &k), &q) in memory.chunks_exact(values).zip(key).zip(query) {
            match row[first..].first_chunk::<TOGETHER>() {
                Some(row) => {
                    for ((s, key_sum), query_sum) in row.iter().zip(&mut key_sums).zip(&mut query_sums) {
                        *key_sum += s * k;
                        *query_sum += s * q;
                    }
                }
                None => {
                    let sums = key_sums.iter_mut().zip(&mut query_sums);
                    for (s, (key_sum, query_sum)) in row[first..].iter().zip(sums) {
                        *key_sum += s * k;
                        *query_sum += s * q;
                    }
                }
            }
        }
        with_key.copy_from_slice(&key_sums[..count]);
        with_query.copy_from_slice(&query_sums[..count]);
    }
}

/// `S = fade · S + key updateᵀ`.
#[inline(always)]
pub(crate) fn remember(memory: &mut [f32], fade: f32, key: &[f32], update: &[f32]) {
    for (row, &k) in memory.chunks_exact_mut(update.len()).zip(key) {
        for (s, u) in row.iter_mut().zip(update) {
            *s = *s * fade + u * k;
        }
    }
}
