//! A small judge of JSON against the schemas of the generator: strict, and for their keywords alone. Written from the
//! specification, and unlike the code that it judges it looks at whole documents.

use serde_json::{Value, json};

use crate::generator::PATTERNS;

/// Whether a document is valid; why not, otherwise.
pub(crate) fn validate(document: &Value, schema: &Value, root: &Value) -> Result<(), String> {
    let keywords = match schema {
        Value::Bool(true) => return Ok(()),
        Value::Bool(false) => return Err(format!("{document} where nothing may be")),
        schema => schema.as_object().expect("a schema is an object or a boolean"),
    };
    for (keyword, value) in keywords {
        let is_valid = match keyword.as_str() {
            "title" | "description" | "$defs" | "$schema" => true,
            "type" => match value.as_array() {
                Some(types) => types.iter().any(|kind| is_of_type(document, kind)),
                None => is_of_type(document, value),
            },
            "const" => are_equal(document, value),
            "enum" => list(value).iter().any(|choice| are_equal(document, choice)),
            "anyOf" => list(value).iter().any(|schema| validate(document, schema, root).is_ok()),
            "oneOf" => list(value).iter().filter(|schema| validate(document, schema, root).is_ok()).count() == 1,
            "allOf" => {
                for schema in list(value) {
                    validate(document, schema, root)?;
                }
                true
            }
            "$ref" => {
                let target = root.pointer(&value.as_str().unwrap()[1..]).expect("what is referred to is there");
                validate(document, target, root)?;
                true
            }
            "minimum" => number(document).is_none_or(|n| n >= number(value).unwrap()),
            "maximum" => number(document).is_none_or(|n| n <= number(value).unwrap()),
            "exclusiveMinimum" => number(document).is_none_or(|n| n > number(value).unwrap()),
            "exclusiveMaximum" => number(document).is_none_or(|n| n < number(value).unwrap()),
            "multipleOf" => number(document).is_none_or(|n| n % number(value).unwrap() == 0.0), // of eighths and whole ones
            "minLength" => document.as_str().is_none_or(|text| text.chars().count() >= count(value)),
            "maxLength" => document.as_str().is_none_or(|text| text.chars().count() <= count(value)),
            "pattern" => {
                let (_, matches) =
                    PATTERNS.iter().find(|(pattern, _)| pattern == value).expect("a pattern of the generator");
                document.as_str().is_none_or(matches)
            }
            "format" => document.as_str().is_none_or(|text| is_of_format(text, value.as_str().unwrap())),
            "minItems" => document.as_array().is_none_or(|items| items.len() >= count(value)),
            "maxItems" => document.as_array().is_none_or(|items| items.len() <= count(value)),
            "prefixItems" => {
                for (item, schema) in document.as_array().into_iter().flatten().zip(list(value)) {
                    validate(item, schema, root)?;
                }
                true
            }
            "items" => {
                let before = keywords.get("prefixItems").map_or(0, |schemas| list(schemas).len());
                for item in document.as_array().into_iter().flatten().skip(before) {
                    validate(item, value, root)?;
                }
                true
            }
            "maxProperties" => document.as_object().is_none_or(|keys| keys.len() <= count(value)),
            "required" => document
                .as_object()
                .is_none_or(|keys| list(value).iter().all(|name| keys.contains_key(name.as_str().unwrap()))),
            "properties" => {
                for (name, schema) in value.as_object().unwrap() {
                    document.get(name).map_or(Ok(()), |value| validate(value, schema, root))?;
                }
                true
            }
            "patternProperties" => {
                assert_eq!(value.as_object().unwrap().keys().collect::<Vec<_>>(), ["^z[a-z]$"]);
                for (name, value) in document.as_object().into_iter().flatten().filter(|(name, _)| is_z(name)) {
                    validate(value, &json!({ "type": "null" }), root).map_err(|why| format!("{name}: {why}"))?;
                }
                true
            }
            "additionalProperties" => {
                let is_named = |name: &str| keywords.get("properties").is_some_and(|named| named.get(name).is_some());
                let is_matched = |name: &str| keywords.contains_key("patternProperties") && is_z(name);
                for (name, property) in document.as_object().into_iter().flatten() {
                    if !is_named(name) && !is_matched(name) {
                        validate(property, value, root).map_err(|why| format!("{name}: {why}"))?;
                    }
                }
                true
            }
            other => panic!("the judge does not know {other}"),
        };
        if !is_valid {
            return Err(format!("{document} is not valid by {keyword}: {value}"));
        }
    }
    Ok(())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn count(value: &Value) -> usize {
    value.as_u64().expect("a count") as usize
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64()
}

fn is_z(name: &str) -> bool {
    name.len() == 2 && name.starts_with('z') && name.as_bytes()[1].is_ascii_lowercase()
}

fn is_of_type(document: &Value, kind: &Value) -> bool {
    match kind.as_str().expect("a type is a text") {
        "null" => document.is_null(),
        "boolean" => document.is_boolean(),
        "integer" => number(document).is_some_and(|n| n.fract() == 0.0),
        "number" => document.is_number(),
        "string" => document.is_string(),
        "array" => document.is_array(),
        "object" => document.is_object(),
        other => panic!("there is no type {other}"),
    }
}

fn are_equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| are_equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| are_equal(a, b)))
        }
        (a, b) => a == b,
    }
}

fn is_of_format(text: &str, format: &str) -> bool {
    let in_range = |text: &str, digits: usize, least: u32, most: u32| {
        text.len() == digits
            && text.bytes().all(|c| c.is_ascii_digit())
            && text.parse().is_ok_and(|number: u32| (least..=most).contains(&number))
    };
    let is_date = |text: &str| {
        let parts: Vec<&str> = text.split('-').collect();
        parts.len() == 3
            && in_range(parts[0], 4, 0, 9999)
            && in_range(parts[1], 2, 1, 12)
            && in_range(parts[2], 2, 1, 31)
    };
    let is_clock = |text: &str| {
        let parts: Vec<&str> = text.splitn(3, ':').collect();
        let seconds = parts.get(2).map_or("", |seconds| seconds.split('.').next().unwrap());
        parts.len() == 3 && in_range(parts[0], 2, 0, 23) && in_range(parts[1], 2, 0, 59) && in_range(seconds, 2, 0, 60)
    };
    let is_time = |text: &str| match text.strip_suffix(['Z', 'z']) {
        Some(clock) => is_clock(clock),
        None => {
            text.rsplit_once(['+', '-']).is_some_and(|(clock, zone)| is_clock(clock) && is_clock(&format!("{zone}:00")))
        }
    };
    match format {
        "date" => is_date(text),
        "time" => is_time(text),
        "date-time" => text.split_once(['T', 't']).is_some_and(|(date, time)| is_date(date) && is_time(time)),
        "ipv4" => {
            let parts: Vec<&str> = text.split('.').collect();
            parts.len() == 4 && parts.iter().all(|part| (1..=3).any(|digits| in_range(part, digits, 0, 255)))
        }
        "uuid" => {
            let lengths: Vec<usize> = text.split('-').map(str::len).collect();
            lengths == [8, 4, 4, 4, 12] && text.bytes().all(|c| c == b'-' || c.is_ascii_hexdigit())
        }
        other => panic!("the judge does not know the format {other}"),
    }
}

#[test]
fn the_judge_refuses_what_each_keyword_forbids() {
    for (schema, valid, invalid) in [
        (json!({ "type": "integer" }), json!(3), json!(3.5)),
        (json!({ "type": ["string", "null"] }), json!(null), json!(0)),
        (json!({ "const": { "a": [1, 2] } }), json!({ "a": [1.0, 2] }), json!({ "a": [2, 1] })),
        (json!({ "enum": [1, "x"] }), json!("x"), json!("y")),
        (json!({ "anyOf": [{ "type": "null" }, { "type": "string" }] }), json!("x"), json!(1)),
        (json!({ "oneOf": [{ "type": "number" }, { "type": "integer" }] }), json!(1.5), json!(1)),
        (json!({ "allOf": [{ "minimum": 1 }, { "maximum": 2 }] }), json!(2), json!(3)),
        (json!({ "minimum": 1 }), json!(1), json!(0.99)),
        (json!({ "exclusiveMinimum": 1 }), json!(1.01), json!(1)),
        (json!({ "maximum": 1 }), json!(1), json!(1.01)),
        (json!({ "exclusiveMaximum": 1 }), json!(0.99), json!(1)),
        (json!({ "multipleOf": 0.25 }), json!(1.75), json!(1.8)),
        (json!({ "minLength": 2 }), json!("é😀"), json!("é")),
        (json!({ "maxLength": 2 }), json!("é😀"), json!("abc")),
        (json!({ "pattern": "^[A-Z]{3}$" }), json!("ABC"), json!("ABCD")),
        (json!({ "pattern": r"^\d{3}-\d{2}$" }), json!("123-45"), json!("1234-5")),
        (json!({ "pattern": "^(yes|no|perhaps)$" }), json!("no"), json!("noo")),
        (json!({ "pattern": r"^\w{1,8}$" }), json!("a_1"), json!("a b")),
        (json!({ "pattern": "^a[bc]{2,4}d?$" }), json!("abcd"), json!("abd")),
        (json!({ "format": "date" }), json!("2024-02-29"), json!("2024-13-01")),
        (json!({ "format": "time" }), json!("23:59:59.5+01:00"), json!("24:00:00Z")),
        (json!({ "format": "date-time" }), json!("2024-01-01T00:00:00Z"), json!("2024-01-01")),
        (json!({ "format": "ipv4" }), json!("1.2.3.255"), json!("1.2.3.256")),
        (json!({ "format": "uuid" }), json!("00000000-0000-0000-0000-00000000000a"), json!("0")),
        (json!({ "minItems": 1 }), json!([0]), json!([])),
        (json!({ "maxItems": 1 }), json!([0]), json!([0, 1])),
        (json!({ "items": { "type": "null" } }), json!([null]), json!([null, 1])),
        (json!({ "prefixItems": [{ "type": "null" }], "items": false }), json!([null]), json!([null, 1])),
        (json!({ "prefixItems": [{ "type": "null" }] }), json!([null, 1]), json!([1])),
        (json!({ "required": ["a"] }), json!({ "a": 0 }), json!({ "b": 0 })),
        (json!({ "maxProperties": 1 }), json!({ "a": 0 }), json!({ "a": 0, "b": 0 })),
        (json!({ "properties": { "a": { "type": "null" } } }), json!({ "b": 0 }), json!({ "a": 0 })),
        (json!({ "properties": { "a": true }, "additionalProperties": false }), json!({ "a": 0 }), json!({ "b": 0 })),
        (json!({ "patternProperties": { "^z[a-z]$": { "type": "null" } } }), json!({ "zz": null }), json!({ "zz": 0 })),
        (json!({ "$ref": "#/$defs/a~1b", "$defs": { "a/b": { "type": "null" } } }), json!(null), json!(0)),
    ] {
        assert_eq!(validate(&valid, &schema, &schema), Ok(()), "{schema}");
        assert!(validate(&invalid, &schema, &schema).is_err(), "{schema} lets {invalid} pass");
    }
}
