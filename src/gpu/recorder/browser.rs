//! Reading what the GPU of a browser made. A page must not block, and nothing arrives while it does: so what is to be read is asked
//! for first, by functions that are polled, and the reads themselves find it there. A wait is never broken off: an interrupt is
//! heeded when the step is done.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};

use crate::error::{Error, Result};
use crate::gpu::buffers::Buffer;
use crate::gpu::context::lock;
use crate::gpu::recorder::{Recorder, Staged};
use crate::interrupt::Interrupt;
use crate::waiting::cannot_wait;

/// What was asked for.
#[derive(Debug, Default)]
pub(super) struct Waits {
    maps: HashMap<u64, Signal>, // of mappable buffers, by the buffer they are for
    sent: Option<Signal>,       // for all that was sent
}

/// Is set by the browser, whether what was waited for succeeded or failed, and wakes who waits.
#[derive(Clone, Debug, Default)]
struct Signal(Arc<(AtomicBool, Mutex<Option<Waker>>)>);

impl Signal {
    fn set(&self) {
        self.0.0.store(true, Ordering::Release);
        if let Some(waker) = lock(&self.0.1).take() {
            waker.wake();
        }
    }

    fn is_set(&self) -> bool {
        self.0.0.load(Ordering::Acquire)
    }

    fn poll(&self, context: &Context<'_>) -> Poll<()> {
        if self.is_set() {
            return Poll::Ready(());
        }
        *lock(&self.0.1) = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Waits {
    /// All that was recorded is on its way.
    pub(super) fn sent(&mut self, _submit: &wgpu::SubmissionIndex) {
        self.sent = None;
    }

    /// A copy to a mappable buffer was recorded, which must not be mapped then. It is where a step that was sent ahead came to nothing.
    pub(super) fn staged(&mut self, of: u64, stage: &wgpu::Buffer) {
        if self.maps.remove(&of).is_some() {
            stage.unmap();
        }
    }
}

impl Recorder {
    pub(crate) fn heed(&mut self, _interrupt: Option<&Interrupt>) {}

    pub(crate) fn expect(&mut self, rows: usize) {
        self.rows = rows;
    }

    /// Sends what was recorded, and tells when all that was sent is done. What failed is told by the read, or [`Recorder::wait`].
    pub(crate) fn poll_wait(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.submit();
        let device = &self.device.0;
        ready!(device.poll_scopes(context));
        let signal = self.waits.sent.get_or_insert_with(|| {
            let signal = Signal::default();
            let told = signal.clone();
            device.queue.on_submitted_work_done(move || told.set());
            signal
        });
        ready!(signal.poll(context));
        self.waits.sent = None; // what comes next is asked for anew
        Poll::Ready(())
    }

    /// Whether all that was sent went well.
    pub(crate) fn wait(&mut self) -> Result<()> {
        self.fault.take().map_or(Ok(()), Err)?;
        self.device.0.check()
    }

    /// Tells when bytes of a buffer, from an offset on, can be read.
    pub(crate) fn poll_read(&mut self, from: &Buffer, offset: u64, bytes: u64, context: &mut Context<'_>) -> Poll<()> {
        let is_staged = |staged: &Staged| staged.of == from.id && staged.offset == offset && staged.bytes >= bytes;
        if !self.staged.iter().any(is_staged)
            && let Err(fault) = self.stage(from, offset, bytes)
        {
            self.fail(fault);
        }
        self.submit();
        ready!(self.device.0.poll_scopes(context));
        if self.fault.is_some() {
            return Poll::Ready(());
        }
        let staged = self.staged.iter().find(|staged| staged.of == from.id).expect("staged above");
        let stage = &self.stages[&from.id];
        let signal = self.waits.maps.entry(from.id).or_insert_with(|| {
            let signal = Signal::default();
            let told = signal.clone();
            // The outcome of the mapping is known when the view is asked for.
            stage.map_async(wgpu::MapMode::Read, 0..staged.bytes, move |_| told.set());
            signal
        });
        signal.poll(context)
    }

    /// Bytes of a buffer, from an offset on, for which [`Recorder::poll_read`] was asked.
    pub(crate) fn read(&mut self, from: &Buffer, offset: u64, bytes: &mut [u8]) -> Result<()> {
        if let Some(fault) = self.fault.take() {
            self.staged.clear();
            return Err(fault);
        }
        let count = bytes.len() as u64;
        let is_staged = |staged: &Staged| staged.of == from.id && staged.offset == offset && staged.bytes >= count;
        let signal = self.waits.maps.get(&from.id).filter(|signal| signal.is_set());
        if signal.is_none() || !self.staged.iter().any(is_staged) {
            return Err(cannot_wait());
        }
        self.waits.maps.remove(&from.id);
        let stage = &self.stages[&from.id];
        let outcome = self.device.0.check().and_then(|()| {
            let lost = |cause| Error::lost(format!("what was computed cannot be read; load the model again: {cause}"));
            let view = stage.get_mapped_range(0..count.next_multiple_of(4)).map_err(lost)?;
            bytes.copy_from_slice(&view[..bytes.len()]);
            Ok(())
        });
        stage.unmap();
        outcome?;
        self.counters.bytes_read += count;
        Ok(())
    }
}
