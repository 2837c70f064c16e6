//! What the environment variables do. They belong to a whole process, so each case is a process of its own: this program
//! again, with one test that prints what it finds.

use std::process::Command;

use sterna::Device;
use sterna::device::{Best, DeviceKind};
use sterna::gpu::GpuKind;

use crate::gpus;

/// Backends that this platform does not have.
const ELSEWHERE: &str = if cfg!(target_os = "macos") { "dx12" } else { "metal" };

/// What a child printed.
struct Findings {
    all: String,
    software: String,
    gpu: String,
    best: String,
    had_choice: String,
}

/// Prints what [`Findings`] holds.
#[test]
#[ignore = "a part of the other tests, which run it with another environment"]
fn look() {
    let names = |choose: fn(DeviceKind) -> bool| {
        let chosen: Vec<_> = Device::all().into_iter().filter(|device| choose(device.kind())).collect();
        chosen.iter().map(|device| device.name()).collect::<Vec<_>>().join("; ")
    };
    println!("all: {}", names(|kind| kind != DeviceKind::Cpu));
    println!("software: {}", names(|kind| kind == DeviceKind::Gpu(GpuKind::Software)));
    println!("gpu: {}", Device::gpu().map_or_else(|error| error.to_string(), |device| device.name()));
    let Best { decision, had_choice, .. } = Device::best();
    println!("best: {decision}\nhad_choice: {had_choice}");
}

/// This program again, with one test of those that are ignored.
fn child(test: &str, environment: &[(&str, &str)]) -> Command {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--ignored"]);
    child.env_remove("WGPU_ADAPTER_NAME").env_remove("WGPU_BACKEND").envs(environment.iter().copied());
    child
}

fn look_with(environment: &[(&str, &str)]) -> Findings {
    let output = child("environment::look", environment).arg("--nocapture").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let line = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).to_string()
    };
    let [all, software, gpu, best, had_choice] = ["all", "software", "gpu", "best", "had_choice"].map(line);
    Findings { all, software, gpu, best, had_choice }
}

#[test]
fn software_is_never_taken_unless_asked_for_by_name() {
    let Findings { all, software, gpu, best, had_choice } = look_with(&[]);
    println!("{best}");
    let only_software = all == software;
    assert_eq!(had_choice, (!only_software).to_string());
    for name in software.split("; ").filter(|name| !name.is_empty()) {
        assert!(!best.starts_with(&format!("device: {name}")), "{best}");
        assert_ne!(gpu, name);
        if only_software {
            assert!(gpu.contains(name) && gpu.contains("ask for it by a part of its name"), "{gpu}");
            assert!(best.starts_with("device: cpu (") && best.contains(name), "{best}");
        }
    }
}

#[test]
fn a_gpu_that_the_environment_names_is_the_gpu_software_or_not() {
    for name in gpus() {
        let found = look_with(&[("WGPU_ADAPTER_NAME", &name.to_lowercase())]);
        assert_eq!((&found.all, &found.gpu), (&name, &name));
        assert_eq!(found.had_choice, "true");
    }
}

#[test]
fn a_name_in_the_environment_that_no_gpu_has_is_told() {
    let found = look_with(&[("WGPU_ADAPTER_NAME", "abacus")]);
    assert_eq!(found.all, "");
    for name in gpus() {
        for text in [&found.gpu, &found.best] {
            assert!(text.contains("\"abacus\", as WGPU_ADAPTER_NAME asks") && text.contains(&name), "{text}");
        }
    }
    assert!(found.best.starts_with("device: cpu ("), "{}", found.best);
    assert_eq!(found.had_choice, "true");
}

#[test]
fn an_empty_name_in_the_environment_asks_for_nothing() {
    let (found, usual) = (look_with(&[("WGPU_ADAPTER_NAME", "")]), look_with(&[]));
    assert_eq!((found.all, found.gpu, found.had_choice), (usual.all, usual.gpu, usual.had_choice));
}

#[test]
fn a_backend_that_is_not_here_or_nowhere_is_told() {
    for backend in [ELSEWHERE, "abacus"] {
        let found = look_with(&[("WGPU_BACKEND", backend)]);
        assert_eq!(found.all, "");
        assert!(found.gpu.contains(&format!("WGPU_BACKEND \"{backend}\"")), "{}", found.gpu);
        assert!(found.best.starts_with("device: cpu ("), "{}", found.best);
        assert_eq!(found.had_choice, "true");
    }
}

/// Needs GPUs twice, as several tests of a process do.
#[test]
#[ignore = "a part of the next test, which runs it where no GPU is found"]
fn need_gpus() {
    assert_eq!(gpus(), gpus());
}

#[test]
fn tests_that_find_no_gpu_say_so_on_the_terminal_and_once() {
    let without = |required| {
        let mut child = child("environment::need_gpus", &[("WGPU_ADAPTER_NAME", "abacus")]);
        child.env("STERNA_REQUIRE_GPU", required).output().unwrap()
    };
    let skipping = without("0");
    let told = String::from_utf8_lossy(&skipping.stderr);
    assert!(skipping.status.success() && told.matches("skipped: all GPUs").count() == 1, "{told}");
    assert!(!without("1").status.success(), "a GPU was required");
}
