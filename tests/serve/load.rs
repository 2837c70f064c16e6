//! More requests than there is room for, and what fails while it is computed.

use serde_json::json;

use sterna::format::gguf::Gguf;

use crate::client::Client;
use crate::server::{Server, wait_until, wait_until_stalled};

#[test]
fn more_than_may_wait_are_told_to_come_again_and_all_others_are_served() {
    let server = Server::start(&["--slots", "1", "--queue", "2"]);
    let request = json!({ "prompt": vec![[5, 6, 7]; 40], "max_tokens": 300, "ignore_eos": true }).to_string();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let first: Vec<_> = (0..3).map(|_| scope.spawn(|| server.post("/v1/completions", &request))).collect();
        wait_until("all places are taken", || {
            server.metric("sterna_num_requests_running") + server.metric("sterna_num_requests_waiting") > 80.0
        });
        for _ in 0..5 {
            let refused = server.post("/v1/completions", &request);
            assert_eq!(refused.error(), (429, Some("queue_full".into()), None));
            assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
            let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
            let millis: u64 = refused.header("retry-after-ms").unwrap().parse().unwrap();
            assert!((1..=60).contains(&seconds) && millis.div_ceil(1000) == seconds);
            assert_eq!(server.get("/health").status, 200, "to be busy is to be well");
        }
        first.into_iter().map(|client| client.join().unwrap()).collect()
    });
    for outcome in outcomes {
        assert_eq!(outcome.ok()["choices"].as_array().unwrap().len(), 40);
    }
    server.wait_idle();
    server.post("/v1/completions", r#"{"prompt":"a","max_tokens":1}"#).ok();
}

#[test]
fn a_request_that_waits_too_long_is_told_and_forgotten() {
    let server = Server::start(&["--slots", "1", "--request-timeout", "3"]);
    let mut busy = server.client();
    let many = json!({ "prompt": vec![[5, 6, 7]; 250], "max_tokens": 500, "ignore_eos": true, "stream": true });
    busy.send("POST", "/v1/completions", &[], many.to_string().as_bytes());
    assert_eq!(busy.head().status, 200, "one whose answer began goes on");
    let long = json!({ "prompt": vec![[5, 6, 7]; 250], "max_tokens": 500, "ignore_eos": true });
    let late = server.post("/v1/completions", &long.to_string());
    assert_eq!(late.error(), (504, Some("timeout".into()), None));
    drop(busy);
    server.wait_idle();
}

/// Called by `deadlines_are_kept`.
pub fn a_stream_that_waits_can_begin_at_once_and_is_kept_alive() {
    let server = Server::start(&["--slots", "1", "--early-headers"]);
    let mut slow = Client::with_little_room(server.address);
    let many =
        json!({ "prompt": vec![[5, 6, 7]; 250], "max_tokens": 500, "ignore_eos": true, "stream": true, "logprobs": 5 });
    slow.send("POST", "/v1/completions", &[], many.to_string().as_bytes());
    // It reads nothing, and keeps its slot for half a minute.
    wait_until_stalled(&server);
    let mut late = server.client();
    late.send("POST", "/v1/completions", &[], br#"{"prompt":"a","max_tokens":2,"stream":true}"#);
    assert_eq!(late.head().status, 200);
    assert_eq!(late.chunk().as_deref(), Some(&b": keep-alive\n\n"[..]));
    let mut rest = String::new();
    while let Some(chunk) = late.chunk().filter(|chunk| !chunk.is_empty()) {
        rest += std::str::from_utf8(&chunk).unwrap();
    }
    assert!(rest.ends_with("data: [DONE]\n\n"), "{rest}");
    let refused = server.post("/v1/completions", r#"{"prompt":[99999],"stream":true}"#);
    assert_eq!(refused.error().0, 400, "what is wrong with a request is still told by its status");
}

#[test]
fn one_who_asks_for_many_answers_does_not_keep_another_waiting_for_all_of_them() {
    let server = Server::start(&["--slots", "1"]);
    let many = json!({ "prompt": vec![[5, 6, 7]; 250], "max_tokens": 100, "ignore_eos": true, "stream": true });
    let mut client = server.client();
    client.send("POST", "/v1/completions", &[], many.to_string().as_bytes());
    assert_eq!(client.head().status, 200);
    server.post("/v1/completions", r#"{"prompt":"a","max_tokens":1}"#).ok();
    let waiting = server.metric("sterna_num_requests_waiting");
    assert!(waiting > 100.0, "{waiting} of the 250 still wait");
}

#[test]
fn answers_do_not_depend_on_who_else_asks() {
    let server = Server::start(&["--slots", "4", "--chunk", "16"]);
    let request = |number: usize| {
        let text = ["Once upon a time", "The sea was", "A bird"][number % 3].repeat(1 + number % 5);
        json!({ "prompt": text, "max_tokens": 5 + 7 * (number % 6), "seed": number, "temperature": number % 2 })
            .to_string()
    };
    let answer = |number| server.post("/v1/completions", &request(number)).ok()["choices"].clone();
    let alone: Vec<_> = (0..24).map(answer).collect();
    let together: Vec<_> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..24).map(|number| scope.spawn(move || answer(number))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert_eq!(alone, together);
}

#[test]
fn what_fails_ends_its_own_request_and_leaves_nothing_behind() {
    // A token whose embedding is no number.
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/golden/bitnet-128-silu/i2_s.gguf");
    let mut file = std::fs::read(golden).unwrap();
    let gguf = Gguf::parse(file.clone().into()).unwrap();
    let embedding = gguf.tensors().iter().find(|tensor| tensor.name == "token_embd.weight").unwrap();
    let embedding = gguf.data(embedding);
    let place = file.windows(embedding.len()).position(|window| window == embedding).unwrap();
    file[place + (46 * 128 + 7) * 2..][..2].copy_from_slice(&0x7e00_u16.to_le_bytes()); // in f16
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.gguf");
    std::fs::write(&path, file).unwrap();
    let server = Server::start(&["--model", path.to_str().unwrap(), "--slots", "2"]);
    for stream in [false, true] {
        let request = json!({ "prompt": [3, 77, 46, 12], "max_tokens": 4, "stream": stream });
        let failed = server.post("/v1/completions", &request.to_string());
        if stream {
            let text = failed.text();
            assert!(text.starts_with("data: {\"error\":") && !text.contains("[DONE]"), "{text}");
        } else {
            assert_eq!(failed.error(), (500, None, None));
            assert_eq!(failed.header("x-should-retry"), Some("false"), "it would fail again");
            assert!(failed.text().contains("not finite"));
        }
        server.wait_idle();
    }
    let request = json!({ "prompt": [3, 46], "max_tokens": 0, "echo": true, "logprobs": 1 });
    assert_eq!(server.post("/v1/completions", &request.to_string()).error().0, 500);
    server.wait_idle();
    assert_eq!(server.get("/health").status, 200);
}
