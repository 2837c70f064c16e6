//! Models whose numbers leave the floats: a NaN in the file, keys and values beyond what a cache holds. Whoever asks such a model
//! for anything gets an error that says where it began, on every device and with every form of activations; never a text.

use sterna::backend::{CachePrecision, Numerics};
use sterna::cpu::KernelSet;
use sterna::generate::{Finish, GenerateOptions, Prompt, Sampling, Session, SessionOptions, StepBudget};
#[cfg(feature = "gpu")]
use sterna::gpu::{Gpu, GpuOptions};
use sterna::model::{Model, OpenOptions};
use sterna::reference::Reference;
use sterna::{Error, Result};

use crate::cpu;
use crate::edit::{TemporaryFile, parts};
use crate::gguf_writer::GgufWriter;
#[cfg(feature = "gpu")]
use crate::gpu;

const FILE: &str = "bitnet-128-silu/i2_s.gguf";
const WIDTH: usize = 128;
/// The token whose embedding is damaged, and where it stands in [`PROMPT`].
const TOKEN: u32 = 46;
const PROMPT: [u32; 5] = [3, 77, TOKEN, 12, 9];

/// The golden model, changed.
fn changed(numerics: Option<Numerics>, change: impl FnOnce(&mut GgufWriter)) -> Model {
    changed_file(FILE, numerics, change)
}

fn changed_file(file: &str, numerics: Option<Numerics>, change: impl FnOnce(&mut GgufWriter)) -> Model {
    let mut writer = parts(file);
    change(&mut writer);
    let file = TemporaryFile::new(&writer.bytes());
    // Read, as the file goes.
    Model::open_with(&file.path, &OpenOptions { map: false, numerics, ..OpenOptions::default() }).unwrap()
}

fn damaged_embedding(bits: u16) -> impl Fn(&mut GgufWriter) {
    move |file| {
        let embedding = file.named("token_embd.weight");
        assert_eq!(embedding.type_id, 1, "the golden model has it in f16");
        embedding.data[(TOKEN as usize * WIDTH + 7) * 2..][..2].copy_from_slice(&bits.to_le_bytes());
    }
}

/// Multiplies the scale of an I2_S tensor, which follows its codes.
fn scaled(file: &mut GgufWriter, name: &str, factor: f32) {
    let tensor = file.named(name);
    let codes = (tensor.shape[0] * tensor.shape[1] / 4) as usize;
    let scale = f32::from_le_bytes(tensor.data[codes..codes + 4].try_into().unwrap());
    tensor.data[codes..codes + 4].copy_from_slice(&(scale * factor).to_le_bytes());
}

/// Sessions on the reference, on the CPU with every kernel set, on every GPU.
fn on_every_device(model: &Model, options: &SessionOptions, claim: impl Fn(&mut Session)) {
    claim(&mut Session::with_backend(model, Reference::default(), options).unwrap());
    for kernels in KernelSet::available() {
        claim(&mut Session::with_backend(model, cpu::cpu(kernels, 2), options).unwrap());
    }
    #[cfg(feature = "gpu")]
    for device in gpu::devices(GpuOptions::default()) {
        claim(&mut Session::with_backend(model, Gpu::new(&device), options).unwrap());
    }
}

fn options(cache: CachePrecision) -> SessionOptions {
    SessionOptions { context: Some(32), cache, sequences: 2, ..SessionOptions::default() }
}

/// That it is refused because of numbers that are not finite, for these reasons.
#[track_caller]
fn assert_not_finite<T>(outcome: Result<T>, says: &[&str], what: &str) {
    let Err(error) = outcome else { panic!("{what}: it went well") };
    let text = error.to_string();
    assert!(matches!(error, Error::NotFinite(_)), "{what}: {text}");
    assert!(text.contains("not finite") && says.iter().all(|part| text.contains(part)), "{what}: {text}, not {says:?}");
}

/// Everything that a model can be asked.
fn assert_all_refused(session: &mut Session, says: &[&str]) {
    let device = session.device().to_owned();
    let with =
        |sampling: Sampling, logprobs| GenerateOptions { sampling, max_tokens: 4, logprobs, ..Default::default() };
    for (what, options) in [
        ("greedy", with(Sampling::greedy(), None)),
        ("sampled", with(Sampling::default(), None)),
        ("sampled from all", with(Sampling { top_k: 0, ..Sampling::default() }, None)),
        ("greedy with log-probabilities", with(Sampling::greedy(), Some(3))),
        ("with a bias", with(Sampling { logit_bias: vec![(1, 1.0)], ..Sampling::greedy() }, None)),
    ] {
        session.clear();
        let outcome: Result<Vec<u32>> = session.generate_ids(&PROMPT, &options).unwrap().collect();
        assert_not_finite(outcome, says, &format!("{what} on {device}"));
    }
    session.clear();
    assert_not_finite(session.logits(&PROMPT), says, &device);
    assert_not_finite(
        session.evaluate(&PROMPT, &mut |_, logits| assert!(logits.iter().all(|l| l.is_finite()))),
        says,
        &device,
    );
    assert_not_finite(session.log_likelihoods(&PROMPT), says, &device);
}

#[test]
fn an_embedding_that_is_no_number_is_told_with_its_position() {
    for (bits, numerics) in [
        (0x7e00, None),
        (0x7c00, None),
        (0xfc00, Some(Numerics::Int8Groups)),
        (0x7e00, Some(Numerics::Int8Groups)),
        (0x7e00, Some(Numerics::Float)),
        (0x7c00, Some(Numerics::Float)),
    ] {
        let model = changed(numerics, damaged_embedding(bits));
        on_every_device(&model, &options(CachePrecision::F16), |session| {
            assert_all_refused(session, &["position 2", "before the first layer", "embedding"]);
        });
    }
}

#[test]
fn keys_and_values_beyond_a_cache_in_f16_are_told_with_the_way_out() {
    type Change = fn(&mut GgufWriter);
    let cases: [(Change, &str); 4] = [
        (|file| scaled(file, "blk.1.attn_v.weight", 1e8), "the values of layer 1 at position 0 are too large"),
        (|file| scaled(file, "blk.1.attn_v.weight", 1e-9), "the values of layer 1 at position 0 are too small"),
        (
            |file| {
                scaled(file, "blk.0.attn_k.weight", 1e8);
                scaled(file, "blk.0.attn_q.weight", 1e-8);
            },
            "the keys of layer 0 at position 0 are too large",
        ),
        (|file| scaled(file, "blk.0.attn_k.weight", 1e-9), "the keys of layer 0 at position 0 are too small"),
    ];
    for (change, says) in cases {
        let model = changed(None, change);
        on_every_device(&model, &options(CachePrecision::F16), |session| {
            assert_all_refused(session, &[says, "--cache f32"]);
        });
        on_every_device(&model, &options(CachePrecision::F32), |session| {
            let ids: Result<Vec<u32>> =
                session.generate_ids(&PROMPT, &GenerateOptions::greedy()).unwrap().take(4).collect();
            assert_eq!(ids.unwrap().len(), 4, "{says}, on {}", session.device());
        });
    }
}

#[test]
fn a_sequence_that_is_not_finite_ends_alone() {
    let tied = changed(None, |_| ());
    // With the tied head, the damaged row would be among the logits of all.
    let model = changed(None, |file| {
        let head = file.named("token_embd.weight").data.clone();
        file.add("output.weight", &[WIDTH as u64, tied.config().vocabulary as u64], 1, head);
        damaged_embedding(0x7e00)(file);
    });
    let greedy = GenerateOptions { max_tokens: 6, ..GenerateOptions::greedy() };
    let healthy = [3, 77, 12, 9];
    on_every_device(&model, &options(CachePrecision::F16), |session| {
        let alone: Vec<u32> = session.generate_ids(&healthy, &greedy).unwrap().map(Result::unwrap).collect();
        session.clear();
        let join = |session: &mut Session, ids: &[u32]| {
            session.join(Prompt { ids: ids.to_vec(), options: greedy.clone() }).unwrap()
        };
        let (broken, sound) = (join(session, &PROMPT), join(session, &healthy));
        let (mut ids, mut failed) = (Vec::new(), None);
        while session.running() + session.waiting() > 0 {
            for piece in session.step(&StepBudget::default()) {
                if piece.sequence == broken {
                    assert_eq!((piece.finish, piece.id), (Some(Finish::Failed), None));
                    failed = piece.error.clone();
                } else {
                    assert!(piece.sequence == sound && piece.error.is_none());
                    ids.extend(piece.id);
                }
            }
        }
        assert_eq!(ids, alone, "on {}", session.device());
        assert_not_finite(failed.map_or(Ok(()), Err), &["position 2"], session.device());
    });
}

#[test]
fn vectors_of_an_embedding_model_are_numbers() {
    let model = changed_file("embedding-qwen3/i2_s.gguf", None, |file| {
        let embedding = file.named("token_embd.weight");
        let row = embedding.data.len() / embedding.shape[1] as usize;
        embedding.data[TOKEN as usize * row..][..2].copy_from_slice(&0x7e00u16.to_le_bytes());
    });
    on_every_device(&model, &options(CachePrecision::F16), |session| {
        let texts: [&[u32]; 3] = [&[1, 2, 3], &PROMPT, &[4]];
        assert_not_finite(
            session.embed_ids(&texts),
            &["position 2", "embedding"],
            session.device().to_owned().as_str(),
        );
        assert_eq!(session.embed_ids(&[texts[0], texts[2]]).unwrap().len(), 2);
    });
}
