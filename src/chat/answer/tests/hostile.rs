//! Texts that are meant to take long, or to break something. A model says whatever a prompt makes it say.

use std::time::{Duration, Instant};

use super::*;

/// How long it takes until a text that arrives a character at a time is split, and what comes of it.
fn timed(mut answer: Answer, text: &str) -> (Duration, Vec<Delta>) {
    let start = Instant::now();
    let mut deltas = Vec::new();
    for (place, character) in text.char_indices() {
        deltas.append(&mut answer.push(&text[place..place + character.len_utf8()]));
    }
    deltas.append(&mut answer.finish());
    (start.elapsed(), joined(deltas))
}

#[test]
fn no_text_takes_longer_than_its_length_asks_for() {
    const BYTES: usize = 400_000;
    let repeated = |beginning: &str, part: &str| beginning.to_owned() + &part.repeat(BYTES / part.len());
    let hermes = plain().with_tools(ToolFormat::Hermes, &tools());
    let xml = plain().with_tools(ToolFormat::QwenXml, &tools());
    let llama = plain().with_tools(ToolFormat::Llama3Json, &tools());
    let in_value = "<tool_call><function=weather><parameter=city>";
    let (words, _) = timed(thinking(), &repeated("", "word "));
    println!("words {words:?}");
    for (answer, text) in [
        (&in_thought(), repeated("", "\n")),
        (&in_thought(), repeated("", "</think")),
        (&hermes, repeated("", "\n")),
        (&hermes, repeated("", "<tool_call")),
        (&hermes, repeated("", "<tool_call>")),
        (&hermes, repeated("", "<tool_call>\\\"</tool_call>")),
        (&hermes, repeated("", "<tool_call></tool_call>\n")),
        (&hermes, repeated("<tool_call>{\"name\": \"", "</tool_call>")),
        (&hermes, repeated("<tool_call>", "</tool_call")),
        (&hermes, repeated("<tool_call>", "[")),
        (&xml, repeated("<tool_call>", "\n")),
        (&xml, repeated("<tool_call><function=", "n")),
        (&xml, repeated(in_value, "\n")),
        (&xml, repeated(in_value, "</parameter>")),
        (&xml, repeated(in_value, "</parameter>\n<")),
        (&xml, repeated(in_value, "</function>\n")),
        (&xml, repeated(in_value, "</parameter><parameter=k>")),
        (&xml, repeated("<tool_call>x", "</tool_call")),
        (&llama, repeated("", "\n")),
        (&llama, repeated("{\"name\": ", "[")),
        (&llama, repeated("{\"name\": \"", "x")),
        (&llama, repeated("{\"name\": 1}", "\n")),
    ] {
        let (took, deltas) = timed(answer.clone(), &text);
        println!("{text:.60} {took:?}");
        let only_line_ends = text.trim_matches('\n').is_empty() && answer.is_in_thought();
        let all = if answer.is_in_thought() { reasoning(&text) } else { content(&text) };
        assert!(deltas == [all] || only_line_ends && deltas.is_empty(), "{text:.60}");
        // A look at all that is held back, at each character, would take fifty times as long and more.
        assert!(took < 10 * words, "{text:.60} took {took:?}, words {words:?}");
    }
}

#[test]
fn deep_json_is_content_and_no_overflow_of_the_stack() {
    for depth in [1000, 1_000_000] {
        let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let objects = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        let functions = format!("{}1{}", "{\"function\":".repeat(depth), "}".repeat(depth));
        for text in [
            format!("<tool_call>{{\"name\": \"now\", \"arguments\": {{\"a\": {deep}}}}}</tool_call>"),
            format!("<tool_call>{{\"name\": \"now\", \"arguments\": {objects}}}</tool_call>"),
            format!("<tool_call>{{\"name\": \"now\", \"else\": {objects}, \"arguments\": {objects}}}</tool_call>"),
            format!("<tool_call>{functions}</tool_call>"),
            format!("<tool_call>{deep}</tool_call>"),
        ] {
            let deltas = split(plain().with_tools(ToolFormat::Hermes, &tools()), [text.as_str()]);
            assert!(deltas == [content(&text)], "{depth} levels: {text:.60}");
        }
        let message = format!("{{\"name\": \"now\", \"parameters\": {{\"a\": {deep}}}}}");
        let deltas = split(plain().with_tools(ToolFormat::Llama3Json, &tools()), [message.as_str()]);
        assert!(deltas == [content(&message)], "{depth} levels");
        // Between tags, what is no JSON within the limit is a string.
        let value = format!("<tool_call><function=weather><parameter=any>{deep}</parameter></function></tool_call>");
        let deltas = split(plain().with_tools(ToolFormat::QwenXml, &tools()), [value.as_str()]);
        let [Delta::ToolCall(found)] = deltas.as_slice() else { panic!("{depth} levels") };
        assert!(found.arguments.object()["any"].is_string());
    }
    let deep = format!("{{\"a\": {}{}}}", "[".repeat(100), "]".repeat(100));
    let text = format!("<tool_call>{{\"name\": \"now\", \"arguments\": {deep}}}</tool_call>");
    assert_eq!(of(&plain().with_tools(ToolFormat::Hermes, &tools()), &text), [call("now", &deep)]);
}

#[test]
fn schemas_that_refer_to_each_other_without_end_are_left() {
    // Each refers to the next twice: 2^60 paths.
    let link = |place: usize| {
        let next = json!({"$ref": format!("#/$defs/{}", (place + 1) % 60)});
        (place.to_string(), json!({"anyOf": [next, next]}))
    };
    let definitions: serde_json::Map<String, Value> = (0..60).map(link).collect();
    let parameters = json!({"properties": {"k": {"$ref": "#/$defs/0"}}, "$defs": definitions});
    let answer = plain().with_tools(ToolFormat::QwenXml, &[Tool { name: "f".into(), parameters }]);
    let text = "<tool_call><function=f><parameter=k>1</parameter></function></tool_call>";
    assert_eq!(of(&answer, text), [call("f", "{\"k\": \"1\"}")]);
}
