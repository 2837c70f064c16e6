//! What the model tests share: the reference data, and a macro that runs one body on every backend.

use std::path::PathBuf;

use sterna::backend::CachePrecision;
pub use sterna::cpu::KernelSet;
use sterna::cpu::{Cpu, CpuOptions};
use sterna::generate::{Session, SessionOptions};
use sterna::model::Model;
use sterna::reference::Reference;

/// A file of `tests/data`.
pub fn data(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(path)
}

/// The model that ships with the crate.
pub fn shipped_model() -> Model {
    Model::open(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/tales-4m-i2_s.gguf")).unwrap()
}

/// The oracle as a backend.
pub fn reference() -> Reference {
    Reference::default()
}

/// Whether this CPU has the instructions of a kernel set; prints why a test is skipped if not.
pub fn can_run(kernels: KernelSet) -> bool {
    let can = KernelSet::available().contains(&kernels);
    if !can {
        eprintln!("skipped: this CPU cannot run the {kernels} kernels");
    }
    can
}

/// The CPU with chosen kernels and threads.
pub fn cpu(kernels: KernelSet, threads: usize) -> Cpu {
    Cpu::new(&CpuOptions { threads: Some(threads), kernels: Some(kernels) }).unwrap()
}

/// A session on a backend, with the cache in f32 as the float references have it.
pub fn exact_session(model: &Model, backend: impl sterna::backend::Backend + 'static) -> Session {
    let options = SessionOptions { cache: CachePrecision::F32, ..SessionOptions::default() };
    Session::with_backend(model, backend, &options).unwrap()
}

/// The largest difference, relative to the largest absolute value wanted. NaN anywhere gives NaN.
pub fn relative_error(found: &[f32], wanted: &[f32]) -> f32 {
    assert_eq!(found.len(), wanted.len());
    assert!(found.iter().all(|v| v.is_finite()), "a value was never written, or is not finite");
    let largest = wanted.iter().fold(0f32, |m, v| m.max(v.abs()));
    found.iter().zip(wanted).fold(0f32, |m, (f, w)| m.max((f - w).abs())) / largest
}

/// Makes a test of each body for each backend: `mod body { #[test] fn reference() … }`. A body is a function that takes
/// a maker of backends.
#[macro_export]
macro_rules! on_every_backend {
    ($($body:ident),+ $(,)?) => { $(
        mod $body {
            #[test]
            fn reference() {
                super::$body($crate::common::reference);
            }

            #[test]
            fn cpu_portable() {
                super::$body(|| $crate::common::cpu($crate::common::KernelSet::Portable, 2));
            }

            #[test]
            fn cpu_avx2() {
                if $crate::common::can_run($crate::common::KernelSet::Avx2) {
                    super::$body(|| $crate::common::cpu($crate::common::KernelSet::Avx2, 2));
                }
            }
        }
    )+ };
}

/// Reference values that an independent implementation wrote.
pub struct Golden {
    bytes: Vec<u8>,
}

impl Golden {
    /// Reads a safetensors file of `tests/data`.
    pub fn read(path: &str) -> Self {
        Self { bytes: std::fs::read(data(path)).unwrap() }
    }

    fn raw(&self, name: &str) -> Vec<u8> {
        let file = safetensors::SafeTensors::deserialize(&self.bytes).unwrap();
        file.tensor(name).unwrap_or_else(|_| panic!("no reference value \"{name}\"")).data().to_vec()
    }

    /// Whether the value is there.
    pub fn has(&self, name: &str) -> bool {
        safetensors::SafeTensors::deserialize(&self.bytes).unwrap().tensor(name).is_ok()
    }

    pub fn f32(&self, name: &str) -> Vec<f32> {
        self.raw(name).as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    pub fn f64(&self, name: &str) -> Vec<f64> {
        self.raw(name).as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect()
    }

    pub fn i32(&self, name: &str) -> Vec<i32> {
        self.raw(name).as_chunks().0.iter().map(|b| i32::from_le_bytes(*b)).collect()
    }

    pub fn ids(&self, name: &str) -> Vec<u32> {
        self.i32(name).into_iter().map(|id| id as u32).collect()
    }

    pub fn i8(&self, name: &str) -> Vec<i8> {
        self.raw(name).into_iter().map(|b| b as i8).collect()
    }
}
