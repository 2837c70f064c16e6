//! Schemas as they are asked for become schemas that llguidance honours to the letter, or errors that name what would not be.
//!
//! A schema is read once, from its root and along its references. What is written out has no annotations, which llguidance takes
//! for no schema at all where an unknown keyword stands beside them; no keyword that it would pass over; and its references lead to
//! `$defs` alone, under names of our own, so that parts of it can stand elsewhere. Every value has the type that its keyword wants:
//! where llguidance finds another, it cuts its message between the bytes of a character.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

mod values;
mod work;

use values::{check_exact, check_number, check_pattern, check_size, check_text, count, shown};

/// The most that a schema may take as compact JSON.
pub const MOST_SCHEMA_BYTES: usize = 64 << 10;
/// How deep values of a schema may be nested.
pub const MOST_NESTING: usize = 64;
/// How many schemas a schema may have in it, itself and those that options of `oneOf` refer to included.
pub const MOST_SUBSCHEMAS: usize = 2000;

/// How many keys one object of a schema may name.
pub const MOST_PROPERTIES: usize = 500;

/// Formats of strings that are honoured.
const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];
/// Keywords that say nothing of what is valid.
const ANNOTATIONS: [&str; 13] = [
    "title",
    "description",
    "default",
    "examples",
    "example",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$comment",
    "$anchor",
    "contentEncoding",
    "contentMediaType",
    "discriminator",
];
/// Drafts by the address in `$schema`.
const DRAFTS: [&str; 5] = [
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "http://json-schema.org/draft-07/schema",
    "http://json-schema.org/draft-06/schema",
    "http://json-schema.org/draft-04/schema",
];
/// Between the parts of a JSON text, at most: a line break and eight levels of indentation. Without a bound, a model that is at a
/// loss goes on with spaces.
const WHITESPACE: &str = r"[\x20\x09]|\r?\n[\x20\x09]{0,32}";
/// What may follow `\` in a string: all that JSON has but for `u`, so that each string has one spelling.
const ESCAPES: &str = "nrbtf\\\"";

/// Reads schemas, several with definitions in common.
#[derive(Default)]
pub(super) struct Reader<'a> {
    root: Option<&'a Value>,
    known: HashMap<String, usize>, // definitions by what refers to them in the present root
    waiting: Vec<(String, &'a Value, usize)>,
    definitions: Vec<Value>,
    within: Vec<String>, // references of `oneOf` whose schemas are being written in their place
    schemas: usize,
}

impl<'a> Reader<'a> {
    /// Reads a whole schema.
    ///
    /// # Errors
    /// [`Error::Input`] naming the keyword and its place.
    pub(super) fn read(&mut self, root: &'a Value) -> Result<Value> {
        check_size(root)?;
        self.root = Some(root);
        self.known.clear();
        let read = self.schema(root, "#")?;
        while let Some((place, schema, definition)) = self.waiting.pop() {
            self.definitions[definition] = self.schema(schema, &place)?;
        }
        work::check(&read, &self.definitions)?;
        Ok(read)
    }

    /// A schema that stands alone: what was read, or was made of it, with the definitions that it refers to.
    pub(super) fn document(&self, body: Value) -> Value {
        let mut document = match body {
            Value::Object(body) => body,
            Value::Bool(true) => Map::new(),
            other => Map::from_iter([("allOf".to_owned(), json!([other]))]),
        };
        let named = self.definitions.iter().enumerate().map(|(i, schema)| (name(i), schema.clone()));
        document.insert("$defs".into(), Value::Object(named.collect()));
        document
            .insert("x-guidance".into(), json!({ "whitespace_pattern": WHITESPACE, "json_allowed_escapes": ESCAPES }));
        Value::Object(document)
    }

    /// What a schema that was read says where it is a reference, which may lead to another.
    pub(super) fn followed<'s>(&'s self, mut schema: &'s Value) -> &'s Value {
        for _ in 0..MOST_NESTING {
            let Some(reference) = schema.get("$ref").and_then(Value::as_str) else { break };
            match definition(reference).and_then(|definition| self.definitions.get(definition)) {
                Some(target) => schema = target,
                None => break,
            }
        }
        schema
    }

    fn schema(&mut self, schema: &'a Value, place: &str) -> Result<Value> {
        self.schemas += 1;
        if self.schemas > MOST_SUBSCHEMAS {
            return Err(Error::Input(format!("a schema of more than {MOST_SUBSCHEMAS} schemas within each other")));
        }
        let keywords = match schema {
            Value::Bool(_) => return Ok(schema.clone()),
            Value::Object(keywords) => keywords,
            other => return Err(wrong(place, "an object or a boolean", other)),
        };
        let mut read = Map::new();
        for (keyword, value) in keywords {
            if let Some(value) = self.keyword(keyword, value, keywords, place)? {
                read.insert(keyword.clone(), value);
            }
        }
        Ok(Value::Object(read))
    }

    /// What a keyword says; nothing if it says nothing.
    fn keyword(
        &mut self,
        keyword: &str,
        value: &'a Value,
        beside: &Map<String, Value>,
        schema: &str,
    ) -> Result<Option<Value>> {
        let place = format!("{schema}/{}", keyword.replace('~', "~0").replace('/', "~1"));
        let unsupported =
            |what: &str| Err(Error::Input(format!("the schema has {what}, at {place}, which is not supported")));
        Ok(Some(match keyword {
            "$defs" | "definitions" => return Ok(None), // read where something refers to them
            _ if ANNOTATIONS.contains(&keyword) || keyword.starts_with("x-") => return Ok(None),
            "$id" if schema == "#" => return Ok(None),
            "$schema" => match value.as_str().map(|draft| draft.trim_end_matches('#')) {
                Some(draft) if DRAFTS.contains(&draft) => return Ok(None),
                _ => return unsupported(&format!("the draft {}", shown(value))),
            },
            "uniqueItems" | "nullable" if *value == json!(false) => return Ok(None),
            "items" if value.is_array() => self.list(value, &place, false)?,
            "additionalItems" if !beside.get("items").is_some_and(Value::is_array) => return Ok(None),
            "items" | "additionalItems" | "additionalProperties" => self.schema(value, &place)?,
            "prefixItems" | "anyOf" | "allOf" => self.list(value, &place, false)?,
            "oneOf" => self.list(value, &place, true)?,
            "properties" => self.named(value, &place)?,
            "patternProperties" => {
                for pattern in value.as_object().into_iter().flat_map(Map::keys) {
                    check_pattern(&pattern.as_str().into(), &place)?;
                }
                self.named(value, &place)?
            }
            "$ref" => self.reference(value, &place)?,
            "type" => types(value, &place)?,
            "enum" if value.is_array() => check_exact(value, &place)?,
            "enum" => return Err(wrong(&place, "a list", value)),
            "const" => check_exact(value, &place)?,
            "required" => texts(value, &place)?,
            "minProperties" => {
                let least = count(value, &place)?;
                let required = beside.get("required").and_then(Value::as_array).map_or(0, Vec::len) as u64;
                // Keys that are not required may come twice; they count once.
                if least > required + 1 {
                    return unsupported(&format!("minProperties above the {required} required ones and one more"));
                }
                least.into()
            }
            "maxProperties" | "minItems" | "maxItems" | "minLength" | "maxLength" => count(value, &place)?.into(),
            "pattern" => check_pattern(value, &place)?,
            "format" => match value.as_str() {
                Some(format) if FORMATS.contains(&format) => value.clone(),
                _ => return unsupported(&format!("the format {}", shown(value))),
            },
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" => {
                check_number(value, keyword == "multipleOf", &place)?
            }
            _ => return unsupported(&format!("the keyword {}", shown(&keyword.into()))),
        }))
    }

    fn list(&mut self, value: &'a Value, place: &str, are_told_apart: bool) -> Result<Value> {
        let Value::Array(list) = value else { return Err(wrong(place, "a list of schemas", value)) };
        let mut read = Vec::with_capacity(list.len());
        for (i, schema) in list.iter().enumerate() {
            let place = format!("{place}/{i}");
            read.push(if are_told_apart { self.option(schema, &place)? } else { self.schema(schema, &place)? });
        }
        Ok(read.into())
    }

    /// An option of `oneOf`. Where it is a reference, what that leads to stands in its place, as llguidance looks at no reference
    /// to tell options apart.
    fn option(&mut self, option: &'a Value, place: &str) -> Result<Value> {
        let says_more = |(keyword, _): (&String, &Value)| keyword != "$ref" && !ANNOTATIONS.contains(&keyword.as_str());
        match option.get("$ref") {
            Some(Value::String(reference))
                if !self.within.contains(reference) && !option.as_object().is_some_and(|o| o.iter().any(says_more)) =>
            {
                let target = self.target(reference, place)?;
                self.within.push(reference.clone());
                let read = self.option(target, reference);
                self.within.pop();
                read
            }
            _ => self.schema(option, place),
        }
    }

    fn named(&mut self, value: &'a Value, place: &str) -> Result<Value> {
        let Value::Object(named) = value else { return Err(wrong(place, "an object of schemas", value)) };
        let mut read = Map::new();
        for (name, schema) in named {
            check_text(&name.as_str().into(), place)?;
            read.insert(name.clone(), self.schema(schema, &format!("{place}/{name}"))?);
        }
        Ok(read.into())
    }

    fn reference(&mut self, value: &'a Value, place: &str) -> Result<Value> {
        let Value::String(reference) = value else { return Err(wrong(place, "a text", value)) };
        let target = self.target(reference, place)?;
        let definition = match self.known.get(reference) {
            Some(&definition) => definition,
            None => {
                let definition = self.definitions.len();
                self.definitions.push(Value::Null);
                self.known.insert(reference.clone(), definition);
                self.waiting.push((reference.clone(), target, definition));
                definition
            }
        };
        Ok(format!("#/$defs/{}", name(definition)).into())
    }

    fn target(&self, reference: &str, place: &str) -> Result<&'a Value> {
        let refused = |why: &str| Error::Input(format!("{}, at {place}, {why}", shown(&reference.into())));
        let pointer = reference
            .strip_prefix('#')
            .ok_or_else(|| refused("refers to another document; only # and below is known"))?;
        let pointer = values::percent_decoded(pointer).ok_or_else(|| refused("is no reference"))?;
        let found = self.root.and_then(|root| root.pointer(&pointer));
        found.ok_or_else(|| refused("refers to what the schema does not have"))
    }
}

/// Of a definition.
fn name(definition: usize) -> String {
    format!("d{definition}")
}

/// The definition that a reference of ours leads to.
fn definition(reference: &str) -> Option<usize> {
    reference.strip_prefix("#/$defs/d")?.parse().ok()
}

fn types(value: &Value, place: &str) -> Result<Value> {
    const TYPES: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];
    let is_type = |value: &Value| value.as_str().is_some_and(|text| TYPES.contains(&text));
    match value {
        Value::Array(list) if !list.is_empty() && list.iter().all(is_type) => Ok(value.clone()),
        value if is_type(value) => Ok(value.clone()),
        _ => Err(wrong(place, "one or several of null, boolean, integer, number, string, array, object", value)),
    }
}

fn texts(value: &Value, place: &str) -> Result<Value> {
    let Value::Array(list) = value else { return Err(wrong(place, "a list of texts", value)) };
    list.iter().map(|text| check_text(text, place)).collect::<Result<Vec<_>>>().map(Value::from)
}

fn wrong(place: &str, wanted: &str, value: &Value) -> Error {
    Error::Input(format!("the schema has {} at {place}; it must be {wanted}", shown(value)))
}
