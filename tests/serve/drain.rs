//! How the server ends.

#![cfg(unix)]

use serde_json::json;

use crate::client::Client;
use crate::server::{Server, wait_until};

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

fn streaming(server: &Server, tokens: usize, prompts: usize) -> Client {
    let mut client = server.client();
    let body = json!({ "prompt": vec![[5, 6, 7]; prompts], "max_tokens": tokens, "ignore_eos": true, "stream": true });
    client.send("POST", "/v1/completions", &[], body.to_string().as_bytes());
    client
}

#[test]
fn answers_at_work_come_to_their_end() {
    let mut server = Server::start(&["--slots", "16"]);
    let mut clients: Vec<_> = (0..16).map(|_| streaming(&server, 450, 1)).collect();
    let mut idle = server.client();
    assert_eq!(idle.ask("GET", "/health", &[], b"").status, 200);
    wait_until("all run", || server.metric("sterna_num_requests_running") == 16.0);
    server.signal(SIGTERM);
    wait_until("it is told", || server.told().iter().any(|line| line.starts_with("ending")));
    let refused = idle.ask("POST", "/v1/completions", &[], br#"{"prompt":"a"}"#);
    assert_eq!(refused.error(), (503, Some("shutting_down".into()), None));
    assert!(refused.header("retry-after").is_some());
    for client in &mut clients {
        let answer = client.answer(true);
        assert!(answer.is_whole);
        let made: usize =
            answer.events().iter().map(|event| event["choices"][0]["text"].as_str().map_or(0, str::len)).sum();
        assert!(made > 0);
        assert_eq!(answer.events().last().unwrap()["choices"][0]["finish_reason"], "length");
    }
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn those_that_wait_are_sent_away_and_those_that_take_too_long_are_told() {
    let mut server = Server::start(&["--slots", "1", "--drain-timeout", "0.5"]);
    let mut running = streaming(&server, 500, 250);
    assert_eq!(running.head().status, 200);
    let before = server.metric("sterna_num_requests_waiting");
    let mut waiting = server.client();
    waiting.send("POST", "/v1/chat/completions", &[], br#"{"messages":[{"role":"user","content":"a"}],"stream":true}"#);
    wait_until("it waits", || {
        let ended = server.metric_with("sterna_request_success_total", "finished_reason=\"length\"");
        server.metric("sterna_num_requests_waiting") + ended > before
    });
    server.signal(SIGTERM);
    assert_eq!(waiting.answer(true).error(), (503, Some("shutting_down".into()), None), "before anything was sent");
    let mut text = Vec::new();
    while let Some(chunk) = running.chunk().filter(|chunk| !chunk.is_empty()) {
        text.extend(chunk);
    }
    let text = String::from_utf8(text).unwrap();
    let last = text.trim_end().rsplit("\n\n").next().unwrap();
    assert!(last.starts_with("data: {\"error\":") && last.contains("shutting_down"), "{last}");
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn whoever_watches_is_told_at_once_and_requests_are_taken_a_while_longer() {
    let mut server = Server::start(&["--drain-delay", "2"]);
    let mut client = server.client();
    assert_eq!(client.ask("GET", "/health", &[], b"").status, 200);
    server.signal(SIGINT);
    wait_until("/health says so", || server.get("/health").status == 503);
    assert_eq!(server.get("/readyz").error(), (503, Some("shutting_down".into()), None));
    assert_eq!(server.get("/livez").status, 200, "the process lives");
    assert_eq!(client.ask("POST", "/v1/completions", &[], br#"{"prompt":"a"}"#).status, 200);
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    let mut server = Server::start(&["--slots", "1"]);
    let mut client = streaming(&server, 500, 250);
    assert_eq!(client.head().status, 200);
    server.signal(SIGINT);
    wait_until("it is told", || server.told().iter().any(|line| line.starts_with("ending")));
    server.signal(SIGINT);
    assert_eq!(server.wait(), Some(130));
}
