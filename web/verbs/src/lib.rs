//! The tests of the verbs, `tests/backends` of the library, as a module: each claim holds a kernel set of WebAssembly against the
//! reference. `web/test/run` runs them in a browser. A claim that does not hold panics, which ends the module.

#![cfg(target_arch = "wasm32")]
#![expect(unused_imports, reason = "tests that are no claims are left out here")]

#[path = "../../../tests/backends/attention.rs"]
mod attention;
#[path = "../../../tests/backends/blocks.rs"]
mod blocks;
#[path = "../../../tests/common/cpu.rs"]
mod cpu;
#[path = "../../../tests/backends/floats.rs"]
mod floats;
#[path = "../../../tests/backends/head.rs"]
mod head;
#[path = "../../../tests/backends/material.rs"]
mod material;
#[path = "../../../tests/backends/norms.rs"]
mod norms;
#[path = "../../../tests/backends/oracle.rs"]
mod oracle;
#[path = "../../src/panics.rs"]
mod panics;
#[path = "../../../tests/backends/products.rs"]
mod products;

use sterna::cpu::Cpu;
use wasm_bindgen::prelude::wasm_bindgen;

/// As in `tests/backends/main.rs`.
const FLOAT_SUM: f32 = 1e-5;
const SCALED_SUM: f32 = 1e-6;
const ROWS: [usize; 9] = [1, 2, 3, 4, 5, 7, 8, 17, 33];

/// A claim, by its name.
type Claim = (&'static str, fn(&mut Cpu));

/// Lists claims of a file, as a function of this name.
#[macro_export]
macro_rules! list {
    ($name:ident: $($claim:ident)*) => {
        pub fn $name() -> Vec<$crate::Claim> {
            vec![$((concat!(module_path!(), "::", stringify!($claim)), $claim as fn(&mut sterna::cpu::Cpu))),*]
        }
    };
}

/// Claims about all backends.
#[macro_export]
macro_rules! on_every_backend {
    ($($claim:ident)*) => { $crate::list! { claims: $($claim)* } };
}

/// Those that leave out a path of GPUs.
#[macro_export]
macro_rules! on_every_backend_but_base {
    ($($claim:ident)*) => { $crate::list! { claims_but_base: $($claim)* } };
}

/// Those about CPUs alone.
#[macro_export]
macro_rules! on_every_cpu {
    ($($claim:ident)*) => { $crate::list! { claims_of_cpus: $($claim)* } };
}

fn claims() -> Vec<Claim> {
    let of_attention = [attention::claims, attention::claims_but_base];
    let files = [products::claims, blocks::claims, floats::claims, norms::claims, head::claims];
    files.into_iter().chain(of_attention).flat_map(|claims| claims()).collect()
}

/// The names of all claims.
#[wasm_bindgen]
pub fn names() -> Vec<String> {
    claims().into_iter().map(|(name, _)| name.to_owned()).collect()
}

/// Runs one on a kernel set.
#[wasm_bindgen]
pub fn run(place: usize, kernels: &str) {
    let (name, claim) = claims()[place];
    let kernels = kernels.parse().expect("the name of a kernel set");
    oracle::claiming(name, || claim(&mut cpu::cpu(kernels, 1)));
}
