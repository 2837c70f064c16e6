//! A server may load a model and then fork its workers. The child has the session's memory without its threads: it may
//! compute, with the one thread that it has, and it may drop the session. (A GPU is another matter: no driver survives.)

#![cfg(unix)]

#[path = "common/fork.rs"]
mod fork;

use std::path::Path;

use fork::in_a_child;
use sterna::cpu::CpuOptions;
use sterna::device::Device;
use sterna::generate::{GenerateOptions, Session, SessionOptions};
use sterna::model::Model;

#[test]
fn a_forked_child_drops_a_session_or_goes_on_with_it() {
    let model = Model::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tales-4m-i2_s.gguf")).unwrap();
    let device = Device::cpu_with(CpuOptions { threads: Some(3), ..CpuOptions::default() });
    let session = || Session::new(&model, &device, &SessionOptions::default()).unwrap();
    let mut expected = session();
    let story = tell(&mut expected);

    let unused = session();
    in_a_child("a session is dropped before its first token", || drop(unused));
    let mut used = session();
    assert_eq!(tell(&mut used), story);
    in_a_child("a session is dropped after some tokens", || drop(used));
    let mut inherited = session();
    assert_eq!(tell(&mut inherited), story);
    in_a_child("a session tells another story in the child", || {
        assert_eq!(tell(&mut inherited), story);
        inherited.clear();
        assert_eq!(tell(&mut inherited), story);
        drop(inherited);
    });
    in_a_child("a session of the child's own", || assert_eq!(tell(&mut session()), story));

    expected.clear();
    assert_eq!(tell(&mut expected), story, "the parent goes on as before");
}

fn tell(session: &mut Session) -> String {
    let options = GenerateOptions { max_tokens: 16, ..GenerateOptions::greedy() };
    session.generate("Once upon a time", &options).unwrap().collect::<Result<_, _>>().unwrap()
}
