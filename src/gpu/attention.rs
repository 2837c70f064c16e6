//! Attention: rows are appended to the cache, and read all that their sequence has there.

use crate::backend::{CacheShape, HeadNorm, Heads, Rope, RopePairs, Rotary, Row};
use crate::error::{Error, Result};
use crate::gpu::layout::Attention;
use crate::gpu::limits::CHUNK;
use crate::gpu::shader::{Cached, Shader};
use crate::gpu::step::tiles;
use crate::gpu::{Cache, Gpu, MATVEC_ROWS, Tensor};

impl Gpu {
    /// Room for the keys and values of one layer.
    pub(super) fn make_cache(&mut self, shape: CacheShape) -> Result<Cache> {
        if Attention::fitting(&shape, shape.kv_heads).is_none() {
            return Err(Error::Unsupported(format!("heads of {} features on a GPU", shape.head_dim)));
        }
        let bytes = shape.bytes().ok_or_else(|| Error::out_of_memory("a cache of more bytes than can be counted"))?;
        let half = bytes as u64 / 2;
        Ok(Cache { shape, keys: self.storage("a cache", half)?, values: self.storage("a cache", half)? })
    }

    /// Cosines and sines of the step's rows: shaders compute neither.
    pub(super) fn write_rotations(&mut self, out: &Tensor, rope: &Rope) {
        let pairs = rope.frequencies.len();
        assert_eq!(out.cols, 2 * pairs);
        assert!(self.rows.len() <= out.max_rows);
        let mut floats = std::mem::take(&mut self.floats);
        floats.clear();
        for row in &self.rows {
            let turns = || rope.frequencies.iter().map(|frequency| f64::from(row.position) * frequency);
            floats.extend(turns().map(|angle| (angle.cos() * rope.magnitude) as f32));
            floats.extend(turns().map(|angle| (angle.sin() * rope.magnitude) as f32));
        }
        self.recorder.write(&out.buffer, bytemuck::cast_slice(&floats));
        self.floats = floats;
    }

    /// Norms and rotates queries, and appends keys, normed and rotated, and plain values.
    pub(super) fn append(&mut self, qkv: &mut Tensor, cache: &mut Cache, rotary: Rotary<'_, Self>, heads: Heads) {
        let Rotary { rotations, pairs, norm } = rotary;
        let rows = self.rows.len();
        self.assert_attention(qkv, cache, heads);
        assert!(rotations.cols <= heads.head_dim && rows <= rotations.max_rows);
        let numbers = [heads.heads, heads.kv_heads, rotations.cols / 2, cache.shape.positions].map(|n| n as u32);
        let epsilon = norm.map_or(0.0, |norm| norm.epsilon).to_bits();
        let params = [numbers[0], numbers[1], numbers[2], numbers[3], epsilon];
        let cached = Cached { precision: cache.shape.precision, head_dim: heads.head_dim as u32 };
        let shader = Shader::RopeAppend { cache: cached, pairs, norm: norm.map(|norm| norm.order) };
        let groups = [heads.heads + 2 * heads.kv_heads, rows, 1];
        let step = self.step();
        let buffers = [&step, &rotations.buffer, &qkv.buffer, &cache.keys, &cache.values];
        match norm {
            None => self.run(shader, &params, &buffers, groups, 0),
            Some(HeadNorm { query_gain, key_gain, .. }) => {
                assert!([query_gain, key_gain].iter().all(|gain| gain.cols == heads.head_dim));
                let [a, b, c, d, e] = buffers;
                self.run(shader, &params, &[a, b, c, d, e, &query_gain.buffer, &key_gain.buffer], groups, 0);
            }
        }
    }

    /// Attention that appends the rows to the cache meanwhile; false, and nothing, where that cannot be.
    pub(super) fn append_and_attend(
        &mut self,
        out: &mut Tensor,
        qkv: &Tensor,
        cache: &Cache,
        rotary: Rotary<'_, Self>,
        heads: Heads,
    ) -> bool {
        // A row must not need what another row of the step appends.
        let apart = self
            .rows
            .iter()
            .enumerate()
            .all(|(i, row)| i < MATVEC_ROWS && self.rows[..i].iter().all(|other| other.sequence != row.sequence));
        // Heads are normed by whole workgroups, before attention.
        let can = self.fuses && apart && rotary.norm.is_none();
        if can {
            let Rotary { rotations, pairs, .. } = rotary;
            assert!(rotations.cols <= heads.head_dim && self.rows.len() <= rotations.max_rows);
            self.attention(out, qkv, cache, heads, Some((rotations, pairs)));
        }
        can
    }

    /// Attention, after or while the rows are appended to the cache.
    pub(super) fn attention(
        &mut self,
        out: &mut Tensor,
        qkv: &Tensor,
        cache: &Cache,
        heads: Heads,
        append: Option<(&Tensor, RopePairs)>,
    ) {
        let rows = self.rows.len();
        self.assert_attention(qkv, cache, heads);
        assert!(out.cols == heads.query_cols() && rows <= out.max_rows);
        let longest = self.rows.iter().map(|row| chunks_seen(&cache.shape, row)).max().unwrap_or(0);
        let sees_all =
            append.is_none() && self.rows.iter().all(|row| cache.shape.first_seen(row.position as usize) == 0);
        let in_tiles = sees_all.then(|| tiles(&self.rows).count());
        let attention = Attention::new(&cache.shape, heads, (rows, in_tiles), longest, self.device.0.largest_binding);
        let scale = (1.0 / (heads.head_dim as f64).sqrt()) as f32;
        let chunks = attention.chunks as u32;
        let window = cache.shape.window.map_or(u32::MAX, |window| u32::try_from(window).unwrap_or(u32::MAX));
        let params = [
            heads.heads as u32,
            heads.kv_heads as u32,
            cache.shape.positions as u32,
            attention.splits as u32,
            chunks,
            scale.to_bits(),
            append.map_or(0, |(rotations, _)| rotations.cols as u32 / 2),
            window,
        ];
        let entry =
            cache.shape.bytes().expect("counted when it was made") / (cache.shape.slots * cache.shape.positions).max(1);
        let bytes_of = |row| (positions_seen(&cache.shape, row) * entry) as u64;
        let (step, whole) = (self.step(), attention.splits == 1);
        let result = match whole {
            true => out.buffer.clone(),
            false => self.scratch(|gpu| &mut gpu.attention_parts, "attention", attention.partials_bytes(heads, rows)),
        };
        let groups = [heads.kv_heads * attention.heads.groups as usize, attention.splits, rows];
        let bytes = self.rows.iter().map(bytes_of).sum();
        let cached = [&step, &cache.keys, &qkv.buffer, &result, &cache.values];
        match (append, attention.tile_heads) {
            (None, None) => {
                self.run(Shader::Attend { cut: attention.heads, append: None }, &params, &cached, groups, bytes);
            }
            (None, Some(of_tile)) => {
                let shader = Shader::AttendTile { cache: attention.heads.cache, heads: of_tile };
                let longest_rows = tiles(&self.rows).filter_map(|tile| tile.iter().max_by_key(|row| row.position));
                let bytes = longest_rows.map(bytes_of).sum();
                let of_tile = of_tile as usize;
                let groups = [heads.heads / of_tile, attention.splits, tiles(&self.rows).count() * of_tile];
                self.run(shader, &params[..shader.params().count()], &cached, groups, bytes);
            }
            (Some((rotations, pairs)), _) => {
                let shader = Shader::Attend { cut: attention.heads, append: Some(pairs) };
                let buffers = [&step, &rotations.buffer, &qkv.buffer, &result, &cache.keys, &cache.values];
                self.run(shader, &params, &buffers, groups, bytes);
            }
        }
        if !whole {
            let merge = Shader::AttendMerge { head_dim: heads.head_dim as u32 };
            let params = [heads.heads as u32, chunks, window];
            self.run(merge, &params, &[&step, &result, &out.buffer], [heads.heads, rows, 1], 0);
        }
    }

    /// What the shaders of attention take for granted.
    fn assert_attention(&self, qkv: &Tensor, cache: &Cache, heads: Heads) {
        let shape = &cache.shape;
        assert_eq!((heads.kv_heads, heads.head_dim), (shape.kv_heads, shape.head_dim));
        assert!(qkv.cols == heads.qkv_cols() && self.rows.len() <= qkv.max_rows);
        let inside = |row: &Row| (row.sequence as usize) < shape.slots && (row.position as usize) < shape.positions;
        assert!(self.rows.iter().all(inside), "a row lies outside the cache");
    }
}

fn positions_seen(shape: &CacheShape, row: &Row) -> usize {
    let position = row.position as usize;
    position + 1 - shape.first_seen(position)
}

/// Chunks that hold a position which the row sees.
fn chunks_seen(shape: &CacheShape, row: &Row) -> usize {
    let position = row.position as usize;
    position / CHUNK + 1 - shape.first_seen(position) / CHUNK
}
