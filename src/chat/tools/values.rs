//! The JSON of arguments that were written as plain text, by the types that the tool's schema gives them.

use serde_json::Value;

/// How many schemas are looked at for the types of one argument: they may refer to each other, and around in a circle.
const MOST_SCHEMAS: usize = 64;

/// The types that a value may have besides a string, which anything may be.
#[derive(Clone, Copy, Debug, Default)]
struct Types {
    null: bool,
    boolean: bool,
    integer: bool,
    number: bool,
    array: bool,
    object: bool,
}

/// The JSON of an argument. What cannot be of the type that is asked for is a string, as it was written: whoever is called says
/// better what is wrong with it.
pub(super) fn json(text: &str, key: &str, parameters: &Value) -> String {
    let types = Types::of_argument(key, parameters);
    let written = text.trim();
    match written {
        "null" | "None" if types.null => return "null".into(),
        // Templates show earlier calls as Python prints them.
        "true" | "True" if types.boolean => return "true".into(),
        "false" | "False" if types.boolean => return "false".into(),
        _ => {}
    }
    let fits = match serde_json::from_str(written) {
        Ok(Value::Number(number)) => {
            let is_whole = number.as_f64().is_some_and(|number| number.fract() == 0.0);
            types.number || types.integer && is_whole
        }
        Ok(Value::Array(_)) => types.array,
        Ok(Value::Object(_)) => types.object,
        Ok(Value::Null | Value::Bool(_) | Value::String(_)) | Err(_) => false,
    };
    if fits { written.to_owned() } else { Value::from(text).to_string() }
}

impl Types {
    const ANY: Self = Self { null: true, boolean: true, integer: true, number: true, array: true, object: true };

    /// Of an argument that the schema does not name: what it says of all others; without a word of those, a string.
    fn of_argument(key: &str, parameters: &Value) -> Self {
        let named = parameters.get("properties").and_then(|properties| properties.get(key));
        let schema = named.or_else(|| parameters.get("additionalProperties").filter(|others| others.is_object()));
        let mut types = Self::default();
        if let Some(schema) = schema {
            types.add(schema, parameters, &mut MOST_SCHEMAS.clone());
        }
        types
    }

    /// Adds the types that a schema lets pass. `left` schemas may be looked at.
    fn add(&mut self, schema: &Value, root: &Value, left: &mut usize) {
        let Some(fewer) = left.checked_sub(1) else { return };
        *left = fewer;
        let mut is_told = false;
        if let Some(types) = schema.get("type") {
            is_told = true;
            let names = types.as_array().map_or(std::slice::from_ref(types), Vec::as_slice);
            names.iter().filter_map(Value::as_str).for_each(|name| self.add_named(name));
        } else if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            is_told = true;
            values.iter().for_each(|value| self.add_of(value));
        } else if let Some(value) = schema.get("const") {
            is_told = true;
            self.add_of(value);
        }
        for key in ["anyOf", "oneOf", "allOf"] {
            for inner in schema.get(key).and_then(Value::as_array).into_iter().flatten() {
                is_told = true;
                self.add(inner, root, left);
            }
        }
        if let Some(path) = schema.get("$ref").and_then(Value::as_str) {
            is_told = true;
            if let Some(inner) = path.strip_prefix('#').and_then(|path| root.pointer(path)) {
                self.add(inner, root, left);
            }
        }
        if !is_told {
            *self = Self::ANY;
        }
    }

    fn add_named(&mut self, name: &str) {
        match name {
            "null" => self.null = true,
            "boolean" => self.boolean = true,
            "integer" => self.integer = true,
            "number" => self.number = true,
            "array" => self.array = true,
            "object" => self.object = true,
            _ => {}
        }
    }

    fn add_of(&mut self, value: &Value) {
        self.add_named(match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
            Value::String(_) => "string",
        });
    }
}
