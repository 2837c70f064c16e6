//! Answers in a form that is asked for: any JSON object, JSON of a schema, a call of a tool (feature `constrain`).
//!
//! A [`Constrainer`] is made once for a model's tokenizer; it makes a [`Constraint`] of each form that is asked for, and that
//! wraps any [`Sampler`]: before a draw, the logits of all tokens that may not follow become −∞. What is drawn is then a prefix
//! of an answer of that form, whatever the model is. The model's end-of-generation tokens may follow where an answer is whole, and
//! are forced where nothing else may. An answer that [`max_tokens`](crate::GenerateOptions::max_tokens) cuts short ends with
//! [`Finish::MaxTokens`](crate::generate::Finish::MaxTokens), and is not whole.
//!
//! Which tokens may follow is told by the crate `llguidance`, whose grammars run over the bytes of tokens. This module sees to what
//! is asked of it: that a schema says nothing that would not be honoured (`constrain/schema.rs`), and that no schema takes
//! much time or memory (`constrain/compile.rs`).
//!
//! # Schemas
//! JSON Schema, draft 2020-12, and what older drafts write otherwise where it can be told: `definitions`, lists in `items` with
//! `additionalItems`. These keywords are honoured:
//!
//! `type`, `const`, `enum`, `anyOf`, `allOf`, `oneOf` (of options that a type, a constant or a required property tells apart),
//! `$ref` (within the document), `properties`, `required`, `additionalProperties`, `patternProperties`, `minProperties` and
//! `maxProperties` (as far as no count of keys that may be left out follows from them), `items`, `prefixItems`, `additionalItems`,
//! `minItems`, `maxItems`, `minLength`, `maxLength`, `pattern` (without look-around and back-references), `format` (`date-time`, `time`,
//! `date`, `duration`, `email`, `hostname`, `ipv4`, `ipv6`, `uuid`, `uri`), `minimum`, `maximum`, `exclusiveMinimum`,
//! `exclusiveMaximum`, `multipleOf` (numbers up to 2⁵³).
//!
//! Of a date and a time, `format` knows the form: any February may have 29 days, and any minute a second 60.
//!
//! Keywords that only annotate are skipped: `title`, `description`, `default`, `examples`, `example`, `deprecated`, `readOnly`,
//! `writeOnly`, `$comment`, `$anchor`, `contentEncoding`, `contentMediaType`, `discriminator`, `$schema` of a known draft, `$id` of the
//! whole document, and all that begin with `x-`. Any other keyword, and any other format, is an error that names it and its place.
//!
//! Keys of an object come in the order of `properties`. Between the parts of a JSON text there are at most a few spaces or line
//! breaks. Strings are written without `\u` escapes, so that each has one spelling: by another one, a key could be
//! written that a schema has a rule for, past that rule. Numbers of a schema without bounds may have any number of digits.
//!
//! # Limits
//! A schema has at most [`MOST_SCHEMA_BYTES`] as compact JSON, is nested at most [`MOST_NESTING`] deep, and has at most
//! [`MOST_SUBSCHEMAS`] schemas in it and [`MOST_PROPERTIES`] keys in an object. How much work it makes is estimated before it is
//! done, with all that is multiplied out, and bounded: the worst schemas found that pass took 0.8 s to compile for 128 000
//! tokens, on a small and busy machine; an ordinary one takes a few milliseconds. What llguidance spends on grammars, lexers and
//! masks is limited besides. A schema that passes may still turn out to be too much in the midst of an answer, by thousands of
//! lengths or repetitions side by side: that sequence then ends with [`Finish::Failed`](crate::generate::Finish::Failed).

use std::sync::Arc;

use serde_json::{Value, json};

use crate::chat::{Tool, ToolFormat};
use crate::error::Result;
use crate::generate::Sampler;
use crate::tokenizer::Tokenizer;

mod calls;
mod compile;
mod sampler;
mod schema;
mod vocabulary;

pub use schema::{MOST_NESTING, MOST_PROPERTIES, MOST_SCHEMA_BYTES, MOST_SUBSCHEMAS};

use compile::{Compiler, Grammar};
use sampler::Constrained;
use schema::Reader;

/// What all constraints of a model share. Clones are cheap, and share it too.
#[derive(Clone)]
pub struct Constrainer {
    compiler: Arc<Compiler>,
}

impl std::fmt::Debug for Constrainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Constrainer")
    }
}

impl Constrainer {
    /// Sorts the bytes of all tokens into tries: about a second for a vocabulary of 128 000.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) if no token ends a generation, as a constrained one could not end then, or
    /// if the tokens have more than some megabytes together.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self> {
        Ok(Self { compiler: Arc::new(Compiler::new(tokenizer)?) })
    }

    /// Any JSON object.
    ///
    /// # Errors
    /// None that a caller could mend: as [`Constrainer::json_schema`].
    pub fn json_object(&self) -> Result<Constraint> {
        self.json_schema(&json!({ "type": "object" }))
    }

    /// JSON that a schema describes.
    ///
    /// This computes on a thread of its own, with a stack that suits it, and waits for that: a caller that cannot wait calls it on
    /// a thread that can. See the [limits](self#limits).
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) naming what of the schema is wrong, not supported or too large, or that nothing can
    /// satisfy it.
    pub fn json_schema(&self, schema: &Value) -> Result<Constraint> {
        let mut reader = Reader::default();
        let body = reader.read(schema)?;
        self.compile(Grammar::Json(reader.document(body)))
    }

    /// A call of one of these tools, in the form in which a model writes them, and nothing else. Arguments are as the tool's
    /// schema of its parameters says; where that lists properties and does not say whether there may be others, there may not.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) naming the tool and what is wrong with it, or that there are no tools; as
    /// [`Constrainer::json_schema`].
    pub fn tool_call(&self, format: ToolFormat, tools: &[Tool]) -> Result<Constraint> {
        self.compile(calls::grammar(format, tools, |tag| self.compiler.vocabulary.spelled(tag))?)
    }

    fn compile(&self, grammar: Grammar) -> Result<Constraint> {
        let matcher = self.compiler.compile(grammar)?;
        Ok(Constraint { compiler: self.compiler.clone(), matcher })
    }
}

/// The form of one answer. Clones are cheap beside making it: for several answers of one form.
#[derive(Clone)]
pub struct Constraint {
    compiler: Arc<Compiler>,
    matcher: llguidance::Matcher,
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Constraint")
    }
}

impl Constraint {
    /// A sampler for one sequence that has `inner` draw among the tokens that may follow; where `inner` needs but the
    /// most likely token, that of those. It needs all logits of every step.
    ///
    /// With `after`, the constraint begins once the sequence has made that text, such as `</think>`, and then up to four
    /// spaces and line breaks; before that any token may follow but those that end a generation. Tokens that others put into the
    /// sequence in between count as if they were drawn here.
    pub fn sampler(self, inner: Box<dyn Sampler>, after: Option<&str>) -> Box<dyn Sampler> {
        Box::new(Constrained::new(self.compiler, self.matcher, inner, after))
    }
}
