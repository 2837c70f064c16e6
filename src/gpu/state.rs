//! What a GPU keeps for one session: its recorder, the rows of the step, and buffers that verbs share.

use std::ops::Range;

use crate::backend::Row;
use crate::gpu::buffers::{Buffer, Quantized};
use crate::gpu::context::GpuDevice;
use crate::gpu::recorder::Recorder;

/// A GPU that computes one model's steps.
#[derive(Debug)]
pub struct Gpu {
    pub(super) device: GpuDevice,
    pub(super) recorder: Recorder,
    pub(super) rows: Vec<Row>,
    pub(super) selected: Range<usize>, // of the rows that want logits, in their order
    pub(super) step: Option<Buffer>,   // struct Step: header, then [most rows] entries
    pub(super) selected_count: Option<Buffer>, // struct Step, without entries: what a ternary head knows of a step
    pub(super) head_input: Option<Quantized>, // of a ternary head, [most selected, cols]
    pub(super) attention_parts: Option<Buffer>, // of contexts that several workgroups share
    pub(super) stretches: Option<Buffer>, // the best of each stretch of logits
    pub(super) floors: Option<Buffer>, // [selected, vocabulary], the least that logits can be
    pub(super) floor: Option<Buffer>,  // [selected], the least of those that are wanted
    pub(super) between_slots: Option<Buffer>, // what is copied from slot to slot of a cache
    pub(super) words: Vec<u32>,        // to be written
    pub(super) floats: Vec<f32>,
    pub(super) allocated: u64, // bytes of all buffers made
    pub(super) steps: u64,
    pub(super) computed_rows: u64,
    pub(super) unsent: usize, // bytes uploaded since the last submit
    pub(super) fuses: bool,
}

impl Gpu {
    /// Computes on an opened GPU.
    pub fn new(device: &GpuDevice) -> Self {
        Self {
            device: device.clone(),
            recorder: Recorder::new(device),
            rows: Vec::new(),
            selected: 0..0,
            step: None,
            selected_count: None,
            head_input: None,
            attention_parts: None,
            stretches: None,
            floors: None,
            floor: None,
            between_slots: None,
            words: Vec::new(),
            floats: Vec::new(),
            allocated: 0,
            steps: 0,
            computed_rows: 0,
            unsent: 0,
            fuses: true,
        }
    }

    /// The same, with every verb in the plain steps that define it, and no step sent before the last was read: for comparing.
    pub fn plain(device: &GpuDevice) -> Self {
        Self { fuses: false, ..Self::new(device) }
    }
}
