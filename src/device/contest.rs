//! The work that devices are compared by: products of one row of activations with ternary weights that are larger than
//! most caches, as in each step of a model. It takes about a tenth of a second for each device.

use std::time::Duration;

use bytes::Bytes;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use super::{Device, Kind};
use crate::backend::{Backend, Numerics, Row};
use crate::cpu::Cpu;
use crate::error::Result;
use crate::format::{Scales, Ternary, Weights};
#[cfg(feature = "gpu")]
use crate::gpu::Gpu;
use crate::time::Instant;

/// Rows and columns of a matrix: 16 MiB, a feed-forward layer of a large model.
const SIDE: usize = 8192;
/// Matrices: 64 MiB together.
const MATRICES: usize = 4;
/// Bytes of random codes, which are repeated. No device is faster for it.
const RANDOM_BYTES: usize = 1 << 18;
/// For how long products are timed, and how often; the fastest time counts.
const TIMED: Duration = Duration::from_millis(15);
const ROUNDS: usize = 3;
/// Most products that are recorded at once.
const MOST_PASSES: usize = 64;
/// The integer sums are equal; what they are scaled with is 1, which a division may miss by a last bit.
const TOLERANCE: f32 = 1e-6;

/// Weights and activations.
pub(super) struct Contest {
    weights: Vec<Weights>,
    activations: Vec<i8>,
}

/// How one device did.
pub(super) struct Reading {
    /// Bytes of weights.
    pub(super) bytes_per_second: f64,
    /// The products with the last matrix, `[SIDE]`.
    pub(super) products: Vec<f32>,
}

impl Reading {
    pub(super) fn agrees_with(&self, other: &Self) -> bool {
        let close = |(a, b): (&f32, &f32)| (a - b).abs() <= TOLERANCE * b.abs();
        self.products.len() == other.products.len() && self.products.iter().zip(&other.products).all(close)
    }
}

impl Contest {
    pub(super) fn new() -> Self {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut bytes = vec![0; RANDOM_BYTES];
        random.fill_bytes(&mut bytes);
        // Two bits are a code; where both are set, they are none, and the lower one is cleared.
        bytes.iter_mut().for_each(|byte| *byte &= !((*byte >> 1) & 0x55));
        let matrix_bytes = SIDE * SIDE / 4;
        let codes = Bytes::from(bytes.repeat(MATRICES * matrix_bytes / RANDOM_BYTES));
        let matrix = |first: usize| {
            let codes = codes.slice(first * matrix_bytes..(first + 1) * matrix_bytes);
            let weights = Ternary::new(SIDE, SIDE, codes, Scales::Tensor(1.0));
            Weights::Ternary(weights.expect("as many codes as weights"))
        };
        let mut activations = vec![0u8; SIDE];
        random.fill_bytes(&mut activations);
        let activations = activations.into_iter().map(u8::cast_signed).collect();
        Self { weights: (0..MATRICES).map(matrix).collect(), activations }
    }

    /// Times a device.
    pub(super) fn read(&self, device: &Device) -> Result<Reading> {
        match &device.kind {
            Kind::Cpu(cpu) => self.read_on(Cpu::on(&cpu.open()?)),
            #[cfg(feature = "gpu")]
            Kind::Gpu(device) => self.read_on(Gpu::new(device)),
            #[cfg(not(feature = "gpu"))]
            Kind::Gpu(device) => match *device {},
        }
    }

    fn read_on<B: Backend>(&self, mut backend: B) -> Result<Reading> {
        let load = |weights| backend.matrix(std::slice::from_ref(weights));
        let matrices: Vec<B::Matrix> = self.weights.iter().map(load).collect::<Result<_>>()?;
        let mut x = backend.quantized(1, SIDE, Numerics::Int8Rows)?;
        let mut out = backend.tensor(1, SIDE)?;
        backend.write_quantized(&mut x, &self.activations, &[1.0]);
        let mut products = vec![0.0; SIDE];
        let mut time = |passes: usize| -> Result<Duration> {
            let start = Instant::now();
            backend.begin(&[Row { sequence: 0, position: 0, wants_logits: false }]);
            for matrix in (0..passes).flat_map(|_| &matrices) {
                backend.matmul(&mut out, matrix, &x);
            }
            backend.end();
            backend.read_tensor(&out, &mut products)?;
            Ok(start.elapsed())
        };
        time(1)?; // Compiles, and touches the weights.
        let once = time(1)?;
        let passes = (TIMED.as_secs_f64() / once.as_secs_f64().max(1e-9)) as usize;
        let passes = passes.clamp(1, MOST_PASSES);
        let mut fastest = once.as_secs_f64();
        for _ in 0..ROUNDS {
            fastest = fastest.min(time(passes)?.as_secs_f64() / passes as f64);
        }
        let bytes = MATRICES * SIDE * SIDE / 4;
        Ok(Reading { bytes_per_second: bytes as f64 / fastest, products })
    }
}
