//! The list of shaders: one WGSL file a verb, what each can be specialised for, and what it is bound to.
//!
//! WGSL has no includes and no generics. A [`Shader`] names a file of `shaders/` and what it is specialised for; `source.rs`
//! puts the file together with constants and shared fragments.

mod source;
#[cfg(all(test, feature = "shader-tests"))]
mod tests;

use crate::backend::{Activation, CachePrecision, HeadNormOrder, Reads, RopePairs};
use crate::gpu::cooperative::{AttentionCut, CooperativeCut};

/// One pipeline: a shader and what it is specialised for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Shader {
    Embed {
        table: Format,
    },
    /// Of rows of this many columns.
    NormQuantize {
        norm: bool,
        cols: u32,
    },
    NormQuantizeBlocks {
        norm: bool,
        cols: u32,
    },
    /// Of all rows, or of those that want logits; stored, or added.
    Norm {
        selected: bool,
        add: bool,
    },
    Place,
    Matvec {
        product: Product,
        shape: Shape,
        input: Input,
    },
    MatvecFloats {
        output: Output,
        shape: Shape,
        of: RowsOf,
    },
    Matmul {
        product: Product,
        cut: Tile,
        of: RowsOf,
    },
    MatmulCooperative {
        output: Output,
        cut: CooperativeCut,
    },
    RopeAppend {
        cache: Cached,
        pairs: RopePairs,
        norm: Option<HeadNormOrder>,
    },
    Attend {
        cut: HeadCut,
        append: Option<RopePairs>,
    },
    /// Of rows that follow each other, which were appended before.
    AttendTile {
        cache: Cached,
        /// Query heads of a workgroup, which share a key/value head.
        heads: u32,
    },
    /// The same, of more rows.
    AttendCooperative {
        cut: AttentionCut,
    },
    AttendMerge {
        head_dim: u32,
    },
    Glu {
        activation: Activation,
    },
    Logits {
        head: Format,
        shape: Shape,
        aligned: bool,
        /// Of all rows, or of those that want logits.
        all: bool,
    },
    /// Exact logits of what a screen leaves in the running.
    LogitsLeft {
        aligned: bool,
    },
    ScreenRows,
    ScreenFloors,
    Convolve {
        taps: u32,
    },
    DeltaRule {
        head_dim: u32,
    },
    NormGate,
    Gate,
    Route,
    SortPlaces,
    GluClamped,
    MixPlaces,
    Rotate {
        block: u32,
        norm: bool,
        inverse: bool,
    },
    ArgmaxFirst,
    ArgmaxLast,
    TopFirst,
    TopLast,
    TopFloor,
    Totals,
    Arithmetic,
}

/// How a matrix is stored on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Format {
    F32,
    F16,
    Bf16,
    Int8,
    /// int8 with one scale for a row, which screens another matrix.
    Screen,
    Ternary,
}

/// What is done with the product of ternary weights and int8 activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Product {
    pub(crate) output: Output,
    pub(crate) scaling: Scaling,
    /// How four products are computed.
    pub(crate) dot: Dot,
}

/// Which columns of a product share their scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scaling {
    /// All.
    Rows,
    /// Groups, as the weights have it.
    Groups,
    /// Blocks of 128, as the activations have it; weights may have any scales.
    Blocks,
}

/// What becomes of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Output {
    Store,
    /// Added to what is there.
    Add,
    /// The weights are gates and ups, stacked: `activation(gate) * up` is stored.
    Glu(Activation),
}

/// Where a matrix–vector product has its activations from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Input {
    /// They were quantised before.
    Quantized { of: RowsOf },
    /// Every workgroup normalises (or not) and quantises the one row of the step, of this many columns.
    Floats { norm: bool, cols: u32 },
}

/// Which rows a product takes, and with which weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RowsOf {
    /// Those of a step, each with all weights.
    Step,
    /// Places of a mixture of experts, each with the weights of its expert.
    Experts,
}

/// How the query heads that share a key/value head are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HeadCut {
    pub(crate) cache: Cached,
    /// Query heads of a workgroup.
    pub(crate) heads: u32,
    /// Workgroups for all query heads of a key/value head.
    pub(crate) groups: u32,
    /// Rounds of positions whose scores are added up at once.
    pub(crate) exchanged: u32,
    /// Heads whose weighted sums are added up at once.
    pub(crate) together: u32,
}

/// How four products of codes and int8 are computed. Both give the same integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dot {
    /// By `dot4I8Packed`: one instruction where the device has one.
    Packed,
    /// In f32, exact: faster on devices without integer dot products.
    Float,
}

/// How a matrix–vector product is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    /// Rows of activations at once.
    pub(crate) rows: u32,
    /// Weight rows that a thread works on at once.
    pub(crate) outputs: u32,
    /// Threads that share a weight row.
    pub(crate) lanes: u32,
    /// Threads of a workgroup.
    pub(crate) threads: u32,
    /// Pieces of a weight row that a thread asks for at once.
    pub(crate) ahead: u32,
}

impl Shape {
    /// The same for weight rows of so many pieces: no more threads share a row than it has.
    pub(crate) fn for_pieces(self, pieces: usize) -> Self {
        Self { lanes: self.lanes.min(pieces.next_power_of_two() as u32), ..self }
    }

    /// Weight rows that a workgroup finishes.
    pub(crate) fn outputs_of_group(&self) -> usize {
        (self.threads / self.lanes * self.outputs) as usize
    }
}

/// What a thread makes of a tile of a product of many rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tile {
    /// Rows of activations.
    pub(crate) rows: u32,
    /// Weight rows.
    pub(crate) outputs: u32,
}

/// What a cache is like, as far as shaders care.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cached {
    pub(crate) precision: CachePrecision,
    pub(crate) head_dim: u32,
}

impl Cached {
    /// Pairs of features that are read at once: 16 bytes of them where heads are made of such.
    pub(crate) fn piece_pairs(self) -> usize {
        let pairs = self.head_dim as usize / 2;
        let piece = match self.precision {
            CachePrecision::F16 => 4,
            CachePrecision::F32 => 2,
        };
        if pairs.is_multiple_of(piece) { piece } else { 1 }
    }
}

/// How a shader uses one of its bindings after the first, which is the uniform `params`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Access {
    Read,
    Write,
}

/// The file of a shader.
struct File {
    name: &'static str,
    source: &'static str,
    params: &'static str,
    access: &'static [Access],
}

macro_rules! file {
    ($name:literal, $params:literal, $access:expr) => {{
        let source = include_str!(concat!("../../shaders/", $name, ".wgsl"));
        File { name: $name, source, params: $params, access: $access }
    }};
}

impl Shader {
    /// The name of the shader's file: what profiles are listed by.
    pub(crate) fn name(&self) -> &'static str {
        self.file().name
    }

    /// The members of the uniform `params`, 32 bits each, in their order.
    pub(crate) fn params(&self) -> impl Iterator<Item = &'static str> {
        self.file().params.split_whitespace()
    }

    /// What it reads from memory beside activations.
    pub(crate) fn reads(&self) -> Reads {
        match self {
            Self::Matvec { .. } | Self::MatvecFloats { .. } => Reads::Trits,
            Self::Matmul { .. } | Self::MatmulCooperative { .. } => Reads::Trits,
            Self::Logits { .. } | Self::LogitsLeft { .. } => Reads::Head,
            Self::Attend { .. } | Self::AttendTile { .. } | Self::AttendCooperative { .. } => Reads::Cache,
            Self::DeltaRule { .. } => Reads::Cache,
            _ => Reads::Nothing,
        }
    }

    /// How the storage bindings, from 1 on, are used.
    pub(crate) fn access(&self) -> &'static [Access] {
        self.file().access
    }

    fn file(&self) -> File {
        use Access::{Read as R, Write as W};
        match self {
            Self::Embed { .. } => file!("embed", "width first rows row_words group row_scales", &[R, R, R, W]),
            Self::NormQuantize { .. } => file!("norm_quantize", "epsilon", &[R, R, W, W]),
            Self::NormQuantizeBlocks { .. } => file!("norm_quantize_blocks", "epsilon", &[R, R, W, W]),
            Self::Norm { .. } => file!("norm", "cols stride epsilon", &[R, R, R, W]),
            Self::Place => file!("place", "cols width first_col stride", &[R, W]),
            Self::Matvec { .. } => {
                file!("matvec", "pieces rows first outputs group row_scales share epsilon", &[R, R, R, W, R, R])
            }
            Self::MatvecFloats { .. } => {
                file!("matvec_floats", "pieces rows first outputs group row_scales share", &[R, R, R, R, W])
            }
            Self::Matmul { of: RowsOf::Step, .. } => {
                file!("matmul", "pieces rows first outputs group row_scales share", &[R, R, R, R, R, W])
            }
            Self::Matmul { of: RowsOf::Experts, .. } => {
                file!("matmul", "pieces rows first outputs group row_scales share", &[R, R, R, R, R, W, R])
            }
            Self::MatmulCooperative { .. } => {
                file!("matmul_cooperative", "pieces rows first outputs", &[R, R, R, R, R, W])
            }
            Self::RopeAppend { norm: None, .. } => {
                file!("rope_append", "heads kv_heads pairs positions epsilon", &[R, R, W, W, W])
            }
            Self::RopeAppend { norm: Some(_), .. } => {
                file!("rope_append", "heads kv_heads pairs positions epsilon", &[R, R, W, W, W, R, R])
            }
            Self::Attend { append: None, .. } => {
                file!("attend", "heads kv_heads positions splits chunks scale pairs window", &[R, R, R, W, R])
            }
            Self::Attend { append: Some(_), .. } => {
                file!("attend", "heads kv_heads positions splits chunks scale pairs window", &[R, R, R, W, W, W])
            }
            Self::AttendTile { .. } => {
                file!("attend_tile", "heads kv_heads positions splits chunks scale", &[R, R, R, W, R])
            }
            Self::AttendCooperative { .. } => {
                file!("attend_cooperative", "heads kv_heads positions tiles scale", &[R, R, R, W, R])
            }
            Self::AttendMerge { .. } => file!("attend_merge", "heads chunks window", &[R, R, W]),
            Self::Glu { .. } => file!("glu", "cols", &[R, W]),
            Self::Logits { .. } => {
                file!("logits", "pieces rows first outputs width group row_scales", &[R, R, R, R, W])
            }
            Self::Convolve { .. } => file!("convolve", "channels", &[R, R, R, W, W]),
            Self::DeltaRule { .. } => file!("delta_rule", "key_heads value_heads", &[R, R, R, R, R, W, W]),
            Self::NormGate => file!("norm_gate", "head_dim heads key_heads epsilon", &[R, R, R, W]),
            Self::Gate => file!("gate", "cols", &[R, W]),
            Self::Route => file!("route", "count used", &[R, W, W]),
            Self::SortPlaces => file!("sort_places", "places count tiles", &[R, W, W]),
            Self::GluClamped => file!("glu_clamped", "cols clamp", &[R, W]),
            Self::MixPlaces => file!("mix_places", "cols used", &[R, R, W]),
            Self::Rotate { .. } => file!("rotate", "cols stride epsilon scale", &[R, R, R, W]),
            Self::ArgmaxFirst | Self::ArgmaxLast => file!("argmax", "cols per_group", &[R, W]),
            Self::TopFirst => file!("top", "cols count per_group", &[R, W]),
            Self::TopLast => file!("top", "cols count per_group", &[R, W, W]),
            Self::TopFloor => file!("top", "cols count per_group", &[R, W]),
            Self::LogitsLeft { .. } => {
                file!("logits_left", "pieces rows first outputs width entries", &[R, R, R, R, W])
            }
            Self::ScreenRows => file!("screen_rows", "pieces rows first row_words width", &[R, W, W, W]),
            Self::ScreenFloors => file!("screen_floors", "width cols per_group", &[R, R, R, W]),
            Self::Totals => file!("totals", "cols", &[R, R, W]),
            Self::Arithmetic => file!("arithmetic", "cases", &[R, W]),
        }
    }
}
