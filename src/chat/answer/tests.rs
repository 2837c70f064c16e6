//! What answers are split into: the rules one by one, then any text cut anywhere, then texts that are meant to take long.

use serde_json::{Value, json};

use super::*;
use crate::chat::tools::Arguments;

mod calls;
mod calls_between_tags;
mod hostile;
mod splits;

/// Deltas of a kind strung together where they follow each other.
fn joined(deltas: impl IntoIterator<Item = Delta>) -> Vec<Delta> {
    let mut joined: Vec<Delta> = Vec::new();
    for delta in deltas {
        match (joined.last_mut(), delta) {
            (Some(Delta::Reasoning(last)), Delta::Reasoning(text))
            | (Some(Delta::Content(last)), Delta::Content(text)) => last.push_str(&text),
            (_, delta) => joined.push(delta),
        }
    }
    joined
}

/// What comes of a text that arrives in these pieces.
fn split<'a>(mut answer: Answer, pieces: impl IntoIterator<Item = &'a str>) -> Vec<Delta> {
    let mut deltas: Vec<Delta> = pieces.into_iter().flat_map(|piece| answer.push(piece)).collect();
    deltas.extend(answer.finish());
    assert!(answer.is_over());
    joined(deltas)
}

/// What comes of a text that arrives at once, and, the same, a character at a time.
fn of(answer: &Answer, text: &str) -> Vec<Delta> {
    let whole = split(answer.clone(), [text]);
    assert_eq!(
        split(answer.clone(), text.split("").filter(|c| !c.is_empty())),
        whole,
        "{text:?} character by character"
    );
    whole
}

fn reasoning(text: &str) -> Delta {
    Delta::Reasoning(text.into())
}

fn content(text: &str) -> Delta {
    Delta::Content(text.into())
}

fn plain() -> Answer {
    Answer::new(None, false)
}

fn thinking() -> Answer {
    Answer::new(Some(ThinkTags::default()), false)
}

fn in_thought() -> Answer {
    Answer::new(Some(ThinkTags::default()), true)
}

/// A tool with arguments of each type, one without any, and one whose schema refers to others.
fn tools() -> Vec<Tool> {
    let weather = json!({"type": "function", "function": {"name": "weather", "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "lat": {"type": "number"},
            "metric": {"type": "boolean"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "where": {"type": "object"},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "count": {"type": ["integer", "null"]},
            "unit": {"enum": ["C", "F", 7]},
            "any": {},
            "loop": {"$ref": "#/$defs/loop"},
            "size": {"$ref": "#/$defs/size"},
        },
        "$defs": {"loop": {"$ref": "#/$defs/loop"}, "size": {"type": "integer"}},
    }}});
    let tools = [weather, json!({"name": "now"})];
    tools.iter().map(|tool| Tool::from_json(tool).unwrap()).collect()
}

fn call(name: &str, arguments: &str) -> Delta {
    Delta::ToolCall(ToolCall { id: None, name: name.into(), arguments: Arguments::new(arguments).unwrap() })
}

#[test]
fn an_answer_without_tags_comes_out_at_once() {
    for mut answer in [plain(), thinking(), thinking().with_tools(ToolFormat::Hermes, &tools())] {
        assert_eq!(answer.push("Hello"), [content("Hello")]);
        assert_eq!(answer.push(" <b>"), [content(" <b>")]);
        assert_eq!(answer.finish(), []);
    }
}

#[test]
fn without_tags_or_tools_nothing_is_changed_or_held_back() {
    let mut answer = plain();
    for piece in ["\n\n<think>", "\n", "</think>\n<tool_", "call>\n"] {
        assert_eq!(answer.push(piece), [content(piece)]);
    }
    assert_eq!(answer.finish(), []);
}

#[test]
fn reasoning_comes_without_its_tags_and_the_line_ends_beside_them() {
    assert_eq!(of(&thinking(), "<think>\n\na\n\nb\n\n</think>\n\n\nc\n"), [reasoning("a\n\nb"), content("c\n")]);
    assert_eq!(of(&thinking(), "<think>a</think>c"), [reasoning("a"), content("c")]);
    assert_eq!(of(&thinking(), "<think> a </think> c"), [reasoning(" a "), content(" c")]);
    assert_eq!(of(&thinking(), "<think>\n\n</think>\n\nc"), [content("c")]);
    assert_eq!(of(&thinking(), "<think>\n</think>\n"), []);
}

#[test]
fn a_thought_begins_only_at_the_very_beginning() {
    for text in
        ["a<think>b</think>c", "\n<think>b</think>c", " <think>b</think>", "<thin>k</think>", "b</think>c", "<thin"]
    {
        assert_eq!(of(&thinking(), text), [content(text)]);
    }
    let twice = "<think>a</think>b<think>c</think>d";
    assert_eq!(of(&thinking(), twice), [reasoning("a"), content("b<think>c</think>d")]);
}

#[test]
fn a_prompt_that_ends_in_a_thought_makes_the_answer_begin_with_reasoning() {
    assert_eq!(of(&in_thought(), "\na\n</think>\n\nb"), [reasoning("a"), content("b")]);
    assert_eq!(of(&in_thought(), "</think>\n\nb"), [content("b")]);
    // Some models open it once more.
    assert_eq!(of(&in_thought(), "<think>\na</think>b"), [reasoning("a"), content("b")]);
    assert_eq!(of(&in_thought(), "a <think> b</think>c"), [reasoning("a <think> b"), content("c")]);
}

#[test]
fn a_thought_that_does_not_end_is_all_reasoning() {
    for (text, all) in [("a", "a"), ("a\n\n", "a"), ("a\n</thi", "a\n</thi"), ("a<tool_call>", "a<tool_call>")] {
        assert_eq!(of(&in_thought(), text), [reasoning(all)]);
        assert_eq!(
            of(&thinking().with_tools(ToolFormat::Hermes, &tools()), &format!("<think>\n{text}")),
            [reasoning(all)]
        );
    }
    assert_eq!(of(&in_thought(), "<thi"), [reasoning("<thi")]);
    assert_eq!(of(&thinking(), "<think>"), []);
}

#[test]
fn nothing_of_a_tag_comes_out_before_it_is_certain_what_it_is() {
    let mut answer = in_thought();
    assert_eq!(answer.push("a</th"), [reasoning("a")]);
    assert_eq!(answer.push("e</think"), [reasoning("</the")]);
    assert_eq!(answer.push("\n"), [reasoning("</think")]);
    assert_eq!(answer.push("</thi"), []);
    assert_eq!(answer.push("nk>b"), [content("b")]);
    let mut answer = plain().with_tools(ToolFormat::Hermes, &tools());
    assert_eq!(answer.push("a < b <tool"), [content("a < b ")]);
    assert_eq!(answer.push("s> <tool_c"), [content("<tools> ")]);
    assert_eq!(answer.push("all>\n{\"name\": \"no"), []);
    assert_eq!(answer.push("w\"}\n</tool_call"), []);
    assert_eq!(answer.push(">"), [call("now", "{}")]);
}

#[test]
fn is_in_thought_tells_which_tokens_are_reasoning() {
    let pieces = ["<th", "ink>", "a", "</th", "ink>", "b"];
    let mut answer = thinking();
    let told = pieces.map(|piece| {
        let is_in_thought = answer.is_in_thought();
        answer.push(piece);
        is_in_thought
    });
    assert_eq!(told, [false, false, true, true, true, false]);
    assert!(in_thought().is_in_thought() && !Answer::new(None, true).is_in_thought());
}

#[test]
fn the_tags_that_control_tokens_may_be_are_told() {
    assert_eq!(plain().tags().count(), 0);
    let answer = thinking().with_tools(ToolFormat::QwenXml, &tools());
    assert_eq!(answer.tags().collect::<Vec<_>>(), ["<think>", "</think>", "<tool_call>", "</tool_call>"]);
    assert_eq!(plain().with_tools(ToolFormat::Llama3Json, &tools()).tags().collect::<Vec<_>>(), ["<|python_tag|>"]);
}

#[test]
fn nothing_is_taken_after_the_end() {
    let mut answer = thinking();
    answer.push("a");
    answer.finish();
    assert_eq!((answer.push("b"), answer.held.len(), answer.finish()), (vec![], 0, vec![]));
}
