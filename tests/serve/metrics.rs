//! What the server counts.

use std::collections::BTreeMap;

use serde_json::json;

use crate::server::Server;

/// Every sample by its name and labels, once the text was checked against the rules of its format.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let (mut samples, mut kinds) = (BTreeMap::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (keyword, name, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            match keyword {
                "HELP" => assert!(!rest.is_empty()),
                "TYPE" => assert!(kinds.insert(name.to_owned(), rest.to_owned()).is_none(), "{name} is told twice"),
                other => panic!("{other}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| {
            let family = name.strip_suffix(end)?;
            (kinds.get(family).map(String::as_str) == Some("histogram")).then_some(family)
        });
        assert!(kinds.contains_key(family.unwrap_or(name)), "{name} has no type");
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:".contains(&byte)), "{name}");
        if let Some(labels) = series.strip_prefix(name).filter(|labels| !labels.is_empty()) {
            let labels = labels.strip_prefix('{').and_then(|labels| labels.strip_suffix('}')).unwrap();
            assert!(labels.split("\",").all(|label| label.contains("=\"")), "{labels}");
        }
        let value: f64 = value.parse().unwrap();
        assert!(samples.insert(series.to_owned(), value).is_none(), "{series} is there twice");
    }
    for (name, kind) in &kinds {
        let is_cumulative = |prefix: &str| {
            let buckets: Vec<_> = text.lines().filter(|line| line.starts_with(prefix)).collect();
            let values = buckets.iter().map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap());
            values.is_sorted()
        };
        match kind.as_str() {
            "histogram" if name != "sterna_step_rows" => {
                assert!(is_cumulative(&format!("{name}_bucket")), "{name}");
            }
            "histogram" | "counter" | "gauge" => {}
            other => panic!("{name} is a {other}"),
        }
    }
    samples
}

#[test]
fn counters_can_be_read_and_never_fall() {
    let server = Server::start(&["--slots", "2"]);
    let mut before = samples(&server.get("/metrics").text());
    for request in 0..12 {
        let body = match request % 4 {
            0 => json!({ "prompt": "Once upon a time", "max_tokens": 9, "temperature": 0, "ignore_eos": true }),
            1 => json!({ "prompt": "Once upon a time", "max_tokens": 5, "n": 2 }),
            2 => json!({ "prompt": 3 }),
            _ => json!({ "prompt": "a", "max_tokens": 3, "stream": true }),
        };
        server.post("/v1/completions", &body.to_string());
        let after = samples(&server.get("/metrics").text());
        for (series, value) in &before {
            let is_gauge = ["running", "waiting", "usage_perc"].iter().any(|part| series.contains(part));
            assert!(is_gauge || after[series] >= *value, "{series} fell from {value} to {}", after[series]);
        }
        before = after;
    }
    server.wait_idle();
    let after = samples(&server.get("/metrics").text());
    let of = |name: &str| after[&format!("sterna_{name}{{model_name=\"tales-4m-i2_s\"}}")];
    assert_eq!(of("prefix_cache_queries_total"), of("prompt_tokens_total"));
    assert!(of("prefix_cache_hits_total") > 0.0, "the same prompt came again");
    assert_eq!(of("e2e_request_latency_seconds_count"), 9.0);
    assert_eq!(of("request_queue_time_seconds_count"), 9.0);
    assert_eq!(of("time_to_first_token_seconds_count"), 12.0, "one for each sequence");
    let made = of("generation_tokens_total");
    assert!((27.0..=66.0).contains(&made), "{made}");
    assert_eq!(of("kv_cache_usage_perc"), 0.0);
    assert_eq!(after["sterna_http_requests_total{route=\"/v1/completions\",status=\"400\"}"], 3.0);
    assert!(after.keys().any(|series| series.starts_with("sterna_build_info{version=")));
}

#[test]
fn dashboards_find_the_names_that_they_know() {
    let server = Server::start(&["--metrics-prefix", "vllm:"]);
    server.post("/v1/completions", r#"{"prompt":"a","max_tokens":2,"ignore_eos":true}"#).ok();
    let answer = server.get("/metrics");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4"));
    let samples = samples(&answer.text());
    for name in [
        "num_requests_running",
        "num_requests_waiting",
        "kv_cache_usage_perc",
        "gpu_cache_usage_perc",
        "prompt_tokens_total",
        "generation_tokens_total",
        "prefix_cache_queries_total",
        "prefix_cache_hits_total",
        "time_to_first_token_seconds_sum",
        "inter_token_latency_seconds_count",
        "e2e_request_latency_seconds_count",
        "request_queue_time_seconds_count",
    ] {
        assert!(samples.contains_key(&format!("vllm:{name}{{model_name=\"tales-4m-i2_s\"}}")), "{name}");
    }
    assert_eq!(samples["vllm:request_success_total{model_name=\"tales-4m-i2_s\",finished_reason=\"length\"}"], 1.0);
    assert!(samples.keys().any(|series| series.starts_with("sterna_step_seconds")), "ours keep their names");
}
