//! What comes before attention: queries and keys are turned to their positions, keys and values go to the cache.

use crate::backend::{HeadNormOrder, Heads, RopePairs, Rotary, Row};
use crate::cpu::Cpu;
use crate::cpu::attention::cache::CacheHeads;
use crate::cpu::disjoint::Disjoint;
use crate::cpu::floats;
use crate::cpu::kernels::Kernels;
use crate::cpu::tensor::norm_factor;

/// How heads are brought to their positions.
#[derive(Clone, Copy)]
pub(crate) struct Turning<'a> {
    rotations: &'a [f32], // [rows, 2 * pairs]
    pairs: RopePairs,
    norm: Option<Norming<'a>>,
}

/// RMSNorm of each head by itself.
#[derive(Clone, Copy)]
struct Norming<'a> {
    kernels: &'static dyn Kernels,
    query_gain: &'a [f32], // [head_dim]
    key_gain: &'a [f32],   // [head_dim]
    epsilon: f32,
    order: HeadNormOrder,
}

impl Norming<'_> {
    fn norm(&self, head: &mut [f32], gain: &[f32]) {
        let factor = norm_factor(self.kernels, head, self.epsilon);
        head.iter_mut().zip(gain).for_each(|(value, gain)| *value = *value * factor * gain);
    }
}

impl<'a> Turning<'a> {
    /// For the rows of a step.
    pub(crate) fn of(kernels: &'static dyn Kernels, rotary: Rotary<'a, Cpu>, rows: usize) -> Self {
        let Rotary { rotations, pairs, norm } = rotary;
        let norm = norm.map(|norm| Norming {
            kernels,
            query_gain: norm.query_gain.row(0),
            key_gain: norm.key_gain.row(0),
            epsilon: norm.epsilon,
            order: norm.order,
        });
        Self { rotations: &rotations.values[..rows * rotations.cols], pairs, norm }
    }

    /// Norms and turns one head of a row.
    fn turn(&self, head: &mut [f32], is_query: bool, cosines: &[f32], sines: &[f32]) {
        let norm = |head: &mut [f32], order| {
            if let Some(norm) = self.norm.filter(|norm| norm.order == order) {
                norm.norm(head, if is_query { norm.query_gain } else { norm.key_gain });
            }
        };
        norm(head, HeadNormOrder::BeforeRope);
        floats::rotate(head, cosines, sines, self.pairs);
        norm(head, HeadNormOrder::AfterRope);
    }
}

/// Turns the queries of one key/value head's group in place for every row, and writes its turned keys and its values to the
/// cache. `qkv: [rows, heads.qkv_cols()]`.
///
/// # Safety
/// No two calls with the same `kv_head` may run at the same time, nor anything else that uses `qkv` or the cache. (All
/// rows of a head are one call, so that rows which name the same place do not race.)
pub(crate) unsafe fn rope_append_head(
    qkv: &Disjoint<'_, f32>,
    cache: &CacheHeads<'_>,
    rows: &[Row],
    turning: Turning<'_>,
    heads: Heads,
    kv_head: usize,
) {
    let (group, head_dim) = (heads.heads / heads.kv_heads, heads.head_dim);
    let turns = turning.rotations.len() / rows.len();
    for ((row, at), rotation) in rows.iter().enumerate().zip(turning.rotations.chunks_exact(turns)) {
        let (cosines, sines) = rotation.split_at(turns / 2);
        // SAFETY: these features belong to this group of heads alone, and so to this call; so do those below.
        let features = |head: usize, count: usize| unsafe {
            let begin = row * heads.qkv_cols() + head * head_dim;
            qkv.cut(begin..begin + count * head_dim)
        };
        for query in features(kv_head * group, group).chunks_exact_mut(head_dim) {
            turning.turn(query, true, cosines, sines);
        }
        let key = features(heads.heads + kv_head, 1);
        turning.turn(key, false, cosines, sines);
        let value = features(heads.heads + heads.kv_heads + kv_head, 1);
        // SAFETY: the places belong to this key/value head, and so to this call.
        unsafe { cache.write(at.sequence, kv_head, at.position as usize, key, value) };
    }
}
