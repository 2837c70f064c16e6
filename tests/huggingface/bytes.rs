//! A safetensors file in memory, cut and changed everywhere: an error or a sane parse, never a panic. Small enough for
//! Miri (`tests/miri.sh`), which has no maps of files.

use bytes::Bytes;
use sterna::Error;
use sterna::format::safetensors::Checkpoint;

/// Two tensors: `a: [2, 2]` of F16 and `b: [3]` of F32, 20 bytes.
const HEADER: &str =
    r#"{"a":{"dtype":"F16","shape":[2,2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[3],"data_offsets":[8,20]}}"#;

fn sound() -> Vec<u8> {
    let length = (HEADER.len() as u64).to_le_bytes();
    [&length[..], HEADER.as_bytes(), &[7; 20]].concat()
}

fn parse(file: Vec<u8>) -> Result<Checkpoint, Error> {
    let (bytes, data) = (file.len(), 20);
    let parsed = Checkpoint::parse(&Bytes::from(file));
    match &parsed {
        Ok(checkpoint) => {
            let held: usize = checkpoint.tensors().map(|(_, tensor)| tensor.data.len()).sum();
            assert!(checkpoint.file_bytes() == bytes && held == data, "every byte of the data is a tensor's");
        }
        Err(Error::Malformed(_) | Error::Unsupported(_)) => {}
        Err(error) => panic!("of another kind: {error}"),
    }
    parsed
}

#[test]
fn a_checkpoint_cut_anywhere_is_an_error() {
    assert_eq!(parse(sound()).unwrap().tensor("b").unwrap().data[..], [7; 12]);
    for end in 0..sound().len() {
        assert!(parse(sound()[..end].to_vec()).is_err(), "cut after {end} bytes");
    }
}

#[test]
fn a_checkpoint_with_any_byte_changed_is_an_error_or_sane() {
    let mut refused = 0;
    for place in 0..8 + HEADER.len() {
        for byte in [0, b'9', b'"', b'}', 0xff] {
            let mut file = sound();
            file[place] = byte;
            refused += usize::from(parse(file).is_err());
        }
    }
    assert!(refused > 400, "only {refused} were refused");
}
