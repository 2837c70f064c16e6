//! Calls as JSON, in wrappers and as a whole message, and what only looks like one.

use super::*;

fn hermes() -> Answer {
    plain().with_tools(ToolFormat::Hermes, &tools())
}

fn llama() -> Answer {
    plain().with_tools(ToolFormat::Llama3Json, &tools())
}

#[test]
fn arguments_are_the_models_own_bytes() {
    let arguments = "{ \"city\":\"K\\u00f6ln\",\"lat\" : 50.90, \"days\":12345678901234567890123 }";
    let text = format!("<tool_call>\n{{\"name\": \"weather\", \"arguments\": {arguments}}}\n</tool_call>");
    let deltas = of(&hermes(), &text);
    let [Delta::ToolCall(found)] = deltas.as_slice() else { panic!("{deltas:?}") };
    assert_eq!(found.arguments.text(), arguments);
    assert_eq!(found.arguments.object()["city"], "Köln");
}

#[test]
fn a_call_may_be_spelled_in_several_ways() {
    for body in [
        r#"{"name": "now", "arguments": {"a": 1}}"#,
        "\n{\"name\":\"now\",\"arguments\":{\"a\": 1}}\n",
        r#"{"arguments": {"a": 1}, "name": "now"}"#,
        r#"{"name": "now", "parameters": {"a": 1}}"#,
        r#"{"name": "now", "arguments": "{\"a\": 1}"}"#,
        r#"[{"name": "now", "arguments": {"a": 1}}]"#,
        r#"{"id": "x", "type": "function", "function": {"name": "now", "arguments": {"a": 1}}}"#,
    ] {
        assert_eq!(of(&hermes(), &format!("<tool_call>{body}</tool_call>")), [call("now", "{\"a\": 1}")], "{body}");
    }
    assert_eq!(of(&hermes(), "<tool_call>{\"name\": \"now\"}</tool_call>"), [call("now", "{}")]);
}

#[test]
fn a_wrapper_may_hold_several_calls_and_an_answer_several_wrappers() {
    let one = r#"{"name": "now", "arguments": {}}"#;
    let other = r#"{"name": "weather", "arguments": {"city": "a"}}"#;
    let both = [call("now", "{}"), call("weather", "{\"city\": \"a\"}")];
    for text in [
        format!("<tool_call>\n[\n  {one},\n  {other}\n]\n</tool_call>"),
        format!("<tool_call>\n{one}\n{other}\n</tool_call>"),
        format!("<tool_call>\n{one}\n</tool_call>\n<tool_call>\n{other}\n</tool_call>"),
        format!("<tool_call>{one}</tool_call><tool_call>{other}</tool_call>\n"),
    ] {
        assert_eq!(of(&hermes(), &text), both, "{text}");
        let mut answer = hermes();
        answer.push(&text);
        assert_eq!((answer.calls(), answer.is_over()), (2, false));
        // With one call wanted, nothing comes after it.
        assert_eq!(of(&hermes().with_one_call(), &format!("a\n{text} more")), [content("a"), both[0].clone()]);
        let mut answer = hermes().with_one_call();
        answer.push(&text);
        assert_eq!((answer.calls(), answer.is_over()), (1, true));
    }
}

#[test]
fn text_around_calls_is_content_and_line_ends_between_are_none() {
    let now = "<tool_call>\n{\"name\": \"now\"}\n</tool_call>";
    assert_eq!(of(&hermes(), &format!("\n{now}\n")), [call("now", "{}")]);
    let text = format!("a\nb\n\n{now}\n\n{now}");
    assert_eq!(of(&hermes(), &text), [content("a\nb"), call("now", "{}"), call("now", "{}")]);
    assert_eq!(of(&hermes(), &format!("{now}\nc\n")), [call("now", "{}"), content("\nc\n")]);
    let text = format!("a\n\n{now}\nb");
    assert_eq!(of(&hermes(), &text), [content("a"), call("now", "{}"), content("\nb")]);
    let answer = thinking().with_tools(ToolFormat::Hermes, &tools());
    assert_eq!(of(&answer, &format!("<think>\nt\n</think>\n\n{now}")), [reasoning("t"), call("now", "{}")]);
    assert_eq!(of(&answer, &format!("<think>{now}</think>a")), [reasoning(now), content("a")]);
    assert_eq!(of(&hermes(), "a\n\n"), [content("a\n\n")]);
}

#[test]
fn what_is_no_call_of_an_offered_tool_is_content_to_the_last_byte() {
    for body in [
        r#"{"name": "unknown", "arguments": {}}"#,
        r#"{"name": "now", "arguments": {}"#,
        r#"{"name": "now", "arguments": [1]}"#,
        r#"{"name": "now", "arguments": "text"}"#,
        r#"{"name": "now", "arguments": 1}"#,
        r#"{"name": 1}"#,
        r#"{"arguments": {}}"#,
        r#"{"name": "now", "arguments": {"a": 1e999}}"#,
        r#"{"name": "now", "arguments": {"a": "\ud800"}}"#,
        r#"{"name": "now"} and more"#,
        r#"[{"name": "now"}, {"name": "unknown"}]"#,
        "{'name': 'now'}",
        "[]",
        "now()",
        "",
        "\n",
        "<tool_call>{\"name\": \"now\"}",
    ] {
        for (before, after) in [("", ""), ("a\n", "\nb\n"), ("\n\n", " <tool_call")] {
            let text = format!("{before}<tool_call>{body}</tool_call>{after}");
            assert_eq!(of(&hermes(), &text), [content(&text)]);
        }
        // And the next one is a call all the same.
        let text = format!("<tool_call>{body}</tool_call>");
        let good = "<tool_call>\n{\"name\": \"now\"}\n</tool_call>";
        assert_eq!(of(&hermes(), &format!("{text}\n{good}")), [content(&text), call("now", "{}")]);
    }
}

#[test]
fn without_its_wrapper_json_is_text() {
    let bare = r#"{"name": "now", "arguments": {}}"#;
    assert_eq!(of(&hermes(), bare), [content(bare)]);
    // Nor is anything a call where no tools were offered.
    let wrapped = "<tool_call>\n{\"name\": \"now\"}\n</tool_call>";
    assert_eq!(of(&plain(), wrapped), [content(wrapped)]);
}

#[test]
fn a_wrapper_that_does_not_close_is_content_at_the_end() {
    for text in ["a\n<tool_call>\n{\"name\": \"now\"}", "<tool_call>", "a <tool_call>\n{\"name\": \"now\"}\n</tool_cal"]
    {
        assert_eq!(of(&hermes(), text), [content(text)]);
    }
}

#[test]
fn a_string_may_speak_of_tags() {
    let arguments = r#"{"city": "</tool_call> \" <tool_call> \\"}"#;
    let text = format!("<tool_call>\n{{\"name\": \"weather\", \"arguments\": {arguments}}}\n</tool_call>");
    assert_eq!(of(&hermes(), &text), [call("weather", arguments)]);
}

#[test]
fn a_string_that_a_line_ends_swallows_no_more_than_its_wrapper() {
    for bad in ["<tool_call>\n{\"name\": \"now}\n</tool_call>", "<tool_call>\n{\"name\": \"now\\\n</tool_call>"] {
        let mut answer = hermes();
        assert_eq!(answer.push(bad), [content(bad)]);
        assert_eq!(answer.push("x"), [content("x")]);
    }
}

#[test]
fn a_message_that_is_one_json_call_is_a_call() {
    for text in [
        r#"{"name": "weather", "parameters": {"city": "}\"{"}}"#,
        "\n{ \"name\" : \"weather\", \"parameters\": {\"city\": \"}\\\"{\"}}\n \n",
        r#"{"type": "function", "name": "weather", "parameters": {"city": "}\"{"}}"#,
        r#"<|python_tag|>{"name": "weather", "parameters": {"city": "}\"{"}}"#,
        "\n<|python_tag|>\n{\"name\": \"weather\", \"parameters\": {\"city\": \"}\\\"{\"}}",
    ] {
        assert_eq!(of(&llama(), text), [call("weather", r#"{"city": "}\"{"}"#)]);
    }
    let answer = thinking().with_tools(ToolFormat::Llama3Json, &tools()).with_one_call();
    assert_eq!(of(&answer, "<think>a</think>\n\n{\"name\": \"now\"}"), [reasoning("a"), call("now", "{}")]);
}

#[test]
fn a_message_that_is_more_or_less_than_a_json_call_is_content() {
    for text in [
        r#"Here: {"name": "now", "parameters": {}}"#,
        r#"{"name": "now", "parameters": {}} is what I would call"#,
        r#"{"name": "now"}{"name": "now"}"#,
        r#"{"name": "unknown", "parameters": {}}"#,
        r#"{"name": "now", "parameters": {}"#,
        r#"{"name": "now", "parameters": []}"#,
        r#"{"city": "K"}"#,
        r#"["name"]"#,
        "{",
        "<|python_tag|>now.call()",
        "\n",
    ] {
        assert_eq!(of(&llama(), text), [content(text)]);
    }
    assert_eq!(of(&llama(), ""), []);
}

#[test]
fn a_message_that_can_be_no_json_call_any_more_comes_out_at_once() {
    for (pieces, shown) in [
        (["{", "\"na", "mes\""], "{\"names\""),
        (["{\"name\": \"now\"}", " ", "x"], "{\"name\": \"now\"} x"),
        (["{\"name\": \"no", "w", "\n"], "{\"name\": \"now\n"),
        (["\n", "<|python", " "], "\n<|python "),
    ] {
        let mut answer = llama();
        assert_eq!(pieces.map(|piece| answer.push(piece)), [vec![], vec![], vec![content(shown)]]);
        assert_eq!(answer.push("y"), [content("y")]);
    }
    // What begins with a word is none from the first.
    assert_eq!(llama().push("a"), [content("a")]);
}
