//! When the copy is made: not while a model loads, where the first token would wait for it, but at the second step that looks for the
//! best tokens. What hidden vectors are like is known by then. Until it is there, all logits are computed.

use std::sync::OnceLock;

use log::warn;
use parking_lot::Mutex;

use super::{Screen, Size};
use crate::cpu::HugePages;
use crate::cpu::kernels::Kernels;
use crate::cpu::workers::Workers;
use crate::format::Dense;

/// Hidden vectors that are kept to learn what they are like.
const SEEN: usize = 16;

/// A copy that is there, or will be.
#[derive(Debug)]
pub(crate) struct Growth {
    size: Size,
    screen: OnceLock<Screen>,
    stage: Mutex<Stage>,
}

#[derive(Debug)]
enum Stage {
    /// Hidden vectors of one step, or none yet: `[at most SEEN, cols]`.
    Looking(Vec<f32>),
    /// It was made, or there is no memory for it.
    Over,
}

impl Growth {
    pub(crate) fn new(head: &Dense) -> Self {
        Self { size: Size::of(head), screen: OnceLock::new(), stage: Mutex::new(Stage::Looking(Vec::new())) }
    }

    pub(crate) fn size(&self) -> Size {
        self.size
    }

    /// Bytes of the copy and what stands beside it, once it is there.
    pub(crate) fn bytes(&self) -> u64 {
        self.size.bytes() as u64
    }

    /// The copy, if it is there, or can be made now. `hidden: [_, cols]` are hidden vectors of this step.
    pub(crate) fn screen(
        &self,
        head: &Dense,
        hidden: &[f32],
        kernels: &dyn Kernels,
        workers: &Workers,
        huge_pages: HugePages,
    ) -> Option<&Screen> {
        if let Some(screen) = self.screen.get() {
            return Some(screen);
        }
        // Where another session is at it, this one goes on without.
        let mut stage = self.stage.try_lock()?;
        let Stage::Looking(seen) = &mut *stage else { return self.screen.get() };
        let is_first = seen.is_empty();
        let cols = self.size.cols;
        let numbers = hidden.chunks_exact(cols).filter(|x| x.iter().all(|v| v.is_finite()));
        seen.extend(numbers.take(SEEN - seen.len() / cols).flatten());
        if is_first {
            return None;
        }
        match Screen::new(head, seen, kernels, workers, huge_pages) {
            Ok(Some(screen)) => {
                let _ = self.screen.set(screen); // nobody else sets it, as the stage is locked
                *stage = Stage::Over;
            }
            // It was interrupted; the next step tries again.
            Ok(None) => {}
            Err(e) => {
                warn!("the head is read whole at every token, and not from huge pages, as there is no screen: {e}");
                *stage = Stage::Over;
            }
        }
        self.screen.get()
    }
}
