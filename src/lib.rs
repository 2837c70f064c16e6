//! Sterna runs ternary language models — 1.58 bits a weight, as in BitNet b1.58 — from their published files.
//!
//! ```
//! use sterna::{Device, GenerateOptions, Model, Session, SessionOptions};
//!
//! let model = Model::open("models/tales-4m-i2_s.gguf")?;
//! let mut session = Session::new(&model, &Device::cpu(), &SessionOptions::default())?;
//! let options = GenerateOptions { max_tokens: 20, ..GenerateOptions::default() };
//! for text in session.generate("Once upon a time", &options)? {
//!     print!("{}", text?);
//! }
//! # Ok::<(), sterna::Error>(())
//! ```
//!
//! # A tour
//!
//! All ternary language models are one small family of transformers, and all their files hold the same information: trits
//! and scales. So there is one form of weights, one forward pass, and a short list of verbs that a device implements.
//!
//! * [`Model`] is an opened file: its config, its tokenizer, its weights by role, and the decisions that loading took.
//!   Weights stay in the map of the file until a device takes them, or in memory where they were read ([`Model::from_bytes`],
//!   [`OpenOptions::map`](model::OpenOptions::map)).
//! * [`Loaded`] is a model whose weights are on a [`Device`]: once, for any number of sessions on any threads.
//! * [`Session`] runs sequences on it. They [join](Session::join) and [leave](Session::leave) at any time, and each
//!   [step](Session::step) makes a token of every one of them, or some, while prompts are read in pieces; what they begin with alike is
//!   computed once. Iterators over a text, over ids or over a batch are short loops over that. [`Session::new`] is the short way
//!   to a model with one session.
//! * [`Sampler`](generate::Sampler) draws tokens; [`Sampling`] has the one that is built in.
//! * [`mod@format`] reads containers and decodes every encoding to [`Ternary`](crate::format::Ternary) or
//!   [`Dense`](crate::format::Dense).
//! * [`mod@convert`] writes any model that opens as one GGUF file, trit for trit.
//! * [`Backend`](crate::backend::Backend) is the seam: the verbs of the forward pass
//!   ([`transformer`]). [`cpu`] implements them fast, [`mod@reference`]
//!   plainly: it is their definition.
//! * `chat` (a feature) makes prompts of conversations and answers of what comes out; with the feature `constrain`, answers are held to a form.
//! * [`tokenizer`] turns text into ids and back; [`measure`] says what a run took.
//!
//! # Exactness
//!
//! Activations are quantised to int8 a token and multiplied with trits: the sums are integers, and every kernel on every
//! machine gives the same ones. Only what is added in floats (norms, attention, the head) may differ between kernels, in
//! the last bits. With one kind of kernel, a result never depends on the number of threads, the size of the steps or the
//! company in a batch, bit for bit; on a GPU but for scales by groups of columns and for attention by cooperative matrices, where
//! few rows and many may differ in the last bits.
//!
//! # Safety
//!
//! Model files are untrusted. Every size, count, offset and string is checked before it is used; a damaged or hostile file
//! gives an [`Error`], not a panic. The file must not be changed by others while a [`Model`] maps it.
//!
//! # In a browser
//!
//! On `wasm32-unknown-unknown` there are no threads, and nothing may block. On the CPU everything works as elsewhere, on one thread; on
//! the GPU, by WebGPU, what waits has to be awaited: [`Model::load_async`], [`Loaded::session_async`] and [`Session::step_async`] are the forms
//! for that. [`Model::from_ranges`] reads a file piece by piece. `web/` in the repository is a page made of this.
//!
//! # Stability
//!
//! What programs need is re-exported here, and in [`generate`], [`model`], [`device`], [`mod@convert`], [`tokenizer`] and
//! [`measure`]. The modules [`backend`], [`transformer`], [`mod@reference`], [`cpu`] and [`gpu`] are for backends of your own and for
//! tests: a new verb may break them in a minor version. Enums and structs that grow are `#[non_exhaustive]`; options are made with
//! `..Default::default()`, as they grow too.
//!
//! # Features
//!
//! * `gpu` (on by default): the GPU as a device. It brings the crate `wgpu`, with its compiler of shaders, which is half of a
//!   build. Without it, [`Device::all`] lists the CPU alone, and asking for a GPU is an error that names the feature.
//! * `text` (on by default): text to token ids for vocabularies with merges, which all recent families have. It brings the
//!   crate `tokenizers` and what that needs. Without it, every model opens and runs as with it, ids become text, and a
//!   generation ends where the model ends it; but prompts must be ids, and [`mod@convert`] refuses such models: what would make
//!   ids of text is an error that names the feature. Nothing in the interface depends on it.
//! * `chat` (on by default): the module `chat`, which renders conversations and takes answers apart. It brings the crate `minijinja`.
//! * `constrain` (off by default): the module `constrain`, which holds answers to JSON, to a JSON schema or to a call of a tool. It brings
//!   the crate `llguidance`.
//! * `relaxed-simd` (off by default): on WebAssembly, kernels with the dot products of relaxed SIMD. A module of them loads only where the
//!   browser has those. Elsewhere it means nothing.
//! * `serve` (off by default): for the example of that name alone. It brings an HTTP server.
//! * `shader-tests` (off by default): for this crate's own tests. It brings what translates shaders for every graphics interface.

#![warn(missing_docs)]

mod allocation;
pub mod backend;
#[cfg(feature = "chat")]
pub mod chat;
#[cfg(feature = "constrain")]
pub mod constrain;
pub mod convert;
pub mod cpu;
mod decision;
pub mod device;
mod engine;
mod error;
pub mod format;
pub mod generate;
#[cfg(feature = "gpu")]
pub mod gpu;
#[cfg(not(feature = "gpu"))]
#[path = "gpu/absent.rs"]
pub mod gpu;
mod interrupt;
mod loaded;
pub mod measure;
pub mod model;
mod ranking;
pub mod reference;
mod threads;
mod time;
pub mod tokenizer;
pub mod transformer;
mod waiting;

pub use decision::Decision;
pub use device::Device;
pub use error::{DeviceError, DeviceErrorKind, Error, Result};
pub use generate::{GenerateOptions, Prompt, Sampling, Session, SessionOptions, StepBudget};
pub use interrupt::Interrupt;
pub use loaded::Loaded;
pub use model::Model;

/// Compiles the README's code.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
