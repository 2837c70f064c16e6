//! Bytes that are there and mean nothing: tensors of zeros, parts that were never written, codes that are no trits where
//! nobody samples. What cannot be a model is refused when it is opened; what is suspicious is told, and reading all of it tells
//! everything.

use std::ops::ControlFlow;

use sterna::format::{Contents, Counts};
use sterna::model::{Examined, Model, Part, Role};

use crate::edit::{TemporaryFile, golden, parts};
use crate::gguf_writer::GgufWriter;
use crate::{FAMILIES, FILES, Fate};

/// A file of an encoding, and a matrix of zeros in it.
struct Encoded {
    file: &'static str,
    /// A block of zero trits with the scale 1/2, or of zeros.
    zero_block: Vec<u8>,
}

fn half() -> [u8; 2] {
    half::f16::from_f32(0.5).to_le_bytes()
}

fn encodings() -> Vec<Encoded> {
    let block = |codes: Vec<u8>| [&codes[..], &half()].concat();
    let leading = |codes: Vec<u8>| [&half(), &codes[..]].concat();
    // Five digits of 1 in base 3 are 121, of 243 in 256 parts rounded up.
    let fives = |bytes: usize| vec![(121_u16 * 256).div_ceil(243) as u8; bytes];
    vec![
        Encoded { file: "llama-256/tq2_0.gguf", zero_block: block(vec![0x55; 64]) },
        Encoded { file: "bitnet-256/tq1_0.gguf", zero_block: block([fives(48), fours(4)].concat()) },
        Encoded { file: "qwen3-yarn/q2_0_g64.gguf", zero_block: leading(vec![0x55; 16]) },
        Encoded { file: "qwen3-yarn/pq2_0.gguf", zero_block: leading(vec![0x55; 32]) },
        Encoded { file: "trilm-128/f16.gguf", zero_block: vec![0; 2] },
    ]
}

/// Bytes of four trits of 0 and a digit that is not used, as TQ1_0 ends its blocks.
fn fours(bytes: usize) -> Vec<u8> {
    vec![(120_u16 * 256).div_ceil(243) as u8; bytes]
}

const GATE: &str = "blk.0.ffn_gate.weight";

/// What was told of a model that opens.
fn told(file: &GgufWriter) -> (Model, String) {
    let model = Model::from_bytes(file.bytes()).unwrap();
    let about = |subject: &str| matches!(subject, "weights" | "zero bytes");
    let told = model.decisions().iter().filter(|decision| about(decision.subject)).map(ToString::to_string).collect();
    (model, told)
}

fn examined(model: &Model, role: Role) -> Examined {
    model.examine(role, &mut |_| ControlFlow::Continue(())).unwrap().expect("nobody stopped it")
}

fn gate(model: &Model) -> Examined {
    examined(model, Role::Layer(0, Part::Gate))
}

#[test]
fn golden_files_are_sound_to_the_last_value() {
    let more = encodings().into_iter().map(|encoded| encoded.file);
    for name in FILES.into_iter().chain(FAMILIES).chain(more) {
        let (model, told) = told(&parts(name));
        assert_eq!(told, "", "{name}");
        model.check(&mut |_, _| {}).unwrap();
        for role in model.roles() {
            let Examined { contents, refusal, suspicion, .. } = examined(&model, role);
            assert!(refusal.is_none() && suspicion.is_none(), "{name}: {role:?}: {refusal:?} {suspicion:?}");
            let (rows, cols) = role.shape(model.config());
            let all = match contents.values {
                Counts::Trits { trits, wrong, .. } => trits.iter().sum::<u64>() + wrong,
                Counts::Floats { count, .. } => count,
                _ => 0,
            };
            assert_eq!(all, (rows * cols) as u64, "{name}: {role:?}");
        }
    }
}

#[test]
fn a_matrix_without_weights_is_named_in_every_encoding() {
    let check = |name: &str, file: &GgufWriter| {
        let (model, told) = told(file);
        assert!(told.contains("1 matrix is all zero") && told.contains(GATE), "{name}: {told:?}");
        let found = gate(&model);
        assert!(found.contents.is_zero() && found.refusal.is_none(), "{name}: {found:?}");
        assert_eq!(found.suspicion.as_deref(), Some("all weights are zero"), "{name}");
        Fate::of(&TemporaryFile::new(&file.bytes()).path).ran(); // it computes what it says
    };
    for Encoded { file: name, zero_block } in encodings() {
        let length = parts(name).named(GATE).data.len();
        let mut file = parts(name);
        file.named(GATE).data = zero_block.repeat(length / zero_block.len());
        check(&format!("{name}, trits of 0"), &file);
        file.named(GATE).data = vec![0; length];
        check(&format!("{name}, bytes of 0"), &file);
    }
    for name in ["bitnet-128-silu/i2_s.gguf", "bitnet-384/i2_s.gguf", "embedding-gemma3/i2_s.gguf"] {
        let whole = parts(name).named(GATE).data.clone();
        let codes = whole.len() - 32;
        let mut file = parts(name);
        file.named(GATE).data[..codes].fill(0x55);
        check(&format!("{name}, trits of 0"), &file);
        file.named(GATE).data = [&whole[..codes], &[0; 32]].concat();
        check(&format!("{name}, a scale of 0"), &file);
        file.named(GATE).data = vec![0; whole.len()];
        check(&format!("{name}, bytes of 0"), &file);
    }
    // A scale beside the trits.
    let mut beside = parts(FILES[0]);
    beside.add("blk.0.ffn_gate.scale", &[1], 0, [0; 4]);
    check("a scale of 0 beside the matrix", &beside);
}

#[test]
fn many_matrices_without_weights_are_counted_and_the_first_are_named() {
    let mut file = parts(FILES[1]);
    for tensor in file.tensors.iter_mut().filter(|tensor| tensor.name.starts_with(b"blk.") && tensor.shape.len() == 2) {
        tensor.data.fill(0);
    }
    let (_, told) = told(&file);
    assert!(told.contains("14 matrices are all zero: blk.0.attn_q.weight, ") && told.contains(" and 8 more"), "{told}");
}

#[test]
fn a_part_that_was_never_written_is_told() {
    for name in ["bitnet-128-silu/i2_s.gguf", "llama-256/tq2_0.gguf", "bitnet-256/tq1_0.gguf"] {
        let length = parts(name).named(GATE).data.len();
        for part in [0..length / 4, length / 4..length * 3 / 4, length * 3 / 4..length] {
            let mut file = parts(name);
            file.named(GATE).data[part.clone()].fill(0);
            let (model, told) = told(&file);
            let found = gate(&model);
            // I2_S has its only scale at the end.
            if told.contains("all zero") {
                assert!(found.contents.is_zero(), "{name} {part:?}");
                continue;
            }
            assert!(told.contains("zero bytes") && told.contains(GATE), "{name} {part:?}: {told:?}");
            assert!(found.suspicion.is_some_and(|why| why.contains("rows")), "{name} {part:?}");
        }
    }
}

#[test]
fn norms_and_tables_of_zeros_are_refused_when_the_file_is_opened() {
    for name in FILES.into_iter().chain(FAMILIES) {
        let tensors: Vec<String> =
            parts(name).tensors.iter().map(|tensor| String::from_utf8(tensor.name.clone()).unwrap()).collect();
        let is_needed = |tensor: &&String| {
            tensor.contains("norm") || tensor.starts_with("token_embd") || tensor.starts_with("output.")
        };
        for tensor in tensors.iter().filter(is_needed) {
            let mut file = parts(name);
            file.named(tensor).data.fill(0);
            file.fate().refused(&[&format!("\"{tensor}\""), " is 0, so this cannot be a model"]);
        }
    }
    // Half of a norm is odd, and told.
    let mut file = parts(FILES[1]);
    file.named("output_norm.weight").data[..600].fill(0);
    assert!(told(&file).1.contains("output_norm.weight: 150 of 256 gains"), "{}", told(&file).1);
}

/// Norms that were not written are refused; where only the last table is, its rows are told.
#[test]
fn a_download_that_stopped_in_a_file_of_its_full_length_is_refused_or_told() {
    let mut refused = 0;
    for name in FILES {
        let whole = golden(name);
        for written in [whole.len() / 4, whole.len() / 2, whole.len() * 3 / 4] {
            let mut file = whole.clone();
            file[written..].fill(0);
            match Model::from_bytes(file) {
                Err(error) => {
                    let (error, zero) = (error.to_string(), whole.len() - written);
                    let says = ["cannot be a model", &format!("the last {zero} bytes of the file are zero")];
                    assert!(says.iter().all(|part| error.contains(part)), "{name} at {written}: {error}");
                    refused += 1;
                }
                Ok(model) => {
                    let told = model.decisions().iter().any(|decision| decision.subject == "zero bytes");
                    assert!(told, "{name} at {written}: {:?}", model.decisions());
                }
            }
        }
    }
    assert!(refused >= 4, "{refused}");
}

#[test]
fn values_that_are_no_numbers_are_found_wherever_they_are() {
    for (name, tensor, role) in [
        (FILES[0], "token_embd.weight", Role::Embedding),
        (FILES[1], "token_embd.weight", Role::Embedding),
        (FILES[1], "output.weight", Role::Head),
    ] {
        for bits in [0x7e00_u16, 0x7c00, 0xfc00] {
            let mut file = parts(name);
            file.named(tensor).data[2 * 777..][..2].copy_from_slice(&bits.to_le_bytes());
            let model = Model::from_bytes(file.bytes()).unwrap();
            let Examined { contents, refusal, .. } = examined(&model, role);
            assert!(matches!(contents.values, Counts::Floats { not_finite: 1, .. }), "{contents:?}");
            let error = refusal.expect("it is refused").to_string();
            assert!(error.contains(tensor) && error.contains("1 of") && error.contains("not finite"), "{error}");
        }
    }
}

/// I2_S is used from the map, so that loading looks at some blocks only. This one has more blocks than those.
#[test]
fn a_code_that_is_no_trit_is_found_where_nobody_samples() {
    let mut file = parts(FILES[0]);
    let name = "blk.0.ffn_down.weight";
    let at = file.named(name).data.len() / 2 + 37;
    file.named(name).data[at] |= 0b11 << 4;
    let model = Model::from_bytes(file.bytes()).unwrap();
    let Examined { contents, refusal, .. } = examined(&model, Role::Layer(0, Part::Down));
    assert!(matches!(contents.values, Counts::Trits { wrong: 1, .. }), "{contents:?}");
    let error = refusal.expect("it is refused").to_string();
    assert!(error.contains(name) && error.contains("1 codes are 3"), "{error}");
}

/// What loading refuses on any device, [`Model::check`] refuses with the same words.
#[test]
fn checking_refuses_what_loading_refuses() {
    let changed = |file: &str, change: &dyn Fn(&mut GgufWriter)| {
        let mut file = parts(file);
        change(&mut file);
        Model::from_bytes(file.bytes()).unwrap()
    };
    let nan = f32::NAN.to_le_bytes();
    let models = [
        changed(FILES[0], &|f| f.named("blk.1.attn_k.weight").data[4096..4100].copy_from_slice(&nan)),
        changed(FILES[0], &|f| f.named("blk.0.ffn_down.weight").data[5] |= 0b11),
        changed(FILES[1], &|f| f.named("blk.1.attn_k.weight").data[64..66].copy_from_slice(&[0, 0x7c])),
        changed("trilm-128/f16.gguf", &|f| f.named(GATE).data[..2].copy_from_slice(&[0, 0x47])),
        changed(FILES[0], &|f| _ = f.add("blk.0.attn_q.scale", &[1], 0, nan)),
    ];
    for model in models {
        let checked = model.check(&mut |_, _| {}).expect_err("it is refused").to_string();
        let loaded = crate::session(&model).expect_err("it is refused").to_string();
        assert_eq!(checked, loaded);
    }
}

#[test]
fn whoever_stops_an_examination_gets_nothing() {
    let model = Model::from_bytes(golden(FILES[0])).unwrap();
    let stopped = model.examine(Role::Embedding, &mut |_| ControlFlow::Break(())).unwrap();
    assert!(stopped.is_none());
    let contents = Contents::default();
    assert!(contents.is_zero(), "of nothing, all is zero");
}
