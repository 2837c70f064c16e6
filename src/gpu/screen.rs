//! A head in int8 beside the one in f16, by which most tokens are ruled out: reading it takes half as long, and only the logits of
//! the few that are left are computed from the f16 rows, so that what is chosen is what the exact head chooses. All of it is done on
//! the device: estimates, the least that each logit can be, the floor that this sets, exact logits of what may reach it.

use crate::backend::Reads;
use crate::error::{DeviceErrorKind, Error, Result};
use crate::gpu::buffers::Buffer;
use crate::gpu::head::STRETCH;
use crate::gpu::layout::grid;
use crate::gpu::limits::ELEMENTWISE_THREADS;
use crate::gpu::matrix::Shard;
use crate::gpu::recorder::Dispatch;
use crate::gpu::shader::{Format, Shader};
use crate::gpu::{Gpu, Matrix, Tensor};

/// The fewest bytes of a head in f16 that are screened by default: smaller ones are read in less time than more dispatches take.
const WORTH_SCREENING: u64 = 64 << 20;
/// Rows that want logits, up to which they are screened: of more, products are what takes time, and reading is shared.
const MOST_ROWS: usize = 8;

/// The screen of a head.
#[derive(Debug)]
pub(crate) struct Screen {
    rows: Matrix,   // int8 [rows, cols], with a scale for each row
    bounds: Buffer, // f32 [rows]: what an estimate is off by at most, of a hidden vector of length 1
}

impl Screen {
    /// Bytes on the device.
    pub(crate) fn bytes(&self) -> u64 {
        self.rows.bytes() + self.bounds.raw.size()
    }
}

impl Gpu {
    /// Gives a head in f16 a screen, where that is wanted and there is room for it: without one, choices are the same.
    pub(super) fn add_screen(&mut self, head: &mut Matrix) -> Result<()> {
        let is_large = head.bytes() >= WORTH_SCREENING && !self.device.adapter().is_software();
        let wanted = self.device.0.screening.unwrap_or(is_large);
        // Words of eight columns become words of four.
        if !wanted || head.format != Format::F16 || head.screen.is_some() {
            return Ok(());
        }
        let before = self.allocated;
        match self.room_for_screen(head) {
            Ok(screen) => head.screen = Some(Box::new(self.make_screen(head, screen))),
            Err(Error::Device(fault)) if fault.kind == DeviceErrorKind::OutOfMemory => {
                // What there was room for is gone: nothing was recorded that holds it.
                self.allocated = before;
                log::warn!(
                    "the head is read whole for each token: there is no room for its screen ({})",
                    fault.message
                );
            }
            Err(other) => return Err(other),
        }
        Ok(())
    }

    /// All memory of the screen of a head.
    fn room_for_screen(&mut self, head: &Matrix) -> Result<Screen> {
        let row_bytes = head.cols.next_multiple_of(16);
        let mut shards = Vec::new();
        for shard in &head.shards {
            let weights = self.storage("the screen of the head", (shard.rows * row_bytes) as u64)?;
            let scales = self.floats("scales", shard.rows, 1)?;
            shards.push(Shard { first: shard.first, rows: shard.rows, weights, scales });
        }
        let bounds = self.floats("the screen of the head", head.rows, 1)?;
        let (row_scales, group) = (1, head.cols);
        let rows = Matrix { format: Format::Screen, row_bytes, row_scales, group, shards, screen: None, ..*head };
        Ok(Screen { rows, bounds })
    }

    /// Fills the screen of a head.
    fn make_screen(&mut self, head: &Matrix, screen: Screen) -> Screen {
        for (shard, made) in head.shards.iter().zip(&screen.rows.shards) {
            let words = screen.rows.row_bytes / 4;
            let params = [head.pieces(), shard.rows, shard.first, words, head.cols].map(|n| n as u32);
            let buffers = [&shard.weights, &made.weights, &made.scales, &screen.bounds];
            self.run(Shader::ScreenRows, &params, &buffers, grid(shard.rows), 0);
        }
        self.recorder.submit();
        screen
    }

    /// Logits among which are the `count` largest of each row, exact; all others are smaller. False, and nothing, where the head has
    /// no screen, or the rows are too many.
    pub(super) fn enough_logits(&mut self, out: &Tensor, head: &Matrix, x: &Tensor, count: usize) -> bool {
        let selected = self.selected.len();
        let Some(screen) = head.screen.as_ref().filter(|_| (1..=MOST_ROWS).contains(&selected)) else { return false };
        assert_eq!((out.cols, head.cols), (head.rows, x.cols));
        assert!(selected <= out.max_rows && selected <= x.max_rows);
        self.dense_product(out, &screen.rows, x, selected, false);
        let stretches = out.cols.div_ceil(STRETCH);
        let floors = self.scratch(|gpu| &mut gpu.floors, "floors", (selected * out.cols * 4) as u64);
        let params = [x.cols, out.cols, STRETCH].map(|n| n as u32);
        let groups = [stretches, selected, 1];
        self.run(Shader::ScreenFloors, &params, &[&x.buffer, &screen.bounds, &out.buffer, &floors], groups, 0);
        let (wanted, entries) = match count {
            1 => (self.best_of_stretches(&floors, out.cols), stretches),
            _ => (self.last_of_top(&floors, out.cols, count), 1),
        };
        for shard in &head.shards {
            let params = [head.pieces(), shard.rows, shard.first, out.cols, x.cols, entries].map(|n| n as u32);
            let [x_groups, y_groups, _] = grid(shard.rows.div_ceil(ELEMENTWISE_THREADS));
            let (groups, buffers) =
                ([x_groups, y_groups, selected], [&shard.weights, &wanted, &floors, &x.buffer, &out.buffer]);
            let shader = Shader::LogitsLeft { aligned: head.cols.is_multiple_of(4) };
            // How much it reads is known on the device alone.
            self.recorder.dispatch(&Dispatch {
                shader,
                params: &params,
                buffers: &buffers,
                groups,
                bytes: 0,
                reads: Reads::Head,
            });
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Adapter, GpuDevice, GpuOptions};

    #[test]
    fn a_screen_that_has_no_room_keeps_no_memory() {
        for adapter in Adapter::all_to_test() {
            let options = GpuOptions { screening: Some(true), ..GpuOptions::default() };
            let mut gpu = Gpu::new(&GpuDevice::open(&adapter, &options).unwrap());
            let (weights, scales) = (gpu.storage("weights", 64).unwrap(), gpu.storage("scales", 16).unwrap());
            let shards = vec![Shard { first: 0, rows: 4, weights, scales }];
            let (format, before) = (Format::F16, gpu.allocated);
            // No device has room for the bounds of so many rows.
            let (rows, cols, row_bytes, group, row_scales) = (usize::MAX, 8, 16, 8, 1);
            let mut head = Matrix { rows, cols, format, row_bytes, group, row_scales, shards, screen: None };
            gpu.add_screen(&mut head).unwrap();
            assert!(head.screen.is_none() && gpu.allocated == before, "{} bytes of {before}", gpu.allocated);
            head.rows = 4;
            gpu.add_screen(&mut head).unwrap();
            assert!(head.screen.is_some() && gpu.allocated > before, "where there is room, there is one");
        }
    }
}
