//! The trial of attention: rows of a prompt attend in tiles, and by cooperative matrices. Both add up floats, in orders of their own, so
//! what comes of them is held to be near, not equal.

use half::f16;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use super::{LONGEST, MARGIN, SLOWEST, TURNS};
use crate::backend::{Backend, CachePrecision, CacheShape, Heads, Row};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::gpu::buffers::{Cache, Tensor};
use crate::gpu::context::GpuDevice;
use crate::gpu::cooperative::{AttentionCut, Teams};
use crate::gpu::layout::{cached, tile_heads};
use crate::gpu::shader::Shader;
use crate::gpu::trial::clock::Clock;
use crate::gpu::trial::times::KeptTimes;
use crate::time::Instant;

/// Attention that is tried.
#[derive(Clone, Copy)]
struct Size {
    heads: Heads,
    /// Of a step: the last of so many positions.
    rows: usize,
    positions: usize,
}

/// What results may differ by, for values of at most 1. Scores are of up to some ten, sums of a hundred products that keep 22 bits of a
/// query, so they are off by up to 1e-5, and weights by as much of themselves. The first part of a query alone would make it 1e-3.
const NEAR: f32 = 5e-5;
/// Keys and values of every second head lie below full precision of halves: a device may not drop them.
const SMALL: f32 = 1.0 / (1 << 18) as f32;

/// How many times as fast as in tiles rows attend by cooperative matrices; none where that is less than the margin, or not right. What
/// it took is kept for the next time; that it is right is looked at each time.
///
/// # Errors
/// [`crate::Error::Device`] if the device fails in it.
pub(super) fn speed(device: &GpuDevice, teams: Teams) -> Result<Option<f64>> {
    // Heads fill a large device, and tiles are cut off.
    let heads = Heads { heads: 16, kv_heads: 4, head_dim: teams.most_features as usize };
    let size = Size { heads, rows: 512 - 3, positions: 2048 };
    let (timed, cut) = shaders(size, teams);
    let Some(speed) = speed_of(device, size, cut, KeptTimes::of(device, "trial_attention", &timed).as_ref())? else {
        return Ok(None);
    };
    // All others that a model may have are held to what is right, too.
    let sizes: Vec<Size> = sizes(teams).collect();
    device.0.pipelines(&sizes.iter().flat_map(|&size| shaders(size, teams).0).collect::<Vec<_>>())?;
    for size in sizes {
        let (_, cut) = shaders(size, teams);
        if !is_near(device, cut, Trial::new(device, size)?.difference(cut)?) {
            return Ok(None);
        }
    }
    Ok(Some(speed))
}

/// One for each cut: heads of each size, alone, in twos and in fours.
fn sizes(teams: Teams) -> impl Iterator<Item = Size> {
    let head_dims = [64, 128].into_iter().filter(move |&head_dim| head_dim <= teams.most_features as usize);
    head_dims.flat_map(|head_dim| {
        [8, 4, 2].map(|kv_heads| Size { heads: Heads { heads: 8, kv_heads, head_dim }, rows: 125, positions: 250 })
    })
}

/// Whether results that are off by so much are right; else the log tells.
fn is_near(device: &GpuDevice, cut: AttentionCut, off: f32) -> bool {
    let is_near = off <= NEAR;
    if !is_near {
        let name = device.adapter().name();
        log::warn!("{name} attends wrongly by {cut:?}, off by {off:e}: not used; a newer driver may do better");
    }
    is_near
}

fn speed_of(device: &GpuDevice, size: Size, cut: AttentionCut, kept: Option<&KeptTimes>) -> Result<Option<f64>> {
    let name = device.adapter().name();
    let known = kept.and_then(|kept| kept.read(2)).map(|seconds| worth([seconds[0], seconds[1]]));
    if known == Some(None) {
        return Ok(None);
    }
    device.0.pipelines(&shaders(size, cut.teams).0)?;
    let mut trial = Trial::new(device, size)?;
    if known.is_none() && trial.seconds(None)? > SLOWEST {
        return Ok(None); // it may be busy, and is tried again
    }
    if !is_near(device, cut, trial.difference(cut)?) {
        return Ok(None);
    }
    if let Some(known) = known {
        log::info!("{name} attends {known:?} times as fast by {cut:?}, as was tried before");
        return Ok(known);
    }
    let seconds = trial.compare(cut)?;
    let [in_tiles, by_matrices] = seconds.map(|seconds| seconds * 1e3);
    log::info!("{name}: {} rows attend in {in_tiles:.3} ms, in {by_matrices:.3} ms by {cut:?}", size.rows);
    if let Some(kept) = kept {
        kept.write(seconds);
    }
    Ok(worth(seconds))
}

/// In tiles, and by cooperative matrices.
fn shaders(size: Size, teams: Teams) -> ([Shader; 2], AttentionCut) {
    let (cache, together) = (cached(&size.shape()), size.heads.heads / size.heads.kv_heads);
    let heads = tile_heads(cache, together).expect("heads of 64 or 128 features");
    let cut = teams.cut(cache, together).expect("a head that there is room for");
    ([Shader::AttendTile { cache, heads }, Shader::AttendCooperative { cut }], cut)
}

/// How many times as fast the second is, if that is worth it. A clock that stands still says nothing.
fn worth([usual, other]: [f64; 2]) -> Option<f64> {
    (other > 0.0 && usual >= MARGIN * other).then(|| usual / other)
}

impl Size {
    fn shape(self) -> CacheShape {
        let Heads { kv_heads, head_dim, .. } = self.heads;
        CacheShape {
            slots: 1,
            positions: self.positions,
            kv_heads,
            head_dim,
            precision: CachePrecision::F16,
            window: None,
        }
    }
}

/// Rows and what they attend to, on a device.
struct Trial {
    gpu: Gpu,
    size: Size,
    cache: Cache,
    qkv: Tensor,
    out: Tensor,
    clock: Clock,
}

impl Trial {
    fn new(device: &GpuDevice, size: Size) -> Result<Self> {
        let mut gpu = Gpu::new(device);
        let clock = Clock::of(&mut gpu);
        let cache = gpu.make_cache(size.shape())?;
        let mut qkv = gpu.tensor(size.rows, size.heads.qkv_cols())?;
        let out = gpu.tensor(size.rows, size.heads.query_cols())?;
        let [keys, values, queries] = material(size);
        let halves = |floats: Vec<f32>| floats.into_iter().map(|v| f16::from_f32(v).to_bits()).collect::<Vec<u16>>();
        gpu.recorder.write(&cache.keys, bytemuck::cast_slice(&halves(keys)));
        gpu.recorder.write(&cache.values, bytemuck::cast_slice(&halves(values)));
        gpu.write_tensor(&mut qkv, &queries);
        let positions = (size.positions - size.rows) as u32..size.positions as u32;
        let rows = positions.map(|position| Row { sequence: 0, position, wants_logits: false });
        gpu.begin(&rows.collect::<Vec<_>>());
        Ok(Self { gpu, size, cache, qkv, out, clock })
    }

    /// The rows attend in tiles, or by cooperative matrices.
    fn attend(&mut self, cut: Option<AttentionCut>) {
        let Self { gpu, size, cache, qkv, out, .. } = self;
        attend(gpu, (qkv, cache), size.heads, cut, out);
    }

    /// The largest difference between what comes of both, for values of at most 1.
    fn difference(&mut self, cut: AttentionCut) -> Result<f32> {
        let [in_tiles, by_matrices] = [self.results(None)?, self.results(Some(cut))?];
        Ok(self.off(&in_tiles, &by_matrices))
    }

    fn off(&self, right: &[f32], others: &[f32]) -> f32 {
        let Heads { heads, kv_heads, head_dim } = self.size.heads;
        let unit = |place: usize| largest(place / head_dim % heads / (heads / kv_heads));
        let off = right.iter().zip(others).enumerate().map(|(i, (a, b))| (a - b).abs() / unit(i));
        largest_of(off)
    }

    fn results(&mut self, cut: Option<AttentionCut>) -> Result<Vec<f32>> {
        let mut results = vec![f32::NAN; self.size.rows * self.size.heads.query_cols()];
        self.gpu.write_tensor(&mut self.out, &results);
        self.attend(cut);
        self.gpu.read_tensor(&self.out, &mut results)?;
        Ok(results)
    }

    /// How long both take, by turns.
    fn compare(&mut self, cut: AttentionCut) -> Result<[f64; 2]> {
        let mut times = [Vec::new(), Vec::new()];
        let start = Instant::now();
        while times[1].is_empty() || times[1].len() < TURNS && start.elapsed() < LONGEST {
            for (cut, times) in [None, Some(cut)].into_iter().zip(&mut times) {
                times.push(self.seconds(cut)?);
            }
        }
        Ok(times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        }))
    }

    fn seconds(&mut self, cut: Option<AttentionCut>) -> Result<f64> {
        let Self { gpu, size, cache, qkv, out, clock } = self;
        clock.seconds(gpu, |gpu| attend(gpu, (qkv, cache), size.heads, cut, out))
    }
}

fn attend(gpu: &mut Gpu, (qkv, cache): (&Tensor, &Cache), heads: Heads, cut: Option<AttentionCut>, out: &mut Tensor) {
    match cut {
        Some(cut) => gpu.attend_cooperatively(out, qkv, cache, heads, cut),
        None => gpu.attend_in_chunks(out, qkv, cache, heads, None),
    }
}

/// The largest of some sizes; one that is no number is larger than all that are.
fn largest_of(sizes: impl Iterator<Item = f32>) -> f32 {
    sizes.fold(0.0, |most: f32, size| if most.is_nan() || most >= size { most } else { size })
}

/// The largest key and value of a head.
fn largest(kv_head: usize) -> f32 {
    if kv_head.is_multiple_of(2) { 1.0 } else { SMALL }
}

/// Keys and values `[kv_heads, positions, head_dim]`, and rows of queries with what is of no use beside them. Scores grow along the way,
/// to some ten, so that what was summed up is scaled again and again.
fn material(size: Size) -> [Vec<f32>; 3] {
    let random = &mut Xoshiro256PlusPlus::seed_from_u64(2);
    let mut within = |most: f32| (random.next_u32() as f32 / u32::MAX as f32 * 2.0 - 1.0) * most;
    let Heads { heads, kv_heads, head_dim } = size.heads;
    let (mut keys, mut values, mut queries) = (Vec::new(), Vec::new(), Vec::new());
    for kv_head in 0..kv_heads {
        for position in 0..size.positions {
            let grown = (1 + position) as f32 / size.positions as f32;
            keys.extend((0..head_dim).map(|_| within(grown * largest(kv_head))));
            values.extend((0..head_dim).map(|_| within(largest(kv_head))));
        }
    }
    for _ in 0..size.rows {
        for head in 0..heads {
            let most = 12.0 / largest(head / (heads / kv_heads));
            queries.extend((0..head_dim).map(|_| within(most)));
        }
        queries.extend((0..2 * kv_heads * head_dim).map(|_| f32::NAN));
    }
    [keys, values, queries]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Adapter, GpuOptions};

    const SMALL_SIZE: Size = Size { heads: Heads { heads: 4, kv_heads: 2, head_dim: 64 }, rows: 61, positions: 200 };

    /// On each GPU that has them, software too.
    #[test]
    fn attention_by_cooperative_matrices_is_near_that_in_tiles() {
        for adapter in Adapter::all_to_test() {
            let options = GpuOptions { cooperative: Some(true), ..GpuOptions::default() };
            let device = GpuDevice::open(&adapter, &options).unwrap();
            let Some(teams) = device.0.cooperative.attention else { continue };
            for size in sizes(teams) {
                let (_, cut) = shaders(size, teams);
                let mut trial = Trial::new(&device, size).unwrap();
                assert!(is_near(&device, cut, trial.difference(cut).unwrap()), "{cut:?}");
                assert!(trial.compare(cut).unwrap().iter().all(|seconds| *seconds > 0.0));
            }
        }
    }

    #[test]
    fn a_result_that_is_none_is_not_near_wherever_it_is() {
        for place in 0..3 {
            let mut sizes = [1e-6, 2e-6, 1e-6];
            assert_eq!(largest_of(sizes.into_iter()), 2e-6);
            sizes[place] = f32::NAN;
            assert!(largest_of(sizes.into_iter()).is_nan());
            sizes[place] = f32::INFINITY;
            assert_eq!(largest_of(sizes.into_iter()), f32::INFINITY);
        }
    }

    /// In tiles on both sides, as software need not have matrices: of one of them a result is off, or none.
    #[test]
    fn what_is_off_is_told() {
        for adapter in Adapter::all_to_test().into_iter().filter(Adapter::is_software) {
            let options = GpuOptions { cooperative: Some(false), ..GpuOptions::default() };
            let device = GpuDevice::open(&adapter, &options).unwrap();
            let (_, cut) = shaders(SMALL_SIZE, Teams { side: 16, threads: 128, most_features: 64 });
            let trial = &mut Trial::new(&device, SMALL_SIZE).unwrap();
            let right = trial.results(None).unwrap();
            assert!(is_near(&device, cut, trial.off(&right, &right)));
            for wrong in [f32::NAN, 1e-3] {
                let mut spoiled = right.clone();
                spoiled[7] += wrong;
                assert!(!is_near(&device, cut, trial.off(&right, &spoiled)), "{wrong}");
            }
        }
    }

    #[test]
    fn every_cut_is_tried() {
        let teams = Teams { side: 16, threads: 128, most_features: 128 };
        let mut cuts: Vec<(u32, u32)> =
            sizes(teams).map(|size| shaders(size, teams).1).map(|cut| (cut.head_dim, cut.heads)).collect();
        cuts.sort_unstable();
        assert_eq!(cuts, [(64, 1), (64, 2), (64, 4), (128, 1), (128, 2), (128, 4)]);
        assert_eq!(sizes(Teams { most_features: 64, ..teams }).count(), 3);
    }

    #[test]
    fn what_is_not_faster_by_the_margin_is_not_worth_it() {
        assert_eq!((worth([1.1, 1.0]), worth([1.05, 1.0]), worth([1.0, 2.0])), (Some(1.1), None, None));
        assert_eq!((worth([0.0, 0.0]), worth([1.0, 0.0]), worth([f64::NAN, 1.0])), (None, None, None));
    }

    #[test]
    fn a_trial_that_found_it_slow_is_not_repeated() {
        for adapter in Adapter::all_to_test().into_iter().filter(Adapter::is_software) {
            let options = GpuOptions { cooperative: Some(false), ..GpuOptions::default() };
            let device = GpuDevice::open(&adapter, &options).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let kept = KeptTimes::at(folder.path().join("trial"), "a driver".into());
            kept.write([0.001, 0.001]);
            // A device that was opened without cooperative matrices would refuse their shader.
            let (_, cut) = shaders(SMALL_SIZE, Teams { side: 16, threads: 128, most_features: 64 });
            assert_eq!(speed_of(&device, SMALL_SIZE, cut, Some(&kept)).unwrap(), None);
        }
    }

    #[test]
    fn both_are_given_what_makes_a_difference() {
        let [keys, values, queries] = material(SMALL_SIZE);
        let below_full_precision = |v: &f32| f16::from_f32(*v).to_bits() & 0x7c00 == 0;
        let second_head = |all: &[f32]| all[all.len() / 2..].iter().all(below_full_precision);
        assert!(second_head(&keys) && second_head(&values));
        let most = queries.iter().filter(|v| v.is_finite()).fold(0.0f32, |most, v| most.max(v.abs()));
        assert!(most > 65504.0, "queries beyond halves");
    }
}
