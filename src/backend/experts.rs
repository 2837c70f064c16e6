//! The verbs of a mixture of experts (arXiv 2101.03961): each row is given to a few of many feed-forward networks, by a router, and only
//! their weights are read.
//!
//! A row that is given to `used` experts takes as many places, in an order that is the device's own: those of one expert may lie side by
//! side, so that its weights are read once for all of them. What a verb writes for places, only the verbs here read.

use crate::backend::{Numerics, Storage};
use crate::error::Result;
use crate::format::Weights;

/// How many experts there are, and how many are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpertShape {
    /// Experts of a layer, at most [`ExpertShape::MOST`].
    pub count: usize,
    /// Experts that a row is given to, at least 1.
    pub used: usize,
}

impl ExpertShape {
    /// The most experts of a layer.
    pub const MOST: usize = 1024;
    /// The most that a row is given to.
    pub const MOST_USED: usize = 64;
}

/// The verbs of experts.
pub trait Experts: Storage {
    /// Which rows go to which experts, with which weights; and what products with them work with.
    type Routing: Send + Sync;

    /// Room to route so many rows, whose inputs have `cols` columns, held as `numerics` says, to experts of `units` gated products.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if there is no memory for it.
    fn routing(
        &mut self,
        max_rows: usize,
        shape: ExpertShape,
        cols: usize,
        units: usize,
        numerics: Numerics,
    ) -> Result<Self::Routing>;
    /// One matrix for all experts, one behind the other, each of parts that are stacked by rows: as many parts for each expert.
    ///
    /// # Errors
    /// As [`crate::backend::Backend::matrix`].
    fn expert_matrix(&mut self, parts: &[Weights], experts: usize) -> Result<Self::Matrix>;
    /// Gives each row of the step to the experts of its largest scores, of equals the first, with the weights
    /// `exp(score) / Σ exp(score of those that are used)`; NaN where a score is not finite. `scores: [rows, count]`.
    fn route(&mut self, routing: &mut Self::Routing, scores: &Self::Tensor);
    /// `out = x wᵀ` for each place, with the weights of its expert, `w: [count * outputs, in]`, and the row that it is of:
    /// `x: [rows, in]`, `out: [rows * used, outputs]`.
    fn expert_matmul(
        &mut self,
        out: &mut Self::Tensor,
        w: &Self::Matrix,
        x: &Self::Quantized,
        routing: &mut Self::Routing,
    );
    /// The same with what each place has: `x: [rows * used, in]`.
    fn place_matmul(&mut self, out: &mut Self::Tensor, w: &Self::Matrix, x: &Self::Quantized, routing: &Self::Routing);
    /// `out = silu(min(gate, clamp)) * clamp(up, −clamp, clamp)` of each place, quantised as [`crate::backend::Backend::quantize`] does.
    /// `gate_up: [rows * used, 2 * cols]`, the gate first, which is left unspecified; `out: [rows * used, cols]`.
    fn place_glu(&mut self, out: &mut Self::Quantized, gate_up: &mut Self::Tensor, clamp: f32, routing: &Self::Routing);
    /// `out[row] += Σ weight · x[place]` over the row's places, the expert of the largest score first.
    /// `x: [rows * used, cols]`, `out: [rows, cols]`.
    fn mix_places(&mut self, out: &mut Self::Tensor, x: &Self::Tensor, routing: &Self::Routing);
    /// The experts of the first rows, best first, and their weights: `[rows, used]` each.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the device was lost.
    fn read_routing(&mut self, routing: &Self::Routing, experts: &mut [u32], weights: &mut [f32]) -> Result<()>;
}
