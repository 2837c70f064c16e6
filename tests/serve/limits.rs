//! Bodies, heads and connections beyond what is taken.

use std::io::{Read, Write};

use serde_json::json;

use crate::client::Client;
use crate::server::{Server, wait_until};

const CHAT: &str = "/v1/chat/completions";

#[test]
fn bodies_beyond_the_limits_are_refused_and_the_server_goes_on() {
    let server = Server::start(&[]);
    let large = vec![b' '; (8 << 20) + 1];
    assert_eq!(server.client().ask("POST", CHAT, &[], &large).error().0, 413);
    // Without a length it is found out on the way.
    let mut client = server.client();
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n");
    client.stream.get_mut().write_all(head.as_bytes()).unwrap();
    let piece = [format!("{:x}\r\n", 1 << 20).as_bytes(), &vec![b' '; 1 << 20], b"\r\n"].concat();
    for _ in 0..9 {
        // The server may have closed already.
        let _ = client.stream.get_mut().write_all(&piece);
    }
    assert_eq!(client.answer(true).error().0, 413);

    let refused = server.client().ask("POST", CHAT, &[("content-encoding", "gzip")], b"\x1f\x8b");
    assert_eq!(refused.error().0, 415);
    let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    assert_eq!(server.post(CHAT, &deep).error(), (400, Some("invalid_json".into()), None));
    let many = format!(r#"{{"x":[{}1]}}"#, "1,".repeat(1 << 20));
    assert_eq!(server.post(CHAT, &many).error(), (400, Some("invalid_json".into()), None));
    let broken = server.client().ask("POST", CHAT, &[], b"{\"messages\":\"\xff\"}");
    assert_eq!(broken.error(), (400, Some("invalid_json".into()), None));
    // A body that breaks off is no request, and no harm.
    let mut client = server.client();
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\n\r\n{{");
    client.stream.get_mut().write_all(head.as_bytes()).unwrap();
    drop(client);
    server.post("/v1/completions", r#"{"prompt":"a","max_tokens":1}"#).ok();
    server.wait_idle();
}

/// Those beyond the most are told so, and let in when others have gone.
#[test]
fn connections_beyond_the_most_are_told_to_come_again() {
    let server = Server::start(&["--max-connections", "3"]);
    let ask = |client: &mut Client| client.ask("GET", "/health", &[], b"");
    let mut held = Vec::new();
    // Those that asked whether the server is ready may not have left yet.
    wait_until("all places are taken", || {
        let mut client = server.client();
        if ask(&mut client).status == 200 {
            held.push(client);
        }
        held.len() == 3
    });
    let refused = ask(&mut server.client());
    assert_eq!(refused.error(), (503, Some("too_many_connections".into()), None));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(refused.text().contains("3 connections"));
    held.iter_mut().for_each(|client| assert_eq!(ask(client).status, 200));
    drop(held.pop());
    wait_until("a place is free", || ask(&mut server.client()).status == 200);
}

/// However many are on their way, each is answered, and small ones pass meanwhile.
#[test]
fn many_large_bodies_are_answered_and_keep_nobody_waiting() {
    let server = Server::start(&[]);
    let request = |text: &str| json!({ "content": text }).to_string();
    let large = request(&"bird ".repeat(80_000));
    // The end of each is held back.
    let mut begun: Vec<Client> = (0..40)
        .map(|_| {
            let mut client = server.client();
            let head = format!("POST /tokenize HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", large.len());
            client.stream.get_mut().write_all(head.as_bytes()).unwrap();
            client.stream.get_mut().write_all(&large.as_bytes()[..1000]).unwrap();
            client
        })
        .collect();
    server.post("/tokenize", &request("a bird")).ok();
    for client in &mut begun {
        client.stream.get_mut().write_all(&large.as_bytes()[1000..]).unwrap();
        assert_eq!(client.answer(true).status, 200);
    }
}

/// All bodies together have a room: those that it has no place for come again, and small ones have one of their own.
#[test]
fn bodies_have_a_bound_together() {
    let server = Server::start(&[]);
    let large = vec![b' '; 8 << 20];
    // The end of each is held back.
    let mut begun: Vec<Client> = (0..40)
        .map(|_| {
            let mut client = server.client();
            let head = format!("POST /tokenize HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", large.len());
            client.stream.get_mut().write_all(head.as_bytes()).unwrap();
            let _ = client.stream.get_mut().write_all(&large[1..]); // one that is refused may be closed
            client
        })
        .collect();
    server.post("/tokenize", r#"{"content":"a bird"}"#).ok();
    let answers = begun.iter_mut().map(|client| {
        let _ = client.stream.get_mut().write_all(&large[..1]);
        client.answer(true)
    });
    let answers: Vec<_> = answers.collect();
    let (taken, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 400);
    assert!(taken.len() >= 16 && refused.len() >= 8, "{} were taken, {} were not", taken.len(), refused.len());
    for answer in refused {
        assert_eq!(answer.error(), (503, Some("too_many_bodies".into()), None));
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    // There is room again.
    assert_eq!(server.client().ask("POST", "/tokenize", &[], &large).error(), (400, Some("invalid_json".into()), None));
}

#[test]
fn lists_beyond_the_limits_are_refused_by_name() {
    let server = Server::start(&[]);
    let turn = json!({ "role": "user", "content": "a" });
    let tool = json!({ "type": "function", "function": { "name": "f" } });
    let bias: serde_json::Map<_, _> = (0..1025).map(|id| (id.to_string(), json!(1))).collect();
    for (name, value) in [
        ("messages", json!(vec![turn.clone(); 4097])),
        ("tools", json!(vec![tool; 129])),
        ("stop", json!(vec!["a"; 17])),
        ("stop", json!("a".repeat(257))),
        ("logit_bias", json!(bias)),
    ] {
        let mut request = json!({ "messages": [turn], "max_tokens": 1 });
        request[name] = value;
        assert_eq!(server.post(CHAT, &request.to_string()).error(), (400, None, Some(name.into())));
    }
    let request = json!({ "prompt": vec!["a"; 257], "max_tokens": 1 });
    assert_eq!(server.post("/v1/completions", &request.to_string()).error(), (400, None, Some("prompt".into())));
    let request = json!({ "prompt": vec!["a"; 100], "n": 3, "max_tokens": 1 });
    assert_eq!(server.post("/v1/completions", &request.to_string()).error(), (400, None, Some("n".into())));
    let long = "the bird flew over the sea and ".repeat(200);
    let request = json!({ "messages": [{ "role": "user", "content": long }] });
    let refused = server.post(CHAT, &request.to_string());
    assert_eq!(refused.error(), (400, Some("context_length_exceeded".into()), Some("messages".into())));
}

pub fn heads_and_bodies_that_do_not_come_end_their_connections_and_no_others() {
    let server = Server::start(&[]);
    // A body that does not come is told so, later.
    let mut late = server.client();
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\n\r\n{{");
    late.stream.get_mut().write_all(head.as_bytes()).unwrap();
    let mut slow = server.client();
    slow.stream.get_mut().write_all(b"GET /health HT").unwrap();
    let mut idle = server.client();
    assert_eq!(idle.ask("GET", "/health", &[], b"").status, 200);
    assert!(slow.is_closed(), "after ten seconds");
    assert_eq!(idle.ask("GET", "/health", &[], b"").status, 200, "one that is idle stays");
    assert_eq!(late.answer(true).error(), (408, None, None));
}

pub fn a_client_that_does_not_read_its_answer_is_let_go() {
    let server = Server::start(&[]);
    let mut deaf = server.client();
    let request = json!({ "content": "the bird ".repeat(400_000), "with_pieces": true });
    deaf.send("POST", "/tokenize", &[], request.to_string().as_bytes());
    wait_until("it is let go", || server.told().iter().any(|line| line.contains("read nothing for 60 s")));
    let answer = deaf.head();
    let length: usize = answer.header("content-length").unwrap().parse().unwrap();
    let mut came = Vec::new();
    // However the connection ended, there is no more than what was under way.
    let _ = deaf.stream.read_to_end(&mut came);
    assert!(answer.status == 200 && came.len() < length / 2, "{} of {length} bytes", came.len());
}

#[test]
fn what_is_no_http_is_refused() {
    let server = Server::start(&[]);
    for nonsense in ["\r\n\r\nGET\r\n\r\n", "GET /health HTTP/9.9\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"] {
        let mut client = Client::new(server.address);
        client.stream.get_mut().write_all(nonsense.as_bytes()).unwrap();
        assert!(client.is_closed(), "{nonsense:?}");
    }
    let large = "x".repeat(1 << 20);
    let mut client = server.client();
    client.send("GET", "/health", &[("x-large", &large)], b"");
    let answer = client.head();
    assert_eq!(answer.status, 431);
    assert_eq!(server.get("/health").status, 200);
}
