//! Calls whose arguments stand between tags, as plain text.

use super::*;

fn xml() -> Answer {
    plain().with_tools(ToolFormat::QwenXml, &tools())
}

fn parameter(key: &str, value: &str) -> String {
    format!("<tool_call>\n<function=weather>\n<parameter={key}>\n{value}\n</parameter>\n</function>\n</tool_call>")
}

#[test]
fn values_have_the_types_of_the_schema() {
    for (key, value, json) in [
        ("city", "7", "\"7\""),
        ("city", "true", "\"true\""),
        ("city", "  two\n\nlines \"q\" ", r#""  two\n\nlines \"q\" ""#),
        ("city", "\n\n", r#""\n\n""#),
        ("city", "null", "\"null\""),
        ("days", "7", "7"),
        ("days", " 7 ", "7"),
        ("days", "12345678901234567890123", "12345678901234567890123"),
        ("days", "7.5", "\"7.5\""),
        ("days", "seven", "\"seven\""),
        ("lat", "50.90", "50.90"),
        ("lat", "-1e3", "-1e3"),
        ("metric", "true", "true"),
        ("metric", "False", "false"),
        ("metric", "maybe", "\"maybe\""),
        ("tags", "[\"a\", 1]", "[\"a\", 1]"),
        ("tags", "{}", "\"{}\""),
        ("where", "{\"a\": [1]}", "{\"a\": [1]}"),
        ("where", "[1]", "\"[1]\""),
        ("where", "{'a': 1}", "\"{'a': 1}\""),
        ("note", "None", "null"),
        ("note", "null", "null"),
        ("note", "nothing", "\"nothing\""),
        ("count", "null", "null"),
        ("count", "3", "3"),
        ("unit", "C", "\"C\""),
        ("unit", "7", "7"),
        ("any", "[1]", "[1]"),
        ("any", "word", "\"word\""),
        ("loop", "1", "\"1\""),
        ("size", "1", "1"),
        ("unheard", "1", "\"1\""),
    ] {
        let arguments = format!("{{\"{key}\": {json}}}");
        assert_eq!(of(&xml(), &parameter(key, value)), [call("weather", &arguments)], "{key} = {value:?}");
    }
}

#[test]
fn an_argument_that_the_schema_does_not_name_has_the_type_of_all_others() {
    for (others, json) in [(json!({"type": "integer"}), "1"), (json!(true), "\"1\""), (json!(null), "\"1\"")] {
        let parameters = json!({"type": "object", "additionalProperties": others});
        let answer = plain().with_tools(ToolFormat::QwenXml, &[Tool { name: "weather".into(), parameters }]);
        assert_eq!(of(&answer, &parameter("k", "1")), [call("weather", &format!("{{\"k\": {json}}}"))]);
    }
}

#[test]
fn a_call_may_have_no_arguments_several_or_company() {
    let now = "<function=now>\n</function>";
    let weather = "<function=weather>\n<parameter=city>\nK\n</parameter>\n<parameter=days>2</parameter></function>";
    let both = [call("now", "{}"), call("weather", "{\"city\": \"K\", \"days\": 2}")];
    assert_eq!(of(&xml(), &format!("<tool_call>\n{now}\n</tool_call>")), both[..1]);
    let spaced = "<tool_call><function= weather ><parameter= city >K</parameter></function></tool_call>";
    assert_eq!(of(&xml(), spaced), [call("weather", "{\"city\": \"K\"}")]);
    assert_eq!(of(&xml(), &format!("a\n\n<tool_call>{weather}</tool_call>\n")), [content("a"), both[1].clone()]);
    assert_eq!(of(&xml(), &format!("<tool_call>\n{now}\n{weather}\n</tool_call>")), both);
    assert_eq!(of(&xml(), &format!("<tool_call>{now}</tool_call>\n<tool_call>{weather}</tool_call>")), both);
}

#[test]
fn a_value_may_speak_of_tags() {
    let value = "<tool_call> </tool_call> </parameter>. </function> <function=x>\n\n</parameter>\n\n.";
    let arguments = format!("{{\"city\": {}}}", Value::from(value));
    assert_eq!(of(&xml(), &parameter("city", value)), [call("weather", &arguments)]);
}

#[test]
fn what_is_no_call_is_content_to_the_last_byte() {
    for body in [
        "",
        "{\"name\": \"now\"}",
        "<function=unknown>\n</function>",
        "<function=>\n</function>",
        "<function=now\n</function>",
        "<function=now>\n",
        "<function=now>\ntext\n</function>",
        "<function=now>\n</function> text",
        "<function=now>\n<parameter=>1</parameter></function>",
        "<function=now>\n<parameter=a\nb>1</parameter></function>",
        "<function=now>\n<parameter=a<b>1</parameter></function>",
        "<function=now>\n<parameter=a>1</parameter>\n",
        "<function=now>\n<parameter=a>1</function>",
        "<function=now>\n<parameter=a>1</function>\n",
        "<function=now>\n<parameter=a>1</parameter><parameter=a>2</parameter></function>",
        "<function=now>\n</function><function=unknown></function>",
    ] {
        let text = format!("a\n<tool_call>{body}</tool_call>\nb");
        assert_eq!(of(&xml(), &text), [content(&text)]);
        // And it ended there: the next one is read by itself.
        let good = "<tool_call><function=now></function></tool_call>";
        assert_eq!(of(&xml(), &format!("{text}\n{good}")), [content(&text), call("now", "{}")]);
    }
}

#[test]
fn without_its_wrapper_or_its_end_a_call_is_text() {
    for text in [
        "<function=now>\n</function>",
        r#"{"name": "now", "arguments": {}}"#,
        "<tool_call>",
        "a\n<tool_call>\n<function=weather>\n<parameter=city>\nK",
        "<tool_call>\n<function=now>\n</function>\n</tool_call",
    ] {
        assert_eq!(of(&xml(), text), [content(text)]);
    }
}
