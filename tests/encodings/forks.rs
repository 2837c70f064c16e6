//! The ternary encodings of ggml's forks: the hand-checked blocks of the format notes, bytes of an independent packer,
//! and encoding and decoding as inverses.

use proptest::prelude::*;
use sha2::{Digest, Sha256};
use sterna::format::encodings::{Encoding, I2sLayout, TlScale};
use sterna::format::{Scales, Ternary, Weights};

use crate::golden::{hex, pattern};
use crate::{some_ternary, some_trits, ternary, trits};

/// Decodes with the default layout, which matters to I2_S alone.
fn decoded(encoding: Encoding, bytes: impl Into<bytes::Bytes>, rows: usize, cols: usize) -> Ternary {
    ternary(encoding, bytes, rows, cols, I2sLayout::default())
}

fn encoded(encoding: Encoding, weights: &Ternary) -> Vec<u8> {
    encoding.encode(&Weights::Ternary(weights.clone())).unwrap_or_else(|error| panic!("{encoding}: {error}"))
}

/// Trits of which exactly one in each group of STQ1_0 is zero.
fn sparse_trits(count: usize) -> Vec<i8> {
    let mut trits: Vec<i8> = some_trits(count).iter().map(|&t| if t == 0 { 1 } else { t }).collect();
    for (block, trits) in trits.chunks_mut(64).enumerate() {
        (0..16).for_each(|group| trits[group + (group + block) % 4 * 16] = 0);
    }
    trits
}

#[test]
fn hand_checked_blocks_decode_to_their_pattern_and_encode_to_their_bytes() {
    for (encoding, text, cols) in [
        (Encoding::Q2_0, "003824914412492491441249249144124924", 64),
        (Encoding::Pq2_0, "00382491441249249144124924914412492426996492492699649249269964924926", 128),
        (Encoding::Ptq1_0, "3293b720673293b720673293b72067328ce82fa3ba8ce82f6fd10038", 128),
        (Encoding::Iq2Bn, "0000003f24491244912449124491244912449124", 64),
        (Encoding::Iq1Bn, "00386c6c6c242424616161cbcbcb17", 64),
    ] {
        let weights = decoded(encoding, hex(text), 1, cols);
        assert_eq!(trits(&weights), pattern(cols), "{encoding}");
        assert_eq!(weights.scales(), &Scales::Tensor(0.5), "{encoding}");
        assert_eq!(encoded(encoding, &weights), hex(text), "{encoding}");
    }
}

#[test]
fn stq1_0_decodes_to_the_published_table() {
    // Packed lane codes of the 32 entries: lane p in bits 2p, code = trit + 1. The second half has the sign bit.
    let table = hex("a9892909a6862606 9a921a126a624a42 012181a1042484a4 1018909840486068".replace(' ', "").as_str());
    let text = "832dc7610ba54fe9832dc7610ba54fe9832dc7610ba54fe9832dc7610ba54fe9381ec7e1381ec7e10038";
    let weights = decoded(Encoding::Stq1_0, hex(text), 1, 256);
    assert_eq!(weights.scales(), &Scales::Tensor(0.5));
    let trits = trits(&weights);
    for group in 0..64 {
        let lanes = table[(5 * group + 3) % 32];
        for p in 0..4 {
            let column = 64 * (group / 16) + group % 16 + 16 * p;
            assert_eq!(trits[column], (lanes >> (2 * p) & 3) as i8 - 1, "group {group}, lane {p}");
        }
    }
    assert_eq!(encoded(Encoding::Stq1_0, &weights), hex(text));
}

#[test]
fn iq2_bn_r4_interleaves_four_rows_of_iq2_bn() {
    let weights = some_ternary(8, 192, Scales::Rows((1..=8).map(|row| row as f32 / 8.0).collect()));
    let bytes = encoded(Encoding::Iq2BnR4, &weights);
    assert_eq!(bytes.len(), 8 * (4 + 48));
    // Column 16 l + 4 s + i of row k of four is field s of byte 16 l + 4 k + i, in runs of 64 columns.
    for (row, col) in [(0, 0), (5, 77), (7, 191), (2, 130)] {
        let four = &bytes[row / 4 * 4 * 52..];
        let (l, s, i) = (col % 64 / 16, col % 16 / 4, col % 4);
        let code = four[16 + col / 64 * 64 + 16 * l + 4 * (row % 4) + i] >> (2 * s) & 3;
        assert_eq!(code as i8 - 1, weights.row_trits(row).nth(col).unwrap(), "[{row}, {col}]");
        assert_eq!(four[4 * (row % 4)..][..4], weights.scale(row, col).to_le_bytes(), "row {row}");
    }
    assert_eq!(trits(&decoded(Encoding::Iq2BnR4, bytes, 8, 192)), trits(&weights));
}

#[test]
fn every_preset_and_column_order_gives_the_bytes_of_the_independent_packer() {
    let table = std::fs::read_to_string("tests/data/encodings/packed.tsv").unwrap();
    for line in table.lines() {
        let [name, rows, cols, hash] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let (rows, cols): (usize, usize) = (rows.parse().unwrap(), cols.parse().unwrap());
        let variants = match name {
            "TL1" if rows == cols => vec![Encoding::Tl1(TlScale::Beside), Encoding::Tl1(TlScale::Inside)],
            "TL2" if rows == cols => vec![Encoding::Tl2(TlScale::Beside), Encoding::Tl2(TlScale::Inside)],
            "TL1" => vec![Encoding::Tl1(TlScale::Beside)],
            "TL2" => vec![Encoding::Tl2(TlScale::Beside)],
            "I2_V" => vec![Encoding::I2V],
            "I2_V_4" => vec![Encoding::I2V4],
            "I2_V_8" => vec![Encoding::I2V8],
            "I1_V" => vec![Encoding::I1V],
            "I1_V_2" => vec![Encoding::I1V2],
            other => panic!("{other}"),
        };
        for encoding in variants {
            let scale = if encoding.holds_scale() { 0.75 } else { 1.0 };
            let weights = some_ternary(rows, cols, Scales::Tensor(scale));
            let bytes = encoded(encoding, &weights);
            assert_eq!(bytes.len(), encoding.size(rows, cols).unwrap(), "{line}");
            let tail = if encoding.holds_scale() { 32 } else { 0 };
            let (codes, tail) = bytes.split_at(bytes.len() - tail);
            assert!(tail.is_empty() || tail[..4] == scale.to_le_bytes(), "{line}");
            let digest: String = Sha256::digest(codes).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(digest, hash, "{line}");
            let back = decoded(encoding, bytes, rows, cols);
            assert!(back.codes() == weights.codes(), "{line}");
            assert_eq!(back.scales(), weights.scales(), "{line}");
        }
    }
}

#[test]
fn tl_of_an_unknown_shape_is_unsupported_and_says_so() {
    for encoding in [Encoding::Tl1(TlScale::Inside), Encoding::Tl2(TlScale::Beside)] {
        let error = encoding.size(2560, 6912).unwrap_err();
        assert!(matches!(error, sterna::Error::Unsupported(_)), "{error}");
        let text = error.to_string();
        assert!(text.contains("[2560, 6912]") && text.contains(encoding.name()), "{text}");
    }
}

#[test]
fn scales_for_64_columns_join_where_a_half_has_no_say_and_are_refused_elsewhere() {
    let block = |scale: f32, codes: u8| {
        let mut block = half::f16::from_f32(scale).to_le_bytes().to_vec();
        block.resize(18, codes);
        block
    };
    let (zeros, ones) = (0b01_01_01_01, 0b10_10_10_10);
    // Rows of 192 columns: the third block of a row is alone.
    let joined =
        [block(0.5, ones), block(9.0, zeros), block(0.25, ones), block(7.0, zeros), block(2.0, ones), block(0.5, ones)];
    let weights = decoded(Encoding::Q2_0, joined.concat(), 2, 192);
    assert_eq!(weights.scales(), &Scales::Groups { columns: 128, values: vec![0.5, 0.25, 2.0, 0.5] });
    let sum = |row: usize| weights.row_trits(row).map(i32::from).sum::<i32>();
    assert_eq!((sum(0), sum(1)), (128, 128));

    let differing = [block(0.5, ones), block(0.5, ones), block(0.5, ones), block(0.25, ones)].concat();
    let Err(sterna::Error::Unsupported(text)) = Encoding::Q2_0.decode(&differing.into(), 2, 128, I2sLayout::default())
    else {
        panic!("scales that differ within 128 columns have no place");
    };
    assert!(text.contains("row 1") && text.contains("64 columns") && text.contains("0.25"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn forks_keep_all_weights(fours in 1..3_usize, blocks in 1..4_usize, steps in prop::collection::vec(1..9_u8, 32)) {
        let (rows, cols) = (4 * fours, 256 * blocks);
        let one = |i: usize| f32::from(steps[i % steps.len()]) * 0.125;
        let all = |count| (0..count).map(one).collect::<Vec<f32>>();
        let groups = Scales::Groups { columns: 128, values: all(rows * cols / 128) };
        let wide_groups = Scales::Groups { columns: 256, values: all(rows * cols / 256) };
        let by_group = [Scales::Tensor(one(0)), Scales::Rows(all(rows)), groups];
        let by_block = [Scales::Tensor(one(0)), Scales::Rows(all(rows)), wide_groups];
        let by_row = [Scales::Tensor(one(0)), Scales::Rows(all(rows))];
        let none = [Scales::Tensor(1.0)];
        for (encoding, scales) in [
            (Encoding::Q2_0, &by_group[..]),
            (Encoding::Pq2_0, &by_group),
            (Encoding::Ptq1_0, &by_group),
            (Encoding::Stq1_0, &by_block),
            (Encoding::Iq1Bn, &by_row),
            (Encoding::Iq2Bn, &by_row),
            (Encoding::Iq2BnR4, &by_row),
            (Encoding::I2V, &none),
            (Encoding::I2V4, &none),
            (Encoding::I2V8, &none),
            (Encoding::I1V, &none),
            (Encoding::I1V2, &none),
        ] {
            let codes = if encoding == Encoding::Stq1_0 { sparse_trits(rows * cols) } else { some_trits(rows * cols) };
            for scales in scales {
                let weights = Ternary::pack(rows, cols, &codes, scales.clone()).unwrap();
                let bytes = encoded(encoding, &weights);
                prop_assert_eq!(bytes.len(), encoding.size(rows, cols).unwrap());
                let back = decoded(encoding, bytes, rows, cols);
                prop_assert_eq!(back.codes(), weights.codes());
                for (row, col) in (0..rows).flat_map(|row| (0..cols).step_by(128).map(move |col| (row, col))) {
                    prop_assert_eq!(back.scale(row, col), weights.scale(row, col), "{} [{}, {}]", encoding, row, col);
                }
            }
        }
    }
}

#[test]
fn rows_of_64_columns_are_padded() {
    for encoding in [Encoding::Q2_0, Encoding::Iq1Bn, Encoding::Iq2Bn, Encoding::Iq2BnR4] {
        let weights = some_ternary(4, 320, Scales::Tensor(0.5));
        let back = decoded(encoding, encoded(encoding, &weights), 4, 320);
        assert_eq!(back.codes(), weights.codes(), "{encoding}: the padding too");
    }
    for (encoding, cols) in [(Encoding::I2V, 36), (Encoding::I1V, 36), (Encoding::I1V2, 4), (Encoding::I2V8, 96)] {
        let weights = some_ternary(3, cols, Scales::Tensor(1.0));
        assert_eq!(decoded(encoding, encoded(encoding, &weights), 3, cols).codes(), weights.codes(), "{encoding}");
    }
}

#[test]
fn large_tensors_decode_on_all_cores_to_the_same_codes() {
    let (rows, cols) = (1028, 4096);
    let weights = some_ternary(rows, cols, Scales::Tensor(1.0));
    for encoding in [Encoding::Pq2_0, Encoding::Ptq1_0, Encoding::Iq2BnR4, Encoding::I2V8, Encoding::I1V2] {
        let back = decoded(encoding, encoded(encoding, &weights), rows, cols);
        assert!(back.codes() == weights.codes() && back.scales() == weights.scales(), "{encoding}");
    }
}

/// The files and the dense checkpoint are of one model, written by programs that share no code with this crate.
#[test]
fn golden_bonsai_files_decode_to_the_weights_of_their_checkpoint() {
    use sterna::format::gguf::{Gguf, resolve};
    let folder = std::path::Path::new("tests/data/golden/qwen3-256");
    let checkpoint = std::fs::read(folder.join("model.safetensors")).unwrap();
    let checkpoint = safetensors::SafeTensors::deserialize(&checkpoint).unwrap();
    for (file, encoding, number) in [("q2_0_g128.gguf", Encoding::Pq2_0, 42), ("ptq1_0.gguf", Encoding::Ptq1_0, 143)] {
        let gguf = Gguf::open(&folder.join(file)).unwrap();
        let encodings = resolve(&gguf).unwrap();
        assert_eq!(encodings.of(number).unwrap(), encoding);
        let mut checked = 0;
        for info in gguf.tensors().iter().filter(|info| info.type_id == number) {
            let name = hugging_face_name(&info.name);
            let dense = checkpoint.tensor(&name).unwrap_or_else(|error| panic!("{name}: {error}"));
            let (rows, cols) = (info.shape[1], info.shape[0]);
            assert_eq!(dense.shape(), [rows, cols], "{name}");
            let weights = decoded(encoding, gguf.data(info), rows, cols);
            let mut expected = dense.data().chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32());
            for row in 0..rows {
                for (col, trit) in weights.row_trits(row).enumerate() {
                    assert_eq!(
                        f32::from(trit) * weights.scale(row, col),
                        expected.next().unwrap(),
                        "{name} [{row}, {col}]"
                    );
                }
            }
            checked += 1;
        }
        assert_eq!(checked, 15, "{file}: seven layers' matrices twice, and the embedding");
    }
}

/// `blk.0.attn_q.weight` is `model.layers.0.self_attn.q_proj.weight`.
fn hugging_face_name(name: &str) -> String {
    let Some((layer, part)) = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) else {
        assert_eq!(name, "token_embd.weight");
        return "model.embed_tokens.weight".into();
    };
    let part = match part.strip_suffix(".weight").unwrap() {
        "attn_output" => "self_attn.o_proj".into(),
        part if part.starts_with("attn_") => format!("self_attn.{}_proj", &part[5..]),
        part => format!("mlp.{}_proj", &part[4..]),
    };
    format!("model.layers.{layer}.{part}.weight")
}
