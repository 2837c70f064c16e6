//! What verbs are given beside tensors that a device holds: norms, and how queries and keys are turned.

use crate::backend::{Backend, HeadNormOrder, RopePairs};

/// The norm before a product (RMSNorm, arXiv 1910.07467): `x * rsqrt(mean(x²) + epsilon) * gain`.
pub struct Norm<'a, B: Backend + ?Sized> {
    /// One factor a column, `[1, cols]`.
    pub gain: &'a B::Tensor,
    /// Added to the mean of the squares.
    pub epsilon: f32,
}

impl<B: Backend + ?Sized> Clone for Norm<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend + ?Sized> Copy for Norm<'_, B> {}

/// How queries and keys are brought to their positions.
pub struct Rotary<'a, B: Backend + ?Sized> {
    /// Cosines and sines, from [`Backend::rotations`].
    pub rotations: &'a B::Tensor,
    /// Which features form a pair.
    pub pairs: RopePairs,
    /// RMSNorm of each head by itself, where the model has it.
    pub norm: Option<HeadNorm<'a, B>>,
}

/// RMSNorm of each query and key head by itself (Qwen3, arXiv 2505.09388).
pub struct HeadNorm<'a, B: Backend + ?Sized> {
    /// One factor a feature of a query head, `[1, head_dim]`.
    pub query_gain: &'a B::Tensor,
    /// One factor a feature of a key head, `[1, head_dim]`.
    pub key_gain: &'a B::Tensor,
    /// Added to the mean of the squares.
    pub epsilon: f32,
    /// Whether heads are normed before or after they are turned.
    pub order: HeadNormOrder,
}

impl<'a, B: Backend + ?Sized> Rotary<'a, B> {
    /// Rotation alone.
    pub fn plain(rotations: &'a B::Tensor, pairs: RopePairs) -> Self {
        Self { rotations, pairs, norm: None }
    }
}

impl<B: Backend + ?Sized> Clone for Rotary<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend + ?Sized> Copy for Rotary<'_, B> {}

impl<B: Backend + ?Sized> Clone for HeadNorm<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend + ?Sized> Copy for HeadNorm<'_, B> {}
