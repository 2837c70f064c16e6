//! One vector for each text, from a model that was trained for it.

use crate::backend::Row;
use crate::engine::{Wanted, not_finite};
use crate::error::{Error, Result};
use crate::generate::{Session, row};
use crate::model::Pooling;

impl Session {
    /// A vector of length 1 for each text, `[texts][width]`: their dot products are the cosines of their angles. As many texts
    /// as the session has [`sequences`](Session::sequences) are computed together. The token that ends a text is added, and
    /// the one that begins a text as the model's tokenizer asks; an instruction that the model's card wants before a query
    /// is the caller's to add.
    ///
    /// # Errors
    /// [`Error::Input`] if the model makes no vectors, or a text is longer than the session's positions.
    pub fn embed(&mut self, texts: &[impl AsRef<str>]) -> Result<Vec<Vec<f32>>> {
        let tokenizer = self.model.tokenizer()?;
        let ends = |ids: &mut Vec<u32>| match tokenizer.eos() {
            Some(eos) if ids.last() != Some(&eos) => ids.push(eos),
            _ => {}
        };
        let mut all = Vec::with_capacity(texts.len());
        for text in texts {
            let mut ids = tokenizer.encode_prompt(text.as_ref())?;
            ends(&mut ids);
            all.push(ids);
        }
        self.embed_ids(&all)
    }

    /// [`Session::embed`] for token ids, to which nothing is added.
    ///
    /// # Errors
    /// As [`Session::embed`], and for ids outside the vocabulary or an empty list of them.
    pub fn embed_ids(&mut self, texts: &[impl AsRef<[u32]>]) -> Result<Vec<Vec<f32>>> {
        let Some(Pooling::LastToken) = self.model.config().pooling else {
            return Err(Error::Input("this model continues texts, and was not trained to make vectors of them".into()));
        };
        let mut vectors = Vec::with_capacity(texts.len());
        for texts in texts.chunks(self.sequences()) {
            self.clear();
            let (mut ids, mut rows) = (Vec::new(), Vec::<Row>::new());
            for (slot, text) in texts.iter().map(AsRef::as_ref).enumerate() {
                self.check_ids(text)?;
                ids.extend_from_slice(text);
                rows.extend((0..text.len()).map(|position| row(slot, position, position + 1 == text.len())));
            }
            self.forward(&ids, &rows, Wanted::Features(&mut |features| vectors.push(normalized(features))))?;
        }
        // A damaged file can do this.
        if vectors.iter().flatten().any(|value| !value.is_finite()) {
            return Err(not_finite());
        }
        Ok(vectors)
    }
}

/// The vector of length 1 in the same direction.
fn normalized(vector: &[f32]) -> Vec<f32> {
    let length = vector.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
    vector.iter().map(|&v| (f64::from(v) / length) as f32).collect()
}
