//! What all chunks of a stream have in common, rendered once: a token's event is a few hundred bytes, of which a few are new.

use serde::Serialize;
use serde_json::{Value, json};

use super::usage::Used;
use super::{DONE, Head};

/// The beginning of every event of a stream, and what is told of usage meanwhile.
pub struct Frame {
    head: Vec<u8>,
    with_usage: bool,
}

/// What every chunk and every whole answer begins with.
#[derive(Serialize)]
struct Begin<'a> {
    id: &'a str,
    object: &'a str,
    created: u64,
    model: &'a str,
    system_fingerprint: &'a str,
}

impl Frame {
    /// `with_usage`: clients that asked for usage find the key in every chunk, and its value in the last.
    pub fn new(head: &Head, object: &str, with_usage: bool) -> Self {
        let mut bytes = b"data: ".to_vec();
        write(&mut bytes, &begin(head, object));
        bytes.pop(); // the brace
        bytes.extend_from_slice(b",\"choices\":");
        Self { head: bytes, with_usage }
    }

    /// Appends an event.
    pub fn event(&self, choices: &impl Serialize, usage: Option<&Value>, more: &[(&str, Value)], events: &mut Vec<u8>) {
        events.extend_from_slice(&self.head);
        write(events, choices);
        if self.with_usage {
            events.extend_from_slice(b",\"usage\":");
            write(events, &usage);
        }
        for (name, value) in more {
            events.extend_from_slice(format!(",\"{name}\":{value}").as_bytes());
        }
        events.extend_from_slice(b"}\n\n");
    }

    /// Appends what a stream ends with, after the last piece: what it took, if that was asked for.
    pub fn end(&self, used: &Used, events: &mut Vec<u8>) {
        if self.with_usage {
            self.event(&[(); 0], Some(&used.json()), &[("timings", used.timings())], events);
        }
        events.extend_from_slice(DONE);
    }
}

/// A whole answer with these choices, what it took, and the seed that makes it again.
pub fn whole(head: &Head, object: &str, choices: Vec<Value>, used: &Used, seed: u64) -> Value {
    let mut answer = serde_json::to_value(begin(head, object)).unwrap_or_default();
    answer["choices"] = choices.into();
    answer["usage"] = used.json();
    answer["timings"] = used.timings();
    answer["x_sterna"] = json!({ "seed": seed });
    answer
}

fn begin<'a>(head: &'a Head, object: &'a str) -> Begin<'a> {
    let Head { id, created, served, .. } = head;
    Begin { id, object, created: *created, model: &served.id, system_fingerprint: &served.fingerprint }
}

fn write(bytes: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(bytes, value).expect("texts and numbers become JSON in memory");
}
