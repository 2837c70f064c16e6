//! The bases of a model's weights: one for each width of inputs, where they are rotated.

use crate::backend::{Backend, Numerics};
use crate::error::Result;
use crate::model::{Config, Part, Role};

/// By the columns of inputs; none where weights are as they were trained.
pub(super) struct Bases<B: Backend> {
    of: Vec<(usize, B::Basis)>,
}

impl<B: Backend> Bases<B> {
    pub(super) fn load(b: &mut B, config: &Config) -> Result<Self> {
        let Some(hadamard) = &config.hadamard else { return Ok(Self { of: Vec::new() }) };
        let inputs_of = |layer: usize| {
            let parts = Part::ALL.iter().filter(move |(part, _)| part.is_linear() && part.is_in(config, layer));
            parts.map(move |(part, _)| Role::Layer(layer, *part).shape(config).1)
        };
        let mut widths: Vec<usize> = (0..config.layers).flat_map(inputs_of).collect();
        widths.push(config.width);
        widths.sort_unstable();
        widths.dedup();
        let of = widths.into_iter().map(|cols| Ok((cols, b.basis(hadamard.block, &hadamard.signs(cols))?)));
        Ok(Self { of: of.collect::<Result<_>>()? })
    }

    /// The basis for inputs of so many columns.
    pub(super) fn of(&self, cols: usize) -> Option<&B::Basis> {
        self.of.iter().find(|(width, _)| *width == cols).map(|(_, basis)| basis)
    }

    /// An input of linear layers, which are in this basis.
    pub(super) fn quantized(&self, b: &mut B, rows: usize, cols: usize, numerics: Numerics) -> Result<B::Quantized> {
        let mut quantized = b.quantized(rows, cols, numerics)?;
        if let Some(basis) = self.of(cols) {
            b.rotate_inputs(&mut quantized, basis)?;
        }
        Ok(quantized)
    }
}
