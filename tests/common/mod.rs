//! What the model tests share: models, and a macro that runs one body on every backend.

mod cpu;
#[cfg(feature = "gpu")]
pub mod gpu;
#[cfg(not(feature = "gpu"))]
mod skipped;

use std::path::PathBuf;

pub use cpu::cpu;
#[cfg(feature = "gpu")]
use gpu::skipped;
#[cfg(not(feature = "gpu"))]
use skipped::skipped;
pub use sterna::cpu::KernelSet;
use sterna::model::Model;
use sterna::reference::Reference;

/// A file of `tests/data`.
pub fn data(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(path)
}

/// The model that ships with the crate.
pub fn shipped_model() -> Model {
    Model::open(shipped_model_path()).unwrap()
}

/// Where that model lies.
pub fn shipped_model_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/tales-4m-i2_s.gguf")
}

/// The oracle as a backend.
pub fn reference() -> Reference {
    Reference::default()
}

/// Whether this CPU has the instructions of a kernel set; tells that its tests are skipped if not.
pub fn can_run(kernels: KernelSet) -> bool {
    let can = KernelSet::available().contains(&kernels);
    if !can {
        skipped(format_args!("the {kernels} kernels: this CPU cannot run them"));
    }
    can
}

/// Makes a test of each body for each backend: `mod body { #[test] fn reference() … }`. A body is a function that takes
/// a maker of backends, behind a pointer, so that it is compiled once for all sets of kernels.
#[macro_export]
macro_rules! on_every_backend {
    ($($body:ident),+ $(,)?) => { $(
        mod $body {
            #[test]
            fn reference() {
                super::$body(&$crate::common::reference);
            }

            $crate::on_every_kernel_set!(|kernels| super::$body(&|| $crate::common::cpu(kernels, 2)));

            #[test]
            #[cfg(feature = "gpu")]
            fn gpu() {
                for device in $crate::common::gpu::devices(Default::default()) {
                    super::$body(&|| sterna::gpu::Gpu::new(&device));
                }
            }
        }
    )+ };
}

/// Hands the names of all kernel sets' tests to [`on_every_kernel_set`]; `tests/models` checks that none is missing.
#[macro_export]
macro_rules! with_all_kernel_sets {
    ($($what:tt)+) => {
        $crate::on_every_kernel_set! { $($what)+;
            cpu_portable: Portable, cpu_avx2: Avx2, cpu_avx_vnni: AvxVnni, cpu_avx512_vnni: Avx512Vnni, cpu_amx: Amx,
            cpu_neon: Neon, cpu_neon_dotprod: NeonDot, cpu_simd128: Simd128, cpu_relaxed_simd: RelaxedSimd,
        }
    };
}

/// One test for each kernel set; each runs the body on its set, or tells why it cannot.
#[macro_export]
macro_rules! on_every_kernel_set {
    (|$kernels:ident| $body:expr) => { $crate::with_all_kernel_sets! { |$kernels| $body } };
    (list; $($name:ident: $set:ident,)+) => { [$($crate::common::KernelSet::$set),+] };
    (|$kernels:ident| $body:expr; $($name:ident: $set:ident,)+) => { $(
        #[test]
        fn $name() {
            let $kernels = $crate::common::KernelSet::$set;
            if $crate::common::can_run($kernels) {
                $body;
            }
        }
    )+ };
}
