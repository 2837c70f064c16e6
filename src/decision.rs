//! What loading a model decided where the file left a choice. Nothing falls back silently: each such choice is kept
//! with its reason, so that `inspect` can print it.

/// A choice that loading took, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decision {
    /// What was decided about, such as "pre-tokenizer".
    pub subject: &'static str,
    /// What was chosen.
    pub choice: String,
    /// Why: the key of the file that says so, or what stood in for it.
    pub reason: String,
}

impl Decision {
    pub(crate) fn new(subject: &'static str, choice: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { subject, choice: choice.into(), reason: reason.into() }
    }

    /// The same decision, after logging it as a warning: for choices that a sound file would not have needed.
    pub(crate) fn warned(self) -> Self {
        log::warn!("{self}");
        self
    }
}

impl std::fmt::Display for Decision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} ({})", self.subject, self.choice, self.reason)
    }
}
