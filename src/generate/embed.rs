//! One vector for each text, from a model that was trained for it.

use crate::backend::Row;
use crate::engine::Step;
use crate::error::{Error, Result};
use crate::generate::evaluate::no_slot;
use crate::generate::{Reuse, Session, row};
use crate::model::{Model, Pooling};
use crate::transformer::Wanted;

/// Letters of a text that an error repeats.
const BEGIN: usize = 40;

impl Session {
    /// A vector of length 1 for each text, `[texts][width]`: their dot products are the cosines of their angles. As many texts
    /// as the session has free [`sequences`](Session::sequences) are computed together. The token that ends a text is added, and
    /// the one that begins a text as the model's tokenizer asks; an instruction that the model's card wants before a query
    /// is the caller's to add.
    ///
    /// # Errors
    /// [`Error::Input`] if the model makes no vectors, or a text is longer than the session's positions.
    pub fn embed(&mut self, texts: &[impl AsRef<str>]) -> Result<Vec<Vec<f32>>> {
        let mut all = Vec::with_capacity(texts.len());
        for (place, text) in texts.iter().map(AsRef::as_ref).enumerate() {
            let ids = self.model().embedding_ids(text)?;
            self.check_ids(&ids).map_err(|error| in_text(place, text, error))?;
            all.push(ids);
        }
        self.embed_ids(&all)
    }

    /// [`Session::embed`] for token ids, to which nothing is added.
    ///
    /// # Errors
    /// As [`Session::embed`], and for ids outside the vocabulary or an empty list of them.
    pub fn embed_ids(&mut self, texts: &[impl AsRef<[u32]>]) -> Result<Vec<Vec<f32>>> {
        let Some(Pooling::LastToken) = self.model().config().pooling else {
            return Err(Error::Input("this model continues texts, and was not trained to make vectors of them".into()));
        };
        let mut vectors = Vec::with_capacity(texts.len());
        texts.iter().try_for_each(|text| self.check_ids(text.as_ref()))?;
        for texts in texts.chunks(self.slots.free().max(1)) {
            self.embed_together(texts, &mut vectors)?;
        }
        Ok(vectors)
    }

    /// Appends the vectors of at most as many texts as there are free slots; each has one meanwhile.
    fn embed_together(&mut self, texts: &[impl AsRef<[u32]>], vectors: &mut Vec<Vec<f32>>) -> Result<()> {
        let (mut slots, mut ids, mut rows) = (Vec::new(), Vec::new(), Vec::<Row>::new());
        for text in texts.iter().map(AsRef::as_ref) {
            let slot = self.slots.admit(&[], Reuse::Never).ok_or_else(no_slot)?.slot;
            slots.push(slot);
            ids.extend_from_slice(text);
            rows.extend((0..text.len()).map(|position| row(slot, position, position + 1 == text.len())));
        }
        let outcome = self.add_vectors(&ids, &rows, vectors).map_err(|error| match error {
            Error::NotFinite(_) => {
                let lengths = texts.iter().map(|text| text.as_ref().len());
                self.engine.why_not_finite(&slots.iter().copied().zip(lengths).collect::<Vec<_>>())
            }
            error => error,
        });
        for slot in slots {
            self.slots.forget(slot);
            self.slots.release(slot);
        }
        outcome
    }

    /// Runs rows, in as many steps as it takes, and appends the vectors of those that end a text.
    fn add_vectors(&mut self, ids: &[u32], rows: &[Row], vectors: &mut Vec<Vec<f32>>) -> Result<()> {
        let (chunk, width) = (self.engine.capacity().rows, self.model().config().width);
        for (tokens, rows) in ids.chunks(chunk).zip(rows.chunks(chunk)) {
            self.engine.start(&Step { tokens, rows, wanted: Wanted::Nothing, factors: &[], steps_ahead: 0 });
            self.engine.finish()?;
            let ends = rows.iter().filter(|row| row.wants_logits).count();
            if ends > 0 {
                vectors.extend(self.engine.features(0..ends)?.chunks_exact(width).map(normalized));
            }
        }
        Ok(())
    }
}

impl Model {
    /// The token ids that [`Session::embed`] makes of a text: its own, with the token that begins a text if the tokenizer asks for
    /// it, and the one that ends it. A text of more ids than a session has positions cannot be embedded; whoever cuts it keeps
    /// the last of them.
    ///
    /// # Errors
    /// Those of [`Model::tokenizer`] and its [`encode_prompt`](crate::tokenizer::Tokenizer::encode_prompt).
    pub fn embedding_ids(&self, text: &str) -> Result<Vec<u32>> {
        let tokenizer = self.tokenizer()?;
        let mut ids = tokenizer.encode_prompt(text)?;
        ids.extend(tokenizer.eos().filter(|eos| ids.last() != Some(eos)));
        Ok(ids)
    }
}

/// Says in which of several texts something is wrong, counted from 1.
fn in_text(place: usize, text: &str, error: Error) -> Error {
    let begin = text.char_indices().nth(BEGIN).map_or(text, |(end, _)| &text[..end]);
    let more = if begin.len() < text.len() { "…" } else { "" };
    match error {
        Error::Input(what) => Error::Input(format!("text {} ({begin:?}{more}): {what}", place + 1)),
        other => other,
    }
}

/// The vector of length 1 in the same direction.
fn normalized(vector: &[f32]) -> Vec<f32> {
    let length = vector.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
    vector.iter().map(|&v| (f64::from(v) / length) as f32).collect()
}
