//! The verbs of weights in a rotated basis (`prism.hadamard` of Bonsai-2): what is multiplied with them is turned before it is quantised.
//!
//! A basis is a sign for each column and the Sylvester-Walsh-Hadamard transform of each block of columns, `H`, divided by the root of the
//! block's length, so that it is its own inverse. A rotated matrix holds `W · diag(s) · H` for some `W`; its product with `H(s ⊙ x)` is `W x`.

use crate::backend::Storage;
use crate::error::Result;

/// The verbs of rotated bases.
pub trait Rotation: Storage {
    /// Signs and the length of blocks, on the device.
    type Basis: Send + Sync;

    /// A basis for rows of `signs.len()` columns, each sign ±1, whose blocks are `block` columns long: a power of two that divides them, at
    /// most [`MOST_BLOCK`].
    ///
    /// # Errors
    /// [`crate::Error::Device`] if there is no memory for it.
    fn basis(&mut self, block: usize, signs: &[f32]) -> Result<Self::Basis>;
    /// From now on, whatever is quantised into `q` is turned first: in the place of `x` it takes `H(signs ⊙ x)`.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if there is no memory for it.
    fn rotate_inputs(&mut self, q: &mut Self::Quantized, basis: &Self::Basis) -> Result<()>;
    /// `out = H(signs ⊙ x)` of the rows that want logits, packed together. `x` and `out`: `[selected, cols]`.
    fn rotate_selected(&mut self, out: &mut Self::Tensor, x: &Self::Tensor, basis: &Self::Basis);
    /// `out = signs ⊙ H(x)`: turns rows of the step back. `x` and `out`: `[rows, cols]`.
    fn restore(&mut self, out: &mut Self::Tensor, x: &Self::Tensor, basis: &Self::Basis);
}

/// The longest block of a rotated basis: what the memory of a workgroup has room for.
pub const MOST_BLOCK: usize = 2048;
