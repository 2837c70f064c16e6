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
        match self.make_screen(head) {
            Ok(screen) => head.screen = Some(Box::new(screen)),
            Err(Error::Device(fault)) if fault.kind == DeviceErrorKind::OutOfMemory => {
                log::warn!(
                    "the head is read whole for each token: there is no room for its screen ({})",
                    fault.message
                );
            }
            Err(other) => return Err(other),
        }
        Ok(())
    }

    fn make_screen(&mut self, head: &Matrix) -> Result<Screen> {
        let row_bytes = head.cols.next_multiple_of(16);
        let bounds = self.floats("the screen of the head", head.rows, 1)?;
        let mut shards = Vec::new();
        for shard in &head.shards {
            let weights = self.storage("the screen of the head", (shard.rows * row_bytes) as u64)?;
            let scales = self.floats("scales", shard.rows, 1)?;
            let params = [head.pieces(), shard.rows, shard.first, row_bytes / 4, head.cols].map(|n| n as u32);
            let buffers = [&shard.weights, &weights, &scales, &bounds];
            self.run(Shader::ScreenRows, &params, &buffers, grid(shard.rows), 0);
            shards.push(Shard { first: shard.first, rows: shard.rows, weights, scales });
        }
        self.recorder.submit();
        let rows = Matrix {
            format: Format::Screen,
            row_bytes,
            row_scales: 1,
            group: head.cols,
            shards,
            screen: None,
            ..*head
        };
        Ok(Screen { rows, bounds })
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
