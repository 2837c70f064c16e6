//! Any model that opens, written as one GGUF file: linear layers in an encoding of choice, trit for trit, or refused.
//!
//! ```no_run
//! use sterna::convert::{ConvertOptions, convert};
//! use sterna::format::encodings::Encoding;
//! use std::ops::ControlFlow;
//!
//! let model = sterna::Model::open("Ternary-Bonsai-1.7B-mlx-2bit")?;
//! let options = ConvertOptions::new(Encoding::Q2_0);
//! let report = convert(&model, "bonsai-q2_0.gguf", &options, &mut |_| ControlFlow::Continue(()))?;
//! println!("{} bytes", report.expect("nobody stopped it").file_bytes);
//! # Ok::<(), sterna::Error>(())
//! ```
//!
//! Trits are never changed. What a scale covers differs between encodings (the tensor in I2_S, 256 columns in TQ1_0 and
//! TQ2_0, 64 in Q2_0), so that some models do not fit some encodings: `fit` decides. The file appears at its path all
//! at once, after it was read back and compared with the model, or not at all.

mod fit;
mod keys;
mod output;
mod table;
mod verify;

use std::fs::File;
use std::io::BufWriter;
use std::ops::ControlFlow;
use std::path::Path;

use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::format::encodings::{Encoding, float};
use crate::format::gguf::{Layout, TensorPlan, Value};
use crate::format::{Contents, Counts, Ternary, Values, Weights};
use crate::model::{Model, Part, Role};
use output::Output;
use table::Table;

/// The encodings that linear layers are written in.
pub const LINEAR: &[Encoding] = &[Encoding::I2S, Encoding::Tq1_0, Encoding::Tq2_0, Encoding::Q2_0];
/// The encodings that embedding and head are written in where one is asked for.
pub const EMBEDDINGS: &[Encoding] = &[Encoding::F16, Encoding::Bf16, Encoding::F32, Encoding::Q8_0, Encoding::Q6K];

/// What to write, and what to put up with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvertOptions {
    /// The encoding of linear layers: one of [`LINEAR`].
    pub linear: Encoding,
    /// The encoding of embedding and head: one of [`EMBEDDINGS`], into which they are rounded. None keeps every value: trits
    /// where the linear layers' encoding holds them, f16 where it is exact, and otherwise what the model has.
    pub embeddings: Option<Encoding>,
    /// Where the encoding has fewer scales than the model, replaces those under one by their mean, instead of refusing; and
    /// puts up with a tokenizer that GGUF keys cannot describe to the last id.
    pub lossy: bool,
    /// Whether a file that is there already is replaced.
    pub overwrite: bool,
    /// Whether the file is read back and compared before it appears at its path.
    pub verify: bool,
}

impl ConvertOptions {
    /// Without loss, over no other file, and verified.
    pub fn new(linear: Encoding) -> Self {
        Self { linear, embeddings: None, lossy: false, overwrite: false, verify: true }
    }
}

/// How far a conversion is; it begins with none done of each stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// What is done at present.
    pub stage: Stage,
    /// Tensors behind us.
    pub done: usize,
    /// Tensors in all.
    pub total: usize,
}

/// The two passes over the tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Tensors are read, encoded and written.
    Writing,
    /// They are read back and compared.
    Verifying,
}

/// What a conversion did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Tensors in it.
    pub tensors: usize,
    /// Weights in linear layers.
    pub linear_weights: u64,
    /// Their bytes.
    pub linear_bytes: u64,
    /// The largest change of a weight of a linear layer, relative to it; 0 where every weight is exact. Up to 2⁻¹¹ it is
    /// what rounding a scale to f16 does.
    pub largest_error: f32,
    /// How many trits of the linear layers are −1, 0 and +1.
    pub trits: [u64; 3],
    /// Linear layers in which every weight is 0: they were converted, but training leaves none.
    pub zero_layers: Vec<Role>,
    /// Whether the file was read back and compared.
    pub is_verified: bool,
    /// What is other than in the model's own file, and why.
    pub changes: Vec<Decision>,
}

/// Writes `model` as a GGUF file at `path`, or where that leads if it is a link. `progress` is told of each tensor, and may stop the work; then nothing is left,
/// and the result is none.
///
/// # Errors
/// [`Error::Input`] or [`Error::Unsupported`], naming the first tensor and the reason, where the encoding cannot hold the
/// model or a GGUF file cannot describe it; [`Error::Io`] from the file, or if something is at `path` that is no regular file;
/// [`Error::Model`] or [`Error::Malformed`] if the
/// model's own weights are damaged, or the written file does not hold what it should. Nothing is left at `path` then,
/// except what was there before.
pub fn convert(
    model: &Model,
    path: impl AsRef<Path>,
    options: &ConvertOptions,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Option<Report>> {
    let (path, model) = (path.as_ref(), &model.with_all_rows());
    options.check(path)?;
    // Before the work, which would be in vain where nothing can be written.
    let output = Output::beside(path).map_err(|cause| Error::io(path, cause))?;
    let (metadata, mut changes) = keys::metadata(model, options)?;
    let conversion = Conversion { model, options, roles: model.roles(), permutes: keys::permutes(model, &metadata) };
    let tables = conversion.tables(&mut changes)?;
    conversion.check_shapes()?;
    let plans = conversion.plans(&tables)?;
    let layout = Layout::new(&metadata, &plans)?;

    let Some(read) = conversion.write(&layout, output.file(), path, &tables, progress)? else {
        return Ok(None);
    };
    if options.verify && verify::verify(&conversion, output.path(), &metadata, &tables, progress)?.is_break() {
        return Ok(None);
    }
    output.give_name(options.overwrite).map_err(|cause| match cause.kind() {
        std::io::ErrorKind::AlreadyExists => exists(path),
        _ => Error::io(path, cause),
    })?;

    conversion.tell(&mut changes, &read);
    let linear = || plans.iter().zip(&conversion.roles).filter(|(_, role)| role.is_linear()).map(|(plan, _)| plan);
    let bytes = |plan: &TensorPlan| plan.encoding.size(plan.rows, plan.cols).unwrap_or(0) as u64;
    Ok(Some(Report {
        file_bytes: layout.file_bytes(),
        tensors: plans.len(),
        linear_weights: linear().map(|plan| plan.rows as u64 * plan.cols as u64).sum(),
        linear_bytes: linear().map(bytes).sum(),
        largest_error: read.largest_error,
        trits: read.trits,
        zero_layers: read.zero_layers,
        is_verified: options.verify,
        changes,
    }))
}

impl ConvertOptions {
    fn check(&self, path: &Path) -> Result<()> {
        let list = |all: &[Encoding]| all.iter().map(|encoding| encoding.name()).collect::<Vec<_>>().join(", ");
        if !LINEAR.contains(&self.linear) {
            return Err(Error::Input(format!("linear layers are written in {}, not {}", list(LINEAR), self.linear)));
        }
        if let Some(tables) = self.embeddings.filter(|tables| !EMBEDDINGS.contains(tables)) {
            return Err(Error::Input(format!("embedding and head are written in {}, not {tables}", list(EMBEDDINGS))));
        }
        if !self.overwrite && path.exists() {
            return Err(exists(path));
        }
        Ok(())
    }
}

fn exists(path: &Path) -> Error {
    Error::Input(format!("{} is there already: choose another name, or ask for it to be replaced", path.display()))
}

/// What was seen of the model while it was written.
#[derive(Default)]
struct Seen {
    /// The largest relative change of a linear weight.
    largest_error: f32,
    trits: [u64; 3],
    zero_layers: Vec<Role>,
}

/// A model on its way into a file.
struct Conversion<'a> {
    model: &'a Model,
    options: &'a ConvertOptions,
    roles: Vec<Role>,
    /// Whether query and key rows are brought from the order of halves to that of pairs.
    permutes: bool,
}

impl Conversion<'_> {
    /// What embedding and head become, by role.
    fn tables(&self, changes: &mut Vec<Decision>) -> Result<Vec<(Role, Table)>> {
        let mut tables = Vec::new();
        for role in self.roles.iter().copied().filter(|role| matches!(role, Role::Embedding | Role::Head)) {
            let table = Table::choose(self.model, role, self.options).map_err(|error| named(role, error))?;
            changes.push(table.decision.clone());
            tables.push((role, table));
        }
        Ok(tables)
    }

    /// Whether all linear layers are whole blocks: of that, no loss helps.
    fn check_shapes(&self) -> Result<()> {
        let encoding = self.options.linear;
        for &role in self.roles.iter().filter(|role| role.is_linear()) {
            let (rows, cols) = role.shape(self.model.config());
            if let Err(error) = encoding.encoded_size(rows, cols) {
                let others: Vec<_> = LINEAR.iter().filter(|other| other.encoded_size(rows, cols).is_ok()).collect();
                let names = others.iter().map(|other| other.name()).collect::<Vec<_>>().join(" or ");
                let way = if others.is_empty() { "no encoding here does otherwise".into() } else { names + " may do" };
                return Err(named(role, Error::Input(format!("{error}; {way}"))));
            }
        }
        Ok(())
    }

    fn plans(&self, tables: &[(Role, Table)]) -> Result<Vec<TensorPlan>> {
        let plan = |role: &Role| {
            let (rows, cols) = role.shape(self.model.config());
            let table = tables.iter().find(|(place, _)| place == role);
            let encoding = match table {
                Some((_, table)) => table.encoding,
                None if role.is_linear() => self.options.linear,
                None => self.float_encoding(role)?,
            };
            let matrices = role.matrices(self.model.config());
            Ok(TensorPlan { name: role.gguf_name(), rows, cols, matrices, encoding })
        };
        self.roles.iter().map(plan).collect()
    }

    /// Writes all tensors, and returns what was seen of them; none if it was stopped.
    fn write(
        &self,
        layout: &Layout,
        file: &File,
        path: &Path,
        tables: &[(Role, Table)],
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<Seen>> {
        let failed = |cause| Error::io(path, cause);
        let mut writer = layout.write(BufWriter::new(file)).map_err(failed)?;
        let mut seen = Seen::default();
        let total = self.roles.len();
        for (done, &role) in self.roles.iter().enumerate() {
            if progress(Progress { stage: Stage::Writing, done, total }).is_break() {
                return Ok(None);
            }
            let bytes = match tables.iter().find(|(place, _)| *place == role) {
                Some((_, table)) => {
                    self.look(role, &self.model.required(role)?, &mut seen)?;
                    table.bytes(self.model, role).map_err(|error| named(role, error))?
                }
                None if role.is_linear() => {
                    let (ternary, error) = self.linear(role)?;
                    seen.largest_error = seen.largest_error.max(error);
                    let weights = Weights::Ternary(ternary);
                    self.look(role, &weights, &mut seen)?;
                    self.options.linear.encode(&weights).map_err(|error| named(role, error))?.into()
                }
                None => match self.float_encoding(&role)? {
                    Encoding::F32 => float::encode_f32(&self.vector(role)?).into(),
                    encoding => {
                        encoding.encode(&self.model.required(role)?).map_err(|error| named(role, error))?.into()
                    }
                },
            };
            writer.tensor(&bytes).map_err(failed)?;
        }
        writer.finish().map_err(failed)?.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
        Ok(Some(seen))
    }

    /// Counts the values of a tensor. What no model can have is refused, and not copied.
    fn look(&self, role: Role, weights: &Weights, seen: &mut Seen) -> Result<()> {
        let Some(contents) = Contents::of(weights, &mut |_| ControlFlow::Continue(())) else { return Ok(()) };
        if let Some(error) = self.model.refusal(role, &contents) {
            return Err(error);
        }
        if let Counts::Trits { trits, .. } = contents.values
            && role.is_linear()
        {
            seen.trits.iter_mut().zip(trits).for_each(|(sum, count)| *sum += count);
            if contents.is_zero() {
                seen.zero_layers.push(role);
            }
        }
        Ok(())
    }

    /// A linear layer as it is to be written, and the largest relative change of a weight.
    fn linear(&self, role: Role) -> Result<(Ternary, f32)> {
        let Weights::Ternary(mut ternary) = self.model.required(role)? else {
            return Err(named(role, Error::Unsupported("a linear layer that is not ternary".into())));
        };
        if self.permutes && matches!(role, Role::Layer(_, Part::Query | Part::Key)) {
            ternary = ternary.reordered(&keys::pair_order(ternary.rows(), self.model.config().heads.head_dim));
        }
        fit::fit(ternary, self.options.linear, self.options.lossy).map_err(|error| named(role, error))
    }

    /// How floats are written: norms and divisors as readers want them, matrices as the model has them.
    fn float_encoding(&self, role: &Role) -> Result<Encoding> {
        if !role.is_dense() {
            return Ok(Encoding::F32);
        }
        Ok(match self.model.required(*role)? {
            Weights::Dense(dense) => match dense.values() {
                Values::F16(_) => Encoding::F16,
                Values::Bf16(_) => Encoding::Bf16,
                _ => Encoding::F32,
            },
            Weights::Ternary(_) => Encoding::F32,
        })
    }

    /// The gain of a norm, other floats of a layer, or divisors of rotary frequencies.
    fn vector(&self, role: Role) -> Result<Vec<f32>> {
        Ok(self.model.floats(role)?.expect("the role is one that the model has"))
    }

    fn tell(&self, changes: &mut Vec<Decision>, seen: &Seen) {
        let (choice, why) = match seen.largest_error {
            0.0 => ("every weight exact".to_owned(), "each scale has its place"),
            error if error <= fit::HALF => {
                (format!("every trit exact, scales within {:.3} %", error * 100.0), "the encoding's scales are f16")
            }
            error => (format!("every trit exact, weights within {:.2} %", error * 100.0), "lossy: scales were joined"),
        };
        let all = seen.trits.iter().sum::<u64>() as f64;
        let [negative, zero, positive] = seen.trits.map(|count| format!("{:.1} %", count as f64 * 100.0 / all));
        let shares = format!("{negative} are -1, {zero} are 0, {positive} are +1");
        changes.push(Decision::new("trits", shares, "as the model has them"));
        if !seen.zero_layers.is_empty() {
            let names: Vec<String> = seen.zero_layers.iter().map(|role| role.gguf_name()).collect();
            let count = if names.len() == 1 { "1 is".into() } else { format!("{} are", names.len()) };
            let choice = format!("of the linear layers {count} all zero: {}", names.join(", "));
            let why = "every weight of them is 0 in the model, which training does not leave: is its file whole?";
            changes.push(Decision::new("weights", choice, why));
        }
        changes.insert(0, Decision::new("linear layers", format!("{}, {choice}", self.options.linear), why));
    }
}

/// Puts the tensor's name in front of an error.
fn named(role: Role, error: Error) -> Error {
    let place = |text: String| format!("tensor \"{}\": {text}", role.gguf_name());
    match error {
        Error::Input(text) => Error::Input(place(text)),
        Error::Unsupported(text) => Error::Unsupported(place(text)),
        Error::Model(text) => Error::Model(place(text)),
        other => other,
    }
}

/// The keys of a file, in their order.
type Pairs = Vec<(String, Value)>;
