//! Answers to schemas parse and are valid, whatever the schema.

use std::io::Write;

use serde_json::{Value, json};
use sterna::generate::Sampling;

use crate::generator;
use crate::validator::validate;
use crate::{Random, alone, constrained, constrainer, model, outcomes, plain, prompt, session};

/// What a schema and its answer are written to, a line of JSON each, if the variable names a file: for
/// `tests/clients/schemas.py`, which has another judge look at them.
const ANSWERS: &str = "STERNA_ANSWERS";

#[test]
fn answers_to_a_thousand_random_schemas_are_valid() {
    let mut random = Random(0x005C_4E3A);
    let mut session = session(16);
    let mut schemas = std::collections::HashMap::new();
    for seed in 0..1000 {
        let schema = generator::schema(&mut random);
        let constraint = constrainer().json_schema(&schema).unwrap_or_else(|error| panic!("{error}: {schema}"));
        let sampling = Sampling { seed, ..coming_to_an_end(&["}", "]", ",", "Z", "+"], 5.0) };
        let id = session.join_with(prompt(480), constrained(constraint, &sampling)).unwrap();
        schemas.insert(id, schema);
    }
    let mut file = std::env::var_os(ANSWERS).map(|path| std::fs::File::create(path).unwrap());
    let answers = outcomes(&mut session);
    assert_eq!(answers.len(), 1000);
    for (id, answer) in answers {
        let schema = &schemas[&id];
        let document: Value = serde_json::from_str(answer.whole())
            .unwrap_or_else(|error| panic!("{error}: {:?} of {schema}", answer.text));
        validate(&document, schema, schema).unwrap_or_else(|why| panic!("{why}: {:?} of {schema}", answer.text));
        if let Some(file) = &mut file {
            writeln!(file, "{}", json!({ "schema": schema, "answer": answer.text })).unwrap();
        }
    }
}

#[test]
fn any_object_is_an_object() {
    for seed in 0..20 {
        let sampling = Sampling { seed, ..coming_to_an_end(&["\"", "}", "]"], 12.0) };
        let answer = alone(prompt(400), constrained(constrainer().json_object().unwrap(), &sampling));
        assert!(serde_json::from_str::<Value>(answer.whole()).unwrap().is_object(), "{answer:?}");
    }
}

/// The model is pushed to end its texts and fractions, as no mask makes it: it tells stories, and goes on with digits for ever.
fn coming_to_an_end(tokens: &[&str], push: f32) -> Sampling {
    let tokenizer = model().tokenizer().unwrap();
    let ids = tokens.iter().flat_map(|text| tokenizer.encode(text).unwrap()).chain(tokenizer.eos());
    Sampling { logit_bias: ids.map(|id| (id, push)).collect(), ..plain(0) }
}

/// What differs from the schemas of the generator: nothing but one text can follow from each of them.
#[test]
fn what_a_schema_leaves_no_choice_in_comes_out_so() {
    let tagged = |tag: &str| json!({ "type": "object", "properties": { "kind": { "const": tag } }, "required": ["kind"], "additionalProperties": false });
    for (schema, wanted) in [
        (json!({ "const": "é\"\\/\n" }), json!("é\"\\/\n")),
        (json!({ "enum": [{ "a": [null, true, -1.5] }] }), json!({ "a": [null, true, -1.5] })),
        (json!({ "type": "integer", "minimum": 6.5, "exclusiveMaximum": 8 }), json!(7)),
        (json!({ "definitions": { "x~y": { "const": 1 } }, "$ref": "#/definitions/x~0y" }), json!(1)),
        (json!({ "$defs": { "é": { "const": 2 } }, "$ref": "#/$defs/%C3%A9" }), json!(2)),
        (json!({ "properties": { "a": { "const": 3 } }, "allOf": [{ "$ref": "#/properties/a" }] }), json!(3)),
        (
            json!({ "$defs": { "a": tagged("a"), "b": tagged("b") }, "oneOf": [{ "$ref": "#/$defs/a" }, { "$ref": "#/$defs/b" }],
                 "properties": { "kind": { "const": "b" } } }),
            json!({ "kind": "b" }),
        ),
        (
            json!({ "items": [{ "const": 1 }, { "const": 2 }], "additionalItems": false, "type": "array", "minItems": 2.0 }),
            json!([1, 2]),
        ),
        (json!({ "type": "string", "minLength": 3, "maxLength": 3, "pattern": "^z*$" }), json!("zzz")),
        (
            json!({ "type": "null", "uniqueItems": false, "x-order": 1, "deprecated": true, "$id": "https://example.com/a" }),
            json!(null),
        ),
        (
            json!({ "required": ["a"], "additionalProperties": { "const": 0 }, "maxProperties": 1, "type": "object" }),
            json!({ "a": 0 }),
        ),
    ] {
        let constraint = constrainer().json_schema(&schema).unwrap_or_else(|error| panic!("{error}: {schema}"));
        let answer = alone(prompt(200), constrained(constraint, &plain(1)));
        assert_eq!(serde_json::from_str::<Value>(answer.whole()).unwrap(), wanted, "{schema}");
    }
}
