//! Sound GGUF files are read as they were written: each value type, each shape, any order of the data, and the files
//! that other people's programs wrote.

#[path = "common/gguf_writer.rs"]
mod gguf_writer;

use std::path::{Path, PathBuf};

use anyhow::Result;
use bytes::Bytes;
use gguf_writer::{GgufWriter, array, string};
use sterna::Error;
use sterna::format::gguf::{Gguf, Value};

fn parse(file: &GgufWriter) -> sterna::Result<Gguf> {
    Gguf::parse(Bytes::from(file.bytes()))
}

#[test]
fn every_value_type_is_read_as_written() -> Result<()> {
    let file = GgufWriter::new()
        .pair("u8", 0, [200])
        .pair("i8", 1, (-100_i8).to_le_bytes())
        .pair("u16", 2, 60_000_u16.to_le_bytes())
        .pair("i16", 3, (-30_000_i16).to_le_bytes())
        .pair("u32", 4, u32::MAX.to_le_bytes())
        .pair("i32", 5, i32::MIN.to_le_bytes())
        .pair("f32", 6, 0.25_f32.to_le_bytes())
        .pair("bool", 7, [1])
        .pair("string", 8, string("drei Möwen"))
        .pair("u64", 10, u64::MAX.to_le_bytes())
        .pair("i64", 11, i64::MIN.to_le_bytes())
        .pair("f64", 12, 1e-300_f64.to_le_bytes());
    let expected = [
        Value::Unsigned(200),
        Value::Signed(-100),
        Value::Unsigned(60_000),
        Value::Signed(-30_000),
        Value::Unsigned(u32::MAX.into()),
        Value::Signed(i32::MIN.into()),
        Value::Float(0.25),
        Value::Bool(true),
        Value::String("drei Möwen".into()),
        Value::Unsigned(u64::MAX),
        Value::Signed(i64::MIN),
        Value::Float(1e-300),
    ];
    let gguf = parse(&file)?;
    let values: Vec<&Value> = gguf.metadata().iter().map(|(_, value)| value).collect();
    assert_eq!(values, expected.iter().collect::<Vec<_>>());
    let keys: Vec<&str> = gguf.metadata().iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "u64", "i64", "f64"]);
    Ok(())
}

#[test]
fn arrays_of_every_element_type_are_read_as_written() -> Result<()> {
    let file = GgufWriter::new()
        .pair("strings", 9, array(8, 3, [string("a"), string(""), string("ß")].concat()))
        .pair("bools", 9, array(7, 3, [1, 0, 1]))
        .pair("i8", 9, array(1, 2, [0xff, 1]))
        .pair("u16", 9, array(2, 2, [1, 2, 3, 4]))
        .pair("i32", 9, array(5, 1, (-7_i32).to_le_bytes()))
        .pair("u64", 9, array(10, 1, u64::MAX.to_le_bytes()))
        .pair("f32", 9, array(6, 2, [1.5_f32.to_le_bytes(), (-2.0_f32).to_le_bytes()].concat()))
        .pair("f64", 9, array(12, 1, 0.1_f64.to_le_bytes()))
        .pair("empty", 9, array(4, 0, []));
    let gguf = parse(&file)?;
    let array = |key: &str| gguf.metadata().array(key).unwrap().expect("it was written");
    let integers = |key: &str| array(key).integers().map(Iterator::collect::<Vec<_>>);
    let floats = |key: &str| array(key).floats().map(Iterator::collect::<Vec<_>>);
    assert_eq!(array("strings").strings().map(Iterator::collect::<Vec<_>>), Some(vec!["a", "", "ß"]));
    assert_eq!(array("strings").len(), 3);
    assert_eq!(integers("strings"), None);
    assert_eq!(integers("bools"), Some(vec![1, 0, 1]));
    assert_eq!(integers("i8"), Some(vec![-1, 1]));
    assert_eq!(integers("u16"), Some(vec![0x0201, 0x0403]));
    assert_eq!(integers("i32"), Some(vec![-7]));
    assert_eq!(integers("u64"), Some(vec![i64::MAX]), "beyond i64: the largest i64");
    assert_eq!(integers("f32"), None);
    assert_eq!(floats("f32"), Some(vec![1.5, -2.0]));
    assert_eq!(floats("f64"), Some(vec![0.1]));
    assert_eq!(integers("empty"), Some(vec![]));
    assert!(array("empty").is_empty());
    Ok(())
}

#[test]
fn a_value_of_another_type_is_a_model_error_that_names_key_and_value() -> Result<()> {
    let gguf = parse(&GgufWriter::new().pair("general.name", 8, string("Möwe")).pair("n", 11, (-1_i64).to_le_bytes()))?;
    let error = gguf.metadata().unsigned("general.name").unwrap_err();
    assert!(matches!(&error, Error::Model(text) if text.contains("general.name") && text.contains("Möwe")), "{error}");
    assert!(gguf.metadata().unsigned("n").is_err(), "negative");
    assert_eq!(gguf.metadata().float("n")?, Some(-1.0));
    assert_eq!(gguf.metadata().unsigned("absent")?, None);
    Ok(())
}

#[test]
fn tensors_are_found_by_name_with_their_bytes() -> Result<()> {
    let file = GgufWriter::new().tensor("b", &[4, 2], 0, [1; 32]).tensor("a", &[3], 24, [2; 3]).tensor(
        "c",
        &[2, 3, 4],
        24,
        [3; 24],
    );
    let gguf = parse(&file)?;
    let names: Vec<&str> = gguf.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["b", "a", "c"], "the order of the directory");
    let [b, a, c] = ["b", "a", "c"].map(|name| gguf.tensor(name).expect(name));
    assert_eq!((b.cols(), b.rows(), b.elements(), b.type_id, b.span), (4, 2, 8, 0, 32));
    assert_eq!((a.cols(), a.rows(), a.elements(), a.type_id, a.span), (3, 1, 3, 24, 32));
    assert_eq!((c.cols(), c.rows(), c.elements(), c.type_id, c.span), (2, 12, 24, 24, 24));
    assert_eq!(gguf.data(b), [1; 32][..]);
    assert_eq!(gguf.data(a)[..3], [2; 3]);
    assert_eq!(gguf.data(c), [3; 24][..]);
    assert!(gguf.tensor("d").is_none());
    Ok(())
}

#[test]
fn data_may_lie_in_another_order_and_with_gaps() -> Result<()> {
    let mut file = GgufWriter::new().tensor("first", &[8], 24, [1; 8]).tensor("second", &[8], 24, [2; 8]);
    file.tensors[0].offset = Some(96);
    file.tensors[1].offset = Some(32);
    let mut bytes = file.bytes();
    bytes.resize(bytes.len() + 100, 9);
    let gguf = Gguf::parse(Bytes::from(bytes))?;
    let (first, second) = (&gguf.tensors()[0], &gguf.tensors()[1]);
    assert_eq!(first.offset - second.offset, 64);
    assert_eq!(second.span, 64, "up to the next tensor in the file");
    assert_eq!(gguf.data(second)[..8], [2; 8]);
    Ok(())
}

#[test]
fn the_files_alignment_is_obeyed() -> Result<()> {
    let mut file = GgufWriter::new()
        .pair("general.alignment", 4, 256_u32.to_le_bytes())
        .tensor("a", &[1], 24, [1])
        .tensor("b", &[1], 24, [2]);
    file.alignment = 256;
    let gguf = parse(&file)?;
    assert_eq!(gguf.alignment(), 256);
    assert!(gguf.tensors().iter().all(|tensor| tensor.offset % 256 == 0));
    assert_eq!(gguf.data(&gguf.tensors()[1])[..], [2]);
    Ok(())
}

#[test]
fn version_2_is_read_and_1_and_4_and_big_endian_are_refused() -> Result<()> {
    let mut file = GgufWriter::new().tensor("a", &[1], 24, [1]);
    file.version = 2;
    assert_eq!(parse(&file)?.version(), 2);
    for (version, says) in [(1, "version 1"), (4, "version 4"), (3 << 24, "big-endian GGUF file (version 3)")] {
        file.version = version;
        let error = parse(&file).unwrap_err();
        assert!(matches!(&error, Error::Unsupported(text) if text.contains(says)), "{error}");
    }
    Ok(())
}

#[test]
fn a_part_of_a_split_model_says_which_and_how_to_merge() -> Result<()> {
    let split = |number: u16, count: u16| {
        let file = GgufWriter::new().pair("split.no", 2, number.to_le_bytes());
        parse(&file.pair("split.count", 2, count.to_le_bytes()))
    };
    let error = split(1, 3).unwrap_err();
    assert!(matches!(&error, Error::Unsupported(text) if text.contains("file 2 of 3") && text.contains("--merge")));
    split(0, 1)?; // a "split" into one file is whole
    Ok(())
}

#[test]
fn a_file_without_keys_and_tensors_is_sound() -> Result<()> {
    let gguf = Gguf::parse(Bytes::from(GgufWriter::new().bytes()[..24].to_vec()))?;
    assert_eq!((gguf.metadata().iter().count(), gguf.tensors().len(), gguf.alignment()), (0, 0, 32));
    Ok(())
}

/// Sizes of ggml types that the reference files use: elements and bytes of a block (I2_S aside).
const BLOCKS: [(u32, usize, usize); 4] = [(0, 1, 4), (1, 1, 2), (34, 256, 54), (35, 256, 66)];

#[test]
fn spans_of_real_files_are_the_padded_sizes() -> Result<()> {
    let files = real_files();
    assert!(files.len() >= 9, "the reference files are missing");
    for path in files {
        let gguf = Gguf::open(&path)?;
        assert!(gguf.metadata().string("general.architecture")?.is_some());
        assert!(gguf.metadata().array("tokenizer.ggml.tokens")?.expect("a vocabulary").strings().is_some());
        for tensor in gguf.tensors() {
            let size = match BLOCKS.iter().find(|(type_id, ..)| *type_id == tensor.type_id) {
                Some((_, elements, bytes)) => tensor.elements() / elements * bytes,
                None if tensor.type_id == 36 => tensor.elements() / 4 + 32,
                None => continue,
            };
            let name = (&path, &tensor.name);
            assert!(size <= tensor.span && tensor.span < size + gguf.alignment(), "{name:?}: {size} {tensor:?}");
            assert_eq!(gguf.data(tensor).len(), tensor.span);
        }
    }
    Ok(())
}

#[test]
fn what_is_not_a_model_file_is_named() -> Result<()> {
    let cases: [(&[u8], &str); 12] = [
        (b"", "empty"),
        (b"PK\x03\x04....", "zip archive"),
        (b"\x80\x02}q\x00", "pickle"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"tjgg\x03\x00\x00\x00", "before GGUF"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "git lfs pull"),
        (b"\n <!DOCTYPE html><html>", "HTML"),
        (b"\x02\0\0\0\0\0\0\0{}", "safetensors"),
        (&[0; 100], "not finished"),
        (b"\x89PNG....", "[89, 50, 4e, 47]"),
        (b"GG", "[47, 47]"),
        (b"GGUF", "ends within the version at byte 4"),
    ];
    for (bytes, says) in cases {
        let error = Gguf::parse(Bytes::copy_from_slice(bytes)).unwrap_err();
        assert!(error.to_string().contains(says), "{:?}: {error}", bytes.escape_ascii().to_string());
    }
    Ok(())
}

#[test]
fn paths_without_a_model_are_errors_that_name_the_path() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for path in [folder.clone(), folder.join("absent.gguf")] {
        let error = Gguf::open(&path).unwrap_err();
        assert!(matches!(&error, Error::Io { path: named, .. } if *named == path), "{error}");
    }
    let this = Path::new(env!("CARGO_MANIFEST_DIR")).join(file!());
    let error = Gguf::open(&this).unwrap_err();
    assert!(matches!(&error, Error::Malformed(text) if text.contains("gguf.rs") && text.contains("//!")), "{error}");
    let empty = Path::new(env!("CARGO_TARGET_TMPDIR")).join("empty.gguf");
    std::fs::write(&empty, [])?;
    assert!(Gguf::open(&empty).unwrap_err().to_string().contains("the file is empty"));
    Ok(())
}

fn real_files() -> Vec<PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden");
    let folders = std::fs::read_dir(golden).unwrap().map(|folder| folder.unwrap().path()).filter(|path| path.is_dir());
    let files = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()));
    files.filter(|path| path.extension().is_some_and(|extension| extension == "gguf")).collect()
}
