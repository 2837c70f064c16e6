//! Schemas that would not be honoured, or would take the machine, are refused soon, by name.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use sterna::Error;
use sterna::constrain::{MOST_NESTING, MOST_SCHEMA_BYTES};

use crate::{constrainer, outcomes};

/// What a server lets a schema take. The worst that passes takes a fraction of it.
const DEADLINE: Duration = Duration::from_secs(2);

#[track_caller]
fn refused(schema: &Value) -> String {
    let start = Instant::now();
    let outcome = constrainer().json_schema(schema);
    assert!(start.elapsed() < DEADLINE, "it took {:?}", start.elapsed());
    let shown: String = schema.to_string().chars().take(200).collect();
    match outcome {
        Err(Error::Input(text)) => text,
        Err(error) => panic!("{error}: {shown}"),
        Ok(_) => panic!("accepted: {shown}"),
    }
}

#[test]
fn what_would_not_be_honoured_is_refused_by_name() {
    for (schema, name) in [
        (json!({ "type": "string", "maxLenght": 3 }), "maxLenght"),
        (json!({ "title": "t", "maxLenght": 3 }), "maxLenght"),
        (json!({ "properties": { "a": { "not": { "type": "null" } } } }), "#/properties/a/not"),
        (json!({ "type": "array", "uniqueItems": true }), "uniqueItems"),
        (json!({ "type": "array", "contains": {} }), "contains"),
        (json!({ "if": {}, "then": {} }), "\"if\""),
        (json!({ "dependentRequired": {} }), "dependentRequired"),
        (json!({ "propertyNames": {} }), "propertyNames"),
        (json!({ "unevaluatedProperties": false }), "unevaluatedProperties"),
        (json!({ "type": "string", "nullable": true }), "nullable"),
        (json!({ "$dynamicRef": "#a" }), "$dynamicRef"),
        (json!({ "properties": { "a": { "$id": "b" } } }), "$id"),
        (json!({ "$schema": "https://example.com/mine" }), "example.com/mine"),
        (json!({ "type": "string", "format": "iri" }), "iri"),
        (json!({ "type": "integer", "format": "int32" }), "int32"),
        (json!({ "$ref": "https://example.com/schema" }), "https://example.com/schema"),
        (json!({ "$ref": "other.json#/a" }), "other.json"),
        (json!({ "$ref": "#anchor" }), "#anchor"),
        (json!({ "$ref": "#/$defs/none" }), "#/$defs/none"),
        (json!({ "$ref": "#/%zz" }), "#/%zz"),
        (json!({ "oneOf": [{ "type": "integer" }, { "type": "number" }] }), "oneOf"),
        (json!({ "type": "object", "minProperties": 2 }), "minProperties"),
        (json!({ "type": "object", "properties": { "a": {}, "b": {}, "c": {} }, "maxProperties": 2 }), "maxProperties"),
        (json!({ "type": "string", "pattern": "(?=a)b" }), "look-around"),
        (json!({ "type": "string", "pattern": r"(a)\1" }), "backreferences"),
        (json!({ "type": "string", "pattern": "(" }), "unclosed"),
        (json!({ "patternProperties": { "a": {}, "b": {} }, "type": "object" }), "disjoint"),
        (json!({ "maximum": 1e300 }), "#/maximum"),
        (json!({ "const": 18_446_744_073_709_551_615u64 }), "#/const"),
        (json!({ "enum": [[{ "a": 1e-300 }]] }), "#/enum"),
        (json!({ "multipleOf": 0 }), "#/multipleOf"),
        (json!({ "multipleOf": 123_456_789 }), "multipleOf"),
        (json!({ "const": "\u{1}" }), "control characters"),
    ] {
        let error = refused(&schema);
        assert!(error.contains(name), "{error}: {schema}");
    }
}

#[test]
fn keywords_with_values_of_the_wrong_type_are_refused_with_their_place() {
    let long = "é".repeat(200); // a message must not be cut between its bytes
    for (keyword, value) in [
        ("type", json!("text")),
        ("type", json!([])),
        ("type", json!(3)),
        ("properties", json!([])),
        ("properties", json!({ "a": 3 })),
        ("required", json!("a")),
        ("required", json!([1])),
        ("items", json!(3)),
        ("prefixItems", json!({})),
        ("anyOf", json!({})),
        ("anyOf", json!([3])),
        ("allOf", json!(long)),
        ("enum", json!(long)),
        ("minLength", json!(long)),
        ("maxLength", json!(-1)),
        ("minItems", json!(1.5)),
        ("maxItems", json!(1u64 << 40)),
        ("minimum", json!(long)),
        ("exclusiveMinimum", json!(true)),
        ("pattern", json!(3)),
        ("format", json!(3)),
        ("$ref", json!(3)),
        ("additionalProperties", json!(long)),
    ] {
        let error = refused(
            &json!({ keyword: value, "type": value.get("type").cloned().unwrap_or("object".into()), keyword: value }),
        );
        assert!(error.contains(&format!("#/{keyword}")), "{error}: {keyword}: {value}");
    }
    for schema in [json!(3), json!("a"), json!(null), json!([])] {
        assert!(refused(&schema).contains("an object or a boolean"));
    }
}

#[test]
fn what_nothing_can_satisfy_is_refused() {
    for schema in [
        json!(false),
        json!({ "enum": [] }),
        json!({ "type": "integer", "minimum": 2, "maximum": 1 }),
        json!({ "allOf": [{ "type": "string" }, { "type": "integer" }] }),
        json!({ "type": "string", "pattern": "^a$", "minLength": 2 }),
        json!({ "$ref": "#" }),
        json!({ "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } }, "$ref": "#/$defs/a" }),
        json!({ "anyOf": [{ "$ref": "#" }] }),
        json!({ "allOf": [{ "$ref": "#" }] }),
        json!({ "type": "object", "required": ["a"], "additionalProperties": false }),
    ] {
        refused(&schema);
    }
}

fn nested(levels: usize) -> Value {
    (0..levels).fold(json!({ "type": "null" }), |inner, _| json!({ "type": "array", "items": inner }))
}

fn objects(count: usize) -> Vec<Value> {
    let object = |i| json!({ "type": "object", "properties": { format!("k{i}"): { "const": i } }, "required": [format!("k{i}")] });
    (0..count).map(object).collect()
}

fn keys(count: usize, value: &Value) -> Map<String, Value> {
    (0..count).map(|i| (format!("key {i}"), value.clone())).collect()
}

/// Definitions that refer to the next, each within some arrays.
fn chain(links: usize, arrays: usize) -> Value {
    let link = |i: usize| {
        (0..arrays).fold(
            json!({ "$ref": format!("#/$defs/{}", i + 1) }),
            |inner, _| json!({ "type": "array", "items": inner }),
        )
    };
    let mut definitions: Map<String, Value> = (0..links).map(|i| (i.to_string(), link(i))).collect();
    definitions.insert(links.to_string(), json!({ "type": "null" }));
    json!({ "$defs": definitions, "$ref": "#/$defs/0" })
}

#[test]
fn bombs_are_refused_soon() {
    assert!(refused(&nested(MOST_NESTING)).contains("nested"));
    assert!(refused(&nested(2000)).contains("nested"));
    assert!(refused(&json!({ "description": "a".repeat(MOST_SCHEMA_BYTES) })).contains("bytes"));
    let words = |count: usize| json!({ "enum": (0..count).map(|i| "y".repeat(i)).collect::<Vec<_>>() });
    let doubled = |keyword: &str| {
        let twice = |i| json!({ keyword: [{ "$ref": format!("#/$defs/d{i}") }, { "$ref": format!("#/$defs/d{i}") }] });
        let mut definitions: Map<String, Value> = (0..30).map(|i| (format!("d{i}"), twice(i + 1))).collect();
        definitions.insert("d30".into(), json!({ "type": "null" }));
        json!({ "$defs": definitions, "$ref": "#/$defs/d0" })
    };
    for schema in [
        json!({ "allOf": (0..8).map(|_| json!({ "anyOf": objects(20) })).collect::<Vec<_>>() }),
        json!({ "allOf": [words(36), words(36), words(36)] }),
        json!({ "type": "object", "patternProperties": keys(300, &json!(true)) }),
        json!({ "type": "object", "properties": keys(1900, &json!(true)) }),
        json!({ "required": (0..8000).map(|i| i.to_string()).collect::<Vec<_>>() }),
        json!({ "const": keys(2000, &json!(1)) }),
        json!({ "type": "array", "prefixItems": (0..500).map(|i| json!({ "multipleOf": 100_003 + 2 * i })).collect::<Vec<_>>() }),
        json!({ "anyOf": (0..1500).map(|i| json!({ "pattern": format!("a.*b{i}") })).collect::<Vec<_>>() }),
        json!({ "type": "string", "pattern": "(a|b|ab)?".repeat(3000) }),
        json!({ "type": "string", "pattern": format!("{}a{}", "(".repeat(500), ")*".repeat(500)) }),
        json!({ "type": "string", "pattern": "^[a-z]{1,1000}[0-9]{1,1000}(ab|cd){1,500}$", "minLength": 500 }),
        doubled("oneOf"),
        json!({ "allOf": (0..30).map(|i| json!({ "multipleOf": 1009 + 2 * i })).collect::<Vec<_>>() }),
    ] {
        refused(&schema);
    }
}

/// Large, but honest, or deep by its references: compiled within the deadline, on any thread's stack, and the first tokens come.
#[test]
fn what_is_large_and_passes_is_compiled_soon() {
    let number = |i: usize| json!({ "type": "integer", "minimum": i * 977, "maximum": i * 77_777 + 12_345 });
    let schemas = vec![
        nested(MOST_NESTING - 2),
        chain(1500, 0),
        chain(300, 5),
        json!({ "type": "object", "properties": keys(450, &json!({ "type": "string" })) }),
        json!({ "anyOf": objects(300) }),
        json!({ "enum": (0..3600).map(|i| format!("value {i}")).collect::<Vec<_>>() }),
        json!({ "type": "array", "prefixItems": (0..400).map(number).collect::<Vec<_>>() }),
        json!({ "type": "integer", "multipleOf": 9973 }),
        json!({ "type": "string", "maxLength": 1_000_000 }),
        json!({ "type": "array", "items": { "type": "string" }, "minItems": 1_000_000 }),
        json!({ "type": "string", "pattern": "^((((a{0,100}){0,100}){0,100}){0,100})$" }),
        json!({ "type": "string", "pattern": "^(x+x+)+y$" }),
        json!({ "type": "object", "required": ["a"], "additionalProperties": false, "properties": { "a": { "$ref": "#" } } }),
    ];
    let small_stack = std::thread::Builder::new().stack_size(256 << 10);
    let work = move || {
        for schema in schemas {
            let start = Instant::now();
            let constraint = constrainer().json_schema(&schema);
            assert!(start.elapsed() < DEADLINE, "it took {:?}", start.elapsed());
            let shown: String = schema.to_string().chars().take(100).collect();
            let constraint = constraint.unwrap_or_else(|error| panic!("{error}: {shown}"));
            let mut session = crate::session(1);
            let id = session.join_with(crate::prompt(20), crate::constrained(constraint, &crate::plain(1))).unwrap();
            let answer = outcomes(&mut session).remove(&id).unwrap();
            assert!(answer.error.is_none() && !answer.ids.is_empty(), "{answer:?}: {shown}");
        }
    };
    small_stack.spawn(work).unwrap().join().unwrap();
}
