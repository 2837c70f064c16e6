//! Attention: rows are appended to the cache, and read all that their sequence has there.

use crate::backend::{CacheShape, HeadNorm, Heads, Rope, RopePairs, Rotary, Row};
use crate::error::{Error, Result};
use crate::gpu::cooperative::AttentionCut;
use crate::gpu::layout::{Attention, cached, tile_heads};
use crate::gpu::limits::{CHUNK, LARGE_TILE_ROWS, TILE_ROWS};
use crate::gpu::shader::Shader;
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

    /// Compiles what steps of many rows attend by, where that is more than one shader: none is met first in the middle of a prompt.
    pub(super) fn make_attention_room(&mut self, cache: &Cache, heads: Heads) -> Result<()> {
        let (cached, together) = (cached(&cache.shape), heads.heads / heads.kv_heads);
        let cut = self.device.0.cooperative.attention.and_then(|teams| teams.cut(cached, together));
        let (Some(cut), Some(of_tile)) = (cut, tile_heads(cached, together)) else { return Ok(()) };
        let shaders = [Shader::AttendCooperative { cut }, Shader::AttendTile { cache: cached, heads: of_tile }];
        self.device.0.pipelines(&shaders).map(drop)
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
        let shader = Shader::RopeAppend { cache: cached(&cache.shape), pairs, norm: norm.map(|norm| norm.order) };
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
        self.assert_attention(qkv, cache, heads);
        assert!(out.cols == heads.query_cols() && self.rows.len() <= out.max_rows);
        let cut = match append.is_none() && self.sees_all(cache) {
            true => self.device.0.cooperative.attention_cut(cached(&cache.shape), heads, &self.rows),
            false => None,
        };
        match cut {
            Some(cut) => self.attend_cooperatively(out, qkv, cache, heads, cut),
            None => self.attend_in_chunks(out, qkv, cache, heads, append),
        }
    }

    /// Attention of many rows by cooperative matrices, after they were appended; they see all from position 0 on.
    pub(super) fn attend_cooperatively(
        &mut self,
        out: &mut Tensor,
        qkv: &Tensor,
        cache: &Cache,
        heads: Heads,
        cut: AttentionCut,
    ) {
        let large_tiles = tiles(&self.rows, LARGE_TILE_ROWS).count();
        let numbers = [heads.heads, heads.kv_heads, cache.shape.positions, large_tiles].map(|n| n as u32);
        let params = [numbers[0], numbers[1], numbers[2], numbers[3], scale(heads).to_bits()];
        let groups = [heads.heads / cut.heads as usize, 1, large_tiles * cut.heads as usize];
        let buffers = [&self.step(), &cache.keys, &qkv.buffer, &out.buffer, &cache.values];
        let bytes = self.bytes_in_tiles(cache, cut.rows());
        self.run(Shader::AttendCooperative { cut }, &params, &buffers, groups, bytes);
    }

    /// Attention in chunks of the context, row by row or in tiles, after or while the rows are appended.
    pub(super) fn attend_in_chunks(
        &mut self,
        out: &mut Tensor,
        qkv: &Tensor,
        cache: &Cache,
        heads: Heads,
        append: Option<(&Tensor, RopePairs)>,
    ) {
        let rows = self.rows.len();
        let longest = self.rows.iter().map(|row| chunks_seen(&cache.shape, row)).max().unwrap_or(0);
        let in_tiles = (append.is_none() && self.sees_all(cache)).then(|| tiles(&self.rows, TILE_ROWS).count());
        let attention = Attention::new(&cache.shape, heads, (rows, in_tiles), longest, self.device.0.largest_binding);
        let chunks = attention.chunks as u32;
        let window = cache.shape.window.map_or(u32::MAX, |window| u32::try_from(window).unwrap_or(u32::MAX));
        let params = [
            heads.heads as u32,
            heads.kv_heads as u32,
            cache.shape.positions as u32,
            attention.splits as u32,
            chunks,
            scale(heads).to_bits(),
            append.map_or(0, |(rotations, _)| rotations.cols as u32 / 2),
            window,
        ];
        let (step, whole) = (self.step(), attention.splits == 1);
        let result = match whole {
            true => out.buffer.clone(),
            false => self.scratch(|gpu| &mut gpu.attention_parts, "attention", attention.partials_bytes(heads, rows)),
        };
        let groups = [heads.kv_heads * attention.heads.groups as usize, attention.splits, rows];
        let bytes = self.rows.iter().map(|row| bytes_seen(cache, row)).sum();
        let cached = [&step, &cache.keys, &qkv.buffer, &result, &cache.values];
        match (append, attention.tile_heads) {
            (None, None) => {
                self.run(Shader::Attend { cut: attention.heads, append: None }, &params, &cached, groups, bytes);
            }
            (None, Some(of_tile)) => {
                let shader = Shader::AttendTile { cache: attention.heads.cache, heads: of_tile };
                let bytes = self.bytes_in_tiles(cache, TILE_ROWS);
                let of_tile = of_tile as usize;
                let groups = [heads.heads / of_tile, attention.splits, tiles(&self.rows, TILE_ROWS).count() * of_tile];
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

    /// Whether the step's rows see all that their sequences have.
    fn sees_all(&self, cache: &Cache) -> bool {
        self.rows.iter().all(|row| cache.shape.first_seen(row.position as usize) == 0)
    }

    /// Bytes of the cache that tiles of so many rows read: each as many as its longest.
    fn bytes_in_tiles(&self, cache: &Cache, most_rows: usize) -> u64 {
        let longest = tiles(&self.rows, most_rows).filter_map(|tile| tile.iter().max_by_key(|row| row.position));
        longest.map(|row| bytes_seen(cache, row)).sum()
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

fn scale(heads: Heads) -> f32 {
    (1.0 / (heads.head_dim as f64).sqrt()) as f32
}

fn bytes_seen(cache: &Cache, row: &Row) -> u64 {
    let shape = &cache.shape;
    let entry = shape.bytes().expect("counted when it was made") / (shape.slots * shape.positions).max(1);
    (positions_seen(shape, row) * entry) as u64
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
