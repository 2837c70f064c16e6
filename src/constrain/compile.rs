//! Grammars become matchers, within limits, on a thread of their own.
//!
//! llguidance compiles by recursion, as deep as a schema leads through its references, and reports some odd input by a panic, which it
//! catches itself. A stack that holds the deepest schema that [`schema`](super::schema) lets pass keeps the first from ending the
//! process; what is left of both ends the thread's work with an error.

use std::sync::Arc;
use std::thread;

use llguidance::api::{GrammarWithLexer, ParserLimits, TopLevelGrammar};
use llguidance::{Matcher, ParserFactory};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

use super::vocabulary::Vocabulary;

/// Of the thread that compiles: 32 kB for each of the schemas that may lead into each other. Only what is used is backed by memory.
const STACK_BYTES: usize = 64 << 20;

/// Of what llguidance says of a schema, in characters: it may show all of it.
const MOST_SAID: usize = 300;

/// What llguidance may spend, in its units.
fn limits() -> ParserLimits {
    ParserLimits {
        // A fifth of the default: of 1 to 2 kB each, of every answer.
        max_lexer_states: 50_000,
        // For objects with hundreds of keys that may be left out, of which each is a beginning of the rest.
        max_items_in_row: 12_000,
        step_max_items: 200_000,
        verbose_errors: false,
        ..ParserLimits::default()
    }
}

/// What an answer may be.
pub(super) enum Grammar {
    /// JSON of a schema that was read.
    Json(Value),
    /// A grammar in llguidance's form of Lark.
    Lark(String),
}

/// Makes matchers for one vocabulary.
pub(super) struct Compiler {
    pub(super) vocabulary: Vocabulary,
    factory: ParserFactory,
}

impl Compiler {
    pub(super) fn new(tokenizer: &Tokenizer) -> Result<Self> {
        let vocabulary = Vocabulary::new(tokenizer)?;
        let mut factory = ParserFactory::new_simple(&vocabulary.environment)
            .map_err(|error| Error::Unsupported(format!("constraints for this vocabulary: {error}")))?;
        factory.quiet();
        *factory.limits_mut() = limits();
        Ok(Self { vocabulary, factory })
    }

    /// # Errors
    /// [`Error::Input`] with what the compiler has against the grammar; [`Error::Device`] if the system gives no thread.
    pub(super) fn compile(self: &Arc<Self>, grammar: Grammar) -> Result<Matcher> {
        let grammar = match grammar {
            Grammar::Json(schema) => GrammarWithLexer::from_json_schema(schema),
            Grammar::Lark(text) => GrammarWithLexer::from_lark(text),
        };
        let grammar = TopLevelGrammar::from_grammar(grammar);
        let this = self.clone();
        let work = move || {
            let parser = this.factory.create_parser(grammar).map_err(|error| refusal(&format!("{error:#}")))?;
            let mut matcher = Matcher::new(Ok(parser));
            // Whether there is a first token tells whether anything can satisfy it; this also fills what all answers share.
            matcher.compute_mask_or_eos().map_err(|error| refusal(&error.to_string()))?;
            Ok(matcher)
        };
        let thread = thread::Builder::new().name("sterna-grammar".into()).stack_size(STACK_BYTES).spawn(work);
        let thread =
            thread.map_err(|error| Error::refused(format!("the system gives no thread for a grammar: {error}")))?;
        thread.join().unwrap_or_else(|_| Err(refusal("it cannot be compiled")))
    }
}

/// What llguidance says, for whoever wrote the schema.
fn refusal(said: &str) -> Error {
    const ONE_OF: &str = "oneOf constraints are not supported";
    // Its states, grammars and backtraces follow on lines of their own.
    let said = said.split("\n<").next().unwrap_or_default();
    Error::Input(match said {
        _ if said.contains(ONE_OF) => {
            "the schema's oneOf has options that no type, constant or required property tells apart; use \
                                       anyOf"
                .into()
        }
        _ if said.contains("regex parse error") => {
            let error = said.rsplit("error: ").next().unwrap_or_default();
            format!("a regular expression in the schema is not supported: {}", error.trim())
        }
        "NoExtensionBias" => "nothing can satisfy the schema".into(),
        _ => format!("the schema is refused: {}", said.chars().take(MOST_SAID).collect::<String>()),
    })
}
