//! Any text, cut anywhere.

use proptest::prelude::*;

use super::*;

/// Every kind of parser.
fn answers() -> Vec<Answer> {
    let mut answers = vec![plain(), thinking(), in_thought()];
    for format in [ToolFormat::Hermes, ToolFormat::QwenXml, ToolFormat::Llama3Json] {
        for answer in [plain(), thinking(), in_thought()] {
            answers.push(answer.clone().with_tools(format, &tools()));
            answers.push(answer.with_tools(format, &tools()).with_one_call());
        }
    }
    answers
}

/// Texts of what parsers look for, whole and broken, and of anything else.
fn text() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "<think>",
        "</think>",
        "<tool_call>",
        "</tool_call>",
        "<function=now>",
        "<function=weather>",
        "</function>",
        "<parameter=city>",
        "<parameter=days>",
        "</parameter>",
        "<|python_tag|>",
        "{\"name\": \"now\"}",
        "{\"name\": ",
        "\"weather\"",
        ", \"arguments\": {\"city\": \"K\"}}",
        ", \"parameters\": {}}",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "\\",
        ",",
        "\n",
        "\n\n",
        " ",
        "<",
        "</",
        "12",
        "é🙂",
        "<tool_call>\n{\"name\": \"now\"}\n</tool_call>",
        "<tool_call>\n<function=weather>\n<parameter=days>\n7\n</parameter>\n</function>\n</tool_call>",
    ]);
    let part = prop_oneof![8 => known.prop_map(str::to_owned), 1 => "\\PC{0,5}"];
    prop::collection::vec(part, 0..14).prop_map(|parts| parts.concat())
}

/// At which characters a text is cut, over and over.
fn cuts() -> impl Strategy<Value = Vec<bool>> {
    prop::collection::vec(any::<bool>(), 1..40)
}

fn pieces<'a>(text: &'a str, cuts: &[bool]) -> Vec<&'a str> {
    let mut pieces = Vec::new();
    let mut begin = 0;
    for ((place, _), _) in text.char_indices().zip(cuts.iter().cycle()).filter(|(_, cut)| **cut) {
        pieces.push(&text[begin..place]);
        begin = place;
    }
    pieces.push(&text[begin..]);
    pieces
}

/// Arguments of any form.
fn object() -> impl Strategy<Value = serde_json::Map<String, Value>> {
    let text = || prop_oneof![".{0,6}", Just("</tool_call>".to_owned()), Just("\"\n\\".to_owned())];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(3, 12, 4, move |inner| {
        let object = prop::collection::btree_map(".{0,4}", inner.clone(), 0..4);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            object.prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    prop::collection::btree_map(text(), value, 0..5).prop_map(|map| map.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn however_a_text_is_cut_the_same_comes_out(text in text(), cuts in cuts()) {
        for answer in answers() {
            let whole = split(answer.clone(), [text.as_str()]);
            prop_assert_eq!(&split(answer.clone(), pieces(&text, &cuts)), &whole);
            prop_assert_eq!(&split(answer, pieces(&text, &[true])), &whole);
        }
    }

    #[test]
    fn where_no_tool_was_offered_every_wrapper_is_content_to_the_last_byte(text in text(), cuts in cuts()) {
        for format in [ToolFormat::Hermes, ToolFormat::QwenXml, ToolFormat::Llama3Json] {
            let deltas = split(plain().with_tools(format, &[]), pieces(&text, &cuts));
            prop_assert_eq!(deltas, if text.is_empty() { vec![] } else { vec![content(&text)] });
        }
    }

    /// What is held back outside of a call is the beginning of a tag, or line ends: a letter is neither.
    #[test]
    fn nothing_comes_out_late(text in text()) {
        let mut answer = thinking();
        let mut out = answer.push(&text);
        out.extend(answer.push("x"));
        prop_assert_eq!(answer.finish(), []);
        let last = joined(out).pop();
        let is_out = matches!(&last, Some(Delta::Reasoning(last) | Delta::Content(last)) if last.ends_with('x'));
        prop_assert!(is_out, "{:?}", last);
    }

    #[test]
    fn a_call_that_is_spelled_is_the_call_that_is_read(object in object(), before in "[a-z \n]{0,8}", cuts in cuts()) {
        let written = ToolCall { id: None, name: "weather".into(), arguments: Arguments::from(object) };
        for format in [ToolFormat::Hermes, ToolFormat::Llama3Json] {
            let before = if format == ToolFormat::Hermes { before.as_str() } else { "" };
            let text = format!("{before}{}", format.spell(&written));
            let mut expected = vec![content(before.trim_end_matches('\n')), Delta::ToolCall(written.clone())];
            expected.retain(|delta| *delta != content(""));
            prop_assert_eq!(split(plain().with_tools(format, &tools()), pieces(&text, &cuts)), expected);
        }
    }

    #[test]
    fn a_call_between_tags_is_the_call_that_is_read(
        city in "([^<]|\n){0,20}",
        days in any::<i64>(),
        lat in any::<i32>().prop_map(|lat| f64::from(lat) / 64.0),
        metric in any::<bool>(),
        tags in prop::collection::vec(".{0,5}", 0..4),
        cuts in cuts(),
    ) {
        let object = json!({"city": city, "days": days, "lat": lat, "metric": metric, "tags": tags});
        let arguments = Arguments::from_json(&object).unwrap();
        let text = ToolFormat::QwenXml.spell(&ToolCall { id: None, name: "weather".into(), arguments });
        let deltas = split(plain().with_tools(ToolFormat::QwenXml, &tools()), pieces(&text, &cuts));
        let [Delta::ToolCall(found)] = deltas.as_slice() else { panic!("{deltas:?}") };
        prop_assert_eq!(found.arguments.object(), object.as_object().unwrap());
    }
}
