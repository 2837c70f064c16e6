//! Devices as a user meets them: by name, by environment, by probe; and what a token costs a GPU besides arithmetic.

#[path = "../common/gpu.rs"]
mod gpu;

mod environment;
mod tokens;

use sterna::device::DeviceKind;
use sterna::generate::SessionOptions;
use sterna::{Device, DeviceErrorKind, Error, Model, Session};

fn shipped_model() -> Model {
    Model::open(concat!(env!("CARGO_MANIFEST_DIR"), "/models/tales-4m-i2_s.gguf")).unwrap()
}

/// The GPUs of this machine, by name. None is a skip or a failure, as `gpu::devices` decides.
fn gpus() -> Vec<String> {
    gpu::devices(Default::default()).iter().map(|device| device.adapter().name()).collect()
}

#[test]
fn all_devices_are_listed_the_cpu_first_and_each_opens() {
    let all = Device::all();
    assert_eq!((all[0].name(), all[0].kind()), ("cpu", DeviceKind::Cpu));
    assert_eq!(all[1..].iter().map(|device| device.name().to_string()).collect::<Vec<_>>(), gpus());
    for info in all {
        let device = info.open().unwrap();
        assert_eq!(device.name(), info.name());
        assert_eq!(device.is_gpu(), info.kind() != DeviceKind::Cpu);
    }
}

#[test]
fn devices_have_names_of_any_case_and_parts_of_names() {
    for name in ["cpu", "CPU"] {
        assert_eq!(Device::named(name).unwrap().name(), "cpu");
    }
    for name in gpus() {
        let first_word = name.split(' ').next().unwrap();
        for asked in [&name, &name.to_uppercase(), first_word] {
            assert!(Device::named(asked).unwrap().name().contains(first_word), "{asked}");
        }
    }
}

#[test]
fn a_name_that_no_device_has_is_an_error_that_lists_those_there_are() {
    let Err(Error::Device(fault)) = Device::named("abacus") else { panic!("there is an abacus") };
    assert_eq!(fault.kind, DeviceErrorKind::Absent);
    let text = fault.message;
    for name in gpus() {
        assert!(text.contains("\"abacus\"") && text.contains(&name), "{text}");
    }
    assert!(matches!(Device::named(""), Err(Error::Input(_))));
}

#[test]
fn a_session_that_no_gpu_can_hold_is_an_error_with_a_way_out() {
    let model = shipped_model();
    let options = SessionOptions { sequences: 1 << 16, ..SessionOptions::default() };
    for name in gpus() {
        let Err(Error::Device(fault)) = Session::new(&model, &Device::named(&name).unwrap(), &options) else {
            panic!("{name} holds 65536 sequences")
        };
        let text = fault.message;
        assert!(text.contains(&name) && text.contains("fewer sequences"), "{text}");
        assert_eq!(fault.kind, DeviceErrorKind::OutOfMemory);
    }
}
