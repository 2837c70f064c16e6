//! The ways to open a model: from the map of its file, from the file read into memory, and from bytes. All give the same
//! model, and only the map depends on what becomes of the file.

use bytes::Bytes;
use sterna::backend::Backend;
use sterna::format::{Dense, Scales, Weights};
use sterna::generate::{GenerateOptions, Session, SessionOptions};
use sterna::model::{Model, OpenOptions, Role};

use crate::common::{data, reference, shipped_model, shipped_model_path};
use crate::edit::{TemporaryFile, golden};
use crate::exact_session;

/// One that is used as it lies, with whole blocks a row; one that is not; and one each that is repacked, is hidden in
/// floats, has further keys, and makes vectors.
const FILES: [&str; 6] = [
    "bitnet-256/i2_s.gguf",
    "bitnet-128-silu/i2_s.gguf",
    "qwen3-256/ptq1_0.gguf",
    "bitnet-128-online/f16.gguf",
    "minicpm-256/tq2_0.gguf",
    "embedding-gemma3/i2_s.gguf",
];

crate::on_every_backend!(models_from_bytes_and_from_a_read_file_compute_what_the_mapped_one_computes);

fn read() -> OpenOptions {
    OpenOptions { map: false, ..OpenOptions::default() }
}

/// The bytes at an address that suits no number.
fn at_an_odd_address(file: &[u8]) -> Bytes {
    let bytes = Bytes::from([&[0], file].concat()).slice(1..);
    assert_eq!(bytes.as_ptr().addr() % 2, 1);
    bytes
}

/// The mapped model first.
fn opened(file: &str) -> [Model; 4] {
    let path = data(&format!("golden/{file}"));
    let bytes = golden(file);
    [
        Model::open(&path).unwrap(),
        Model::open_with(&path, &read()).unwrap(),
        Model::from_bytes(bytes.clone()).unwrap(),
        Model::from_bytes(at_an_odd_address(&bytes)).unwrap(),
    ]
}

/// All that a role's weights hold: the shape, the bytes of the codes or the bits of the values, and the scales.
fn contents(model: &Model, role: Role) -> (usize, usize, Vec<u8>, Option<Scales>) {
    let weights = model.weights(role).unwrap().unwrap_or_else(|| panic!("{role:?} is there"));
    let (bytes, scales) = match &weights {
        Weights::Ternary(ternary) => (ternary.codes().to_vec(), Some(ternary.scales().clone())),
        Weights::Dense(dense) => (Dense::to_f32(dense).into_iter().flat_map(f32::to_le_bytes).collect(), None),
    };
    (weights.rows(), weights.cols(), bytes, scales)
}

#[test]
fn models_from_bytes_and_from_a_read_file_equal_the_mapped_one() {
    const TEXT: &str = "Once upon a time: 1,58 bits — ja!";
    for file in FILES {
        let [mapped, others @ ..] = opened(file);
        let keys: Vec<_> = mapped.metadata().iter().collect();
        let ids = mapped.tokenizer().unwrap().encode_prompt(TEXT).unwrap();
        for other in &others {
            assert_eq!(other.config(), mapped.config(), "{file}");
            assert_eq!(other.metadata().iter().collect::<Vec<_>>(), keys, "{file}");
            assert_eq!(other.chat_template(), mapped.chat_template(), "{file}");
            assert_eq!(other.tokenizer().unwrap().encode_prompt(TEXT).unwrap(), ids, "{file}");
            assert_eq!(other.roles(), mapped.roles(), "{file}");
            for role in mapped.roles() {
                assert_eq!(contents(other, role), contents(&mapped, role), "{file}: {role:?}");
            }
        }
        let decided = |model: &Model| model.decisions().iter().map(ToString::to_string).collect::<Vec<_>>();
        let [read, bytes, odd] = &others;
        assert_eq!((decided(bytes), decided(odd)), (decided(&mapped), decided(&mapped)), "{file}");
        let told = [decided(&mapped), vec!["weights: read into memory (asked for by the caller)".into()]].concat();
        assert_eq!(decided(read), told, "{file}");
    }
}

fn models_from_bytes_and_from_a_read_file_compute_what_the_mapped_one_computes<B: Backend + 'static>(
    make: &dyn Fn() -> B,
) {
    for file in FILES {
        let ids = [1, 7, 300, 42, 42, 511, 9];
        let logits = |model: &Model| {
            let mut found = Vec::new();
            exact_session(model, make(), ids.len()).evaluate(&ids, &mut |_, row| found.extend_from_slice(row)).unwrap();
            found.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let [mapped, others @ ..] = opened(file);
        let wanted = logits(&mapped);
        for (other, way) in others.iter().zip(["read", "bytes", "bytes at an odd address"]) {
            assert_eq!(logits(other), wanted, "{file}: {way}");
        }
    }
}

/// As a mapped model must not: there, the bytes would change the model, and the cut would kill this process.
#[test]
fn a_file_that_was_read_may_be_changed_truncated_and_deleted() {
    let options = GenerateOptions { max_tokens: 20, ..GenerateOptions::greedy() };
    let made = |model: &Model| -> Vec<u32> {
        let mut session = Session::with_backend(model, reference(), &SessionOptions::default()).unwrap();
        session.generate_ids(&[1, 7, 300], &options).unwrap().collect::<Result<_, _>>().unwrap()
    };
    let wanted = made(&shipped_model());
    let bytes = std::fs::read(shipped_model_path()).unwrap();
    let mut file = TemporaryFile::new(&bytes);
    let model = Model::open_with(&file.path, &read()).unwrap();
    file.overwrite(0, &vec![0xff; bytes.len()]);
    assert_eq!(made(&model), wanted, "changed");
    file.cut(0);
    assert_eq!(made(&model), wanted, "truncated");
    drop(file);
    assert_eq!(made(&model), wanted, "deleted");
}

#[test]
fn bytes_are_opened_with_the_options_of_files_and_refused_like_files() {
    use sterna::backend::Numerics;
    let options = OpenOptions { numerics: Some(Numerics::Float), ..OpenOptions::default() };
    let bytes = golden(FILES[0]);
    let model = Model::from_bytes_with(bytes.clone(), &options).unwrap();
    assert_eq!(model.config().numerics, Numerics::Float);
    let error = Model::from_bytes(bytes[..bytes.len() - 1].to_vec()).unwrap_err();
    assert!(matches!(&error, sterna::Error::Malformed(_)), "{error}");
    let weights = std::fs::read(data("golden/bitnet-256/model.safetensors")).unwrap();
    let error = Model::from_bytes(weights).unwrap_err().to_string();
    assert!(error.contains("safetensors") && error.contains("directory"), "{error}");
    assert!(Model::from_bytes(&b""[..]).unwrap_err().to_string().contains("empty"));
}
