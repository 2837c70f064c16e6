//! Tensors that are missing, misnamed, of another shape or type, or that hold values which are no weights.

use sterna::format::Weights;
use sterna::format::encodings::Encoding;
use sterna::generate::{Session, SessionOptions};
use sterna::model::{Model, Role};
use sterna::{Device, Error};

use crate::edit::{TemporaryFile, parts};
use crate::gguf_writer::GgufWriter;
use crate::{FILES, Fate};

/// ggml's numbers of the types that occur here.
const F32: u32 = 0;
const F16: u32 = 1;
const I2_S: u32 = 36;
const TQ2_0: u32 = 35;

fn names(file: &GgufWriter) -> Vec<String> {
    file.tensors.iter().map(|tensor| String::from_utf8(tensor.name.clone()).unwrap()).collect()
}

/// A golden file with one change.
fn changed(name: &str, change: impl FnOnce(&mut GgufWriter)) -> Fate {
    let mut file = parts(name);
    change(&mut file);
    file.fate()
}

#[test]
fn every_tensor_that_is_missing_or_renamed_is_named() {
    for file in FILES {
        for name in names(&parts(file)) {
            let removed = changed(file, |f| f.tensors.retain(|tensor| tensor.name != name.as_bytes()));
            match &*name {
                "output.weight" => removed.ran(), // tied to the embedding
                _ => removed.refused(&[&format!("\"{name}\" is missing")]),
            }
            let renamed = changed(file, |f| f.named(&name).name = b"blk.0.unheard_of.weight".into());
            match &*name {
                "output.weight" => renamed.refused(&["\"blk.0.unheard_of.weight\"", "no place"]),
                _ => renamed.refused(&[&format!("\"{name}\" is missing")]),
            }
        }
    }
}

#[test]
fn a_tensor_that_would_be_ignored_is_refused() {
    let norm = |name: &str| changed(FILES[1], |f| _ = f.add(name, &[256], F32, [0; 1024]));
    norm("blk.0.attn_sub_norm.weight").refused(&["\"blk.0.attn_sub_norm.weight\"", "no place in a llama model"]);
    norm("blk.1.attn_q.bias").refused(&["\"blk.1.attn_q.bias\"", "no place"]);
    norm("blk.0.attn_q_norm.weight").refused(&["\"blk.0.attn_q_norm.weight\"", "no place"]);
    norm("blk.2.attn_norm.weight").refused(&["\"blk.2.attn_norm.weight\"", "of 2 layers"]);
    norm("blk.18446744073709551616.attn_norm.weight").refused(&["18446744073709551616", "no place"]);
    norm("token_embd_norm.weight").refused(&["\"token_embd_norm.weight\"", "no place"]);
    // Other spellings of a layer's number: nobody looks for a tensor under these names.
    for name in ["blk.00.attn_norm.weight", "blk.+1.attn_norm.weight", "blk.-0.attn_norm.weight"] {
        norm(name).refused(&[name, "no place"]);
    }
    norm(&"\x1b[2J\n".repeat(200)).refused(&["\\u{1b}[2J\\n", "no place"]);
    norm("blk.0.attn_rot_embd.weight").ran(); // older converters wrote it, and nothing needs it
}

#[test]
fn a_transposed_tensor_is_told_with_both_shapes() {
    for file in FILES {
        for name in names(&parts(file)) {
            let shape = parts(file).named(&name).shape.clone();
            let [cols, rows] = shape[..] else { continue };
            if cols == rows {
                continue;
            }
            let transposed = changed(file, |f| f.named(&name).shape = vec![rows, cols]);
            let (found, wanted) = (format!("[{rows}, {cols}]"), format!("[{cols}, {rows}]"));
            match &*name {
                // The vocabulary is what the embedding says, so here the width is wrong.
                "token_embd.weight" => transposed.refused(&[&name, &found]),
                _ => transposed.refused(&[&name, &found, &wanted]),
            }
            // Axes of length 1 at the end say nothing; within, they do.
            changed(file, |f| f.named(&name).shape = vec![cols, 1, rows])
                .refused(&[&name, &format!("{cols}, 1, {rows}")]);
            changed(file, |f| f.named(&name).shape = vec![cols, rows, 1, 1]).ran();
        }
    }
    changed(FILES[0], |f| f.named("token_embd.weight").shape = vec![65_536]).refused(&["[65536], not a matrix"]);
}

#[test]
fn every_type_number_at_every_tensor_is_named_or_decodes() {
    let numbers = (0..=50).chain([134, 135, 142, 143, 335, 1 << 16, u32::MAX]);
    for file in FILES {
        for number in numbers.clone() {
            for name in names(&parts(file)) {
                let fate = changed(file, |f| f.named(&name).type_id = number);
                let text = fate.text();
                // Bytes that are read as another type may be wild scales, at which only the logits are no numbers.
                let is_named = |text: &String| text.contains(&name) || text.contains("logits");
                assert!(text.as_ref().is_none_or(is_named), "{name} of type {number}: {text:?}");
                match Encoding::from_ggml(number) {
                    // Behind the last tensor there is room for some meanings of such a number, and then for none of its
                    // neighbours: it is read or refused.
                    Err(Error::Unsupported(text)) if text.contains("means several things") => {
                        let wanted = format!("type {number} (");
                        assert!(fate.text().is_none_or(|text| text.contains(&wanted) || is_named(&text)));
                    }
                    Err(_) => fate.refused(&[&format!("type {number} (")]),
                    Ok(encoding) if encoding.is_ternary() && name.contains("norm.") => {
                        fate.refused(&["is ternary", encoding.name(), "no matrix"]);
                    }
                    // Half a byte a weight at most: an embedding of floats leaves more behind it than padding.
                    Ok(encoding) if encoding.is_ternary() && name == "token_embd.weight" => {
                        fate.refused(&[&name, encoding.name()]);
                    }
                    Ok(_) => {}
                }
            }
        }
    }
}

#[test]
fn a_type_number_whose_size_leaves_room_before_the_next_tensor_is_refused() {
    // 66 bytes a block of TQ2_0 hold 64 bytes of I2_S codes: enough, but the rest would belong to nobody.
    let name = "blk.0.ffn_gate.weight";
    changed("llama-256/tq2_0.gguf", |f| f.named(name).type_id = 36).refused(&[
        name,
        "as I2_S (type 36)",
        "means something else",
    ]);
    // An f16 embedding read as Q8_0 is nearly twice too long.
    let name = "token_embd.weight";
    changed("bitnet-256/i2_s.gguf", |f| f.named(name).type_id = 8).refused(&[name, "as Q8_0 (type 8)"]);
}

/// Rows of TQ2_0 blocks: the cols' codes, then a scale of 0.0625.
fn ternary_rows(rows: usize) -> Vec<u8> {
    let block = |row: usize| {
        let codes = (0..64).map(move |byte| [0b00_01_10_01, 0b10_00_01_10, 0b01_10_00_00][(row + byte) % 3]);
        codes.chain(half::f16::from_f32(0.0625).to_le_bytes())
    };
    (0..rows).flat_map(block).collect()
}

#[test]
fn ternary_embeddings_and_heads_run() {
    let ternary = |names: &[&str]| {
        let mut file = parts(FILES[1]);
        for name in names {
            let tensor = file.named(name);
            (tensor.type_id, tensor.data) = (TQ2_0, ternary_rows(512));
        }
        file
    };
    for names in [&["token_embd.weight"][..], &["output.weight"], &["token_embd.weight", "output.weight"]] {
        ternary(names).fate().ran();
    }
    // Tied, so that the same trits are embedded and are the head; on the processor, to logits that are numbers.
    let mut tied = ternary(&["token_embd.weight"]);
    tied.tensors.retain(|tensor| tensor.name != b"output.weight");
    let file = TemporaryFile::new(&tied.bytes());
    let model = Model::open(&file.path).unwrap();
    assert!(matches!(model.weights(Role::Embedding).unwrap(), Some(Weights::Ternary(_))));
    let mut session = Session::new(&model, &Device::cpu(), &SessionOptions::default()).unwrap();
    let mut rows = 0;
    let finite = &mut |_, logits: &[f32]| {
        rows += 1;
        assert!(logits.len() == 512 && logits.iter().all(|logit| logit.is_finite()));
        assert!(logits.iter().any(|logit| *logit != 0.0));
    };
    session.evaluate(&[1, 2, 3, 511], finite).unwrap();
    assert_eq!(rows, 4);
    // What is wrong in them is told before the first token, like in linear layers.
    let wrong = |change: fn(&mut [u8])| {
        let mut file = ternary(&["output.weight"]);
        change(&mut file.named("output.weight").data);
        file.fate()
    };
    wrong(|data| data[5] |= 0b11).failed(&["\"output.weight\"", "row 0", "code 3"]);
    wrong(|data| data[64..66].copy_from_slice(&[0, 0x7c])).failed(&["\"output.weight\"", "row 0", "not finite"]);
    let mut short = ternary(&["output.weight"]);
    short.named("output.weight").data.truncate(511 * 66);
    short.fate().refused(&["\"output.weight\" needs 33792 bytes"]);
}

#[test]
fn ternary_norms_are_refused_when_the_file_is_opened() {
    changed(FILES[0], |f| {
        let tensor = f.named("blk.1.ffn_norm.weight");
        (tensor.type_id, tensor.data) = (I2_S, vec![0; 64]);
    })
    .refused(&["\"blk.1.ffn_norm.weight\"", "is ternary (I2_S)", "no matrix"]);
    changed(FILES[1], |f| {
        let tensor = f.named("output_norm.weight");
        (tensor.type_id, tensor.data) = (TQ2_0, vec![0; 66]);
    })
    .refused(&["\"output_norm.weight\"", "is ternary (TQ2_0)", "no matrix"]);
}

#[test]
fn codes_and_scales_that_are_no_numbers_are_named_before_the_first_token() {
    for scale in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let name = "blk.1.attn_k.weight";
        changed(FILES[0], |f| f.named(name).data[4096..4100].copy_from_slice(&scale.to_le_bytes())).failed(&[
            name,
            "I2_S",
            &scale.to_string(),
        ]);
        changed(FILES[1], |f| {
            let scale = half::f16::from_f32(scale).to_le_bytes();
            f.named(name).data[66 * 3 + 64..66 * 4].copy_from_slice(&scale);
        })
        .failed(&[name, "TQ2_0", "row 3", "not finite"]);
        // Norms are small, and read when the file is opened.
        changed(FILES[1], |f| f.named("blk.0.attn_norm.weight").data[8..12].copy_from_slice(&scale.to_le_bytes()))
            .refused(&["\"blk.0.attn_norm.weight\"", "gain 2", &scale.to_string()]);
    }
    for file in FILES {
        changed(file, |f| f.named("blk.0.ffn_down.weight").data[5] |= 0b11).failed(&[
            "\"blk.0.ffn_down.weight\"",
            "row 0",
            "code 3",
        ]);
    }
}

/// I2_S is mapped on a CPU, and only a sample of it looked at; a GPU is given all of it.
#[test]
#[cfg(feature = "gpu")]
fn a_single_code_three_is_named_where_all_codes_are_read() {
    let name = "blk.1.ffn_up.weight";
    let mut file = parts(FILES[0]);
    let data = &mut file.named(name).data;
    data[32 * 61 + 7] |= 0b11_00;
    let file = TemporaryFile::new(&file.bytes());
    let model = Model::open(&file.path).unwrap();
    for device in crate::gpu::devices(Default::default()) {
        let loaded = sterna::Loaded::on_backend(&model, sterna::gpu::Gpu::new(&device));
        let text = loaded.err().expect("it reads all codes").to_string();
        assert!([name, "row 61", "code 3"].iter().all(|part| text.contains(part)), "{text}");
    }
}

#[test]
fn embeddings_that_are_no_numbers_do_not_panic_and_are_told_when_a_token_is_drawn() {
    for (file, bits) in FILES.into_iter().flat_map(|file| [(file, 0x7e00_u16), (file, 0x7c00)]) {
        let embedding = bits.to_le_bytes().repeat(parts(file).named("token_embd.weight").data.len() / 2);
        changed(file, |f| f.named("token_embd.weight").data = embedding).failed(&[
            "not finite",
            "position 0",
            "embedding",
        ]);
    }
}

#[test]
fn a_dense_linear_layer_is_ternary_in_disguise_or_refused() {
    let floats = |values: &[f32; 2]| -> Vec<u8> {
        let pair = values.map(|value| half::f16::from_f32(value).to_le_bytes());
        pair.as_flattened().repeat(128 * 128 / 2)
    };
    let dense = |values: &[f32; 2]| {
        changed(FILES[0], |f| {
            let tensor = f.named("blk.0.attn_v.weight");
            (tensor.type_id, tensor.data) = (F16, floats(values));
        })
    };
    dense(&[0.5, -0.5]).ran();
    for values in [[0.5, 0.25], [0.5, f32::NAN], [f32::INFINITY, f32::INFINITY], [f32::NAN, f32::NAN]] {
        dense(&values).failed(&["\"blk.0.attn_v.weight\"", "F16", "not ternary"]);
    }
}

#[test]
fn a_scale_beside_its_layer_multiplies_it_or_is_refused() {
    let name = "blk.0.attn_q.scale";
    let scale = |name: &str, shape: &[u64], type_id, data: &[u8]| {
        let mut file = parts(FILES[0]);
        file.add(name, shape, type_id, data);
        file
    };
    let float = |x: f32| scale(name, &[1], F32, &x.to_le_bytes());
    for factor in [2.0, 0.0, -1.0, 1e-45] {
        float(factor).fate().ran();
    }
    let file = TemporaryFile::new(&float(2.0).bytes());
    let factor = |model: Model| match model.weights(Role::from_gguf_stem("blk.0.attn_q").unwrap()).unwrap() {
        Some(Weights::Ternary(ternary)) => ternary.scale(0, 0),
        other => panic!("{other:?}"),
    };
    let plain = TemporaryFile::new(&parts(FILES[0]).bytes());
    assert_eq!(factor(Model::open(&file.path).unwrap()), 2.0 * factor(Model::open(&plain.path).unwrap()));

    for factor in [f32::NAN, f32::INFINITY] {
        float(factor).fate().failed(&[name, &factor.to_string()]);
    }
    let mut huge = float(f32::MAX);
    huge.named("blk.0.attn_q.weight").data[4096..4100].copy_from_slice(&f32::MAX.to_le_bytes());
    huge.fate().failed(&["\"blk.0.attn_q.weight\"", "not finite"]);
    scale(name, &[2], F32, &[0; 8]).fate().refused(&[name, "no place"]);
    scale(name, &[1], 99, &[0; 4]).fate().refused(&[name, "type 99"]);
    scale(name, &[1], F32, &[0; 3]).fate().refused(&[name, "4 bytes", "only 3"]);
    scale(name, &[1], TQ2_0, &[0; 66]).fate().refused(&[name, "ternary"]);
    scale("blk.0.attn_norm.scale", &[1], F32, &[0; 4]).fate().refused(&["\"blk.0.attn_norm.scale\"", "no place"]);
    scale("blk.2.attn_q.scale", &[1], F32, &[0; 4]).fate().refused(&["\"blk.2.attn_q.scale\"", "no place"]);
}

#[test]
fn divisors_of_the_rotary_frequencies_are_sane_when_the_file_is_opened() {
    let name = "rope_freqs.weight";
    let divided = |x: f32| changed(FILES[1], |f| _ = f.add(name, &[32], F32, x.to_le_bytes().repeat(32)));
    divided(8.0).ran();
    for divisor in [0.0, -1.0, 1e-45, f32::NAN, f32::INFINITY, f32::MAX] {
        divided(divisor).refused(&[name, "0.000001 to 1000000"]);
    }
    changed(FILES[1], |f| _ = f.add(name, &[33], F32, [0; 132])).refused(&[name, "[33]", "[32]"]);
    changed(FILES[1], |f| _ = f.add(name, &[32], TQ2_0, [0; 66])).refused(&[name, "ternary"]);
}

#[test]
fn tensors_that_share_bytes_are_refused() {
    for file in FILES {
        // Each tensor starts where another does, and in the middle of another.
        let names = names(&parts(file));
        for pair in names.windows(2) {
            let offset = |f: &GgufWriter, wanted: &str| {
                let mut at = 0;
                for tensor in f.tensors.iter().take_while(|tensor| tensor.name != wanted.as_bytes()) {
                    at += tensor.data.len() as u64; // golden data is a multiple of the alignment
                }
                at
            };
            changed(file, |f| {
                let first = offset(f, &pair[0]);
                f.named(&pair[1]).offset = Some(first);
            })
            .refused(&["overlaps another"]);
            let within = changed(file, |f| {
                let second = offset(f, &pair[1]);
                f.named(&pair[1]).offset = Some(second - 32);
            });
            // One of the two is named: the first is cut short, the second has a gap behind it.
            within.refused(&["lie before the next tensor"]);
        }
    }
}
