//! What kinds of GPUs there are.

/// What kind of machine a GPU is, in the order in which they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum GpuKind {
    /// With memory of its own.
    Discrete,
    /// It shares the CPU's memory.
    Integrated,
    /// A part of a GPU, in a virtual machine.
    Virtual,
    /// The driver does not tell.
    Unknown,
    /// A program that computes on the CPU: right, and slow. It is only taken when asked for by name.
    Software,
}

impl std::fmt::Display for GpuKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Discrete => "discrete GPU",
            Self::Integrated => "integrated GPU",
            Self::Virtual => "virtual GPU",
            Self::Unknown => "GPU",
            Self::Software => "software GPU",
        })
    }
}
