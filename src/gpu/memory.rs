//! The device's memory: storage buffers, scratch that grows, and the way of weights into it.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::backend::CachePlace;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::buffers::{Buffer, Cache};
use crate::gpu::matrix::Uploader;

/// The identity of the next buffer, of any GPU: bind groups are found by identities, and weights are bound by every session.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);
/// Uploads after which the device is waited for, so that staging memory is used again.
const MOST_UNSENT: usize = 128 << 20;

impl Buffer {
    /// A buffer with an identity of its own.
    pub(crate) fn new(raw: wgpu::Buffer) -> Self {
        Self { id: NEXT_ID.fetch_add(1, Ordering::Relaxed), raw }
    }
}

impl Gpu {
    pub(super) fn storage(&mut self, label: &str, bytes: u64) -> Result<Buffer> {
        use wgpu::BufferUsages as Usage;
        let raw = self.device.0.buffer(label, bytes, Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST)?;
        self.allocated += raw.size();
        Ok(Buffer::new(raw))
    }

    /// Room for `rows * cols` values of four bytes.
    pub(super) fn floats(&mut self, label: &str, rows: usize, cols: usize) -> Result<Buffer> {
        let bytes = rows.checked_mul(cols).and_then(|n| n.checked_mul(4));
        let bytes = bytes.ok_or_else(|| Error::out_of_memory(format!("{label} [{rows}, {cols}] is too large")))?;
        self.storage(label, bytes as u64)
    }

    /// Copies the first positions of a slot of a cache to another slot: through scratch memory, as no command copies within a
    /// buffer.
    pub(super) fn copy_slot(&mut self, cache: &Cache, from: u32, to: u32, positions: usize) -> Result<()> {
        for kv_head in 0..cache.shape.kv_heads {
            let bytes_of = |slot| cache.bytes_of(CachePlace { slot, kv_head, positions });
            let (from, to) = (bytes_of(from), bytes_of(to));
            for store in [&cache.keys, &cache.values] {
                self.copy_within(store, from.clone(), to.start);
            }
        }
        self.recorder.submit();
        self.device.0.check()
    }

    /// Copies bytes of a buffer to another place in it, through scratch memory.
    pub(super) fn copy_within(&mut self, buffer: &Buffer, from: Range<u64>, to: u64) {
        let bytes = from.end - from.start;
        let between = self.scratch(|gpu| &mut gpu.between_slots, "a copy of a slot", bytes);
        self.recorder.copy((&between, 0), (buffer, from.start), bytes);
        self.recorder.copy((buffer, to), (&between, 0), bytes);
    }

    /// Scratch memory that grows as steps do.
    pub(super) fn scratch(&mut self, place: fn(&mut Self) -> &mut Option<Buffer>, label: &str, bytes: u64) -> Buffer {
        if let Some(buffer) = place(self).as_ref().filter(|buffer| buffer.raw.size() >= bytes) {
            return buffer.clone();
        }
        let made = self.storage(label, bytes.next_power_of_two().max(1 << 12)).or_else(|fault| {
            self.recorder.fail(fault);
            self.storage(label, 0)
        });
        let buffer = made.expect("a device has room for 16 bytes");
        *place(self) = Some(buffer.clone());
        buffer
    }
}

impl Uploader for Gpu {
    fn buffer(&mut self, label: &str, bytes: u64) -> Result<Buffer> {
        self.storage(label, bytes)
    }

    fn upload(&mut self, to: &Buffer, offset: u64, bytes: &[u8]) -> Result<()> {
        self.device.0.queue.write_buffer(&to.raw, offset, bytes);
        self.unsent += bytes.len();
        if self.unsent > MOST_UNSENT {
            self.unsent = 0;
            self.device.0.queue.submit([]);
            self.device.0.wait(None)?;
        }
        self.device.0.check()
    }

    fn largest_shard(&self) -> u64 {
        self.device.0.largest_shard
    }
}
