//! Clients that go away, in every state that a request can be in: what was made for them ends, and nothing else does.

use serde_json::{Value, json};

use crate::client::Client;
use crate::server::{Server, wait_until, wait_until_stalled};

/// More than any test waits for, on one slot.
const MANY: usize = 250;

/// So many prompts of other ids, so that none finds another in the cache.
fn prompts(count: usize, length: u32) -> Vec<Vec<u32>> {
    (0..count as u32).map(|number| (0..length).map(|place| 3 + (number * 37 + place * 11) % 2000).collect()).collect()
}

/// Asks for tokens without end.
fn decoding(stream: bool) -> Value {
    json!({ "prompt": prompts(MANY, 3), "max_tokens": 500, "ignore_eos": true, "stream": stream })
}

/// Asks for prompts to be read, which go one row at a time.
fn reading(stream: bool) -> Value {
    json!({ "prompt": prompts(MANY, 500), "max_tokens": 1, "stream": stream })
}

fn send(server: &Server, body: &Value) -> Client {
    let mut client = server.client();
    client.send("POST", "/v1/completions", &[], body.to_string().as_bytes());
    client
}

fn cancelled(server: &Server, stage: &str) -> f64 {
    server.metric_with("sterna_requests_cancelled_total", &format!("stage=\"{stage}\""))
}

#[test]
fn whoever_goes_away_while_tokens_are_made_frees_the_slot() {
    let server = Server::start(&["--slots", "1", "--chunk", "1"]);
    for stream in [true, false] {
        let made = server.metric("sterna_generation_tokens_total");
        let mut client = send(&server, &decoding(stream));
        if stream {
            assert_eq!(client.head().status, 200);
            assert!(client.chunk().is_some_and(|chunk| !chunk.is_empty()));
        }
        wait_until("tokens are made", || server.metric("sterna_generation_tokens_total") > made);
        drop(client);
        server.wait_idle();
        assert!(server.metric("sterna_generation_tokens_total") < made + 500.0 * MANY as f64);
    }
    let stages = cancelled(&server, "decode") + cancelled(&server, "prefill");
    assert_eq!((stages, cancelled(&server, "queued")), (2.0, 0.0));
    assert!(cancelled(&server, "decode") > 0.0);
}

#[test]
fn whoever_goes_away_while_a_prompt_is_read_frees_the_slot() {
    let server = Server::start(&["--slots", "1", "--chunk", "1"]);
    for stream in [true, false] {
        let read = server.metric_with("sterna_step_rows_sum", "prefill");
        let client = send(&server, &reading(stream));
        wait_until("a prompt is read", || server.metric_with("sterna_step_rows_sum", "prefill") > read + 20.0);
        drop(client);
        server.wait_idle();
        assert!(server.metric("sterna_prompt_tokens_total") < 500.0 * MANY as f64);
    }
    assert_eq!(cancelled(&server, "prefill"), 2.0);
}

#[test]
fn whoever_goes_away_from_the_queue_is_taken_out_of_it() {
    let server = Server::start(&["--slots", "1"]);
    let busy = send(&server, &decoding(true));
    wait_until("it has the slot", || server.metric("sterna_num_requests_running") == 1.0);
    let waiting = server.metric("sterna_num_requests_waiting");
    for stream in [true, false] {
        let client = send(&server, &json!({ "prompt": "a", "max_tokens": 3, "stream": stream }));
        let before = cancelled(&server, "queued");
        wait_until("it waits", || {
            server.metric("sterna_request_queue_time_seconds_count") == 1.0 && is_behind(&server, waiting)
        });
        drop(client);
        wait_until("it is taken out", || cancelled(&server, "queued") == before + 1.0);
        assert_eq!(server.metric("sterna_num_requests_running"), 1.0, "the other one goes on");
    }
    drop(busy);
    server.wait_idle();
}

/// Whether more wait than the sequences of the request that runs, which become fewer.
fn is_behind(server: &Server, at_first: f64) -> bool {
    let ended: f64 = server.metric_with("sterna_request_success_total", "finished_reason=\"length\"");
    server.metric("sterna_num_requests_waiting") + ended > at_first
}

#[test]
fn a_storm_of_clients_that_go_away_leaves_nothing_behind() {
    let server = Server::start(&["--slots", "4", "--queue", "64"]);
    let shapes = [
        decoding(true),
        decoding(false),
        reading(true),
        json!({ "prompt": "a", "max_tokens": 0, "echo": true, "logprobs": 1 }),
    ];
    std::thread::scope(|scope| {
        for thread in 0..8_usize {
            let (server, shapes) = (&server, &shapes);
            scope.spawn(move || {
                for round in 0..25 {
                    let shape = &shapes[(thread + round) % shapes.len()];
                    let mut client = send(server, shape);
                    // Some see their answer begin.
                    if round % 3 == 0 && shape["stream"] == true {
                        assert_eq!(client.head().status, 200);
                    }
                }
            });
        }
    });
    server.wait_idle();
    let answer = server.post("/v1/completions", r#"{"prompt":"Once","max_tokens":5,"temperature":0}"#).ok();
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    let lines = server.metric_with("sterna_http_requests_total", "status=\"499\"");
    assert!(lines > 100.0, "{lines} of 200 are told as gone");
}

pub fn whoever_reads_nothing_keeps_nobody_else_waiting() {
    let server = Server::start(&["--slots", "2"]);
    // The system's buffers hold some events; a request makes more, and a part of it has to wait.
    let request =
        json!({ "prompt": prompts(MANY, 3), "max_tokens": 500, "ignore_eos": true, "stream": true, "logprobs": 5 });
    let mut slow = Client::with_little_room(server.address);
    slow.send("POST", "/v1/completions", &[], request.to_string().as_bytes());
    assert_eq!(slow.head().status, 200);
    wait_until_stalled(&server);
    assert!(server.metric("sterna_num_requests_running") >= 1.0, "it keeps its slot");
    server.post("/v1/completions", r#"{"prompt":"a","max_tokens":3}"#).ok();
    // And not for ever.
    server.wait_idle();
    assert_eq!(cancelled(&server, "decode") + cancelled(&server, "prefill"), 1.0);
    slow.set_room(1 << 22);
    let mut text = Vec::new();
    while let Some(chunk) = slow.chunk().filter(|chunk| !chunk.is_empty()) {
        text.extend(chunk);
    }
    let text = String::from_utf8(text).unwrap();
    let last = text.trim_end().rsplit("\n\n").next().unwrap();
    assert!(last.starts_with("data: {\"error\":") && last.contains("broken off"), "{last}");
}
