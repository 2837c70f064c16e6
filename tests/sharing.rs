//! A model that is loaded once: what a session adds to it, who may use it from where, and in which order all of it goes.

#[path = "common/counting_allocator.rs"]
mod counting_allocator;
#[path = "common/gpu.rs"]
mod gpu;

use std::sync::Barrier;

use counting_allocator::peak_bytes;
use sterna::backend::{Backend, Norm, Row};
use sterna::cpu::CpuOptions;
use sterna::gpu::{Adapter, Gpu, GpuDevice, GpuOptions};
use sterna::model::SyntheticShape;
use sterna::{Device, Error, GenerateOptions, Loaded, Model, Session, SessionOptions};

fn shipped_model() -> Model {
    Model::open(concat!(env!("CARGO_MANIFEST_DIR"), "/models/tales-4m-i2_s.gguf")).unwrap()
}

fn cpu(threads: usize) -> Device {
    Device::cpu_with(CpuOptions { threads: Some(threads), ..CpuOptions::default() })
}

/// A large vocabulary, and two layers of large matrices that have to be decoded: 120 MB of weights.
fn large_model() -> Model {
    Model::synthetic(SyntheticShape::Bitnet700M, 1).first_layers(2)
}

fn small_session() -> SessionOptions {
    SessionOptions { context: Some(64), chunk: Some(16), ..SessionOptions::default() }
}

#[test]
fn a_second_session_on_a_cpu_holds_its_own_caches_and_activations_alone() {
    let model = large_model();
    let (loaded, load_bytes) = peak_bytes(|| model.load(&cpu(1)).unwrap());
    assert!(loaded.weight_bytes() > 100_000_000 && load_bytes as u64 > loaded.weight_bytes() / 3, "{loaded:?}");
    let ((first, first_bytes), (second, second_bytes)) = (
        peak_bytes(|| loaded.session(&small_session()).unwrap()),
        peak_bytes(|| loaded.session(&small_session()).unwrap()),
    );
    assert_eq!(first.cache_bytes(), second.cache_bytes());
    // Of 16 rows: logits, and all between them and the tokens.
    let config = model.config();
    let row = config.vocabulary + 8 * config.width + 4 * config.ffn_width + 4 * config.heads.qkv_cols();
    let most = first.cache_bytes() as usize + 2 * 16 * row * 4;
    assert!(second_bytes <= first_bytes && second_bytes < most, "{second_bytes} after {first_bytes}, at most {most}");
}

#[test]
fn a_second_session_on_a_gpu_holds_its_own_caches_and_activations_alone() {
    let model = large_model();
    for device in gpu::devices(GpuOptions::default()) {
        let device = Device::named(&device.adapter().name()).unwrap();
        let loaded = model.load(&device).unwrap();
        let weights = loaded.device_bytes().unwrap();
        assert!(weights >= loaded.weight_bytes() && weights < loaded.weight_bytes() + (1 << 20), "gains, beside");
        let sessions = [0, 1].map(|_| loaded.session(&small_session()).unwrap());
        let [first, second] = [0, 1].map(|i| sessions[i].device_bytes().unwrap());
        assert_eq!((first, loaded.device_bytes()), (second, Some(weights)));
        assert!(second > sessions[1].cache_bytes() && second < weights / 10, "{second} of {weights}");
    }
}

/// Threads of this process.
#[cfg(target_os = "linux")]
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
#[cfg(target_os = "linux")]
fn sessions_of_a_device_share_its_threads() {
    let device = cpu(24);
    let options = small_session();
    let before = threads();
    let first = Session::new(&shipped_model(), &device, &options).unwrap();
    let started = threads();
    assert!(started >= before + 20, "{before} threads, then {started}");
    let loaded = shipped_model().load(&device.clone()).unwrap();
    let others: Vec<Session> = (0..4).map(|_| loaded.session(&options).unwrap()).collect();
    // Other tests start and end a few of their own.
    assert!(threads() < started + 20, "{started} threads, then {}", threads());
    drop((first, others));
}

fn story(session: &mut Session, seed: u64) -> Vec<u32> {
    let mut options = GenerateOptions { max_tokens: 60, ignore_end: true, ..GenerateOptions::default() };
    options.sampling.seed = seed;
    session.generate_ids(&[1, 20, 300 + seed as u32], &options).unwrap().map(|id| id.unwrap()).collect()
}

fn two_sessions_on_two_threads_get_what_they_get_alone(loaded: &Loaded) {
    let alone: Vec<Vec<u32>> = (0..2).map(|seed| story(&mut loaded.session(&small_session()).unwrap(), seed)).collect();
    let barrier = &Barrier::new(2);
    std::thread::scope(|scope| {
        let tell = |seed: u64| {
            let mut session = loaded.session(&SessionOptions { context: Some(512), ..small_session() }).unwrap();
            scope.spawn(move || {
                barrier.wait();
                (0..5).map(|_| story(&mut session, seed)).collect::<Vec<_>>()
            })
        };
        for (seed, teller) in [tell(0), tell(1)].into_iter().enumerate() {
            assert!(teller.join().unwrap().iter().all(|story| *story == alone[seed]), "seed {seed}");
        }
    });
}

#[test]
fn two_sessions_on_two_threads_of_a_cpu_get_what_they_get_alone() {
    for threads in [1, 2, 3] {
        two_sessions_on_two_threads_get_what_they_get_alone(&shipped_model().load(&cpu(threads)).unwrap());
    }
}

#[test]
fn two_sessions_on_two_threads_of_a_gpu_get_what_they_get_alone() {
    for device in gpu::devices(GpuOptions::default()) {
        let device = Device::named(&device.adapter().name()).unwrap();
        two_sessions_on_two_threads_get_what_they_get_alone(&shipped_model().load(&device).unwrap());
    }
}

#[test]
fn everything_can_be_dropped_in_any_order_and_on_any_thread() {
    let wanted = story(&mut Session::new(&shipped_model(), &cpu(2), &small_session()).unwrap(), 1);
    let (model, device) = (shipped_model(), cpu(2));
    let loaded = model.load(&device).unwrap();
    drop((model, device));
    let mut sessions: Vec<Session> = (0..3).map(|_| loaded.session(&small_session()).unwrap()).collect();
    drop(loaded);
    drop(sessions.remove(0));
    let mut last = sessions.pop().unwrap();
    std::thread::spawn(move || drop(sessions)).join().unwrap();
    assert_eq!(story(&mut last, 1), wanted);
    std::thread::spawn(move || assert_eq!(story(&mut last, 2).len(), 60)).join().unwrap();
}

/// What may cross threads is part of the interface.
#[test]
fn promises_about_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    fn sent<T: Send + 'static>() {}
    shared::<Model>();
    shared::<Device>();
    shared::<Loaded>();
    shared::<Error>();
    shared::<GenerateOptions>();
    sent::<Session>();
    sent::<sterna::generate::Piece>();
    sent::<Box<dyn sterna::generate::Sampler>>();
    fn borrowed<'a, T: Send + 'a>() {}
    borrowed::<sterna::generate::Batch<'_>>();
    borrowed::<sterna::generate::Text<'_>>();
    borrowed::<sterna::generate::TokenIds<'_>>();
}

/// Two backends of one GPU may use what either loaded: identities of buffers are those of the process.
#[test]
fn backends_of_one_gpu_do_not_take_each_others_buffers_for_their_own() {
    for device in gpu::devices(GpuOptions::default()) {
        let (mut a, mut b) = (Gpu::new(&device), Gpu::new(&device));
        let tensor = |gpu: &mut Gpu, value: f32| {
            let (mut x, gain) = (gpu.tensor(1, 4).unwrap(), gpu.parameter(&[1.0; 4]).unwrap());
            gpu.write_tensor(&mut x, &[value; 4]);
            (x, gain)
        };
        let ((x, gain), (other, other_gain)) = (tensor(&mut a, 7.5), tensor(&mut b, -7.5));
        for (x, gain, wanted) in [(&x, &gain, 1.0), (&other, &other_gain, -1.0), (&x, &other_gain, 1.0)] {
            let mut out = b.tensor(1, 4).unwrap();
            b.begin(&[Row { sequence: 0, position: 0, wants_logits: false }]);
            b.norm(&mut out, x, Norm { gain, epsilon: 0.0 });
            let mut values = [0.0; 4];
            b.read_tensor(&out, &mut values).unwrap();
            assert!(values.iter().all(|value| (value - wanted).abs() < 1e-6), "{values:?} is not {wanted}");
        }
    }
}

#[test]
fn what_another_gpu_holds_is_refused() {
    for adapter in Adapter::all() {
        let [one, other] = [0, 1].map(|_| GpuDevice::open(&adapter, &GpuOptions::default()).unwrap());
        let (mut one, mut other) = (Gpu::new(&one), Gpu::new(&other));
        let gain = one.parameter(&[1.0; 4]).unwrap();
        let (mut out, x) = (other.tensor(1, 4).unwrap(), other.parameter(&[2.0; 4]).unwrap());
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            other.begin(&[Row { sequence: 0, position: 0, wants_logits: false }]);
            other.norm(&mut out, &x, Norm { gain: &gain, epsilon: 0.0 });
            other.read_tensor(&out, &mut [0.0; 4])
        }));
        assert!(!matches!(outcome, Ok(Ok(()))), "{}", adapter.name());
    }
}
