//! Cut off, lying and hostile GGUF files give errors: no panic, and no more memory than the file has bytes plus a
//! constant. What still parses after a field was changed must be sane.

#[path = "common/counting_allocator.rs"]
mod counting_allocator;
#[path = "common/gguf_fields.rs"]
mod gguf_fields;
#[path = "common/gguf_writer.rs"]
mod gguf_writer;

use std::collections::HashSet;
use std::path::Path;

use bytes::Bytes;
use gguf_fields::{Kind, fields};
use gguf_writer::{GgufWriter, array, string};
use proptest::prelude::*;
use sterna::Error;
use sterna::format::gguf::{Gguf, Value};

/// What a parse may hold beside the file's own size: the documented maximum of the parser.
const MAX_EXTRA_BYTES: usize = 16 << 20;

/// The same for the reference files, whose few keys and tensors leave no room for an excuse.
const MAX_EXTRA_BYTES_SMALL: usize = 64 << 10;

/// Parses; the peak of memory held meanwhile must stay within `limit` bytes.
fn parse_within(limit: usize, file: &Bytes) -> sterna::Result<Gguf> {
    let (result, peak) = counting_allocator::peak_bytes(|| Gguf::parse(file.clone()));
    assert!(peak <= limit, "{peak} bytes were held to parse {} bytes ({:?})", file.len(), result.err());
    result
}

fn parse(file: &Bytes) -> sterna::Result<Gguf> {
    parse_within(file.len() + MAX_EXTRA_BYTES_SMALL, file)
}

/// What must hold for whatever parses: the promises of the documentation of `Gguf` and `TensorInfo`.
fn assert_sane(gguf: &Gguf, file_bytes: usize) {
    let mut keys = HashSet::new();
    for (key, value) in gguf.metadata().iter() {
        assert!(!key.is_empty() && keys.insert(key));
        assert!(value.to_string().len() < 3000, "short for humans");
        if let Value::Array(array) = value {
            let walked = match array.strings() {
                Some(strings) => strings.count(),
                None => array.floats().expect("strings or numbers").count(),
            };
            assert_eq!(walked, array.len());
        }
    }
    let mut spans: Vec<_> = gguf.tensors().iter().map(|tensor| (tensor.offset, tensor.offset + tensor.span)).collect();
    spans.sort_unstable();
    assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0), "no byte belongs to two tensors");
    assert!(spans.last().is_none_or(|&(_, end)| end == file_bytes), "the last span ends with the file");
    for tensor in gguf.tensors() {
        assert!((1..=4).contains(&tensor.shape.len()));
        assert_eq!(tensor.cols() * tensor.rows(), tensor.elements());
        assert!(tensor.elements() > 0 && tensor.elements().div_ceil(8) <= tensor.span);
        assert!(tensor.offset.is_multiple_of(gguf.alignment()));
        assert_eq!(gguf.tensor(&tensor.name), Some(tensor));
        assert_eq!(gguf.data(tensor).len(), tensor.span);
    }
}

fn golden(name: &str) -> Bytes {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden").join(name);
    Bytes::from(std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

// ---- Cuts ----

#[test]
fn a_file_cut_anywhere_is_an_error_or_ends_its_last_tensor_early() {
    for name in ["bitnet-128-silu/i2_s.gguf", "bitnet-256/tq1_0.gguf", "llama-256/tq2_0.gguf"] {
        let file = golden(name);
        let whole = parse(&file).unwrap();
        assert_sane(&whole, file.len());
        let directory_end = fields(&file).last().expect("tensors").end();
        let last = whole.tensors().iter().max_by_key(|tensor| tensor.offset).expect("tensors");
        // Each byte of the header would be too slow over the vocabulary: every 97th, and each around the edges.
        let edges = [0, 24, directory_end, last.offset, file.len() - 40].map(|edge| edge.saturating_sub(40)..edge + 40);
        for cut in (0..file.len()).step_by(97).chain(edges.into_iter().flatten()).filter(|&cut| cut < file.len()) {
            match parse(&file.slice(..cut)) {
                Err(error) => assert!(matches!(error, Error::Malformed(_)), "{name} cut at {cut}: {error}"),
                Ok(gguf) => {
                    // Only the tensor's own type can tell that it is short now; the loader compares span and size.
                    assert!(cut > last.offset, "{name} cut at {cut}");
                    assert_sane(&gguf, cut);
                    let shorter = gguf.tensor(&last.name).expect("the directory is whole");
                    assert_eq!(shorter.span, last.span - (file.len() - cut));
                }
            }
        }
    }
}

// ---- Every field replaced ----

#[test]
fn every_field_replaced_by_lies_gives_an_error_or_a_sane_parse() {
    for name in ["bitnet-128-silu/i2_s.gguf", "llama-256/tq2_0.gguf"] {
        let original = golden(name);
        let length = original.len() as u64;
        // 8 × the length: more than that no field can measure, not even an axis of one-bit weights.
        let lies = [
            0,
            1,
            length,
            length + 1,
            8 * length,
            8 * length + 1,
            1 << 31,
            u64::from(u32::MAX),
            1 << 62,
            (1 << 62) + 1,
            i64::MAX as u64,
            1 << 63,
            u64::MAX - 7,
            u64::MAX,
        ];
        let mut parsed = HashSet::new();
        for field in fields(&original) {
            for lie in lies {
                let mut file = original.to_vec();
                file[field.at..field.end()].copy_from_slice(&lie.to_le_bytes()[..field.width]);
                let file = Bytes::from(file);
                let lie = if field.width == 4 { u64::from(lie as u32) } else { lie };
                match parse(&file) {
                    Ok(gguf) => {
                        assert_sane(&gguf, file.len());
                        let possible = match field.kind {
                            Kind::Measure => lie <= 8 * length,
                            Kind::Version => lie == 2 || lie == 3,
                            Kind::ValueType => lie <= 12,
                            Kind::Axes => (1..=4).contains(&lie),
                            Kind::TensorType => true,
                        };
                        assert!(possible, "{name}: {field:?} = {lie} was believed");
                        if file != original {
                            parsed.insert(field.name);
                        }
                    }
                    Err(Error::Malformed(_) | Error::Unsupported(_)) => {}
                    Err(error) => panic!("{name}: {field:?} = {lie}: {error}"),
                }
            }
        }
        // No tensors, a shorter axis, another type of the same width: each is a sound file too. Whatever moves the
        // reader to another byte is not.
        let may_parse = HashSet::from(["number of tensors", "axis", "tensor type", "value type"]);
        assert!(parsed.is_subset(&may_parse), "{name}: {parsed:?}");
    }
}

// ---- Rules broken one at a time ----

/// Two sound tensors and two sound keys, to be broken.
fn sound() -> GgufWriter {
    GgufWriter::new()
        .pair("general.architecture", 8, string("llama"))
        .pair("general.name", 8, string("Möwe"))
        .tensor("a.weight", &[8, 4], 24, [1; 32])
        .tensor("b.weight", &[8], 24, [2; 8])
}

#[track_caller]
fn assert_refused(file: &GgufWriter, says: &[&str]) {
    let error = parse(&Bytes::from(file.bytes())).expect_err("a broken file").to_string();
    assert!(says.iter().all(|part| error.contains(part)), "{error:?} does not say {says:?}");
}

#[test]
fn broken_keys_are_refused_and_named() {
    assert!(parse(&Bytes::from(sound().bytes())).is_ok());
    let with = |key: &str, type_id, value: &[u8]| sound().pair(key, type_id, value);
    assert_refused(&with("general.name", 0, &[1]), &["key 2 at byte", "\"general.name\"", "same name"]);
    assert_refused(&with("", 0, &[1]), &["key 2 at byte", "empty"]);
    assert_refused(&with(&"k".repeat(65_536), 0, &[1]), &["key 2 at byte", "65536 bytes"]);
    assert_refused(&with("x", 13, &[1]), &["\"x\"", "unknown type 13"]);
    assert_refused(&with("x", 7, &[2]), &["\"x\"", "0x02", "not 0 or 1"]);
    assert_refused(&with("x", 8, &string(b"a\xff")), &["\"x\"", "byte 1 is 0xff"]);
    assert_refused(&with("x", 9, &array(7, 3, [0, 1, 255])), &["\"x\"", "boolean 2 is the byte 0xff"]);
    assert_refused(&with("x", 9, &array(9, 1, array(0, 1, [1]))), &["\"x\"", "array of arrays"]);
    assert_refused(&with("x", 9, &array(13, 1, [1])), &["\"x\"", "unknown type 13"]);
    let strings = [string("a"), string(b"\x80")].concat();
    assert_refused(&with("x", 9, &array(8, 2, strings)), &["\"x\"", "element 1 at byte", "byte 0 is 0x80"]);
    assert_refused(&with("x", 9, &array(12, 1 << 61, [])), &["\"x\"", "2305843009213693952 elements", "remain"]);
    assert_refused(&with("x", 8, &99_999_999_999_u64.to_le_bytes()), &["\"x\"", "claims 99999999999 bytes, but"]);
    let mut file = sound();
    file.pairs[1].0 = b"\xc3(".to_vec();
    assert_refused(&file, &["key 1 at byte", "not UTF-8"]);
}

#[test]
fn a_wrong_alignment_is_refused() {
    for alignment in [0, 3, 48, (1 << 20) + 1, 1 << 21, u32::MAX] {
        let file = sound().pair("general.alignment", 4, alignment.to_le_bytes());
        assert_refused(&file, &["general.alignment", &alignment.to_string(), "power of two"]);
    }
    let error = parse(&Bytes::from(sound().pair("general.alignment", 8, string("32")).bytes())).unwrap_err();
    assert!(matches!(&error, Error::Model(text) if text.contains("general.alignment")), "{error}");
}

#[test]
fn broken_tensors_are_refused_and_named() {
    let broken = |change: &dyn Fn(&mut gguf_writer::Tensor)| {
        let mut file = sound();
        change(&mut file.tensors[1]);
        file
    };
    assert_refused(&broken(&|b| b.name = b"a.weight".to_vec()), &["tensors 0 and 1", "same name, \"a.weight\""]);
    assert_refused(&broken(&|b| b.name.clear()), &["tensor 1 at byte", "empty"]);
    assert_refused(&broken(&|b| b.name = vec![b'n'; 1025]), &["tensor 1 at byte", "1025 bytes"]);
    assert_refused(&broken(&|b| b.name = b"\xff".to_vec()), &["tensor 1 at byte", "not UTF-8"]);
    assert_refused(&broken(&|b| b.shape.clear()), &["\"b.weight\"", "0 axes"]);
    assert_refused(&broken(&|b| b.shape = vec![1; 5]), &["\"b.weight\"", "5 axes"]);
    assert_refused(&broken(&|b| b.shape = vec![8, 0]), &["\"b.weight\"", "zero"]);
    assert_refused(&broken(&|b| b.shape = vec![1 << 63]), &["\"b.weight\"", "negative"]);
    assert_refused(&broken(&|b| b.shape = vec![1 << 32, 1 << 32]), &["\"b.weight\"", "more elements"]);
    assert_refused(&broken(&|b| b.shape = vec![65]), &["\"b.weight\"", "[65]", "8 bytes", "less than one bit"]);
    assert_refused(&broken(&|b| b.offset = Some(33)), &["\"b.weight\"", "33 is not a multiple"]);
    assert_refused(&broken(&|b| b.offset = Some(0)), &["overlaps", "both start"]);
    assert_refused(&broken(&|b| b.offset = Some(64)), &["\"b.weight\"", "64 bytes into the data", "past the end"]);
    assert_refused(&broken(&|b| b.offset = Some(u64::MAX - 31)), &["\"b.weight\"", "past the end"]);
    let mut file = sound();
    file.tensors[0].shape = vec![8, 40];
    assert_refused(&file, &["\"a.weight\"", "[8, 40]", "another tensor starts within it"]);
    file.tensors[0].shape = vec![8, 32];
    assert!(parse(&Bytes::from(file.bytes())).is_ok(), "256 one-bit weights fit into 32 bytes");
}

// ---- Memory ----

#[test]
fn the_largest_accepted_file_stays_within_the_promised_memory() {
    const MANY: usize = 65_536; // of each
    let mut file = GgufWriter::new().pair("general.alignment", 4, 1_u32.to_le_bytes());
    file.alignment = 1;
    for number in 1..MANY {
        file = file.pair(&format!("{number:x}"), 0, [0]);
    }
    for number in 0..MANY {
        file = file.tensor(&format!("{number:x}"), &[1, 1, 1, 1], 24, [1]);
    }
    let bytes = Bytes::from(file.bytes());
    let gguf = parse_within(bytes.len() + MAX_EXTRA_BYTES, &bytes).unwrap();
    assert_eq!((gguf.metadata().iter().count(), gguf.tensors().len()), (MANY, MANY));

    let one_tensor_more = file.tensor("more", &[1], 24, [1]);
    let error = parse_within(MAX_EXTRA_BYTES, &Bytes::from(one_tensor_more.bytes())).unwrap_err();
    assert!(matches!(&error, Error::Unsupported(text) if text.contains("65537 tensors")), "{error}");
    let one_key_more = one_tensor_more.pair("more", 0, [0]);
    let error = parse_within(MAX_EXTRA_BYTES, &Bytes::from(one_key_more.bytes())).unwrap_err();
    assert!(matches!(&error, Error::Unsupported(text) if text.contains("65537 keys")), "{error}");
}

// ---- Chance ----

proptest! {
    #[test]
    fn flipped_bytes_in_the_header_never_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut file = golden("bitnet-128-silu/i2_s.gguf").to_vec();
        let header_bytes = fields(&file).last().expect("tensors").end();
        for (index, byte) in flips {
            file[index.index(header_bytes)] ^= byte;
        }
        let file = Bytes::from(file);
        if let Ok(gguf) = parse(&file) {
            assert_sane(&gguf, file.len());
        }
    }

    #[test]
    fn noise_behind_the_magic_never_panics(
        counts in (0_u64..8, 0_u64..8),
        noise in prop::collection::vec(prop_oneof![Just(0_u8), 0_u8..16, any::<u8>()], 0..400),
    ) {
        let head = [&b"GGUF\x03\0\0\0"[..], &counts.0.to_le_bytes(), &counts.1.to_le_bytes()].concat();
        let file = Bytes::from([head, noise].concat());
        if let Ok(gguf) = parse(&file) {
            assert_sane(&gguf, file.len());
        }
    }
}
