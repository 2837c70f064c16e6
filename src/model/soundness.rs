//! Whether bytes that are there mean anything. When a model is opened, its norms are read and its matrices are looked at in a
//! few places, which takes as long for a large file as for a small one; what looks empty is read. [`Model::check`] decodes all
//! that loading decodes, and [`Model::examine`] counts every value.

use std::ops::ControlFlow;

use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::format::encodings::Suspicion;
use crate::format::ternary::MAX_COLS;
use crate::format::{Contents, Counts, Weights};
use crate::model::{Model, Role};

/// What reading a whole tensor found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Examined {
    /// What the file calls the tensor.
    pub name: String,
    /// What its values are.
    pub contents: Contents,
    /// Why the model cannot be run with it.
    pub refusal: Option<Error>,
    /// Why it is not what training leaves, though the model can be run.
    pub suspicion: Option<String>,
}

/// A run of zero bytes that is told.
const BLANK_BYTES: usize = 1 << 10;

impl Model {
    /// Refuses norms, embeddings and heads of zeros, and tells of matrices that hold nothing.
    pub(super) fn vetted(mut self) -> Result<Self> {
        let mut empty = Listed::default();
        let mut blank = Listed::default();
        for role in self.roles() {
            let name = || self.weights.name(role);
            match role {
                Role::Embedding | Role::Head => {
                    if let Some(what) = self.vet_table(role)? {
                        blank.add(|| format!("{}: {what}", name()));
                    }
                }
                _ if role.is_linear() => match self.weights.suspect(role, role.shape(&self.config).0)? {
                    Some(Suspicion::Empty) if self.is_zero(role)? => empty.add(name),
                    Some(_) => {
                        if let Some(bytes) = self.weights.blank_bytes(role)? {
                            blank.add(|| format!("{}: {bytes} in a row", name()));
                        }
                    }
                    None => {}
                },
                // Divisors of rotations were checked when they were applied.
                Role::RopeFactors | Role::ShortRopeFactors | Role::LongRopeFactors => {}
                // They are read when they are loaded, as other matrices are.
                _ if role.is_dense() => {}
                Role::OutputNorm | Role::Layer(..) => {
                    let gain = self.floats(role)?.unwrap_or_default();
                    let zeros = gain.iter().filter(|value| **value == 0.0).count();
                    if role.is_gain() && 2 * zeros > gain.len() {
                        blank.add(|| format!("{}: {zeros} of {} gains", name(), gain.len()));
                    }
                }
            }
        }
        let why = "all trits or all scales of a matrix are 0, which training does not leave: look for another copy of the file";
        let matrices =
            |count: usize| if count == 1 { "1 matrix is".to_owned() } else { format!("{count} matrices are") };
        let told = empty
            .text()
            .map(|text| Decision::new("weights", format!("{} all zero: {text}", matrices(empty.count)), why).warned());
        self.decisions.extend(told);
        let why = "a download that stopped leaves such bytes: compare the file with its source; inspect --verify reads all of it";
        self.decisions.extend(blank.text().map(|text| Decision::new("zero bytes", text, why).warned()));
        Ok(self)
    }

    /// The table of a token's features or of logits: refused if it is zero, and told if its last rows are.
    fn vet_table(&self, role: Role) -> Result<Option<String>> {
        // Rows that no token has are padding.
        let rows = self.config.vocabulary;
        let tokens = self.tokenizer.as_ref().map_or(rows, |tokenizer| tokenizer.vocabulary_size());
        let is_unused = role == Role::Head && self.config.pooling.is_some();
        if is_unused || self.weights.suspect(role, tokens)?.is_none() {
            return Ok(None);
        }
        let Some(contents) = self.whole_contents(role)? else { return Ok(None) };
        if contents.is_zero() {
            return Err(self.all_zero(role, "every value is 0"));
        }
        let zero = contents.zero_rows.saturating_sub((rows - tokens) as u64);
        Ok((16 * zero > contents.rows).then(|| format!("{zero} of {rows} rows")))
    }

    fn is_zero(&self, role: Role) -> Result<bool> {
        Ok(self.whole_contents(role)?.is_some_and(|contents| contents.is_zero()))
    }

    /// What is in a tensor, if it can be decoded.
    fn whole_contents(&self, role: Role) -> Result<Option<Contents>> {
        let Some(weights) = told_when_loaded(self.required(role))? else { return Ok(None) };
        Ok(Contents::of(&weights, &mut |_| ControlFlow::Continue(())))
    }

    /// The error for a tensor of zeros without which there is no model.
    pub(super) fn all_zero(&self, role: Role, what: &str) -> Error {
        let hint = match self.weights.zero_tail() {
            bytes if bytes >= BLANK_BYTES => {
                format!("; the last {bytes} bytes of the file are zero, as a download that stopped leaves them")
            }
            _ => "; look for another copy of the file".into(),
        };
        Error::Malformed(format!("tensor \"{}\": {what}, so this cannot be a model{hint}", self.weights.name(role)))
    }

    /// Decodes all that loading decodes, and drops it: what [`Model::load`] refuses on every device, this refuses with the same
    /// error. `progress` is told the number of tensors done, and of all.
    ///
    /// # Errors
    /// As [`Model::load`], but those of devices.
    pub fn check(&self, progress: &mut dyn FnMut(usize, usize)) -> Result<()> {
        let roles = self.roles();
        for (done, role) in roles.iter().enumerate() {
            progress(done, roles.len());
            if role.may_be_ternary() {
                let weights = self.required(*role)?;
                if weights.cols() > MAX_COLS {
                    return Err(Error::Unsupported(format!(
                        "rows of {} weights; the most is {MAX_COLS}",
                        weights.cols()
                    )));
                }
            } else {
                self.floats(*role)?;
            }
        }
        progress(roles.len(), roles.len());
        Ok(())
    }

    /// Reads a whole tensor and counts what is in it. `go_on` is told how many more values were counted, some times a second, and
    /// may stop the work; then there is no result.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::Unsupported`] or [`Error::Model`] if it cannot be decoded, or if there is no such tensor.
    pub fn examine(&self, role: Role, go_on: &mut dyn FnMut(u64) -> ControlFlow<()>) -> Result<Option<Examined>> {
        let weights = self.required(role)?;
        let Some(contents) = Contents::of(&weights, go_on) else { return Ok(None) };
        let refusal = self.refusal(role, &contents);
        let suspicion = if refusal.is_none() { suspicion(role, &weights, &contents) } else { None };
        Ok(Some(Examined { name: self.weights.name(role), contents, refusal, suspicion }))
    }

    /// Why a model cannot have a tensor of these values.
    pub(crate) fn refusal(&self, role: Role, contents: &Contents) -> Option<Error> {
        let name = self.weights.name(role);
        let malformed = |what: String| Some(Error::Malformed(format!("tensor \"{name}\": {what}")));
        match contents.values {
            Counts::Trits { wrong, .. } if wrong > 0 => malformed(format!("{wrong} codes are 3, which is no trit")),
            Counts::Floats { count, not_finite, .. } if not_finite > 0 => {
                malformed(format!("{not_finite} of {count} values are not finite"))
            }
            _ if role.is_linear() || !contents.is_zero() || matches!(role, Role::Layer(_, part) if !part.is_gain()) => {
                None
            }
            _ if role == Role::Head && self.config.pooling.is_some() => None,
            _ => Some(self.all_zero(role, "every value is 0")),
        }
    }
}

/// Why training leaves no such tensor.
fn suspicion(role: Role, weights: &Weights, contents: &Contents) -> Option<String> {
    let Contents { rows, uniform_rows, zero_rows, .. } = *contents;
    if role.is_linear() {
        return match () {
            () if contents.is_zero() => Some("all weights are zero".into()),
            () if uniform_rows > zero_rows => Some(format!("{uniform_rows} of {rows} rows hold one value alone")),
            () if 8 * zero_rows > rows => Some(format!("{zero_rows} of {rows} rows are zero")),
            () => None,
        };
    }
    if role.may_be_ternary() {
        return (2 * zero_rows > rows).then(|| format!("{zero_rows} of {rows} rows are zero"));
    }
    match contents.values {
        Counts::Floats { count, zero, .. } if 2 * zero > count => {
            Some(format!("{zero} of {} gains are zero", weights.cols()))
        }
        _ => None,
    }
}

/// Names, the first of them kept: there may be as many as a file has tensors.
#[derive(Default)]
struct Listed {
    count: usize,
    shown: Vec<String>,
}

impl Listed {
    fn add(&mut self, name: impl FnOnce() -> String) {
        const SHOWN: usize = 6;
        self.count += 1;
        if self.shown.len() < SHOWN {
            self.shown.push(name());
        }
    }

    fn text(&self) -> Option<String> {
        let more = self.count - self.shown.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        (self.count > 0).then(|| self.shown.join(", ") + &more)
    }
}

/// The longest run of bytes of 0 in a tensor, where it is too long for weights: four trits −1 in each byte of codes, and of
/// floats many rows of zeros.
pub(super) fn blank(bytes: &[u8], is_ternary: bool) -> Option<usize> {
    const STEP: usize = 256;
    let least = if is_ternary { BLANK_BYTES } else { BLANK_BYTES.max(bytes.len() / 16) };
    // Runs are looked for where a whole step of bytes is zero.
    let (mut longest, mut run) = (0, 0);
    for step in bytes.chunks(STEP) {
        run = if step.iter().all(|&byte| byte == 0) { run + step.len() } else { 0 };
        longest = longest.max(run);
    }
    (longest >= least).then_some(longest)
}

/// An outcome that opening can do without, as loading tells what is wrong; but a file that cannot be read is never a sound one.
///
/// # Errors
/// [`Error::Io`] alone.
pub(super) fn told_when_loaded<T>(outcome: Result<T>) -> Result<Option<T>> {
    match outcome {
        Err(error @ Error::Io { .. }) => Err(error),
        outcome => Ok(outcome.ok()),
    }
}
