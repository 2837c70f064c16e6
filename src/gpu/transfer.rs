//! What tests and other slots ask for: entries of caches and int8 activations, to the host and back.

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::backend::{CachePlace, CachePrecision, Numerics};
use crate::error::Result;
use crate::format::ternary::BLOCK;
use crate::gpu::{Cache, Gpu, Quantized, buffers};

impl Gpu {
    /// [`crate::backend::Backend::read_cache`]
    pub(super) fn read_slot(
        &mut self,
        cache: &Cache,
        place: CachePlace,
        keys: &mut [f32],
        values: &mut [f32],
    ) -> Result<()> {
        let bytes = cache.bytes_of(place);
        let mut stored = vec![0; (bytes.end - bytes.start) as usize];
        for (buffer, floats) in [(&cache.keys, keys), (&cache.values, values)] {
            self.recorder.read(buffer, bytes.start, &mut stored)?;
            match cache.shape.precision {
                CachePrecision::F32 => floats.copy_from_slice(bytemuck::cast_slice(&stored)),
                CachePrecision::F16 => bytemuck::cast_slice::<u8, f16>(&stored).convert_to_f32_slice(floats),
            }
        }
        Ok(())
    }

    /// [`crate::backend::Backend::write_cache`]
    pub(super) fn write_slot(&mut self, cache: &Cache, place: CachePlace, keys: &[f32], values: &[f32]) {
        let bytes = cache.bytes_of(place);
        for (buffer, floats) in [(&cache.keys, keys), (&cache.values, values)] {
            let stored: Vec<u8> = match cache.shape.precision {
                CachePrecision::F32 => bytemuck::cast_slice(floats).to_vec(),
                CachePrecision::F16 => floats.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect(),
            };
            assert_eq!(stored.len() as u64, bytes.end - bytes.start);
            self.recorder.write_at(buffer, bytes.start, &stored);
        }
    }

    /// [`crate::backend::Backend::read_quantized`]
    pub(super) fn read_int8(&mut self, q: &Quantized, values: &mut [i8], scales: &mut [f32]) -> Result<()> {
        let (row_bytes, rows) = (q.words() * 4, values.len() / q.cols);
        assert!(rows <= q.max_rows && values.len() == rows * q.cols && scales.len() == rows * q.scales_a_row());
        let mut padded = vec![0i8; rows * row_bytes];
        self.recorder.read(&q.values, 0, bytemuck::cast_slice_mut(&mut padded))?;
        for (to, from) in values.chunks_exact_mut(q.cols).zip(padded.chunks_exact(row_bytes)) {
            to.copy_from_slice(&from[..q.cols]);
        }
        let mut facts = vec![[0f32; 2]; scales.len()];
        self.recorder.read(&q.facts, 0, bytemuck::cast_slice_mut(&mut facts))?;
        scales.iter_mut().zip(facts).for_each(|(scale, fact)| *scale = fact[0]);
        Ok(())
    }

    /// [`crate::backend::Backend::write_quantized`]
    pub(super) fn write_int8(&mut self, q: &Quantized, values: &[i8], scales: &[f32]) {
        assert_ne!(q.numerics, Numerics::Float, "these hold no int8");
        let (row_bytes, rows) = (q.words() * 4, values.len() / q.cols);
        assert!(rows <= q.max_rows && values.len() == rows * q.cols && scales.len() == rows * q.scales_a_row());
        let mut padded = vec![0i8; rows * row_bytes];
        let mut facts = Vec::with_capacity(scales.len());
        let group = if q.numerics == Numerics::Int8Rows { q.cols } else { BLOCK };
        let rows = padded.chunks_exact_mut(row_bytes).zip(values.chunks_exact(q.cols));
        for ((to, from), scales) in rows.zip(scales.chunks_exact(q.scales_a_row())) {
            to[..q.cols].copy_from_slice(from);
            let groups = from.chunks(group).zip(scales);
            facts.extend(groups.map(|(values, scale)| [scale.to_bits(), buffers::sums(values, q.numerics)]));
        }
        self.recorder.write(&q.values, bytemuck::cast_slice(&padded));
        self.recorder.write(&q.facts, bytemuck::cast_slice(&facts));
    }
}
