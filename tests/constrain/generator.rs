//! Random schemas whose answers come to an end within the model's context, with every keyword that is honoured.

use serde_json::{Map, Value, json};

use crate::Random;

/// A regular expression, and what it matches, told without it.
type Pattern = (&'static str, fn(&str) -> bool);

/// Those of the generator's schemas.
pub(crate) const PATTERNS: [Pattern; 5] = [
    ("^[A-Z]{3}$", |text| text.len() == 3 && text.bytes().all(|c| c.is_ascii_uppercase())),
    (r"^\d{3}-\d{2}$", |text| {
        let digits = |range: std::ops::Range<usize>| text.as_bytes()[range].iter().all(u8::is_ascii_digit);
        text.len() == 6 && digits(0..3) && text.as_bytes()[3] == b'-' && digits(4..6)
    }),
    ("^(yes|no|perhaps)$", |text| ["yes", "no", "perhaps"].contains(&text)),
    (r"^\w{1,8}$", |text| {
        (1..=8).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
    }),
    ("^a[bc]{2,4}d?$", |text| {
        let middle = text.strip_prefix('a').map(|rest| rest.strip_suffix('d').unwrap_or(rest));
        middle.is_some_and(|middle| (2..=4).contains(&middle.len()) && middle.bytes().all(|c| b"bc".contains(&c)))
    }),
];

/// A schema, and definitions for its references.
pub(crate) fn schema(random: &mut Random) -> Value {
    let mut definitions = Map::new();
    definitions.insert("point".into(), json!({
        "type": "object",
        "properties": { "x": { "type": "integer", "minimum": -9, "maximum": 9 }, "y": { "type": "integer", "minimum": -9, "maximum": 9 } },
        "required": ["x", "y"],
        "additionalProperties": false,
    }));
    definitions.insert("a/b".into(), leaf(random));
    definitions.insert("chain".into(), json!({
        "type": "object",
        "properties": { "v": { "type": "boolean" }, "next": { "anyOf": [{ "type": "null" }, { "$ref": "#/$defs/point" }] } },
        "required": ["v", "next"],
        "additionalProperties": false,
    }));
    let mut schema = node(random, 2);
    if !schema.is_object() || random.once_in(8) {
        schema = object(random, 1);
    }
    let keywords = schema.as_object_mut().unwrap();
    keywords.insert("title".into(), json!("Something"));
    keywords.insert("$defs".into(), definitions.into());
    if random.once_in(2) {
        keywords.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    }
    schema
}

fn node(random: &mut Random, depth: usize) -> Value {
    if depth == 0 || random.once_in(4) {
        return leaf(random);
    }
    match random.below(9) {
        0..4 => object(random, depth - 1),
        4 | 5 => array(random, depth - 1),
        6 => json!({ "anyOf": [node(random, depth - 1), leaf(random), { "type": "null" }] }),
        7 => json!({ "oneOf": [{ "type": "null" }, { "type": "boolean" }, object(random, depth - 1)] }),
        _ => json!({ "$ref": random.pick(&["#/$defs/point", "#/$defs/a~1b", "#/$defs/chain"]) }),
    }
}

fn leaf(random: &mut Random) -> Value {
    let described = |mut schema: Value, random: &mut Random| {
        if random.once_in(3) {
            schema["description"] = json!("What \"it\" is,\nin words");
        }
        schema
    };
    let schema = match random.below(12) {
        0 => json!({ "type": "null" }),
        1 => json!({ "type": "boolean" }),
        2 | 3 => integer(random),
        4 | 5 => number(random),
        6 | 7 => string(random),
        8 => json!({ "enum": (0..=random.below(4)).map(|_| constant(random, 1)).collect::<Vec<_>>() }),
        9 => json!({ "const": constant(random, 2) }),
        10 => json!({ "type": ["string", "null"], "maxLength": random.below(9) }),
        _ => json!({ "type": "string", "format": random.pick(&["date", "time", "uuid", "ipv4", "date-time"]) }),
    };
    described(schema, random)
}

fn integer(random: &mut Random) -> Value {
    let least = random.below(2000) as i64 - 1000;
    let most = least + random.below(3000) as i64;
    match random.below(6) {
        0 => json!({ "type": "integer", "exclusiveMinimum": least, "maximum": most + 1 }),
        1 => json!({ "type": "integer", "minimum": least, "exclusiveMaximum": most + 1 }),
        2 => json!({ "type": "integer", "minimum": least, "maximum": most + 20, "multipleOf": 1 + random.below(9) }),
        3 => json!({ "allOf": [{ "type": "integer", "minimum": least }, { "type": "integer", "maximum": most }] }),
        4 => json!({ "type": ["integer", "null"], "minimum": least as f64 - 0.5, "maximum": most }),
        _ => json!({ "type": "integer", "minimum": least, "maximum": most }),
    }
}

fn number(random: &mut Random) -> Value {
    let (least, more) = (random.below(4000) as f64 - 2000.0, 1.0 + random.below(4000) as f64);
    let (least, most) = (least / 100.0, (least + more) / 100.0);
    match random.below(4) {
        0 => json!({ "type": "number", "exclusiveMinimum": least, "exclusiveMaximum": most }),
        1 => json!({ "type": "number", "minimum": least, "maximum": least }),
        2 => json!({ "type": "number", "minimum": 0, "maximum": 10, "multipleOf": 0.25 }),
        _ => json!({ "type": "number", "minimum": least, "maximum": most }),
    }
}

fn string(random: &mut Random) -> Value {
    let least = random.below(4);
    match random.below(4) {
        0 => json!({ "type": "string", "maxLength": random.below(15) }),
        1 => json!({ "type": "string", "minLength": least, "maxLength": least + random.below(12) }),
        2 => json!({ "type": "string", "pattern": random.pick(&PATTERNS).0, "maxLength": 8 }),
        _ => json!({ "type": "string", "pattern": random.pick(&PATTERNS).0 }),
    }
}

fn constant(random: &mut Random, depth: usize) -> Value {
    match random.below(if depth == 0 { 6 } else { 8 }) {
        0 => Value::Null,
        1 => random.once_in(2).into(),
        2 => (random.below(100_000) as i64 - 50_000).into(),
        3 => ((random.below(100_000) as f64 - 50_000.0) / 1000.0).into(),
        4 => json!(random.pick(&["", "tale", "a \"quoted\" \\ word/", "é😀\n\tlines", "<tag>&amp;"])),
        5 => json!(random.pick(&[1e9, 0.1, -7.0, 1e-6, 9_007_199_254_740_991.0])),
        6 => (0..random.below(3)).map(|_| constant(random, depth - 1)).collect(),
        _ => json!({ "k": constant(random, depth - 1), "a b": constant(random, depth - 1) }),
    }
}

fn array(random: &mut Random, depth: usize) -> Value {
    let least = random.below(3);
    let most = least + random.below(3);
    match random.below(3) {
        0 => {
            json!({ "type": "array", "prefixItems": [leaf(random), node(random, depth)], "items": false, "minItems": random.below(3) })
        }
        1 => {
            json!({ "type": "array", "prefixItems": [leaf(random)], "items": leaf(random), "minItems": least, "maxItems": most })
        }
        _ => json!({ "type": "array", "items": node(random, depth), "minItems": least, "maxItems": most }),
    }
}

fn object(random: &mut Random, depth: usize) -> Value {
    const KEYS: [&str; 8] = ["name", "age", "the tale", "x-y", "\"q\"", "héros", "a/b~c", "type"];
    if random.once_in(8) {
        // A map: keys of one form, few of them.
        return json!({ "type": "object", "patternProperties": { "^z[a-z]$": { "type": "null" } },
                       "additionalProperties": false, "maxProperties": random.below(3) });
    }
    let (mut properties, mut required) = (Map::new(), Vec::new());
    let all_are_required = random.once_in(4);
    for key in KEYS {
        if properties.len() < 4 && random.once_in(2) {
            properties.insert(key.into(), node(random, depth));
            if all_are_required || random.once_in(2) {
                required.push(key);
            }
        }
    }
    if all_are_required {
        let most = properties.len();
        let pattern = json!({ "^z[a-z]$": { "type": "null" } });
        return match random.once_in(2) {
            true => json!({ "type": "object", "properties": properties, "required": required, "maxProperties": most }),
            false => {
                json!({ "type": "object", "properties": properties, "required": required, "maxProperties": most + 2,
                             "patternProperties": pattern, "additionalProperties": false })
            }
        };
    }
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}
