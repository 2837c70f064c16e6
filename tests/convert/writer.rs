//! The writer of GGUF files: what it writes is read again, and what no reader takes is refused.

use sterna::Error;
use sterna::format::encodings::Encoding::{self, F32, I2S, Q8_0, Tq1_0};
use sterna::format::gguf::{Array, Gguf, Layout, TensorPlan, Value};

fn plan(name: &str, rows: usize, cols: usize, encoding: Encoding) -> TensorPlan {
    TensorPlan { name: name.into(), rows, cols, matrices: 1, encoding }
}

fn key(name: &str, value: Value) -> (String, Value) {
    (name.into(), value)
}

fn refusal(keys: &[(String, Value)], tensors: &[TensorPlan]) -> String {
    match Layout::new(keys, tensors) {
        Err(Error::Input(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_written_is_read_again() {
    let keys = [
        key("a.unsigned", Value::Unsigned(7)),
        key("a.large", Value::Unsigned(1 << 40)),
        key("a.signed", Value::Signed(-7)),
        key("a.deep", Value::Signed(-(1 << 40))),
        key("a.float", Value::Float(0.5)),
        key("a.double", Value::Float(0.1)),
        key("a.flag", Value::Bool(true)),
        key("a.text", Value::String("ü\n".into())),
        key("a.texts", Value::Array(Array::of_strings(["", "tern"]))),
        key("a.integers", Value::Array(Array::of_integers(&[-1, i32::MAX]))),
        key("a.floats", Value::Array(Array::of_floats(&[0.25]))),
    ];
    let tensors =
        [plan("vector", 1, 5, F32), plan("trits", 2, 256, Tq1_0), plan("i2_s", 1, 128, I2S), plan("int8", 3, 32, Q8_0)];
    let sizes = [20, 108, 64, 102];
    let layout = Layout::new(&keys, &tensors).unwrap();
    let mut writer = layout.write(Vec::new()).unwrap();
    for (place, size) in sizes.iter().enumerate() {
        writer.tensor(&vec![place as u8 + 1; *size]).unwrap();
    }
    let file = writer.finish().unwrap();
    assert_eq!(file.len() as u64, layout.file_bytes());
    let gguf = Gguf::parse(file.into()).unwrap();
    assert_eq!(gguf.version(), 3);
    let read: Vec<_> = gguf.metadata().iter().map(|(name, value)| key(name, value.clone())).collect();
    assert_eq!(read, keys);
    for (place, (info, plan)) in gguf.tensors().iter().zip(&tensors).enumerate() {
        assert_eq!((info.name.as_str(), info.rows(), info.cols()), (plan.name.as_str(), plan.rows, plan.cols));
        assert_eq!(info.type_id, plan.encoding.ggml_type());
        assert!(gguf.data(info)[..sizes[place]].iter().all(|&byte| byte == place as u8 + 1));
        assert!(gguf.data(info)[sizes[place]..].iter().all(|&byte| byte == 0));
    }
    assert_eq!(gguf.tensor("vector").unwrap().shape, [5]);
}

#[test]
fn type_numbers_are_read_as_the_encoding_that_wrote_them() {
    for number in (0..512).filter(|number| Encoding::from_ggml(*number).is_ok()) {
        assert_eq!(Encoding::from_ggml(number).unwrap().ggml_type(), number);
    }
    assert_eq!([Encoding::Q2_0, Encoding::Pq2_0, Encoding::Ptq1_0].map(Encoding::ggml_type), [42, 142, 143]);
}

#[test]
fn what_no_reader_takes_is_refused() {
    let value = || Value::Bool(true);
    assert!(refusal(&[key("", value())], &[]).contains("is empty"));
    assert!(refusal(&[key("a", value()), key("a", value())], &[]).contains("\"a\" is there twice"));
    assert!(refusal(&[key("general.alignment", Value::Unsigned(64))], &[]).contains("multiples of 32"));
    let long = "n".repeat(64);
    assert!(refusal(&[], &[plan(&long, 1, 1, F32)]).contains("1 to 63 bytes"));
    assert!(refusal(&[], &[plan("a", 1, 1, F32), plan("a", 1, 1, F32)]).contains("the tensor \"a\" is there twice"));
    assert!(refusal(&[], &[plan("a", 1, 128, Tq1_0)]).contains("tensor \"a\": TQ1_0 stores 256 columns"));
    assert!(refusal(&[], &[plan("a", 0, 1, F32)]).contains("is empty"));
}

#[test]
#[should_panic(expected = "the bytes of the tensor that the layout announced")]
fn a_tensor_of_another_size_is_a_mistake_of_the_caller() {
    let layout = Layout::new(&[], &[plan("a", 1, 2, F32)]).unwrap();
    layout.write(Vec::new()).unwrap().tensor(&[0; 4]).ok();
}
