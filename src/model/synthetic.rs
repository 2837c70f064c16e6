//! Models of published shapes with seeded random trits: the real amount of work on any machine, without a download.

use bytes::Bytes;
use half::f16;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::backend::{Activation, DeltaHeads, HeadNormOrder, Heads, Numerics, Rope, RopePairs};
use crate::error::Result;
use crate::format::ternary::{BLOCK, padded};
use crate::format::{Dense, Scales, Ternary, Values, Weights};
use crate::model::{Config, DeltaNet, Factors, Hadamard, Part, Role, WeightSource};

/// A published shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SyntheticShape {
    /// microsoft/bitnet-b1.58-2B-4T: 30 layers of 2560, vocabulary 128256, tied f16 head.
    Bitnet2B,
    /// 1bitLLM/bitnet_b1_58-large: 24 layers of 1536, vocabulary 32002, tied f16 head.
    Bitnet700M,
    /// prism-ml/Ternary-Bonsai-1.7B: 28 layers of 2048, vocabulary 151936, all of it ternary in groups of 128 columns, a tied
    /// head too.
    Bonsai1_7B,
    /// prism-ml/Ternary-Bonsai-27B: 64 layers of 5120, 48 of them recurrent, vocabulary 248320, all of it ternary in groups of 128
    /// columns, a head of its own.
    Bonsai27B,
    /// prism-ml/Ternary-Bonsai-2-27B: the same in a rotated basis of blocks of 1024 columns.
    Bonsai2_27B,
    /// Ternary-Bonsai-27B in small: 4 layers of 1024, 3 of them recurrent, vocabulary 4096.
    Bonsai27BCut,
    /// The model that ships with the crate: 4 layers of 256, vocabulary 2048, tied f16 head. Small enough for
    /// [`reference`](mod@crate::reference).
    Tales4M,
}

/// What one scale of a synthetic matrix covers, where the shape does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SyntheticScales {
    /// The whole tensor, as in I2_S files.
    Tensor,
    /// 256 columns of a row, as in TQ1_0 and TQ2_0 files; each has a scale of its own.
    Superblocks,
}

/// Columns of a superblock.
const SUPERBLOCK: usize = 256;

pub(super) fn build(shape: SyntheticShape, scales: SyntheticScales, seed: u64) -> (Config, SyntheticWeights) {
    let bitnet = bitnet();
    let config = match shape {
        SyntheticShape::Bitnet2B => Config {
            architecture: "bitnet-b1.58".into(),
            layers: 30,
            width: 2560,
            ffn_width: 6912,
            heads: Heads { heads: 20, kv_heads: 5, head_dim: 128 },
            vocabulary: 128_256,
            context: 4096,
            rope: Rope::new(RopePairs::Half, 500_000.0, 128, 1.0),
            ..bitnet
        },
        SyntheticShape::Bitnet700M => Config {
            architecture: "bitnet".into(),
            layers: 24,
            width: 1536,
            ffn_width: 4096,
            heads: Heads { heads: 16, kv_heads: 16, head_dim: 96 },
            vocabulary: 32_002,
            context: 2048,
            rope: Rope::new(RopePairs::Half, 10_000.0, 96, 1.0),
            activation: Activation::Silu,
            ..bitnet
        },
        SyntheticShape::Bonsai1_7B => Config {
            architecture: "qwen3".into(),
            layers: 28,
            width: 2048,
            ffn_width: 6144,
            heads: Heads { heads: 16, kv_heads: 8, head_dim: 128 },
            vocabulary: 151_936,
            context: 32_768,
            norm_epsilon: 1e-6,
            rope: Rope::new(RopePairs::Half, 1e6, 128, 1.0),
            activation: Activation::Silu,
            numerics: Numerics::Int8Groups,
            sub_norms: false,
            head_norms: Some(HeadNormOrder::BeforeRope),
            ..bitnet
        },
        SyntheticShape::Bonsai27B => hybrid(bitnet),
        SyntheticShape::Bonsai2_27B => Config { hadamard: Some(Hadamard::without_signs(1024)), ..hybrid(bitnet) },
        SyntheticShape::Bonsai27BCut => Config {
            layers: 4,
            width: 1024,
            ffn_width: 3584,
            heads: Heads { heads: 6, kv_heads: 1, head_dim: 256 },
            vocabulary: 4096,
            delta_net: Some(DeltaNet {
                heads: DeltaHeads { key_heads: 4, value_heads: 12, head_dim: 128 },
                taps: 4,
                layers: DeltaNet::by_interval(4, 4),
            }),
            ..hybrid(bitnet)
        },
        SyntheticShape::Tales4M => bitnet,
    };
    let groups = match (&config, scales) {
        _ if config.numerics != Numerics::Int8Rows => Some(BLOCK),
        (_, SyntheticScales::Tensor) => None,
        (_, SyntheticScales::Superblocks) => Some(SUPERBLOCK),
    };
    (config.clone(), SyntheticWeights { config, groups, seed })
}

/// Ternary-Bonsai-27B.
fn hybrid(bitnet: Config) -> Config {
    Config {
        architecture: "qwen35".into(),
        layers: 64,
        width: 5120,
        ffn_width: 17_408,
        heads: Heads { heads: 24, kv_heads: 4, head_dim: 256 },
        vocabulary: 248_320,
        context: 262_144,
        norm_epsilon: 1e-6,
        rope: Rope::new(RopePairs::Half, 1e7, 64, 1.0),
        delta_net: Some(DeltaNet {
            heads: DeltaHeads { key_heads: 16, value_heads: 48, head_dim: 128 },
            taps: 4,
            layers: DeltaNet::by_interval(4, 64),
        }),
        attention_gate: true,
        activation: Activation::Silu,
        numerics: Numerics::Int8Groups,
        sub_norms: false,
        head_norms: Some(HeadNormOrder::BeforeRope),
        ..bitnet
    }
}

/// What the BitNet models share; sizes are those of the smallest.
fn bitnet() -> Config {
    Config {
        architecture: "bitnet-b1.58".into(),
        layers: 4,
        width: 256,
        ffn_width: 768,
        heads: Heads { heads: 4, kv_heads: 2, head_dim: 64 },
        vocabulary: 2048,
        context: 512,
        norm_epsilon: 1e-5,
        rope: Rope::new(RopePairs::Half, 500_000.0, 64, 1.0),
        long_rope: None,
        windows: None,
        hadamard: None,
        delta_net: None,
        attention_gate: false,
        mixture: None,
        activation: Activation::SquaredRelu,
        numerics: Numerics::Int8Rows,
        sub_norms: true,
        head_norms: None,
        input_norms: false,
        post_norms: false,
        factors: Factors::default(),
        pooling: None,
    }
}

/// Generates each role's weights from the seed, the same every time.
pub(super) struct SyntheticWeights {
    config: Config,
    groups: Option<usize>, // columns that a scale covers, if not all
    seed: u64,
}

impl WeightSource for SyntheticWeights {
    fn has(&self, role: Role) -> bool {
        match role {
            Role::Head => self.config.delta_net.is_some(),
            Role::RopeFactors | Role::ShortRopeFactors | Role::LongRopeFactors => false,
            _ => true,
        }
    }

    fn weights(&self, role: Role) -> Result<Option<Weights>> {
        let (rows, cols) = role.shape(&self.config);
        if !self.has(role) {
            return Ok(None);
        }
        let stream = match role {
            Role::Embedding => 0,
            Role::OutputNorm => 1,
            // Behind all layers.
            Role::Head | Role::RopeFactors | Role::ShortRopeFactors | Role::LongRopeFactors => 1 << 40,
            Role::Layer(layer, part) => 2 + stream_of(layer, part),
        };
        let mut random = Xoshiro256PlusPlus::seed_from_u64(self.seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let all_ternary = self.config.numerics != Numerics::Int8Rows;
        Ok(Some(if role.is_linear() || all_ternary && role.may_be_ternary() {
            // Keeps the outputs near the size of the inputs, as trained layers do: half of the trits are zero.
            let mut scale = (2.0 / cols as f32).sqrt();
            if !all_ternary && matches!(role, Role::Layer(_, Part::AttentionOutput | Part::Down)) {
                scale *= EMBEDDING_SIZE / ((2 * self.config.layers) as f32).sqrt();
            }
            let codes = random_codes(&mut random, rows, cols);
            let scales = match self.groups {
                None => Scales::Tensor(scale),
                Some(columns) => {
                    // Within a sixteenth of each other, and in half precision, as in trained files: some eighty values.
                    let mut near = || {
                        let value = scale * (1.0 + (random.next_u32() >> 8) as f32 / (1u32 << 28) as f32);
                        f16::from_f32(value).to_f32()
                    };
                    let values = (0..rows * cols.div_ceil(columns)).map(|_| near()).collect();
                    Scales::Groups { columns, values }
                }
            };
            Weights::Ternary(Ternary::new(rows, cols, codes, scales)?)
        } else if let Role::Layer(_, Part::DeltaRate) = role {
            // From memories that last to such that fade soon, as trained layers have both.
            let rates = (0..cols).flat_map(|head| (-0.01 - 0.02 * head as f32).to_le_bytes()).collect::<Vec<u8>>();
            Weights::Dense(Dense::new(1, cols, Values::F32(rates.into()))?)
        } else if rows == 1 {
            let gains: Vec<f32> = match role {
                Role::OutputNorm if !all_ternary => self.signs(cols),
                _ => vec![1.0; cols],
            };
            Weights::Dense(Dense::new(1, cols, Values::F32(bytemuck::cast_slice(&gains).to_vec().into()))?)
        } else {
            let values = match role {
                Role::Embedding => vocabulary(&mut random, rows, &self.signs(cols)),
                _ => random_f16(&mut random, rows * cols),
            };
            Weights::Dense(Dense::new(rows, cols, Values::F16(values))?)
        }))
    }
}

impl SyntheticWeights {
    /// The gains of the last norm: ones with signs, which [`vocabulary`] knows.
    fn signs(&self, cols: usize) -> Vec<f32> {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(!self.seed);
        (0..cols).map(|_| if random.next_u32() >> 31 == 0 { 1.0 } else { -1.0 }).collect()
    }
}

/// A number for each part of each layer. Parts that most networks have were numbered first, and keep their numbers, so that the same
/// seeds make the same models.
fn stream_of(layer: usize, part: Part) -> u64 {
    let parts =
        |is_first: bool| Part::ALL.iter().map(|(part, _)| *part).filter(move |part| is_common(*part) == is_first);
    let is_first = is_common(part);
    let place = parts(is_first).position(|other| other == part).expect("ALL lists every part");
    let begin = if is_first { 0 } else { 1 << 32 };
    begin + (layer * parts(is_first).count() + place) as u64
}

fn is_common(part: Part) -> bool {
    use Part::*;
    let is_recurrent = matches!(
        part,
        DeltaQkv
            | DeltaGate
            | DeltaAlpha
            | DeltaBeta
            | DeltaConvolution
            | DeltaBias
            | DeltaRate
            | DeltaNorm
            | DeltaOutput
    );
    !is_recurrent && !part.is_of_experts() && part != Router
}

/// Codes with −1, 0, +1 at probabilities 1/4, 1/2, 1/4: each is the sum of two random bits.
fn random_codes(random: &mut Xoshiro256PlusPlus, rows: usize, cols: usize) -> Bytes {
    assert_eq!(padded(cols), cols, "synthetic rows are whole blocks of {BLOCK}");
    let mut codes = vec![0u8; rows * cols / 4];
    for word in codes.as_chunks_mut::<8>().0 {
        let bits = random.next_u64();
        const LOW: u64 = 0x5555_5555_5555_5555;
        *word = ((bits & LOW) + (bits >> 1 & LOW)).to_le_bytes();
    }
    codes.into()
}

/// The root mean square of an embedding in f16. Where it is, all layers together add as much to the stream of rows, so that what the last
/// norm sees is half the embedding of the latest token.
const EMBEDDING_SIZE: f32 = 0.08;

/// Embeddings `[rows, signs.len()]`, which are a head too, in little-endian f16. As in trained ones, rows have more in common than what
/// sets them apart, some columns are larger than others, and hidden vectors lean to the rows of few tokens: what choosing a token costs depends on
/// that. What sets rows apart is a chain: each has half of it with the row before, half with the next. Every second row has it
/// with the signs that the last norm gives to its features. So the tokens beside a token in the chain are likely to follow it, and it is
/// not likely to follow itself.
fn vocabulary(random: &mut Xoshiro256PlusPlus, rows: usize, signs: &[f32]) -> Bytes {
    /// Of so many columns one is large.
    const PER_LARGE: usize = 40;
    let unit = |random: &mut Xoshiro256PlusPlus| (random.next_u32() as i32) as f32 / (1u32 << 31) as f32;
    let common: Vec<f32> = signs.iter().map(|_| 0.12 * unit(random)).collect();
    let spread = |col: usize| if col.is_multiple_of(PER_LARGE) { 0.14 } else { 0.035 };
    let link = |random: &mut Xoshiro256PlusPlus, values: &mut [f32]| {
        for (values, first) in values.chunks_mut(2).zip((0..).step_by(2)) {
            let bits = random.next_u32();
            for ((value, half), col) in values.iter_mut().zip([bits, bits >> 16]).zip(first..) {
                *value = f32::from(half as u16 as i16) * (spread(col) / 32768.0);
            }
        }
    };
    let [mut before, mut next] = [0, 1].map(|_| vec![0.0; signs.len()]);
    link(random, &mut before);
    let mut values = vec![0u8; rows * signs.len() * 2];
    for (row, values) in values.chunks_exact_mut(signs.len() * 2).enumerate() {
        link(random, &mut next);
        for (col, value) in values.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            let sign = if row.is_multiple_of(2) { 1.0 } else { signs[col] };
            *value = f16::from_f32(common[col] + sign * (before[col] + next[col])).to_le_bytes();
        }
        std::mem::swap(&mut before, &mut next);
    }
    values.into()
}

/// Values within 0.1 of zero, in little-endian f16.
fn random_f16(random: &mut Xoshiro256PlusPlus, count: usize) -> Bytes {
    let mut values = vec![0u8; count * 2];
    for pair in values.chunks_mut(4) {
        let bits = random.next_u32();
        for (value, half) in pair.as_chunks_mut::<2>().0.iter_mut().zip([bits, bits >> 16]) {
            *value = f16::from_f32(f32::from(half as u16 as i16) * (0.1 / 32768.0)).to_le_bytes();
        }
    }
    values.into()
}
