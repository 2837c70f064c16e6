//! Type numbers that several programs use: the bytes of the tensors tell them apart, then keys, then the content; and
//! where nothing does, the file is refused with a list of what it could be.

use half::f16;
use sterna::Error;
use sterna::format::encodings::{Encoding, TlScale};
use sterna::format::gguf::{Encodings, Gguf, resolve};
use sterna::format::{Scales, Ternary, Weights};

use crate::gguf_writer::{GgufWriter, string};
use crate::{some_ternary, some_trits};

const NAME: &str = "blk.0.attn_q.weight";

/// Trits of which one in four is zero where STQ1_0 wants it, so that every encoding can hold them.
fn sparse(rows: usize, cols: usize, scale: f32) -> Ternary {
    let mut trits: Vec<i8> = some_trits(rows * cols).iter().map(|&t| if t == 0 { 1 } else { t }).collect();
    trits.chunks_mut(64).for_each(|trits| trits[..16].fill(0));
    Ternary::pack(rows, cols, &trits, Scales::Tensor(scale)).unwrap()
}

/// The bytes of weights `[rows, cols]` in an encoding.
fn bytes(encoding: Encoding, rows: usize, cols: usize) -> Vec<u8> {
    let scale = if encoding.holds_scale() { 0.5 } else { 1.0 };
    encoding.encode(&Weights::Ternary(sparse(rows, cols, scale))).unwrap()
}

/// A file with one tensor of a number, a scale beside it if it needs one, and a norm behind it.
fn file(number: u32, encoding: Encoding, rows: usize, cols: usize) -> GgufWriter {
    let writer = GgufWriter::new().tensor(NAME, &[cols as u64, rows as u64], number, bytes(encoding, rows, cols));
    let writer = if encoding.holds_scale() {
        writer
    } else {
        writer.tensor("blk.0.attn_q.scale", &[1], 0, 0.5_f32.to_le_bytes())
    };
    writer.tensor("blk.0.attn_norm.weight", &[8], 0, [0; 32])
}

/// A file that ends with its one tensor, whose size then tells nothing; `spare` bytes follow it.
fn last(number: u32, data: Vec<u8>, rows: usize, cols: usize, spare: usize) -> GgufWriter {
    let data = [data, vec![0; spare]].concat();
    GgufWriter::new().tensor("blk.0.attn_norm.weight", &[8], 0, [0; 32]).tensor(
        NAME,
        &[cols as u64, rows as u64],
        number,
        data,
    )
}

fn resolved(writer: &GgufWriter) -> Result<Encodings, Error> {
    resolve(&Gguf::parse(writer.bytes().into()).unwrap())
}

#[track_caller]
fn refused(writer: &GgufWriter, says: &[&str]) {
    match resolved(writer) {
        Err(Error::Unsupported(text)) => {
            assert!(says.iter().all(|part| text.contains(part)), "{text:?} does not say {says:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_number_is_resolved_by_the_bytes_of_its_tensors() {
    for (number, encoding, rows, cols) in [
        (38, Encoding::Tl1(TlScale::Inside), 1536, 1536),
        (38, Encoding::Tl1(TlScale::Beside), 1536, 1536),
        (39, Encoding::Tl2(TlScale::Inside), 1536, 1536),
        (39, Encoding::Tl2(TlScale::Beside), 1536, 1536),
        (40, Encoding::I2V, 16, 512),
        (42, Encoding::Q2_0, 16, 512),
        (42, Encoding::Pq2_0, 16, 512),
        (42, Encoding::Stq1_0, 16, 512),
        (42, Encoding::I2V4, 16, 512),
        (43, Encoding::Stq1_0, 16, 512),
        (43, Encoding::I2V8, 16, 512),
        (142, Encoding::Pq2_0, 16, 512),
        (143, Encoding::Ptq1_0, 16, 512),
    ] {
        let writer = file(number, encoding, rows, cols);
        // TRQ1_0 has the bytes of PQ2_0, and only the architecture tells.
        let writer = writer.pair("general.architecture", 8, string("qwen3"));
        let encodings = resolved(&writer).unwrap_or_else(|error| panic!("{number} as {encoding}: {error}"));
        assert_eq!(encodings.of(number).unwrap(), encoding);
        assert_eq!(encodings.of(0).unwrap(), Encoding::F32);
        let [decision] = encodings.decisions() else { panic!("{:?}", encodings.decisions()) };
        let text = decision.to_string();
        assert!(text.contains(&format!("{number} is {encoding}")) || number == 42, "{text}");
        assert!(text.contains("not "), "{text:?} names the alternatives");
    }
}

#[test]
fn all_tensors_of_a_number_have_one_encoding() {
    let writer = file(42, Encoding::Q2_0, 16, 512).tensor(
        "blk.0.attn_k.weight",
        &[512, 16],
        42,
        bytes(Encoding::Pq2_0, 16, 512),
    );
    let writer = writer.tensor("blk.1.attn_norm.weight", &[8], 0, [0; 32]);
    refused(
        &writer,
        &["type 42 (\"blk.0.attn_q.weight\" and 1 more)", "groups of 64", "groups of 128", "2304", "2176"],
    );
}

#[test]
fn encodings_that_are_known_but_not_read_are_named() {
    let norm = |writer: GgufWriter| writer.tensor("blk.0.attn_norm.weight", &[8], 0, [0; 32]);
    let tensor = |number, bytes: usize| norm(GgufWriter::new().tensor(NAME, &[512, 16], number, vec![0; bytes]));
    refused(&tensor(39, 512 * 16 / 32 * 17), &["type 39", "is MXFP4, which this version cannot read"]);
    refused(&tensor(40, 512 * 16 / 64 * 36), &["type 40", "is NVFP4"]);
    refused(&tensor(41, 512 * 16 / 128 * 18), &["type 41", "is Q1_0"]);
    refused(&tensor(142, 16 * (4 + 128)), &["type 142", "is IQ2_TN"]);
    refused(&tensor(143, 16 * (2 + 104)), &["type 143", "is IQ1_TN"]);
    let parakeet = tensor(42, 512 * 16 / 256 * 68).pair("general.architecture", 8, string("parakeet"));
    refused(&parakeet, &["type 42", "is TRQ1_0"]);
}

#[test]
fn a_size_that_fits_nothing_is_refused_with_each_size() {
    let writer = GgufWriter::new().tensor(NAME, &[512, 16], 42, vec![0; 4096]);
    let writer = writer.tensor("blk.0.attn_norm.weight", &[8], 0, [0; 32]);
    refused(&writer, &["type 42 (\"blk.0.attn_q.weight\")", "nothing that this version knows", "2304", "2176", "1344"]);
    let unscaled = GgufWriter::new().tensor(NAME, &[512, 16], 43, bytes(Encoding::I2V8, 16, 512));
    refused(&unscaled.tensor("blk.0.attn_norm.weight", &[8], 0, [0; 32]), &["I2_V_8", "no scale is beside it"]);
    let tl2 = GgufWriter::new().tensor("blk.0.ffn_down.weight", &[6912, 2560], 39, vec![0; 4096 * 1024]);
    refused(&tl2.tensor("blk.0.attn_norm.weight", &[8], 0, [0; 32]), &["TL2", "[2560, 6912]", "I2_S"]);
}

#[test]
fn behind_the_last_tensor_keys_tell_and_without_them_it_is_refused() {
    // One number everywhere, with bits that are a likely scale and trits in each reading: nothing but a key can tell.
    let same = f16::from_bits(0x2a00).to_le_bytes().repeat(2048);
    let ambiguous = |key: Option<(&str, u32, Vec<u8>)>| {
        let writer = last(42, same.clone(), 2, 512, 0);
        match key {
            Some((key, type_id, value)) => writer.pair(key, type_id, value),
            None => writer,
        }
    };
    refused(&ambiguous(None), &["type 42", "may be", "groups of 64", "groups of 128", "TRQ1_0"]);
    let chosen = |key: &str, type_id, value: Vec<u8>| {
        let encodings = resolved(&ambiguous(Some((key, type_id, value)))).unwrap();
        (encodings.of(42).unwrap(), encodings.decisions()[0].to_string())
    };
    let (encoding, text) = chosen("prism.hadamard.version", 4, 1_u32.to_le_bytes().to_vec());
    assert_eq!(encoding, Encoding::Pq2_0);
    assert!(text.contains("keys of PrismML"), "{text}");
    let (encoding, text) = chosen("general.file_type", 4, 141_u32.to_le_bytes().to_vec());
    assert_eq!(encoding, Encoding::Pq2_0);
    assert!(text.contains("\"general.file_type\" is 141"), "{text}");
    let (encoding, text) = chosen("general.architecture", 8, string("hunyuan-dense"));
    assert_eq!(encoding, Encoding::Stq1_0);
    assert!(text.contains("hunyuan-dense"), "{text}");
    refused(&ambiguous(Some(("general.file_type", 4, 41_u32.to_le_bytes().to_vec()))), &["may be", "groups of 64"]);
    refused(&ambiguous(Some(("general.architecture", 8, string("qwen3")))), &["may be", "groups of 128"]);
}

#[test]
fn the_content_tells_what_the_keys_do_not() {
    for encoding in [Encoding::Q2_0, Encoding::Pq2_0] {
        let weights = some_ternary(32, 1024, Scales::Tensor(0.03));
        let data = encoding.encode(&Weights::Ternary(weights)).unwrap();
        // Room for each of the meanings behind the tensor.
        let writer = last(42, data, 32, 1024, 4096).pair("general.architecture", 8, string("qwen3"));
        let encodings = resolved(&writer).unwrap_or_else(|error| panic!("{encoding}: {error}"));
        assert_eq!(encodings.of(42).unwrap(), encoding);
    }
}

#[test]
fn content_that_cannot_be_is_refused_though_the_size_fits() {
    // The scale behind the codes, as one converter wrote it.
    let data = bytes(Encoding::Pq2_0, 16, 512);
    let moved: Vec<u8> = data.chunks(34).flat_map(|block| [&block[2..], &block[..2]].concat()).collect();
    let writer = GgufWriter::new().tensor(NAME, &[512, 16], 142, moved);
    let writer = writer.tensor("blk.0.attn_norm.weight", &[8], 0, [0; 32]);
    refused(&writer, &["type 142", "PQ2_0 of PrismML: "]);
}
