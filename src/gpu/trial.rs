//! The trial when a GPU is opened: a product of many rows is computed in all ways that may suit the device, and held to the bits of the
//! way that is known to do; attention of many rows likewise, and held to be near (`attention.rs`). What is right and faster is used, on this device and with this driver. Few rows are not tried: what they
//! take is the memory's, and what is small enough to be tried lies in a cache.

mod attention;
mod clock;
mod times;

use std::time::Duration;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::backend::{Backend, Numerics, Row};
use crate::error::Result;
use crate::format::Weights;
use crate::format::ternary::{Scales, Ternary};
use crate::gpu::buffers::{Quantized, Tensor};
use crate::gpu::context::GpuDevice;
use crate::gpu::cooperative::Cooperative;
use crate::gpu::layout::Way;
use crate::gpu::product::Rows;
use crate::gpu::shader::{Dot, Output, Scaling, Shader};
use crate::gpu::trial::clock::Clock;
use crate::gpu::trial::times::KeptTimes;
use crate::gpu::{Gpu, Matrix};
use crate::time::Instant;

/// A product that is tried.
#[derive(Clone, Copy)]
struct Size {
    rows: usize,
    cols: usize,
    outputs: usize,
}

/// As many rows as a step has, and as large a matrix as fills a large device with large tiles. Tiles are cut off at both ends.
const SIZE: Size = Size { rows: 512 - 3, cols: 2048, outputs: 4096 - 3 };
/// How often each form is timed, by turns with the others, unless that takes longer than there is time for.
const TURNS: usize = 7;
const LONGEST: Duration = Duration::from_millis(300);
/// Seconds that the usual form may take where others are tried: else opening a slow device would take longer than a second.
const SLOWEST: f64 = 0.03;
/// How many times as fast another form has to be: less may be chance.
const MARGIN: f64 = 1.1;

/// The ways that are worth trying.
pub(super) const WAYS: &[Way] = &[
    Way { dot: Dot::Packed, wide: true },
    Way { dot: Dot::Packed, wide: false },
    Way { dot: Dot::Float, wide: false },
];

/// What came of a form of the product.
#[derive(Clone, Copy, Debug)]
struct Tried {
    is_equal: bool,
    seconds: f64,
}

/// A form of the product while it is tried.
struct Form {
    shader: Shader,
    out: Tensor,
    is_equal: bool,
    times: Vec<f64>,
}

/// How a device multiplies many rows best.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Choice {
    pub(super) way: Way,
    pub(super) cooperative: Cooperative,
}

/// Which of `ways`, or the one that the device has, is fastest, and which of the offered cooperative matrices are faster still; of those
/// whose results are equal to the last bit. What they took is kept for the next time; that they are right is looked at each time.
///
/// # Errors
/// [`crate::Error::Device`] if the device fails in it.
pub(super) fn choose(device: &GpuDevice, ways: &[Way], offered: Cooperative) -> Result<Choice> {
    let candidates = Candidates::new(device.0.many_rows, ways, offered);
    let kept = KeptTimes::of(device, "trial", &candidates.shaders());
    let mut choice = choose_of(device, &candidates, kept.as_ref())?;
    if choice.cooperative.has_products() {
        // Which of them a step takes depends on its rows: none is compiled in the middle of a prompt.
        let all = [Output::Store, Output::Add].into_iter().flat_map(|output| choice.shaders(output));
        device.0.pipelines(&all.collect::<Vec<_>>())?;
    }
    if let Some(teams) = offered.attention {
        choice.cooperative.attention_speed = attention::speed(device, teams)?;
        choice.cooperative.attention = choice.cooperative.attention_speed.map(|_| teams);
    }
    Ok(choice)
}

fn choose_of(device: &GpuDevice, candidates: &Candidates, kept: Option<&KeptTimes>) -> Result<Choice> {
    let name = device.adapter().name();
    let shaders = candidates.shaders();
    if let Some((kept, seconds)) = kept.and_then(|kept| Some((kept, kept.read(shaders.len())?))) {
        let tried: Vec<Tried> = seconds.into_iter().map(|seconds| Tried { is_equal: true, seconds }).collect();
        let choice = candidates.choice(&tried);
        let used = candidates.shaders_of(&choice);
        if used.len() == 1 || Trial::new(device, SIZE)?.are_equal(&used)? {
            log::info!("{name} multiplies many rows as it was tried before ({}): {choice:?}", kept.path().display());
            return Ok(choice);
        }
    }
    let tried = Trial::new(device, SIZE)?.compare(&shaders, SLOWEST)?;
    let Size { rows, cols, outputs } = SIZE;
    for (shader, Tried { is_equal, seconds }) in shaders.iter().zip(&tried) {
        log::info!("{name}: {rows} rows of {cols} columns by {outputs} in {:.3} ms by {shader:?}", seconds * 1e3);
        if !is_equal {
            log::warn!("{name} multiplies wrongly by {shader:?}, which is not used; a newer driver may do better");
        }
    }
    // A device that was slow may have been busy, and is tried again.
    if let Some(kept) = kept.filter(|_| tried.len() == shaders.len() && tried.iter().all(|tried| tried.is_equal)) {
        kept.write(tried.iter().map(|tried| tried.seconds));
    }
    let choice = candidates.choice(&tried);
    log::info!("{name} multiplies many rows by what was fastest: {choice:?}");
    Ok(choice)
}

/// What may suit a device: the first way is the one that it has.
struct Candidates {
    ways: Vec<Way>,
    offered: Cooperative,
}

impl Candidates {
    fn new(usual: Way, ways: &[Way], offered: Cooperative) -> Self {
        let mut all = vec![usual];
        all.extend(ways.iter().filter(|way| **way != usual));
        Self { ways: all, offered }
    }

    /// The product by each way, then by each of the cooperative matrices.
    fn shaders(&self) -> Vec<Shader> {
        let by_way = self.ways.iter().map(|way| way.matmul(Scaling::Rows, Output::Store));
        by_way.chain(by_matrices(self.offered, Output::Store)).collect()
    }

    /// Of what was tried of [`Candidates::shaders`], at least of the first.
    fn choice(&self, tried: &[Tried]) -> Choice {
        let (of_ways, of_matrices) = tried.split_at(tried.len().min(self.ways.len()));
        let best = fastest(of_ways);
        let of =
            |cut| self.offered.cuts().zip(of_matrices).find(|(known, _)| Some(*known) == cut).map(|(_, tried)| *tried);
        let (small, large) = (of(self.offered.small), of(self.offered.large));
        Choice { way: self.ways[best], cooperative: judge(self.offered, of_ways[best].seconds, small, large) }
    }

    /// The product by the first way, then by what was chosen in its place.
    fn shaders_of(&self, choice: &Choice) -> Vec<Shader> {
        let mut shaders = vec![self.ways[0].matmul(Scaling::Rows, Output::Store)];
        shaders.extend(choice.shaders(Output::Store).filter(|shader| *shader != shaders[0]).collect::<Vec<_>>());
        shaders
    }
}

impl Choice {
    /// The products of many rows that it means.
    fn shaders(self, output: Output) -> impl Iterator<Item = Shader> {
        [self.way.matmul(Scaling::Rows, output)].into_iter().chain(by_matrices(self.cooperative, output))
    }
}

fn by_matrices(offered: Cooperative, output: Output) -> impl Iterator<Item = Shader> {
    offered.cuts().map(move |cut| Shader::MatmulCooperative { output, cut })
}

/// The place of the fastest that is right; the first, unless it is slower by the margin.
fn fastest(tried: &[Tried]) -> usize {
    let right = |place: &usize| tried[*place].is_equal && tried[*place].seconds > 0.0;
    let best = (0..tried.len()).filter(right).min_by(|&a, &b| tried[a].seconds.total_cmp(&tried[b].seconds));
    best.filter(|&best| tried[0].seconds >= MARGIN * tried[best].seconds).unwrap_or(0)
}

/// What is used of what is offered: nothing if any is wrong, and nothing that is not faster; large tiles only if they are faster than
/// small ones.
fn judge(offered: Cooperative, usual_seconds: f64, small: Option<Tried>, large: Option<Tried>) -> Cooperative {
    if [small, large].into_iter().flatten().any(|tried| !tried.is_equal) {
        return Cooperative::default();
    }
    // A clock that stands still says nothing.
    let worth = |tried: Option<Tried>| {
        tried.map(|tried| tried.seconds).filter(|&seconds| seconds > 0.0 && usual_seconds >= MARGIN * seconds)
    };
    let small = worth(small);
    let large = worth(large).filter(|&large| small.is_none_or(|small| large < small));
    Cooperative {
        small: offered.small.filter(|_| small.is_some()),
        large: offered.large.filter(|_| large.is_some()),
        speed: large.or(small).map(|seconds| usual_seconds / seconds),
        ..Cooperative::default()
    }
}

/// A product on a device, of which forms are compared.
struct Trial {
    gpu: Gpu,
    size: Size,
    w: Matrix,
    x: Quantized,
    clock: Clock,
}

impl Trial {
    fn new(device: &GpuDevice, size: Size) -> Result<Self> {
        let mut gpu = Gpu::new(device);
        let clock = Clock::of(&mut gpu);
        let (weights, activations) = material(size);
        let w = gpu.matrix(&[Weights::Ternary(weights)])?;
        let mut x = gpu.quantized(size.rows, size.cols, Numerics::Int8Rows)?;
        gpu.write_quantized(&mut x, &activations, &vec![3.0; size.rows]);
        let rows = (0..size.rows as u32).map(|position| Row { sequence: 0, position, wants_logits: false });
        gpu.begin(&rows.collect::<Vec<_>>());
        Ok(Self { gpu, size, w, x, clock })
    }

    /// Computes the product by each of `shaders`, holds what comes of it to what comes of the first, and times it: by turns, where it
    /// is not far slower. If the first takes longer than `slowest` seconds, it is the only one.
    fn compare(&mut self, shaders: &[Shader], slowest: f64) -> Result<Vec<Tried>> {
        let mut usual: Option<(Vec<u32>, f64)> = None;
        let mut forms = Vec::new();
        for &shader in shaders {
            let (out, bits) = self.product(shader)?;
            let seconds = self.seconds(shader, &out)?;
            let (right, first) = usual.get_or_insert_with(|| (bits.clone(), seconds));
            forms.push(Form { shader, out, is_equal: bits == *right, times: vec![seconds] });
            if *first > slowest {
                break;
            }
            if forms.len() == 1 {
                self.gpu.device.0.pipelines(shaders)?; // all others at once, where there is time for them
            }
        }
        let first = usual.map_or(0.0, |(_, seconds)| seconds);
        let start = Instant::now();
        let mut turns = 1;
        while turns < TURNS && start.elapsed() < LONGEST {
            for form in forms.iter_mut().filter(|form| form.times[0] <= 2.0 * first) {
                form.times.push(self.seconds(form.shader, &form.out)?);
            }
            turns += 1;
        }
        let tried = forms.into_iter().map(|mut form| {
            form.times.sort_by(f64::total_cmp);
            Tried { is_equal: form.is_equal, seconds: form.times[form.times.len() / 2] }
        });
        Ok(tried.collect())
    }

    /// Whether the product has the same bits by all of `shaders`.
    fn are_equal(&mut self, shaders: &[Shader]) -> Result<bool> {
        self.gpu.device.0.pipelines(shaders)?;
        let mut first = None;
        for &shader in shaders {
            let (_, bits) = self.product(shader)?;
            if *first.get_or_insert_with(|| bits.clone()) != bits {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The product by a shader, and its bits. Memory is zero when it is new, and the product is not.
    fn product(&mut self, shader: Shader) -> Result<(Tensor, Vec<u32>)> {
        let out = self.gpu.tensor(self.size.rows, self.size.outputs)?;
        record(&mut self.gpu, (&self.w, &self.x), self.size.rows, shader, &out);
        let mut values = vec![0.0; self.size.rows * self.size.outputs];
        self.gpu.read_tensor(&out, &mut values)?;
        Ok((out, values.into_iter().map(f32::to_bits).collect()))
    }

    fn seconds(&mut self, shader: Shader, out: &Tensor) -> Result<f64> {
        let Self { gpu, size, w, x, clock } = self;
        clock.seconds(gpu, |gpu| record(gpu, (w, x), size.rows, shader, out))
    }
}

fn record(gpu: &mut Gpu, (w, x): (&Matrix, &Quantized), rows: usize, shader: Shader, out: &Tensor) {
    let step = gpu.step();
    for shard in &w.shards {
        gpu.multiply_tiles(out, w, shard, x, &Rows::of_step(rows, &step), shader);
    }
}

/// Weights and activations of all kinds, in no order; of both, some rows at the extremes, and of the weights one of code 3, which is
/// no trit.
fn material(size: Size) -> (Ternary, Vec<i8>) {
    let random = &mut Xoshiro256PlusPlus::seed_from_u64(1);
    let row_bytes = size.cols / 4;
    let mut codes = vec![0; size.outputs * row_bytes];
    random.fill_bytes(&mut codes);
    for (row, extreme) in codes.chunks_mut(row_bytes).zip([0b00_00_00_00, 0b10_10_10_10, 0b11_11_11_11]) {
        row.fill(extreme);
    }
    let mut x = vec![0i8; size.rows * size.cols];
    random.fill_bytes(bytemuck::cast_slice_mut(&mut x));
    for (row, extreme) in x.chunks_mut(size.cols).zip([i8::MIN, i8::MAX]) {
        row.fill(extreme);
    }
    let weights = Ternary::new(size.outputs, size.cols, codes.into(), Scales::Tensor(0.37));
    (weights.expect("as many codes as there are weights"), x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::cooperative::CooperativeCut;
    use crate::gpu::{Adapter, GpuOptions};

    const SMALL: CooperativeCut = CooperativeCut { side: 16, tile: 64, teams: 4, threads: 128 };
    const LARGE: CooperativeCut = CooperativeCut { side: 16, tile: 128, teams: 8, threads: 256 };
    const BOTH: Cooperative =
        Cooperative { small: Some(SMALL), large: Some(LARGE), speed: None, attention: None, attention_speed: None };

    fn equal(seconds: f64) -> Option<Tried> {
        Some(Tried { is_equal: true, seconds })
    }

    fn tiles(judged: Cooperative) -> Vec<u32> {
        judged.cuts().map(|cut| cut.tile).collect()
    }

    #[test]
    fn what_is_faster_by_the_margin_is_used() {
        let judge = |small, large| judge(BOTH, 1.1, equal(small), equal(large));
        assert_eq!(tiles(judge(1.0, 0.5)), [64, 128]);
        assert_eq!(judge(1.0, 0.5).speed, Some(2.2));
        assert_eq!(tiles(judge(0.5, 0.6)), [64], "large tiles that are slower than small ones");
        assert_eq!(judge(0.55, 0.6).speed, Some(2.0));
        assert_eq!(tiles(judge(1.05, 0.5)), [128]);
        assert_eq!(judge(1.05, 1.1), Cooperative::default());
        assert_eq!(judge(2.0, 3.0), Cooperative::default());
    }

    #[test]
    fn large_tiles_may_not_be_offered() {
        let offered = Cooperative { large: None, ..BOTH };
        assert_eq!(tiles(judge(offered, 3.0, equal(1.0), None)), [64]);
        assert_eq!(judge(offered, 1.0, equal(1.0), None), Cooperative::default());
    }

    #[test]
    fn the_first_way_is_left_for_one_that_is_right_and_faster_by_the_margin() {
        let of = |seconds: &[f64]| {
            let tried: Vec<Tried> = seconds.iter().map(|&seconds| equal(seconds).unwrap()).collect();
            fastest(&tried)
        };
        assert_eq!((of(&[1.0]), of(&[1.0, 0.95, 2.0]), of(&[1.0, 0.8, 0.7])), (0, 0, 2));
        assert_eq!((of(&[0.0, 0.0]), of(&[f64::NAN, 1.0]), of(&[1.0, 0.0])), (0, 0, 0));
        let wrong = Tried { is_equal: false, seconds: 0.1 };
        assert_eq!(fastest(&[equal(1.0).unwrap(), wrong, equal(0.5).unwrap()]), 2);
    }

    #[test]
    fn one_that_is_wrong_rules_out_all() {
        let wrong = Some(Tried { is_equal: false, seconds: 0.1 });
        assert_eq!(judge(BOTH, 1.0, wrong, equal(0.1)), Cooperative::default());
        assert_eq!(judge(BOTH, 1.0, equal(0.1), wrong), Cooperative::default());
    }

    #[test]
    fn a_clock_that_stands_still_says_nothing() {
        assert_eq!(judge(BOTH, 0.0, equal(0.0), equal(0.0)), Cooperative::default());
        assert_eq!(judge(BOTH, f64::NAN, equal(f64::NAN), equal(1.0)), Cooperative::default());
    }

    /// On software, without cooperative matrices: forms of the product with the same bits, and one with others.
    #[test]
    fn forms_of_a_product_are_held_to_the_first_and_timed() {
        let size = Size { rows: 61, cols: 256, outputs: 125 };
        for adapter in Adapter::all_to_test() {
            let options = GpuOptions { cooperative: Some(false), ..GpuOptions::default() };
            let device = GpuDevice::open(&adapter, &options).unwrap();
            for has_clock in [true, false] {
                let mut trial = Trial::new(&device, size).unwrap();
                if !has_clock {
                    (trial.gpu, trial.clock) = (without_clock(&device, trial.gpu), Clock::Host);
                }
                // The last scales groups of columns one by one, and so rounds otherwise.
                let mut shaders: Vec<Shader> =
                    WAYS.iter().map(|&way| way.matmul(Scaling::Rows, Output::Store)).collect();
                shaders.push(WAYS[0].matmul(Scaling::Groups, Output::Store));
                assert_eq!(trial.compare(&shaders, 0.0).unwrap().len(), 1, "a slow device tries nothing");
                let tried = trial.compare(&shaders, f64::INFINITY).unwrap();
                assert_eq!(tried.iter().map(|tried| tried.is_equal).collect::<Vec<_>>(), [true, true, true, false]);
                assert!(tried.iter().all(|tried| tried.seconds > 0.0), "{tried:?}");
            }
        }
    }

    #[test]
    fn a_device_that_is_slow_keeps_its_way() {
        for adapter in Adapter::all_to_test().into_iter().filter(Adapter::is_software) {
            let options = GpuOptions { cooperative: Some(false), ..GpuOptions::default() };
            let device = GpuDevice::open(&adapter, &options).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let kept = KeptTimes::at(folder.path().join("trial"), "a driver".into());
            let candidates = Candidates::new(device.0.many_rows, WAYS, Cooperative::default());
            let usual = Choice { way: device.0.many_rows, cooperative: Cooperative::default() };
            assert_eq!(choose_of(&device, &candidates, Some(&kept)).unwrap(), usual);
            assert_eq!(kept.read(candidates.ways.len()), None, "it may have been busy");

            // What was kept decides the next time: here that the last way is fastest.
            let other = Choice { way: *candidates.ways.last().unwrap(), ..usual };
            kept.write([0.003, 0.003, 0.001]);
            assert_eq!(choose_of(&device, &candidates, Some(&kept)).unwrap(), other);
        }
    }

    /// One that was told of the step and is not profiled.
    fn without_clock(device: &GpuDevice, told: Gpu) -> Gpu {
        let mut gpu = Gpu::new(device);
        gpu.begin(&told.rows);
        gpu
    }

    #[test]
    fn a_trial_meets_all_codes_and_all_activations() {
        let (weights, x) = material(Size { rows: 61, cols: 256, outputs: 125 });
        let codes: std::collections::BTreeSet<u8> = weights.codes().iter().copied().collect();
        let values: std::collections::BTreeSet<i8> = x.iter().copied().collect();
        assert_eq!((codes.len(), values.len()), (256, 256));
    }
}
