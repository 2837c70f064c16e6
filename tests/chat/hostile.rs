//! Templates that a model file may carry, and that mean harm: each gives an error or a text, in time and within memory.

use std::sync::Once;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use sterna::chat::{DEADLINE, MOST_SOURCE_BYTES, Template};
use sterna::measure::peak_memory_bytes;

use crate::shared;

/// What a rendering may take besides its deadline on a machine that does other things too.
const SLACK: Duration = Duration::from_secs(8);
/// What it may need: its fuel pays for 12 MiB.
const MEMORY: u64 = 64 << 20;

/// Opens and renders a template.
fn outcome(source: &str) -> Result<String, String> {
    let turns = json!([
        { "role": "user", "content": "Hello" },
        { "role": "assistant", "content": "Hi" },
        { "role": "user", "content": "again" },
    ]);
    let template = Template::new(source, Some("<s>"), Some("</s>")).map_err(|error| error.to_string())?;
    template.render(&turns, None, &Map::new()).map_err(|error| error.to_string())
}

/// Where sums that wrap are looked for, the engine panics on some of these, which is an error like others. Told in full, with the
/// symbols of this program, that takes more memory than any template.
fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current().name() != Some("chat template") {
                hook(panic);
            }
        }));
    });
}

/// In time and within memory.
fn bounded(name: &str, source: &str) -> Result<String, String> {
    quiet_panics();
    let (start, before) = (Instant::now(), peak_memory_bytes().unwrap_or(0));
    let outcome = outcome(source);
    let (took, grown) = (start.elapsed(), peak_memory_bytes().unwrap_or(0).saturating_sub(before));
    assert!(took < 2 * DEADLINE + SLACK, "{name} took {took:?}");
    assert!(grown < MEMORY + 2 * source.len() as u64, "{name} took {grown} bytes");
    if let Err(text) = &outcome {
        assert!(text.len() < 8192, "{name} has an error of {} bytes", text.len());
    }
    outcome
}

/// A list that was put into another so many times, and what is done with it.
fn deep(end: &str, grown: &str, times: usize) -> String {
    let begin = "{% set n = namespace(l=[]) %}";
    format!("{begin}{{% for i in range({times}) %}}{{% set n.l = {grown} %}}{{% endfor %}}{end}")
}

#[test]
fn bombs_are_errors() {
    for (name, source) in [
        ("a loop", "{% for i in range(10**9) %}x{% endfor %}"),
        ("loops in loops", "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}"),
        ("output", "{% for i in range(9999) %}{{ 'aaaaaaaaaaaaaaaaaaaaaaaa' * 4000 }}{% endfor %}"),
        (
            "a doubled string",
            "{% set n = namespace(s='ab') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s }}",
        ),
        ("a macro that calls itself", "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}"),
        ("indentation", "{{ [[1]] | tojson(indent=100000000) }}"),
        ("indentation of depth", &deep("{{ n.l | tojson(indent=32) }}", "[n.l]", 15_000)),
        ("a list of lists of lists", &deep("{{ n.l | tojson }}", "[n.l, n.l]", 40)),
        ("the same in order", &deep("{{ n.l | tojson(sort_keys=true) }}", "[n.l, n.l]", 40)),
        ("a date", "{{ strftime_now('%' * 1000000) }}"),
        ("a long refusal", "{{ raise_exception('x' * 1000000) }}"),
        ("another file", "{% include '/etc/passwd' %}"),
        ("a file's macros", "{% import '/etc/passwd' as x %}"),
        ("attributes", "{{ ''.__class__.__mro__[1].__subclasses__() }}"),
        ("no filter", "{{ messages | no_such_filter }}"),
        ("no end", "{% for m in messages %}"),
        ("depth", &format!("{{{{ {}1{} }}}}", "(".repeat(9000), ")".repeat(9000))),
        ("a long source", &"a".repeat(MOST_SOURCE_BYTES + 1)),
    ] {
        let outcome = bounded(name, source);
        assert!(outcome.is_err(), "{name}: {outcome:?}");
    }
}

#[test]
fn what_nests_deeply_does_not_overflow_the_stack() {
    let list = "{% set n = namespace(l=[]) %}{% for i in range(20000) %}{% set n.l = [n.l] %}{% endfor %}";
    for (name, source) in [
        ("minus", format!("{{{{ {}1 }}}}", "-".repeat(30_000))),
        ("filters", format!("{{{{ x{} }}}}", "|string".repeat(4000))),
        ("indices", format!("{{{{ messages{} }}}}", "[0]".repeat(10_000))),
        ("conditions", format!("{}{}", "{% if x %}".repeat(1500), "{% endif %}".repeat(1500))),
        ("a list that is dropped", list.to_owned()),
        ("a list that is written", format!("{list}{{{{ n.l }}}}")),
        ("a list as JSON", format!("{list}{{{{ n.l | tojson }}}}")),
    ] {
        // What comes of them is not the point.
        let _ = bounded(name, &source);
    }
}

#[test]
fn a_template_that_does_not_end_is_refused_when_it_is_opened_or_never() {
    assert_eq!(bounded("plain", "{{ messages[0].content }}").unwrap(), "Hello");
    assert_eq!(bounded("undefined", "{{ nothing }}|{{ messages[99] }}").unwrap(), "|");
}

#[test]
fn the_collection_of_hostile_templates_is_survived() {
    let Some(hostile) = shared::json("hostile.json") else { return };
    for case in hostile["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        // It never ends, and its thread would take a core and memory from the tests beside: it has a program of its own.
        if name == "doubling_list" {
            continue;
        }
        let parts = |part: &Value| part[0].as_str().unwrap().repeat(part[1].as_u64().unwrap() as usize);
        let source = match case["template"].as_str() {
            Some(source) => source.to_owned(),
            None => case["parts"].as_array().unwrap().iter().map(parts).collect(),
        };
        let outcome = bounded(name, &source);
        match case["expect"].as_str().unwrap() {
            "error" => assert!(outcome.is_err(), "{name}: {outcome:?}"),
            "either" => {}
            expected => assert_eq!(outcome.as_deref(), Ok(expected.strip_prefix("ok:").unwrap()), "{name}"),
        }
    }
}
