//! What the server counts, in the text form of Prometheus. The names that dashboards and routers know of vLLM can have its prefix;
//! those that only this server has begin with `sterna_` always.

mod histogram;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

pub use histogram::Histogram;

/// From 5 ms to ten minutes.
const LATENCIES: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];
/// From 100 µs to 10 s.
const GAPS: &[f64] = &[0.0001, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0];
const ROWS: &[f64] = &[0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// All counters. They only grow; gauges are as of the latest step.
pub struct Metrics {
    pub running: AtomicU64,
    pub waiting: AtomicU64,
    /// Positions of the caches that running sequences hold, and all that there are.
    pub positions: [AtomicU64; 2],
    pub prompt_tokens: AtomicU64,
    pub made_tokens: AtomicU64,
    pub drafted_tokens: AtomicU64,
    pub accepted_tokens: AtomicU64,
    pub cache_queries: AtomicU64,
    pub cache_hits: AtomicU64,
    pub first_token: Histogram,
    pub gaps: Histogram,
    pub whole_requests: Histogram,
    pub queue_time: Histogram,
    pub step_seconds: Histogram,
    pub step_rows: [Histogram; 2],
    finished: Mutex<BTreeMap<&'static str, u64>>,
    cancelled: Mutex<BTreeMap<&'static str, u64>>,
    answered: Mutex<BTreeMap<(&'static str, u16), u64>>,
}

/// What the text is told of the server.
pub struct About<'a> {
    /// What the common names begin with, such as `vllm:`.
    pub prefix: &'a str,
    pub model: &'a str,
    pub device: &'a str,
}

impl Metrics {
    pub fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            running: zero(),
            waiting: zero(),
            positions: [zero(), zero()],
            prompt_tokens: zero(),
            made_tokens: zero(),
            drafted_tokens: zero(),
            accepted_tokens: zero(),
            cache_queries: zero(),
            cache_hits: zero(),
            first_token: Histogram::new(LATENCIES),
            gaps: Histogram::new(GAPS),
            whole_requests: Histogram::new(LATENCIES),
            queue_time: Histogram::new(LATENCIES),
            step_seconds: Histogram::new(GAPS),
            step_rows: [Histogram::new(ROWS), Histogram::new(ROWS)],
            // So that a reader finds them at zero before anything happened.
            finished: Mutex::new(["stop", "length", "tool_calls"].map(|reason| (reason, 0)).into()),
            cancelled: Mutex::new(["queued", "prefill", "decode"].map(|stage| (stage, 0)).into()),
            answered: Mutex::default(),
        }
    }

    /// A sequence came to its end for this reason.
    pub fn count_finished(&self, reason: &'static str) {
        add(&self.finished, reason);
    }

    /// A client went away while its request was in this stage.
    pub fn count_cancelled(&self, stage: &'static str) {
        add(&self.cancelled, stage);
    }

    /// A request was answered.
    pub fn count_answered(&self, route: &'static str, status: u16) {
        add(&self.answered, (route, status));
    }

    /// All of it, as Prometheus reads it.
    pub fn text(&self, about: &About<'_>) -> String {
        let model = format!("model_name=\"{}\"", escaped(about.model));
        let mut text = Text { out: String::with_capacity(16 << 10), model };
        let prefix = about.prefix;
        let usage = ratio(&self.positions);
        text.one(
            prefix,
            "num_requests_running",
            "gauge",
            "Sequences that have a slot.",
            self.running.load(Relaxed) as f64,
        );
        text.one(
            prefix,
            "num_requests_waiting",
            "gauge",
            "Sequences that wait for one.",
            self.waiting.load(Relaxed) as f64,
        );
        for name in ["kv_cache_usage_perc", "gpu_cache_usage_perc"] {
            text.one(
                prefix,
                name,
                "gauge",
                "Share of all cached positions that running sequences hold, 0 to 1.",
                usage,
            );
        }
        for (name, help, value) in [
            ("prompt_tokens_total", "Tokens of prompts that were read.", &self.prompt_tokens),
            ("generation_tokens_total", "Tokens that were made.", &self.made_tokens),
            ("spec_decode_num_draft_tokens_total", "Tokens that were drafted.", &self.drafted_tokens),
            ("spec_decode_num_accepted_tokens_total", "Those that were drawn.", &self.accepted_tokens),
            ("prefix_cache_queries_total", "Tokens of prompts that were looked for in the cache.", &self.cache_queries),
            ("prefix_cache_hits_total", "Tokens of prompts that were found there.", &self.cache_hits),
        ] {
            text.one(prefix, name, "counter", help, value.load(Relaxed) as f64);
        }
        for (name, help, histogram) in [
            ("time_to_first_token_seconds", "From a request to its first token.", &self.first_token),
            (
                "inter_token_latency_seconds",
                "Between two tokens of a sequence; next to none within a step.",
                &self.gaps,
            ),
            ("e2e_request_latency_seconds", "From a request to its last token.", &self.whole_requests),
            ("request_queue_time_seconds", "From a request to its slot.", &self.queue_time),
        ] {
            text.head(prefix, name, "histogram", help);
            histogram.write(&mut text.out, &format!("{prefix}{name}"), &text.model);
        }
        text.many(
            prefix,
            "request_success_total",
            "Sequences that came to their end.",
            "finished_reason",
            &self.finished,
        );
        text.head("sterna_", "step_seconds", "histogram", "Time of a step.");
        self.step_seconds.write(&mut text.out, "sterna_step_seconds", &text.model);
        text.head("sterna_", "step_rows", "histogram", "Rows of a step that read prompts, and tokens that it makes.");
        for (kind, rows) in ["prefill", "decode"].iter().zip(&self.step_rows) {
            rows.write(&mut text.out, "sterna_step_rows", &format!("{},kind=\"{kind}\"", text.model));
        }
        text.many("sterna_", "requests_cancelled_total", "Requests whose client went away.", "stage", &self.cancelled);
        text.head(
            "sterna_",
            "http_requests_total",
            "counter",
            "Answers by route and status; 499 is a client that went away.",
        );
        for ((route, status), count) in lock(&self.answered).iter() {
            let _ = writeln!(text.out, "sterna_http_requests_total{{route=\"{route}\",status=\"{status}\"}} {count}");
        }
        text.head("sterna_", "build_info", "gauge", "What serves.");
        let (version, device) = (env!("CARGO_PKG_VERSION"), escaped(about.device));
        let _ = writeln!(
            text.out,
            "sterna_build_info{{version=\"{version}\",device=\"{device}\",model=\"{}\"}} 1",
            escaped(about.model)
        );
        text.out
    }
}

/// The text that grows.
struct Text {
    out: String,
    model: String,
}

impl Text {
    fn head(&mut self, prefix: &str, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.out, "# HELP {prefix}{name} {help}\n# TYPE {prefix}{name} {kind}");
    }

    fn one(&mut self, prefix: &str, name: &str, kind: &str, help: &str, value: f64) {
        self.head(prefix, name, kind, help);
        let _ = writeln!(self.out, "{prefix}{name}{{{}}} {value}", self.model);
    }

    fn many(&mut self, prefix: &str, name: &str, help: &str, label: &str, counts: &Mutex<BTreeMap<&'static str, u64>>) {
        self.head(prefix, name, "counter", help);
        for (value, count) in lock(counts).iter() {
            let _ = writeln!(self.out, "{prefix}{name}{{{},{label}=\"{value}\"}} {count}", self.model);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn add<K: Ord>(counts: &Mutex<BTreeMap<K, u64>>, key: K) {
    *lock(counts).entry(key).or_default() += 1;
}

fn ratio([part, whole]: &[AtomicU64; 2]) -> f64 {
    part.load(Relaxed) as f64 / whole.load(Relaxed).max(1) as f64
}

/// The value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
