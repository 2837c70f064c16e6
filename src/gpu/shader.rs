//! The shaders: one WGSL file a verb, put together with shared fragments and constants into the source of a pipeline.
//!
//! WGSL has no includes and no generics. A [`Shader`] names a file of `shaders/` and what it is specialised for; its
//! source is the constants, then the fragments, then the file.

use crate::backend::MOST_CANDIDATES;
use crate::backend::Reads;
use crate::backend::{Activation, CachePrecision, HeadNormOrder, RopePairs};
use crate::gpu::cooperative::{Cooperative, TEAMS};
use crate::gpu::layout::{CHUNK, ELEMENTWISE_THREADS, TILE};

/// One pipeline: a shader and what it is specialised for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Shader {
    Embed {
        table: Format,
    },
    NormQuantize {
        norm: bool,
    },
    NormQuantizeBlocks {
        norm: bool,
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
    },
    Matmul {
        product: Product,
    },
    MatmulCooperative {
        output: Output,
        cut: Cooperative,
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
    },
    ArgmaxFirst,
    ArgmaxLast,
    Top,
    Totals,
}

/// How a matrix is stored on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Format {
    F32,
    F16,
    Bf16,
    Int8,
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
    Quantized,
    /// Every workgroup normalises (or not) and quantises the one row of the step, of this many vectors of 16 columns.
    Floats { norm: bool, vectors: u32 },
}

/// How the query heads that share a key/value head are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HeadCut {
    pub(crate) cache: Cached,
    /// Query heads of a workgroup.
    pub(crate) heads: u32,
    /// Workgroups for all query heads of a key/value head.
    pub(crate) groups: u32,
    /// Positions in workgroup memory at once.
    pub(crate) tile: u32,
}

/// How four products of codes and int8 are computed. Both give the same integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// Weight rows that a workgroup finishes.
    pub(crate) fn outputs_of_group(&self) -> usize {
        (self.threads / self.lanes * self.outputs) as usize
    }
}

/// What a cache is like, as far as shaders care.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cached {
    pub(crate) precision: CachePrecision,
    pub(crate) head_dim: u32,
}

/// How a shader uses one of its bindings after the first, which is the uniform `params`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Access {
    Read,
    Write,
}

/// Threads that normalise and quantise a row together, wherever that is done: the order of their sums.
pub(crate) const QUANTIZE_THREADS: u32 = 256;

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

macro_rules! fragment {
    ($name:literal) => {
        include_str!(concat!("../../shaders/shared/", $name, ".wgsl"))
    };
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
            Self::Logits { .. } => Reads::Head,
            Self::Attend { .. } => Reads::Cache,
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
            Self::NormQuantize { .. } => file!("norm_quantize", "cols vectors epsilon", &[R, R, W, W]),
            Self::NormQuantizeBlocks { .. } => file!("norm_quantize_blocks", "cols blocks epsilon", &[R, R, W, W]),
            Self::Norm { .. } => file!("norm", "cols stride epsilon", &[R, R, R, W]),
            Self::Place => file!("place", "cols width first_col stride", &[R, W]),
            Self::Matvec { .. } => {
                file!("matvec", "pieces rows first outputs group row_scales cols epsilon", &[R, R, R, W, R, R])
            }
            Self::MatvecFloats { .. } => {
                file!("matvec_floats", "pieces rows first outputs group row_scales", &[R, R, R, R, W])
            }
            Self::Matmul { .. } => file!("matmul", "pieces rows first outputs group row_scales", &[R, R, R, R, R, W]),
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
            Self::AttendMerge { .. } => file!("attend_merge", "heads chunks window", &[R, R, W]),
            Self::Glu { .. } => file!("glu", "cols", &[R, W]),
            Self::Logits { .. } => {
                file!("logits", "pieces rows first outputs width group row_scales", &[R, R, R, R, W])
            }
            Self::ArgmaxFirst | Self::ArgmaxLast => file!("argmax", "cols per_group", &[R, W]),
            Self::Top => file!("top", "cols count", &[R, W, W]),
            Self::Totals => file!("totals", "cols", &[R, R, W]),
        }
    }

    /// The whole WGSL source.
    pub(crate) fn source(&self) -> String {
        let mut text = Text::default();
        match *self {
            Self::Embed { table } => text.number("THREADS", ELEMENTWISE_THREADS as u32).add(table.weight()),
            Self::NormQuantize { norm } => {
                text.number("THREADS", QUANTIZE_THREADS).quantizer(norm).add(fragment!("quantize_row"))
            }
            Self::NormQuantizeBlocks { norm } => {
                text.number("THREADS", QUANTIZE_THREADS).quantizer(norm).add(fragment!("quantize_blocks"))
            }
            Self::Norm { selected, add } => text.truth("SELECTED", selected).truth("ADD", add).add(fragment!("step")),
            Self::Place => text.number("THREADS", ELEMENTWISE_THREADS as u32),
            Self::Matvec { product, shape, input } => {
                text.shape(shape).output(product.output).add(fragment!("step")).add(product.dot.fragment());
                text.add(fragment!("dot_piece")).add(match product.scaling {
                    Scaling::Rows => fragment!("scale_rows"),
                    Scaling::Groups => fragment!("scale_groups"),
                    Scaling::Blocks => fragment!("scale_blocks"),
                });
                match input {
                    Input::Quantized => text.add(fragment!("x_stored")),
                    Input::Floats { norm, vectors } => {
                        assert_eq!(shape.threads, QUANTIZE_THREADS, "so that sums of floats are added in one order");
                        text.number("VECTORS", vectors).quantizer(norm);
                        match product.scaling {
                            Scaling::Blocks => text.add(fragment!("quantize_blocks")).add(fragment!("x_normed_blocks")),
                            _ => text.add(fragment!("quantize_row")).add(fragment!("x_normed")),
                        }
                    }
                }
            }
            Self::MatvecFloats { output, shape } => {
                text.shape(shape).truth("ADD", output == Output::Add).add(fragment!("step"))
            }
            Self::Matmul { product } => text
                .number("TILE", TILE as u32)
                .output(product.output)
                .truth("GROUPED", product.scaling != Scaling::Rows)
                .truth("BLOCKS", product.scaling == Scaling::Blocks)
                .add(fragment!("step"))
                .add(product.dot.fragment()),
            Self::MatmulCooperative { output, cut } => text.cooperative(cut).output(output).add(fragment!("step")),
            Self::RopeAppend { cache, pairs, norm } => {
                text.rotation(pairs).cache(cache).add(fragment!("step"));
                text.truth("NORM_BEFORE", norm == Some(HeadNormOrder::BeforeRope));
                text.truth("NORM_AFTER", norm == Some(HeadNormOrder::AfterRope)).add(match norm {
                    Some(_) => fragment!("head_norm"),
                    None => fragment!("head_as_it_is"),
                })
            }
            Self::Attend { cut, append } => {
                text.number("GROUP", cut.heads).number("GROUPS", cut.groups).number("TILE", cut.tile);
                text.number("CHUNK", CHUNK as u32);
                text.cache(cut.cache).add(fragment!("step")).add(fragment!("online_softmax"));
                match append {
                    None => text.add(fragment!("attend_cached")),
                    Some(pairs) => text.rotation(pairs).add(fragment!("attend_append")),
                }
            }
            Self::AttendMerge { head_dim } => {
                text.number("HEAD_DIM", head_dim).number("CHUNK", CHUNK as u32);
                text.add(fragment!("step")).add(fragment!("online_softmax"))
            }
            Self::Glu { activation } => text.number("THREADS", ELEMENTWISE_THREADS as u32).activation(activation),
            Self::Logits { head, shape, aligned } => {
                text.shape(shape).add(fragment!("step")).add(head.unpack_piece()).add(match aligned {
                    true => fragment!("vectors_aligned"),
                    false => fragment!("vectors_any"),
                })
            }
            Self::ArgmaxFirst => text.add(fragment!("float_order")).add(fragment!("argmax_first")),
            Self::ArgmaxLast => text.add(fragment!("argmax_last")),
            Self::Totals => text.add(fragment!("float_order")),
            Self::Top => text.number("MOST", MOST_CANDIDATES as u32).add(fragment!("float_order")),
        };
        text.add(self.file().source);
        text.0
    }
}

impl Format {
    /// `weight(row, col)`.
    fn weight(self) -> &'static str {
        match self {
            Self::F32 => fragment!("table_f32"),
            Self::F16 => fragment!("table_f16"),
            Self::Bf16 => fragment!("table_bf16"),
            Self::Int8 => fragment!("table_int8"),
            Self::Ternary => fragment!("table_ternary"),
        }
    }

    /// `unpack_piece(bits, row, piece)`.
    fn unpack_piece(self) -> &'static str {
        match self {
            Self::F32 => fragment!("piece_f32"),
            Self::F16 => fragment!("piece_f16"),
            Self::Bf16 => fragment!("piece_bf16"),
            Self::Int8 => fragment!("piece_int8"),
            Self::Ternary => panic!("a dense head"),
        }
    }
}

impl Dot {
    fn fragment(self) -> &'static str {
        match self {
            Self::Packed => fragment!("dot_packed"),
            Self::Float => fragment!("dot_float"),
        }
    }
}

/// A source that grows.
#[derive(Default)]
struct Text(String);

impl Text {
    fn number(&mut self, name: &str, value: u32) -> &mut Self {
        self.add(&format!("const {name}: u32 = {value}u;"))
    }

    fn truth(&mut self, name: &str, value: bool) -> &mut Self {
        self.add(&format!("const {name}: bool = {value};"))
    }

    fn shape(&mut self, shape: Shape) -> &mut Self {
        self.number("ROWS", shape.rows)
            .number("OUTPUTS", shape.outputs)
            .number("LANES", shape.lanes)
            .number("THREADS", shape.threads)
            .number("AHEAD", shape.ahead)
    }

    fn output(&mut self, output: Output) -> &mut Self {
        self.truth("ADD", output == Output::Add).truth("GLU", matches!(output, Output::Glu(_)));
        // Without a gate, one that is never called.
        self.activation(if let Output::Glu(activation) = output { activation } else { Activation::SquaredRelu })
    }

    /// Directives come before all else.
    fn cooperative(&mut self, cut: Cooperative) -> &mut Self {
        let side = cut.side;
        self.add("enable f16;\nenable wgpu_cooperative_matrix;")
            .number("SIDE", side)
            .number("THREADS", cut.threads)
            .number("TEAMS", TEAMS)
            .number("TILE", TILE as u32)
            .add(&format!("alias MatrixA = coop_mat{side}x{side}<f16, A>;"))
            .add(&format!("alias MatrixB = coop_mat{side}x{side}<f16, B>;"))
            .add(&format!("alias MatrixC = coop_mat{side}x{side}<f32, C>;"))
    }

    fn activation(&mut self, activation: Activation) -> &mut Self {
        self.truth("SILU", activation == Activation::Silu)
            .truth("GELU", activation == Activation::Gelu)
            .add(fragment!("activation"))
    }

    fn rotation(&mut self, pairs: RopePairs) -> &mut Self {
        self.truth("INTERLEAVED", pairs == RopePairs::Interleaved).add(fragment!("rotation"))
    }

    fn quantizer(&mut self, norm: bool) -> &mut Self {
        self.truth("NORM", norm).add(fragment!("float_order")).add(fragment!("quantizer"))
    }

    fn cache(&mut self, cache: Cached) -> &mut Self {
        self.number("HEAD_DIM", cache.head_dim).add(match cache.precision {
            CachePrecision::F16 => fragment!("cache_f16"),
            CachePrecision::F32 => fragment!("cache_f32"),
        })
    }

    fn add(&mut self, text: &str) -> &mut Self {
        self.0.push_str(text);
        self.0.push('\n');
        self
    }
}

#[cfg(test)]
mod tests;
