//! Files whose shapes no model has: what opening, loading and making a token hold is bounded by their bytes, also where
//! rows are padded, floats are looked through for trits, and activations are wide.

use std::path::Path;

use sterna::cpu::CpuOptions;
use sterna::generate::GenerateOptions;
use sterna::model::Model;
use sterna::{Device, Result};

use crate::counting_allocator::peak_bytes;
use crate::edit::TemporaryFile;
use crate::gguf_writer::{GgufWriter, array, string};

/// What all of it may hold for each byte of the file, and beside that.
const BYTES_FOR_A_BYTE: usize = 16;
const FREE_BYTES: usize = 64 << 20;

const F32: u32 = 0;
pub const F16: u32 = 1;
const Q2_K: u32 = 10;
const I2_S: u32 = 36;

/// The sizes of a network, and the types of its matrices.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub width: u64,
    pub ffn: u64,
    pub heads: u64,
    pub head_dim: u64,
    pub layers: u64,
    pub vocabulary: u64,
    pub table: u32,
    pub linear: u32,
}

pub const SMALL: Shape =
    Shape { width: 32, ffn: 32, heads: 2, head_dim: 16, layers: 1, vocabulary: 16, table: F16, linear: I2_S };

/// Rows of two columns.
const NARROW: Shape = Shape { width: 2, head_dim: 2, heads: 64, ffn: 64, ..SMALL };

impl Shape {
    fn file(&self) -> GgufWriter {
        let Self { width, ffn, heads, head_dim, layers, vocabulary, table, linear } = *self;
        let mut file = GgufWriter::new().pair("general.architecture", 8, string("llama"));
        for (key, size) in [
            ("block_count", layers),
            ("embedding_length", width),
            ("feed_forward_length", ffn),
            ("context_length", 16),
            ("attention.head_count", heads),
            ("attention.key_length", head_dim),
            ("attention.value_length", head_dim),
            ("rope.dimension_count", head_dim),
        ] {
            file.set_u32(&format!("llama.{key}"), size as u32);
        }
        file.set_f32("llama.attention.layer_norm_rms_epsilon", 1e-5);
        file.set_text("tokenizer.ggml.model", "gpt2").set_text("tokenizer.ggml.pre", "llama-bpe");
        let tokens: Vec<u8> = (b'a'..b'a' + 16).flat_map(|letter| string([letter])).collect();
        file.set("tokenizer.ggml.tokens", 9, array(8, 16, tokens));
        file.set("tokenizer.ggml.token_type", 9, array(0, 16, vec![1; 16]));
        file.set("tokenizer.ggml.merges", 9, array(8, 0, []));
        let matrix = |file: &mut GgufWriter, name: &str, cols, rows, type_id| {
            file.add(name, &[cols, rows], type_id, weights(type_id, (cols * rows) as usize));
        };
        let ones = |file: &mut GgufWriter, name: &str| {
            file.add(name, &[width], F32, 1_f32.to_le_bytes().repeat(width as usize));
        };
        matrix(&mut file, "token_embd.weight", width, vocabulary, table);
        ones(&mut file, "output_norm.weight");
        for layer in 0..layers {
            for (name, cols, rows) in [
                ("attn_q", width, heads * head_dim),
                ("attn_k", width, heads * head_dim),
                ("attn_v", width, heads * head_dim),
                ("attn_output", heads * head_dim, width),
                ("ffn_gate", width, ffn),
                ("ffn_up", width, ffn),
                ("ffn_down", ffn, width),
            ] {
                matrix(&mut file, &format!("blk.{layer}.{name}.weight"), cols, rows, linear);
            }
            ["attn_norm", "ffn_norm"].iter().for_each(|n| ones(&mut file, &format!("blk.{layer}.{n}.weight")));
        }
        file
    }

    /// The file, and its bytes.
    pub fn written(&self) -> (TemporaryFile, usize) {
        let bytes = self.file().bytes();
        (TemporaryFile::new(&bytes), bytes.len())
    }

    /// Opens, loads and runs it; also says what was held at most, for how many bytes.
    fn run(&self) -> (Result<()>, usize, usize) {
        let (file, length) = self.written();
        let (result, peak) = peak_bytes(|| run(&file.path));
        println!("{:5.1} MB file, {:6.1} MB held: {self:?}", length as f64 / 1e6, peak as f64 / 1e6);
        (result, peak, length)
    }
}

/// Opens a file, loads it on a thread of the CPU, and makes two tokens.
pub fn run(path: &Path) -> Result<()> {
    let device = Device::cpu_with(CpuOptions { threads: Some(1), ..CpuOptions::default() });
    let mut session = Model::open(path)?.load(&device)?.session(&Default::default())?;
    let two = GenerateOptions { max_tokens: 2, ignore_end: true, ..GenerateOptions::greedy() };
    session.generate_ids(&[0, 1], &two)?.try_for_each(|id| id.map(|_| ()))
}

/// Weights that are all 1, but for Q2_K: a hundred thousand, beyond f16.
fn weights(type_id: u32, count: usize) -> Vec<u8> {
    match type_id {
        F32 => 1_f32.to_le_bytes().repeat(count),
        F16 => [0, 0x3c].repeat(count),
        I2_S => [vec![0b10_10_10_10; count / 4], 1_f32.to_le_bytes().repeat(8)].concat(),
        // 16 scales of 15 without offsets, codes of 3, and d = 2222 in f16.
        Q2_K => [&[15; 16][..], &[0xff; 64], &[0x57, 0x68, 0, 0]].concat().repeat(count / 256),
        _ => unreachable!("no shape has it"),
    }
}

#[test]
fn what_any_shape_holds_is_bounded_by_its_file() {
    for shape in [
        Shape { ffn: 1 << 19, ..SMALL },
        Shape { ffn: 1 << 17, linear: F16, ..SMALL },
        Shape { width: 8, head_dim: 4, ffn: 1 << 18, linear: F16, ..SMALL },
        Shape { heads: 1 << 15, head_dim: 16, ..SMALL },
        Shape { heads: 1 << 11, head_dim: 256, ..SMALL },
        Shape { layers: 2000, ..SMALL },
        Shape { vocabulary: 1 << 20, table: I2_S, ..SMALL },
        Shape { vocabulary: 1 << 18, ..SMALL },
        Shape { vocabulary: 1 << 20, ..NARROW },
        Shape { width: 256, head_dim: 128, vocabulary: 1 << 16, table: Q2_K, ..SMALL },
    ] {
        let (result, peak, length) = shape.run();
        result.unwrap_or_else(|error| panic!("{shape:?}: {error}"));
        assert!(peak < BYTES_FOR_A_BYTE * length + FREE_BYTES, "{peak} bytes for {length} of {shape:?}");
    }
}

#[test]
fn narrow_matrices_that_would_be_padded_to_many_times_the_file_are_refused_by_name() {
    for (shape, name) in [
        (Shape { ffn: 1 << 20, ..NARROW }, "blk.0.ffn_gate.weight"),
        (Shape { ffn: 1 << 20, linear: F16, ..NARROW }, "blk.0.ffn_gate.weight"),
        (Shape { heads: 1 << 19, ..NARROW }, "blk.0.attn_q.weight"),
        // None of them is much by itself.
        (Shape { layers: 1000, heads: 256, ffn: 256, ..NARROW }, "blk.0.attn_q.weight"),
        (Shape { vocabulary: 1 << 22, table: I2_S, ..NARROW }, "token_embd.weight"),
    ] {
        let (result, peak, length) = shape.run();
        let error = result.expect_err("it is refused").to_string();
        assert!([name, "whole blocks of 128"].iter().all(|part| error.contains(part)), "{error}");
        assert!(peak < BYTES_FOR_A_BYTE * length + FREE_BYTES, "{peak} bytes for {length} of {shape:?}");
    }
    // A small file may be as narrow as it likes.
    NARROW.run().0.unwrap();
}
