//! Reading what a GPU made: the calling thread waits until it is there, and for long steps looks for an interrupt meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::gpu::buffers::Buffer;
use crate::gpu::context::Context;
use crate::gpu::recorder::{Recorder, Staged};
use crate::interrupt::Interrupt;
use crate::time::Instant;

/// Rows of a step that is short on any GPU that is worth its name, and what makes one long all the same.
const SHORT_ROWS: usize = 32;
const SHORT_WAIT: Duration = Duration::from_millis(100);
/// Between two questions whether a long step is done.
const SHORTEST_PAUSE: Duration = Duration::from_micros(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(5);

/// What a wait knows.
#[derive(Debug, Default)]
pub(super) struct Waits {
    interrupt: Option<Interrupt>, // that ends a wait for a long step
    is_long: bool,                // what is waited for
    latest_wait: Duration,
    latest: Option<wgpu::SubmissionIndex>,
}

impl Waits {
    /// All that was recorded is on its way.
    pub(super) fn sent(&mut self, submit: &wgpu::SubmissionIndex) {
        self.latest = Some(submit.clone());
    }

    /// A copy to a mappable buffer was recorded.
    pub(super) fn staged(&mut self, _of: u64, _stage: &wgpu::Buffer) {}
}

impl Recorder {
    /// From now on, waits for long steps end when this is set.
    pub(crate) fn heed(&mut self, interrupt: Option<&Interrupt>) {
        self.waits.interrupt = interrupt.cloned();
    }

    /// Says how many rows the next step has.
    pub(crate) fn expect(&mut self, rows: usize) {
        self.rows = rows;
        self.waits.is_long = rows > SHORT_ROWS || self.waits.latest_wait > SHORT_WAIT;
    }

    /// The interrupt, if it is to be heeded: a step that is short in any case is waited for in the quickest way.
    fn heeded(&self) -> Option<Interrupt> {
        self.waits.interrupt.clone().filter(|_| self.waits.is_long)
    }

    /// Sends what was recorded, and waits until all that was sent is done.
    pub(crate) fn wait(&mut self) -> Result<()> {
        self.submit();
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        let (start, context) = (Instant::now(), &self.device.0);
        match self.heeded() {
            None => context.wait(self.waits.latest.clone())?,
            Some(interrupt) => {
                let done = Arc::new(AtomicBool::new(false));
                let told = Arc::clone(&done);
                context.queue.on_submitted_work_done(move || told.store(true, Ordering::Release));
                wait_until(context, &done, &interrupt)?;
            }
        }
        self.pace.done(self.number, start, Instant::now());
        self.waits.latest_wait = start.elapsed();
        Ok(())
    }

    /// Bytes of a buffer, from an offset on, as they are after all that was recorded. Waits for no more than what made them.
    pub(crate) fn read(&mut self, from: &Buffer, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let count = bytes.len() as u64;
        let is_staged = |staged: &Staged| staged.of == from.id && staged.offset == offset && staged.bytes >= count;
        if !self.staged.iter().any(is_staged) {
            self.stage(from, offset, count)?;
        }
        self.submit();
        if let Some(fault) = self.fault.take() {
            self.staged.clear();
            return Err(fault);
        }
        let staged = self.staged.iter().find(|staged| staged.of == from.id).expect("staged above");
        let stage = &self.stages[&from.id];
        let range = 0..count.next_multiple_of(4);
        let context = &self.device.0;
        let start = Instant::now();
        // The outcome of the mapping is known when the view is asked for.
        match self.heeded() {
            None => {
                stage.map_async(wgpu::MapMode::Read, range.clone(), |_| ());
                context.wait(staged.submit.as_ref().map(|(_, submit)| submit.clone()))?;
            }
            Some(interrupt) => {
                let done = Arc::new(AtomicBool::new(false));
                let told = Arc::clone(&done);
                stage.map_async(wgpu::MapMode::Read, range.clone(), move |_| told.store(true, Ordering::Release));
                if let Err(error) = wait_until(context, &done, &interrupt) {
                    stage.unmap();
                    return Err(error);
                }
            }
        }
        if let Some((number, _)) = staged.submit {
            self.pace.done(number, start, Instant::now());
        }
        let waited = start.elapsed();
        let lost = |cause| Error::lost(format!("what was computed cannot be read; load the model again: {cause}"));
        let view = stage.get_mapped_range(range).map_err(lost)?;
        bytes.copy_from_slice(&view[..bytes.len()]);
        drop(view);
        stage.unmap();
        self.waits.latest_wait = waited;
        self.counters.bytes_read += count;
        Ok(())
    }
}

/// Waits until `done` is set by a callback of the device, or the interrupt. (A wait with a time limit would do, were it not that
/// wgpu panics where two threads wait and one's time is over: so the device is asked, ever more rarely.)
///
/// # Errors
/// [`Error::Interrupted`] if that was set: the device goes on. [`Error::Device`] if it was lost.
fn wait_until(context: &Context, done: &AtomicBool, interrupt: &Interrupt) -> Result<()> {
    let start = Instant::now();
    loop {
        context.poll(wgpu::PollType::Poll)?;
        if done.load(Ordering::Acquire) {
            return Ok(());
        }
        if interrupt.is_set() {
            return Err(Error::Interrupted);
        }
        // It is noticed late by a small part of what it took.
        std::thread::sleep((start.elapsed() / 32).clamp(SHORTEST_PAUSE, LONGEST_PAUSE));
    }
}
