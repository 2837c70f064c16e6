//! The published shapes whose steps are measured with random trits.

use clap::ValueEnum;
use sterna::model::SyntheticShape;

/// The shape of a model.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// BitNet b1.58 2B-4T, with random trits.
    #[value(name = "2b")]
    Bitnet2B,
    /// bitnet_b1_58-large, with random trits.
    #[value(name = "0.7b")]
    Bitnet700M,
}

impl Shape {
    pub fn synthetic(self) -> SyntheticShape {
        match self {
            Self::Bitnet2B => SyntheticShape::Bitnet2B,
            Self::Bitnet700M => SyntheticShape::Bitnet700M,
        }
    }
}
