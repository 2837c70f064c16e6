//! Keys that say another network than the one which would be computed: obeyed, or refused by name; and none is passed over
//! in silence.

use sterna::backend::Activation;
use sterna::model::Model;

use crate::edit::{TemporaryFile, parts};
use crate::gguf_writer::{GgufWriter, array, string};
use crate::{FAMILIES, FILES, Fate};

/// A value as a GGUF file holds it: its type and its bytes.
type Stored = (u32, Vec<u8>);

fn size(value: u32) -> Stored {
    (4, value.to_le_bytes().to_vec())
}

fn float(value: f32) -> Stored {
    (6, value.to_le_bytes().to_vec())
}

fn boolean(value: bool) -> Stored {
    (7, vec![u8::from(value)])
}

fn text(value: &str) -> Stored {
    (8, string(value))
}

fn sizes(values: &[u32]) -> Stored {
    (9, array(4, values.len() as u64, values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>()))
}

/// The llama's heads have 64 features, its context 256 positions, its layers are 2, its width is 256, its feed-forward
/// network has 512 features.
const LLAMA: &str = FILES[1];

fn with(file: &str, key: &str, (type_id, value): Stored) -> GgufWriter {
    let mut file = parts(file);
    file.set(key, type_id, value);
    file
}

/// Keys of a llama with values that say what is computed anyway, and with values that do not.
fn keys() -> Vec<(&'static str, Vec<Stored>, Vec<Stored>)> {
    let switch = |key| (key, vec![boolean(false), size(0)], vec![boolean(true), size(1)]);
    let zero =
        |key| (key, vec![size(0), float(0.0), sizes(&[0, 0])], vec![size(3), float(0.5), sizes(&[0, 7]), text("x")]);
    let factor = |key| (key, vec![float(0.0), float(1.0)], vec![float(0.5), float(12.0), float(f32::NAN), float(-1.0)]);
    let experts = |key| (key, vec![size(0), size(1)], vec![size(2), size(8)]);
    vec![
        ("attention.causal", vec![boolean(true)], vec![boolean(false), size(0), text("no")]),
        (
            "attention.scale",
            vec![float(0.0), float(0.125)],
            vec![float(0.5), float(0.126), float(f32::NAN), float(-0.125)],
        ),
        zero("attention.clamp_kqv"),
        zero("attention.max_alibi_bias"),
        zero("attention.relative_buckets_count"),
        zero("attn_logit_softcapping"),
        zero("final_logit_softcapping"),
        (
            "attention.sliding_window",
            vec![size(0), size(256), size(u32::MAX)],
            vec![size(2), size(255), sizes(&[256, 8])],
        ),
        ("attention.sliding_window_pattern", vec![size(0)], vec![size(6), (9, array(7, 2, [1, 0]))]),
        zero("attention.shared_kv_layers"),
        factor("attention.output_scale"),
        factor("attention.value_scale"),
        zero("attention.temperature_scale"),
        ("attention.layer_norm_epsilon", vec![float(0.0), float(1e-5)], vec![float(1e-6), float(1e-3)]),
        zero("attention.group_norm_epsilon"),
        ("attention.key_length_swa", vec![size(64)], vec![size(32)]),
        ("attention.value_length_swa", vec![size(64)], vec![size(32)]),
        zero("attention.key_length_mla"),
        zero("attention.q_lora_rank"),
        zero("attention.kv_lora_rank"),
        zero("attention.indexer.top_k"),
        switch("use_parallel_residual"),
        switch("swin_norm"),
        zero("rescale_every_n_layers"),
        factor("embedding_scale"),
        factor("residual_scale"),
        factor("logit_scale"),
        experts("expert_count"),
        experts("expert_used_count"),
        experts("expert_shared_count"),
        ("expert_feed_forward_length", vec![size(0), size(512)], vec![size(256)]),
        factor("expert_weights_scale"),
        experts("interleave_moe_layer_step"),
        ("leading_dense_block_count", vec![size(0), size(2)], vec![size(1)]),
        zero("swiglu_clamp_exp"),
        zero("nextn_predict_layers"),
        zero("n_deepstack_layers"),
        experts("full_attention_interval"),
        zero("activation_sparsity_scale"),
        ("altup.num_inputs", vec![size(0)], vec![size(4)]),
        ("embedding_length_out", vec![size(256)], vec![size(512)]),
        ("decoder_start_token_id", vec![], vec![size(0)]),
        ("classifier.output_labels", vec![], vec![(9, array(8, 1, string("yes")))]),
        ("dense_2_feat_in", vec![size(0)], vec![size(768)]),
        zero("ssm.conv_kernel"),
        zero("wkv.head_size"),
        ("rope.dimension_sections", vec![sizes(&[0, 0, 0, 0])], vec![sizes(&[16, 8, 8, 0])]),
        ("rope.dimension_count_swa", vec![size(64)], vec![size(32)]),
        ("rope.freq_base_swa", vec![], vec![float(10_000.0)]),
        ("rope.scaling.alpha", vec![float(0.0), float(1.0)], vec![float(1000.0)]),
        zero("rope.scaling.yarn_log_multiplier"),
        ("rope.scaling.yarn_ext_factor", vec![float(-1.0), float(0.0)], vec![float(1.0), float(0.5), float(f32::NAN)]),
        ("rope.scaling.yarn_attn_factor", vec![float(1.0)], vec![float(0.5)]),
        ("tensor_data_layout", vec![text("Meta AI original pth")], vec![text("reference"), text("other")]),
        ("hidden_activation", vec![text("silu"), text("swish")], vec![text("gelu"), text("tanh"), size(1)]),
    ]
}

#[test]
fn a_key_that_says_another_network_is_refused_by_name_and_a_neutral_one_is_silent() {
    let plain = Model::from_bytes(parts(LLAMA).bytes()).unwrap();
    let told = |model: &Model| model.decisions().iter().map(ToString::to_string).collect::<Vec<_>>();
    for (key, neutral, others) in keys() {
        let key = format!("llama.{key}");
        for value in neutral {
            let model = Model::from_bytes(with(LLAMA, &key, value.clone()).bytes());
            let model = model.unwrap_or_else(|error| panic!("{key} = {value:?}: {error}"));
            assert_eq!(model.config(), plain.config(), "{key} = {value:?}");
            let others = |text: &String| !text.starts_with("activation:");
            let [mut told, mut usual] = [told(&model), told(&plain)];
            told.retain(others);
            usual.retain(others);
            assert_eq!(told, usual, "{key} = {value:?}");
        }
        for value in others {
            with(LLAMA, &key, value).fate().refused(&[&format!("\"{key}\"")]);
        }
    }
}

#[test]
fn a_refusal_says_the_value_and_what_is_computed() {
    let refused = |key: &str, value, says: &[&str]| with(LLAMA, key, value).fate().refused(says);
    refused("llama.attention.causal", boolean(false), &["\"llama.attention.causal\" is false", "causal attention"]);
    refused("llama.attention.scale", float(0.5), &["is 0.5", "square root of a head's features"]);
    refused("llama.attention.sliding_window", size(2), &["is 2", "see all positions"]);
    refused("llama.expert_count", size(8), &["is 8", "without experts"]);
    refused("general.type", text("adapter"), &["\"general.type\" is \"adapter\""]);
    with(LLAMA, "general.type", text("model")).fate().ran();
    refused("llama.tensor_data_layout", text(&"\x1b[2J".repeat(1000)), &["\\u{1b}[2J"]);
}

/// What one architecture reads, another refuses.
#[test]
fn keys_count_where_the_architecture_has_what_they_say() {
    let factors = ["embedding_scale", "residual_scale", "logit_scale"];
    for key in factors {
        let value =
            |file: &str, name: &str| Model::from_bytes(with(file, &format!("{name}.{key}"), float(3.0)).bytes());
        let of = |model: &Model| {
            let factors = model.config().factors;
            [factors.embedding, factors.residual, factors.logits]
        };
        let read = of(&value(FAMILIES[1], "minicpm").unwrap());
        assert_eq!(read.iter().filter(|factor| **factor == 3.0).count(), 1, "{key}: {read:?}");
        assert!(of(&value(FAMILIES[3], "gemma3").unwrap()).contains(&3.0));
        for (file, name) in [(FILES[0], "bitnet"), (FAMILIES[0], "qwen3"), (FAMILIES[2], "hunyuan-dense")] {
            let error = value(file, name).unwrap_err().to_string();
            assert!(error.contains(&format!("\"{name}.{key}\" is 3")), "{error}");
        }
    }
    let windows = Model::from_bytes(with(FAMILIES[3], "gemma3.attention.sliding_window", size(5)).bytes()).unwrap();
    assert_eq!(windows.config().windows.as_ref().unwrap().positions, 5);
    with(FAMILIES[0], "qwen3.attention.sliding_window", size(5)).fate().refused(&["qwen3.attention.sliding_window"]);
    // Query and key rows in the order of the architecture.
    with(FAMILIES[0], "qwen3.tensor_data_layout", text("reference")).fate().ran();
    with(FAMILIES[0], "qwen3.tensor_data_layout", text("Meta AI original pth"))
        .fate()
        .refused(&["order of query and key"]);
    // A model that scales as YaRN does needs what the paper has.
    with(FAMILIES[0], "qwen3.rope.scaling.yarn_ext_factor", float(1.0)).fate().ran();
    with(FAMILIES[0], "qwen3.rope.scaling.yarn_ext_factor", float(0.0)).fate().refused(&["yarn_ext_factor", "knows 1"]);
    // Windows as long as the context, whatever their pattern.
    let mut idle = with(LLAMA, "llama.attention.sliding_window", size(4096));
    idle.set_u32("llama.attention.sliding_window_pattern", 6).fate().ran();
}

#[test]
fn the_gate_is_the_one_that_the_file_names() {
    let gate = |file: &str, name: &str, gate: &str| {
        let model = Model::from_bytes(with(file, &format!("{name}.hidden_activation"), text(gate)).bytes()).unwrap();
        let told = model.decisions().iter().any(|decision| decision.to_string().contains("hidden_activation"));
        assert!(told, "{:?}", model.decisions());
        model.config().activation
    };
    for (file, name) in [(FILES[0], "bitnet"), (LLAMA, "llama"), (FAMILIES[3], "gemma3")] {
        assert_eq!(gate(file, name, "relu2"), Activation::SquaredRelu);
        assert_eq!(gate(file, name, "silu"), Activation::Silu);
        assert_eq!(gate(file, name, "gelu_pytorch_tanh"), Activation::Gelu);
        with(file, &format!("{name}.hidden_activation"), text("relu2")).fate().ran();
    }
    // What is not usual is told beside what was decided.
    let told = |gate: &str| {
        let model = Model::from_bytes(with(LLAMA, "llama.hidden_activation", text(gate)).bytes()).unwrap();
        model.decisions().iter().any(|decision| decision.to_string().contains("is obeyed: SquaredRelu"))
    };
    assert!(told("relu2") && !told("silu"));
    let other = with(FILES[0], "bitnet.hidden_activation", text("relu")).fate();
    other.refused(&["\"bitnet.hidden_activation\" is \"relu\"", "silu, relu2 and gelu_pytorch_tanh"]);
}

#[test]
fn a_factor_of_cosines_and_sines_counts_with_every_type_of_scaling() {
    let magnitude = |kind: Option<&str>| {
        let mut file = with(LLAMA, "llama.rope.scaling.attn_factor", float(0.5));
        if let Some(kind) = kind {
            file.set_text("llama.rope.scaling.type", kind);
        }
        Model::from_bytes(file.bytes()).unwrap().config().rope.magnitude
    };
    assert_eq!([None, Some("none"), Some("linear")].map(magnitude), [0.5; 3]);
}

#[test]
fn a_file_that_says_longrope_has_its_factors() {
    let mut without = parts(FAMILIES[1]);
    without.tensors.retain(|tensor| !tensor.name.starts_with(b"rope_factors"));
    without.fate().refused(&["\"minicpm.rope.scaling.type\" is longrope", "rope_factors_short.weight"]);
    without.set_text("minicpm.rope.scaling.type", "none").fate().ran();
}

#[test]
fn keys_that_nobody_knows_are_told() {
    let told = |file: GgufWriter| {
        let model = Model::from_bytes(file.bytes()).unwrap();
        let told = model.decisions().iter().filter(|decision| matches!(decision.subject, "keys" | "vocabulary"));
        told.map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(told(parts(LLAMA)), Vec::<String>::new());
    let [unknown] = &told(with(LLAMA, "llama.attention.sparkle", size(1)))[..] else { panic!() };
    assert!(unknown.contains("not used: \"llama.attention.sparkle\""), "{unknown}");
    let [foreign] = &told(with(LLAMA, "qwen3.attention.sliding_window", size(1)))[..] else { panic!() };
    assert!(foreign.contains("\"qwen3.attention.sliding_window\"") && foreign.contains("\"llama\""), "{foreign}");
    let [rows] = &told(with(LLAMA, "llama.vocab_size", size(300)))[..] else { panic!() };
    assert!(rows.contains("512 rows") && rows.contains("\"llama.vocab_size\" is 300"), "{rows}");
    // However many there are, and whatever they are called.
    let mut many = parts(LLAMA);
    (0..500).for_each(|i| _ = many.set_u32(&format!("llama.\x1b[2J{i}"), 0));
    let [many] = &told(many)[..] else { panic!() };
    assert!(many.contains("and 492 more") && many.contains("\\u{1b}[2J0") && many.len() < 1500, "{many}");
    // Keys of other programs that say nothing of the network.
    for key in
        ["general.finetune", "quantize.imatrix.file", "tokenizer.ggml.add_sep_token", "mradermacher.quantized_by"]
    {
        assert_eq!(told(with(LLAMA, key, text("x"))), Vec::<String>::new(), "{key}");
    }
}

#[test]
fn golden_files_have_no_key_that_is_not_used() {
    for file in FILES.into_iter().chain(FAMILIES) {
        let model = Model::from_bytes(parts(file).bytes()).unwrap();
        assert!(!model.decisions().iter().any(|decision| decision.subject == "keys"), "{file}");
        Fate::of(&TemporaryFile::new(&parts(file).bytes()).path).ran();
    }
}
