//! The source of a shader: constants, then fragments, then its file.

use super::{Cached, Dot, Format, Input, Output, RowsOf, Scaling, Shader, Shape};
use crate::backend::{Activation, CachePrecision, ExpertShape, HeadNormOrder, MOST_CANDIDATES, RopePairs};
use crate::gpu::cooperative::{CooperativeCut, STRIDE};
use crate::gpu::layout::matvec_shape;
use crate::gpu::limits::{
    ATTENTION_TEAMS, CHUNK, ELEMENTWISE_THREADS, EXPERT_ROWS, MOST_THREADS, QUANTIZE_THREADS, ROUNDS_AHEAD, TILE,
    TILE_ROWS,
};

macro_rules! fragment {
    ($name:literal) => {
        include_str!(concat!("../../../shaders/shared/", $name, ".wgsl"))
    };
}

impl Shader {
    /// The whole WGSL source.
    pub(crate) fn source(&self) -> String {
        let mut text = Text::default();
        match *self {
            Self::Embed { table } => text.number("THREADS", ELEMENTWISE_THREADS as u32).add(table.weight()),
            Self::NormQuantize { norm, cols } => {
                text.number("THREADS", QUANTIZE_THREADS).quantizer(norm, cols, 1).add(fragment!("quantize_row"))
            }
            Self::NormQuantizeBlocks { norm, cols } => {
                text.number("THREADS", QUANTIZE_THREADS).quantizer(norm, cols, 1).add(fragment!("quantize_blocks"))
            }
            Self::Norm { selected, add } => {
                text.truth("SELECTED", selected).truth("ADD", add).add(fragment!("step")).add(fragment!("float_order"));
                text.add(fragment!("sum_shares"))
            }
            Self::Place => text.number("THREADS", ELEMENTWISE_THREADS as u32),
            Self::Matvec { product, shape, input } => {
                text.shape(shape).output(product.output).add(product.dot.fragment());
                text.add(fragment!("dot_piece")).add(match product.scaling {
                    Scaling::Rows => fragment!("scale_rows"),
                    Scaling::Groups => fragment!("scale_groups"),
                    Scaling::Blocks => fragment!("scale_blocks"),
                });
                match input {
                    Input::Quantized { of } => text.places(of, shape.rows).add(fragment!("x_stored")),
                    Input::Floats { norm, cols } => {
                        text.rows_of_step(1);
                        assert_eq!(shape.threads, QUANTIZE_THREADS, "so that sums of floats are added in one order");
                        text.quantizer(norm, cols, 5).add(fragment!("x_row"));
                        match product.scaling {
                            Scaling::Blocks => text.add(fragment!("quantize_blocks")).add(fragment!("x_normed_blocks")),
                            _ => text.add(fragment!("quantize_row")).add(fragment!("x_normed")),
                        }
                    }
                }
            }
            Self::MatvecFloats { output, shape, of } => {
                text.shape(shape).truth("ADD", output == Output::Add).places(of, shape.rows)
            }
            Self::Matmul { product, cut, of } => text
                .number("TILE", TILE as u32)
                .number("ROWS", cut.rows)
                .number("OUTPUTS", cut.outputs)
                .output(product.output)
                .truth("GROUPED", product.scaling != Scaling::Rows)
                .truth("BLOCKS", product.scaling == Scaling::Blocks)
                .tiles(of)
                .add(product.dot.fragment()),
            Self::MatmulCooperative { output, cut } => {
                text.cooperative(cut).truth("ADD", output == Output::Add).add(fragment!("step"))
            }
            Self::RopeAppend { cache, pairs, norm } => {
                text.rotation(pairs).cache(cache).add(fragment!("step"));
                text.truth("NORM_BEFORE", norm == Some(HeadNormOrder::BeforeRope));
                text.truth("NORM_AFTER", norm == Some(HeadNormOrder::AfterRope)).add(match norm {
                    Some(_) => concat!(fragment!("sum_shares"), fragment!("head_norm")),
                    None => fragment!("head_as_it_is"),
                })
            }
            Self::Attend { cut, append } => {
                text.number("GROUP", cut.heads).number("GROUPS", cut.groups).number("CHUNK", CHUNK as u32);
                text.number("AHEAD", ROUNDS_AHEAD as u32).number("EXCHANGED", cut.exchanged);
                text.number("TOGETHER", cut.together).cache(cut.cache).add(cut.cache.pieces());
                text.add(fragment!("step")).add(fragment!("online_softmax"));
                match append {
                    None => text.add(fragment!("attend_cached")),
                    Some(pairs) => text.rotation(pairs).add(fragment!("attend_append")),
                }
            }
            Self::AttendTile { cache, heads } => {
                text.number("GROUP", heads).number("TILE_ROWS", TILE_ROWS as u32).number("CHUNK", CHUNK as u32);
                text.cache(cache).add(cache.pieces()).add(fragment!("step")).add(fragment!("online_softmax"))
            }
            Self::AttendCooperative { cut } => {
                text.matrices(cut.teams.side).number("THREADS", cut.teams.threads).number("TEAMS", ATTENTION_TEAMS);
                text.number("TEAM_ROWS", TILE_ROWS as u32).number("HEADS", cut.heads).number("HEAD_DIM", cut.head_dim);
                text.add(fragment!("step")).add(fragment!("float_order"))
            }
            Self::AttendMerge { head_dim } => {
                text.number("HEAD_DIM", head_dim).number("CHUNK", CHUNK as u32);
                text.add(fragment!("step")).add(fragment!("online_softmax"))
            }
            Self::Glu { activation } => text.number("THREADS", ELEMENTWISE_THREADS as u32).activation(activation),
            Self::Logits { head, shape, aligned, all } => {
                text.shape(shape).truth("ALL", all).truth("SCALED_AFTER", head == Format::Screen);
                text.add(fragment!("step")).add(head.unpack_piece()).vectors(aligned)
            }
            Self::LogitsLeft { aligned } => {
                let shape = Shape { rows: 1, outputs: 1, ..matvec_shape(1, 1, false) };
                text.shape(shape).add(fragment!("float_order")).add(Format::F16.unpack_piece()).vectors(aligned)
            }
            Self::ScreenRows => text.add(fragment!("float_order")),
            Self::ScreenFloors => text.add(fragment!("float_order")).add(fragment!("sum_shares")),
            Self::Convolve { taps } => {
                text.number("THREADS", ELEMENTWISE_THREADS as u32).number("TAPS", taps).add(fragment!("step"))
            }
            Self::DeltaRule { head_dim } => {
                text.number("HEAD_DIM", head_dim).add(fragment!("step")).add(fragment!("float_order"))
            }
            Self::NormGate => {
                text.number("THREADS", ELEMENTWISE_THREADS as u32).add(fragment!("float_order"));
                text.add(fragment!("sum_shares"))
            }
            Self::Gate => text.number("THREADS", ELEMENTWISE_THREADS as u32),
            Self::Route => text
                .number("THREADS", ELEMENTWISE_THREADS as u32)
                .number("MOST", ExpertShape::MOST as u32)
                .number("MOST_USED", ExpertShape::MOST_USED as u32)
                .add(fragment!("float_order")),
            Self::SortPlaces => text
                .number("THREADS", MOST_THREADS)
                .number("MOST", ExpertShape::MOST as u32)
                .number("GROUP_ROWS", EXPERT_ROWS as u32)
                .add(fragment!("expert_tile")),
            Self::GluClamped | Self::MixPlaces => text.number("THREADS", ELEMENTWISE_THREADS as u32),
            Self::Rotate { block, norm, inverse } => text
                .number("THREADS", QUANTIZE_THREADS)
                .number("BLOCK", block)
                .truth("NORM", norm)
                .truth("INVERSE", inverse)
                .add(fragment!("float_order"))
                .add(fragment!("sum_shares")),
            Self::ArgmaxFirst => text.add(fragment!("float_order")).add(fragment!("argmax_first")),
            Self::ArgmaxLast => text.add(fragment!("argmax_last")),
            Self::Totals => text.add(fragment!("float_order")),
            Self::Arithmetic => &mut text,
            Self::TopFirst => {
                text.number("MOST", MOST_CANDIDATES as u32).add(fragment!("float_order")).add(fragment!("top_first"))
            }
            Self::TopFloor => {
                text.number("MOST", MOST_CANDIDATES as u32).add(fragment!("float_order")).add(fragment!("top_floor"))
            }
            Self::TopLast => {
                text.number("MOST", MOST_CANDIDATES as u32).add(fragment!("float_order")).add(fragment!("top_last"))
            }
        };
        text.add(self.file().source);
        text.0
    }
}

impl Format {
    /// `weight(row, col)`.
    fn weight(self) -> &'static str {
        match self {
            Self::F32 => fragment!("weight_f32"),
            Self::F16 => fragment!("weight_f16"),
            Self::Bf16 => fragment!("weight_bf16"),
            Self::Int8 => fragment!("weight_int8"),
            Self::Screen => panic!("no table of embeddings"),
            Self::Ternary => fragment!("weight_ternary"),
        }
    }

    /// `unpack_piece(bits, row, piece)`.
    fn unpack_piece(self) -> &'static str {
        match self {
            Self::F32 => fragment!("piece_f32"),
            Self::F16 => fragment!("piece_f16"),
            Self::Bf16 => fragment!("piece_bf16"),
            Self::Int8 => fragment!("piece_int8"),
            Self::Screen => fragment!("piece_codes"),
            Self::Ternary => panic!("a dense head"),
        }
    }
}

impl Cached {
    /// `Piece`, what is read at once.
    fn pieces(self) -> &'static str {
        match self.piece_pairs() {
            1 => fragment!("pieces_any"),
            2 => fragment!("pieces_f32"),
            _ => fragment!("pieces_f16"),
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

    /// The cut of a matrix–vector product, whose lanes share sums.
    fn shape(&mut self, shape: Shape) -> &mut Self {
        self.number("ROWS", shape.rows)
            .number("OUTPUTS", shape.outputs)
            .number("LANES", shape.lanes)
            .number("THREADS", shape.threads)
            .number("AHEAD", shape.ahead)
            .add(fragment!("lanes_sum"))
    }

    /// The rows of a product, so many in a workgroup: one, where they are places.
    fn places(&mut self, of: RowsOf, rows: u32) -> &mut Self {
        match of {
            RowsOf::Step => self.rows_of_step(rows),
            RowsOf::Experts => self.add(fragment!("part")).add(fragment!("rows_of_places")),
        }
    }

    /// The rows of a product in tiles; of places, those of one expert.
    fn tiles(&mut self, of: RowsOf) -> &mut Self {
        match of {
            RowsOf::Step => self.rows_of_step(TILE as u32),
            RowsOf::Experts => self
                .number("GROUP_ROWS", EXPERT_ROWS as u32)
                .add(fragment!("part"))
                .add(fragment!("expert_tile"))
                .add(fragment!("rows_of_tiles")),
        }
    }

    /// The rows of the step, so many in a workgroup.
    fn rows_of_step(&mut self, rows: u32) -> &mut Self {
        self.number("GROUP_ROWS", rows).add(fragment!("step")).add(fragment!("part")).add(fragment!("rows_of_step"))
    }

    fn output(&mut self, output: Output) -> &mut Self {
        self.truth("ADD", output == Output::Add).truth("GLU", matches!(output, Output::Glu(_)));
        // Without a gate, one that is never called.
        self.activation(if let Output::Glu(activation) = output { activation } else { Activation::SquaredRelu })
    }

    fn cooperative(&mut self, cut: CooperativeCut) -> &mut Self {
        self.matrices(cut.side)
            .number("THREADS", cut.threads)
            .number("TEAMS", cut.teams)
            .number("TEAM_OUTPUTS", cut.team_outputs())
            .number("TILE", cut.tile)
            .number("STRIDE", STRIDE)
    }

    /// Cooperative ones. Directives come before all else.
    fn matrices(&mut self, side: u32) -> &mut Self {
        self.add("enable f16;\nenable wgpu_int16;\nenable wgpu_cooperative_matrix;")
            .number("SIDE", side)
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

    /// Of rows of `cols` columns, which lie in `binding`; their gain lies in the one after it.
    fn quantizer(&mut self, norm: bool, cols: u32, binding: u32) -> &mut Self {
        self.truth("NORM", norm).number("COLS", cols).number("X", binding);
        self.add(fragment!("float_order")).add(fragment!("quantizer")).add(match cols.is_multiple_of(4) {
            true => fragment!("quads_aligned"),
            false => fragment!("quads_any"),
        })
    }

    fn cache(&mut self, cache: Cached) -> &mut Self {
        self.number("HEAD_DIM", cache.head_dim).add(fragment!("float_order")).add(match cache.precision {
            CachePrecision::F16 => fragment!("cache_f16"),
            CachePrecision::F32 => fragment!("cache_f32"),
        })
    }

    /// Activations in floats, four at once.
    fn vectors(&mut self, aligned: bool) -> &mut Self {
        self.add(match aligned {
            true => fragment!("vectors_aligned"),
            false => fragment!("vectors_any"),
        })
    }

    fn add(&mut self, text: &str) -> &mut Self {
        self.0.push_str(text);
        self.0.push('\n');
        self
    }
}
