//! What a device did: which kernels ran, how often, and what they have to read. A measured speed is only believed beside
//! these counts: they say which verbs ran, for every step. That the verbs compute what they should is shown by the logits.

/// What a device did since it was made, or between two moments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Work {
    /// Steps computed.
    pub steps: u64,
    /// Rows of those steps: one for each token of each sequence that was computed.
    pub rows: u64,
    /// What ran, in no order that means anything.
    pub kernels: Vec<KernelCount>,
}

/// What one kernel did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KernelCount {
    /// The kernel: on a CPU the inner loop (of the kernel set that [`Session::device`](crate::Session::device) names), on a
    /// GPU the file in `shaders/`. A ternary head has counts of its own beside those of the layers.
    pub name: &'static str,
    /// Verbs that it computed on a CPU, dispatches on a GPU.
    pub calls: u64,
    /// What it reads from memory beside activations.
    pub reads: Reads,
    /// Bytes of that which it had to read, all calls together.
    pub bytes: u64,
}

/// What a kernel reads from memory beside activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reads {
    /// Nothing large.
    Nothing,
    /// Ternary weights.
    Trits,
    /// The head, or a copy of it in few bits.
    Head,
    /// Cached keys and values, or the states of recurrent layers.
    Cache,
}

/// What a GPU was asked for, beside arithmetic: the cost of a token that is not computing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GpuCounters {
    /// Shaders run.
    pub dispatches: u64,
    /// Command buffers sent.
    pub submits: u64,
    /// Bind groups made.
    pub bind_groups: u64,
    /// Bytes brought back to the host.
    pub bytes_read: u64,
}

/// What one shader did, over all its runs.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ShaderTime {
    /// The file in `shaders/`.
    pub shader: &'static str,
    /// How often it ran.
    pub runs: u64,
    /// Seconds of the device's clock, all runs together.
    pub seconds: f64,
    /// Bytes of weights and cache that it had to read, all runs together.
    pub bytes: u64,
}

impl GpuCounters {
    /// What was done after an earlier look.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            dispatches: self.dispatches - earlier.dispatches,
            submits: self.submits - earlier.submits,
            bind_groups: self.bind_groups - earlier.bind_groups,
            bytes_read: self.bytes_read - earlier.bytes_read,
        }
    }
}

impl Work {
    /// What was done after `earlier`, which is an earlier state of the same device.
    pub fn since(&self, earlier: &Work) -> Work {
        let before = |now: &KernelCount| {
            earlier.kernels.iter().find(|kernel| (kernel.name, kernel.reads) == (now.name, now.reads))
        };
        let kernels = self.kernels.iter().map(|kernel| {
            let (calls, bytes) = before(kernel).map_or((0, 0), |before| (before.calls, before.bytes));
            KernelCount { calls: kernel.calls - calls, bytes: kernel.bytes - bytes, ..*kernel }
        });
        Work {
            steps: self.steps - earlier.steps,
            rows: self.rows - earlier.rows,
            kernels: kernels.filter(|kernel| kernel.calls > 0).collect(),
        }
    }

    /// Bytes that were read of one kind.
    pub fn bytes(&self, reads: Reads) -> u64 {
        self.kernels.iter().filter(|kernel| kernel.reads == reads).map(|kernel| kernel.bytes).sum()
    }

    /// Calls of the kernels that read one kind.
    pub fn calls(&self, reads: Reads) -> u64 {
        self.kernels.iter().filter(|kernel| kernel.reads == reads).map(|kernel| kernel.calls).sum()
    }

    /// Bytes of weights that were read: trits and head.
    pub fn weight_bytes(&self) -> u64 {
        self.bytes(Reads::Trits) + self.bytes(Reads::Head)
    }

    /// Calls of one kernel.
    pub fn calls_of(&self, name: &str) -> u64 {
        self.kernels.iter().filter(|kernel| kernel.name == name).map(|kernel| kernel.calls).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(name: &'static str, calls: u64, reads: Reads, bytes: u64) -> KernelCount {
        KernelCount { name, calls, reads, bytes }
    }

    #[test]
    fn a_difference_holds_only_what_came_after() {
        let before =
            Work { steps: 1, rows: 5, kernels: vec![count("a", 2, Reads::Trits, 10), count("b", 1, Reads::Head, 4)] };
        let now = Work {
            steps: 3,
            rows: 7,
            kernels: vec![
                count("a", 5, Reads::Trits, 30),
                count("b", 1, Reads::Head, 4),
                count("c", 2, Reads::Cache, 6),
            ],
        };
        let since = now.since(&before);
        assert_eq!((since.steps, since.rows), (2, 2));
        assert_eq!(since.kernels, [count("a", 3, Reads::Trits, 20), count("c", 2, Reads::Cache, 6)]);
        assert_eq!((since.weight_bytes(), since.bytes(Reads::Cache), since.calls(Reads::Head)), (20, 6, 0));
        assert_eq!((since.calls_of("a"), since.calls_of("b")), (3, 0));
    }
}
