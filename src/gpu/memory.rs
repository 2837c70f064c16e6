//! The device's memory: storage buffers, scratch that grows, and the way of weights into it.

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::buffers::Buffer;
use crate::gpu::matrix::Uploader;

/// Uploads after which the device is waited for, so that staging memory is used again.
const MOST_UNSENT: usize = 128 << 20;

impl Gpu {
    pub(super) fn storage(&mut self, label: &str, bytes: u64) -> Result<Buffer> {
        use wgpu::BufferUsages as Usage;
        let raw = self.device.0.buffer(label, bytes, Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST)?;
        self.next_id += 1;
        self.allocated += raw.size();
        Ok(Buffer { id: self.next_id, raw })
    }

    /// Room for `rows * cols` values of four bytes.
    pub(super) fn floats(&mut self, label: &str, rows: usize, cols: usize) -> Result<Buffer> {
        let bytes = rows.checked_mul(cols).and_then(|n| n.checked_mul(4));
        let bytes = bytes.ok_or_else(|| Error::Device(format!("{label} [{rows}, {cols}] is too large")))?;
        self.storage(label, bytes as u64)
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
            let waited = self.device.0.device.poll(wgpu::PollType::wait_indefinitely());
            self.device.0.check()?;
            waited.map_err(|cause| Error::Device(format!("the weights cannot be uploaded: {cause}")))?;
        }
        self.device.0.check()
    }

    fn largest_shard(&self) -> u64 {
        self.device.0.largest_shard
    }
}
