//! How much work a schema makes, estimated before any is done. What is written in a few bytes can be much once keywords
//! that hold together are multiplied out: three lists of 36 constants, all of which must hold, are 46 656 pairings.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

use super::{MOST_PROPERTIES, wrong};

/// Units, each of some ten microseconds.
const MOST_WORK: f64 = 10_000.0;
/// What a regular expression takes to be compiled, and to be found satisfiable.
const EXPRESSION: f64 = 20.0;
/// What the expression of a number's bound takes.
const BOUND: f64 = 8.0;
/// Numbers are told to be multiples by a state for each remainder, of all divisors of a
/// schema together.
const MOST_REMAINDERS: f64 = 10_000.0;

/// # Errors
/// [`Error::Input`] if a schema that was read makes too much work.
pub(super) fn check(body: &Value, definitions: &[Value]) -> Result<()> {
    let mut estimate = Estimate { definitions, known: HashMap::new(), divisors: Vec::new() };
    let mut units = estimate.of(body)?.size;
    for definition in 0..definitions.len() {
        units += estimate.definition(definition)?.size;
    }
    if estimate.divisors.iter().product::<f64>() > MOST_REMAINDERS {
        return Err(Error::Input("the schema has a multipleOf too large, or too many that differ".into()));
    }
    match units <= MOST_WORK {
        true => Ok(()),
        false => Err(Error::Input(
            "the schema is too much work: it has too many alternatives, constants or regular expressions, or alternatives that \
             allOf or keywords beside them multiply"
                .into(),
        )),
    }
}

/// What becomes of a schema: alternatives, and how much there is to all of them together.
#[derive(Clone, Copy)]
struct Extent {
    options: f64,
    size: f64,
}

struct Estimate<'a> {
    definitions: &'a [Value],
    known: HashMap<usize, Extent>,
    divisors: Vec<f64>, // that differ
}

impl Estimate<'_> {
    fn of(&mut self, schema: &Value) -> Result<Extent> {
        let Value::Object(keywords) = schema else { return Ok(Extent { options: 1.0, size: 1.0 }) };
        let mut parts = Vec::new(); // that all hold
        let mut plain = Extent { options: 0.0, size: 1.0 };
        let mut names = keywords.get("properties").and_then(Value::as_object).map_or(0, Map::len);
        for (keyword, value) in keywords {
            let list = value.as_array().map_or(&[][..], Vec::as_slice);
            match keyword.as_str() {
                "$ref" if keywords.len() == 1 => parts.push(Extent { options: 1.0, size: 1.0 }),
                "$ref" => {
                    let target = value.as_str().and_then(super::definition);
                    parts
                        .push(target.map_or(Ok(Extent { options: 1.0, size: 1.0 }), |target| self.definition(target))?);
                }
                "const" => parts.push(constant(value)?),
                "enum" => parts.push(sum(list.iter().map(constant))?),
                "allOf" => {
                    for schema in list {
                        parts.push(self.of(schema)?);
                    }
                }
                "anyOf" => parts.push(sum(list.iter().map(|schema| self.of(schema)))?),
                "oneOf" => {
                    let mut options = sum(list.iter().map(|schema| self.of(schema)))?;
                    options.size += (list.len() * list.len()) as f64 / 200.0; // each is told from each
                    parts.push(options);
                }
                "type" => plain.options += list.len().max(1) as f64,
                "required" => names += list.iter().filter(|name| is_missing(name, keywords)).count(),
                "items"
                | "prefixItems"
                | "additionalItems"
                | "additionalProperties"
                | "properties"
                | "patternProperties" => plain.size += self.below(keyword, value)?,
                "pattern" | "format" => plain.size += EXPRESSION,
                "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => plain.size += BOUND,
                "multipleOf" => {
                    let divisor = digits(value);
                    if !self.divisors.contains(&divisor) {
                        self.divisors.push(divisor);
                    }
                }
                _ => plain.size += 1.0,
            }
        }
        if names > MOST_PROPERTIES {
            return Err(Error::Input(format!("the schema has an object with {names} keys; at most {MOST_PROPERTIES}")));
        }
        if plain.size > 1.0 && plain.options == 0.0 {
            plain.options = 6.0; // without a type, of each type
        }
        if plain.options > 0.0 {
            plain.size += plain.options;
            parts.push(plain);
        }
        let options: f64 = parts.iter().map(|part| part.options).product();
        let size: f64 = parts.iter().map(|part| options / part.options.max(1.0) * part.size).sum();
        Ok(Extent { options, size: size + 1.0 })
    }

    /// Schemas of keys and items.
    fn below(&mut self, keyword: &str, value: &Value) -> Result<f64> {
        let mut size = 0.0;
        match value {
            Value::Array(list) => {
                for schema in list {
                    size += self.of(schema)?.size;
                }
            }
            Value::Object(named) if matches!(keyword, "properties" | "patternProperties") => {
                for schema in named.values() {
                    size += self.of(schema)?.size;
                }
                if keyword == "patternProperties" {
                    // No key may match two of them, which is found out pair by pair.
                    size += EXPRESSION * (named.len() * named.len()) as f64;
                }
            }
            schema => size += self.of(schema)?.size,
        }
        Ok(size)
    }

    fn definition(&mut self, definition: usize) -> Result<Extent> {
        if let Some(&known) = self.known.get(&definition) {
            return Ok(known);
        }
        // One that leads to itself is not multiplied out.
        self.known.insert(definition, Extent { options: 1.0, size: 1.0 });
        let definitions = self.definitions;
        let extent = self.of(&definitions[definition])?;
        self.known.insert(definition, extent);
        Ok(extent)
    }
}

fn is_missing(name: &Value, keywords: &Map<String, Value>) -> bool {
    let properties = keywords.get("properties").and_then(Value::as_object);
    !name.as_str().zip(properties).is_some_and(|(name, properties)| properties.contains_key(name))
}

fn constant(value: &Value) -> Result<Extent> {
    fn size(value: &Value) -> Result<f64> {
        Ok(1.0
            + match value {
                Value::String(text) => text.len() as f64 / 64.0,
                Value::Array(values) => values.iter().map(size).sum::<Result<f64>>()?,
                Value::Object(values) if values.len() > MOST_PROPERTIES => {
                    return Err(wrong("a constant", &format!("of at most {MOST_PROPERTIES} keys"), value));
                }
                Value::Object(values) => values.values().map(size).sum::<Result<f64>>()?,
                _ => 0.0,
            })
    }
    Ok(Extent { options: 1.0, size: size(value)? })
}

fn sum(parts: impl Iterator<Item = Result<Extent>>) -> Result<Extent> {
    let mut all = Extent { options: 0.0, size: 1.0 };
    for part in parts {
        let part = part?;
        all = Extent { options: all.options + part.options, size: all.size + part.size };
    }
    Ok(all)
}

/// A divisor as a whole number, without its decimal point.
fn digits(divisor: &Value) -> f64 {
    let number = divisor.as_f64().unwrap_or(f64::INFINITY);
    let scaled =
        (0..=6).map(|places| number * 10f64.powi(places)).find(|scaled| (scaled - scaled.round()).abs() < 1e-9);
    scaled.map_or(f64::INFINITY, f64::round)
}
