//! What every answer has: keys, names, what browsers ask, the routes' own manners.

use serde_json::{Value, json};

use crate::server::Server;

const TEXT: &str = "/v1/completions";
const BODY: &[u8] = br#"{"prompt":"a","max_tokens":1}"#;

#[test]
fn a_key_is_asked_for_where_one_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    std::fs::write(&file, "# of friends\nthird\n\n").unwrap();
    let arguments = ["--api-key", "first", "--api-key", "second", "--api-key-file", file.to_str().unwrap()];
    let server = Server::start(&arguments);
    let ask = |headers: &[(&str, &str)]| server.client().ask("POST", TEXT, headers, BODY);
    for headers in [
        [("authorization", "Bearer first")],
        [("authorization", "bearer second")],
        [("x-api-key", "third")],
        [("api-key", "first")],
    ] {
        assert_eq!(ask(&headers).status, 200, "{headers:?}");
    }
    for headers in [
        &[][..],
        &[("authorization", "Bearer fourth")],
        &[("authorization", "Bearer ")],
        &[("authorization", "first")],
        &[("authorization", "Basic first")],
        &[("x-api-key", "firs")],
    ] {
        let refused = ask(headers);
        assert_eq!(refused.error(), (401, Some("invalid_api_key".into()), None), "{headers:?}");
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
        assert_eq!(refused.json()["error"]["type"], "authentication_error");
    }
    for path in ["/health", "/healthz", "/ping", "/livez", "/readyz", "/health/", "/metrics", "/"] {
        assert_eq!(server.get(path).status, 200, "{path} is free");
    }
    for path in ["/v1/models", "/props", "/nothing"] {
        assert_eq!(server.get(path).status, 401, "{path}");
    }
    assert_eq!(server.client().ask("OPTIONS", TEXT, &[], b"").status, 204);
    let closed = Server::start(&["--api-key", "k", "--metrics-key"]);
    assert_eq!(closed.get("/metrics").status, 401);
}

/// Nobody learns from the cache how another's prompt begins.
#[test]
fn keys_and_salts_keep_prompts_apart() {
    let keys = ["--api-key", "one", "--api-key", "two", "--slots", "4"];
    let prompt = "Once upon a time there was a little bird who lived by the sea and sang all day.";
    let cached = |server: &Server, key: &str, more: Value| {
        let mut body = json!({ "prompt": prompt, "max_tokens": 2, "ignore_eos": true });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = server.client().ask("POST", TEXT, &[("x-api-key", key)], body.to_string().as_bytes()).ok();
        answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap() > 0
    };
    let shared = Server::start(&keys);
    let salt = |salt: &str| json!({ "cache_salt": salt });
    assert!(!cached(&shared, "one", json!({})) && cached(&shared, "two", json!({})), "all share, if nobody minds");
    assert!(!cached(&shared, "one", salt("mine")) && cached(&shared, "two", salt("mine")));
    assert!(!cached(&shared, "one", salt("other")) && cached(&shared, "one", json!({})));

    let apart = Server::start(&[&keys[..], &["--cache-per-key"]].concat());
    // What is read for its likelihoods is left to the same ones.
    let echo = json!({ "echo": true, "logprobs": 1, "max_tokens": 0 });
    assert!(!cached(&apart, "one", echo) && !cached(&apart, "two", json!({})) && cached(&apart, "one", json!({})));
    assert!(cached(&apart, "two", json!({})));
    assert!(!cached(&apart, "one", salt("mine")) && !cached(&apart, "two", salt("mine")));
    assert!(cached(&apart, "one", salt("mine")) && cached(&apart, "one", json!({})));
}

#[test]
fn other_machines_need_a_key_and_a_key_is_not_empty() {
    for (arguments, says) in [
        (&["--host", "0.0.0.0"][..], "--no-key"),
        (&["--api-key", ""], "empty key"),
        (&["--api-key-file", "/dev/null"], "holds no key"),
        (&["--cache-per-key"], "--api-key"),
        (&["--model", "/nonexistent"], "/nonexistent"),
    ] {
        let output = crate::server::output(arguments);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && told.contains(says), "{arguments:?}: {told}");
    }
    let server = Server::start(&["--host", "0.0.0.0", "--no-key"]);
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn pages_may_read_what_they_are_allowed_to() {
    let server = Server::start(&["--cors", "https://example.org/"]);
    let allowed = |origin: &str| {
        // An error, which a page must be able to read as well.
        let answer = server.client().ask("POST", TEXT, &[("origin", origin)], b"{}");
        assert_eq!(answer.status, 400);
        assert!(answer.headers.iter().any(|(name, value)| name == "vary" && value.contains("origin")));
        answer.header("access-control-allow-origin").map(str::to_owned)
    };
    for origin in ["http://localhost:3000", "http://127.0.0.1", "http://[::1]:8080", "https://example.org"] {
        assert_eq!(allowed(origin).as_deref(), Some(origin));
    }
    for origin in ["https://example.com", "http://localhost.example.com", "http://127.0.0.1.example.com", "null"] {
        assert_eq!(allowed(origin), None, "{origin}");
    }
    let asks = [
        ("origin", "http://localhost:1"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,x-stainless-os"),
    ];
    let preflight = server.client().ask("OPTIONS", TEXT, &asks, b"");
    assert_eq!((preflight.status, preflight.header("access-control-max-age")), (204, Some("86400")));
    assert_eq!(preflight.header("access-control-allow-headers"), Some("authorization,x-stainless-os"));
    assert!(preflight.header("access-control-allow-methods").unwrap().contains("POST"));
    assert_eq!(preflight.header("access-control-allow-credentials"), None);
    let any = Server::start(&["--cors", "*"]);
    let stream = br#"{"prompt":"a","max_tokens":1,"stream":true}"#;
    let answer = any.client().ask("POST", TEXT, &[("origin", "https://a.example")], stream);
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "streams too");
    assert!(!answer.events().is_empty());
}

#[test]
fn a_request_keeps_its_name_and_has_a_line() {
    let server = Server::start(&[]);
    let answer = server.client().ask("POST", TEXT, &[("x-request-id", "mine-7")], BODY);
    assert_eq!(answer.header("x-request-id"), Some("mine-7"));
    let line = || server.told().into_iter().find(|line| line.contains("mine-7"));
    crate::server::wait_until("the line is there", || line().is_some());
    let line = line().unwrap();
    for part in ["POST /v1/completions 200", "prompt=2", "made=1", "cached=0", "ttft_ms=", "total_ms="] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert!(!line.contains("\"a\""), "what was said is not told");
    for unfit in ["", "a b", &"x".repeat(129)] {
        let answer = server.client().ask("GET", "/health", &[("x-request-id", unfit)], b"");
        assert!(answer.header("x-request-id").unwrap().starts_with("req-"), "{unfit:?}");
    }
}

#[test]
fn routes_have_the_manners_of_http() {
    let server = Server::start(&[]);
    for path in ["/v1/nothing", "/v1/chat/completions/render", "/server_info", "/get_model_info"] {
        assert_eq!(server.get(path).error(), (404, None, None), "{path}");
    }
    assert!(server.get("/api/tags").text().contains("Ollama"), "a hint");
    let wrong = server.get(TEXT);
    assert_eq!((wrong.error().0, wrong.header("allow")), (405, Some("POST")));
    let wrong = server.client().ask("PUT", "/v1/models", &[], b"{}");
    assert_eq!((wrong.error().0, wrong.header("allow")), (405, Some("GET,HEAD")));
    for path in ["/health", "/v1/models/", "/models", "/metrics", "/props"] {
        let head = server.client().ask("HEAD", path, &[], b"");
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(server.get(path).status, 200);
    }
    // One connection takes one request after the other, and a wrong one does not end it.
    let mut client = server.client();
    for (path, status) in [("/health", 200), ("/nothing", 404), (TEXT, 405), ("/health", 200)] {
        assert_eq!(client.ask("GET", path, &[], b"").status, status);
    }
    let page = server.get("/");
    assert!(page.header("content-type").unwrap().starts_with("text/html") && page.text().contains("<!doctype html>"));
    // Alone, it has no second engine to ask for.
    assert!(!page.text().contains("<html lang=\"en\" data-package>"));
    let policy = page.text().lines().find(|line| line.contains("Content-Security-Policy")).unwrap().to_owned();
    assert!(policy.contains("script-src 'unsafe-inline';") && policy.contains("trusted-types 'none'"), "{policy}");
    assert!(!policy.contains("worker-src"), "{policy}");
    assert_eq!(server.get("/slots").status, 404);
    let shown = Server::start(&["--slots-route", "--slots", "3"]);
    assert_eq!(shown.get("/slots").ok().as_array().unwrap().len(), 3);
    assert_eq!(shown.get("/props").ok()["total_slots"], 3);
}

#[test]
fn a_package_for_the_tab_is_served_without_a_key_and_nothing_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let package = folder.path().join("dist");
    for inner in ["relaxed/deeper", "simd128"] {
        std::fs::create_dir_all(package.join(inner)).unwrap();
    }
    // What the page keeps for the time without a network is what it takes.
    let worker = std::fs::read_to_string("web/page/service-worker.js").unwrap();
    let kept = worker.split_once("const FILES = [").unwrap().1.split_once("];").unwrap().0;
    let kept = kept.split('"').skip(1).step_by(2).map(|file| if file == "./" { "index.html" } else { file });
    let files: Vec<_> = kept.chain(["service-worker.js"]).collect();
    assert!(files.len() == 11 && files.contains(&"relaxed/sterna_web_bg.wasm"), "{files:?}");
    for file in &files {
        std::fs::write(package.join(file), format!("this is {file}")).unwrap();
    }
    let others = ["notes.txt", "more.js", "relaxed/sterna_web.d.ts", "relaxed/deeper/a.js", "../secret.js"];
    for path in others {
        std::fs::write(package.join(path), "not for all").unwrap();
    }
    let server = Server::start_unready(&["--api-key", "first", "--web", package.to_str().unwrap()]);
    for file in &files {
        let answer = server.get(&format!("/{file}?version"));
        assert_eq!((answer.status, answer.text()), (200, format!("this is {file}")));
        let kind = match file.rsplit_once('.').unwrap().1 {
            "html" => "text/html",
            "js" => "text/javascript",
            "wasm" => "application/wasm",
            _ => "application/octet-stream",
        };
        assert!(answer.header("content-type").unwrap().starts_with(kind), "{file}");
    }
    assert_eq!(server.get("/").text(), "this is index.html");
    for path in ["/index.html", "/tab.js", "/simd128/sterna_web_bg.wasm"] {
        let head = server.client().ask("HEAD", path, &[], b"");
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        for method in ["POST", "PUT", "DELETE"] {
            let wrong = server.client().ask(method, path, &[], b"");
            assert_eq!((wrong.error().0, wrong.header("allow")), (405, Some("GET,HEAD")), "{method} {path}");
        }
    }
    let around = ["/%2e%2e/secret.js", "/relaxed/../../secret.js", "/../dist/tab.js", "/relaxed/..%2ftab.js"];
    for path in others.iter().map(|path| format!("/{path}")).chain(around.map(str::to_owned)) {
        assert_eq!(server.get(&path).status, 401, "{path}");
        let keyed = server.client().ask("GET", &path, &[("x-api-key", "first")], b"");
        assert_eq!(keyed.error(), (404, None, None), "{path}");
    }
    // A folder that lacks some of it is told before anything is served.
    for missing in [package.join("relaxed/sterna_web.js"), package.join("index.html")] {
        std::fs::remove_file(missing).unwrap();
        let output = crate::server::output(&["--web", package.to_str().unwrap()]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains("holds no package for a page"), "{told}");
    }
}

#[test]
fn text_becomes_ids_and_text_again() {
    let server = Server::start(&[]);
    let ask = |path: &str, body: serde_json::Value| server.post(path, &body.to_string()).ok();
    let text = "Once upon a time 🐦";
    let plain = ask("/tokenize", json!({ "content": text }))["tokens"].clone();
    let all = ask("/tokenize", json!({ "content": text, "add_special": true }))["tokens"].clone();
    assert_eq!(all.as_array().unwrap()[1..], *plain.as_array().unwrap());
    let vllm = ask("/tokenize", json!({ "prompt": text, "model": "tales-4m-i2_s" }));
    assert_eq!((&vllm["tokens"], &vllm["count"]), (&all, &json!(all.as_array().unwrap().len())));
    assert_eq!(vllm["max_model_len"], 512);
    assert_eq!(ask("/tokenize", json!({ "prompt": text, "add_special_tokens": false }))["tokens"], plain);
    let back = ask("/detokenize", json!({ "tokens": plain }));
    assert_eq!((back["content"].as_str(), back["prompt"].as_str()), (Some(text), Some(text)));
    let pieces = ask("/tokenize", json!({ "content": text, "with_pieces": true }))["tokens"].clone();
    let ids: Vec<_> = pieces.as_array().unwrap().iter().map(|piece| piece["id"].clone()).collect();
    assert_eq!(json!(ids), plain);
    // Routers send conversations here, and get what a chat would compute.
    let turns = json!([{ "role": "user", "content": "Hello" }]);
    let chat = ask("/tokenize", json!({ "model": "tales-4m-i2_s", "messages": turns }))["count"].clone();
    let answer = ask("/v1/chat/completions", json!({ "messages": turns, "max_tokens": 1 }));
    assert_eq!(answer["usage"]["prompt_tokens"], chat);
    assert_eq!(server.post("/tokenize", "{}").error().0, 400);
    assert_eq!(server.post("/detokenize", r#"{"tokens":[99999]}"#).error(), (400, None, Some("tokens".into())));
}

#[test]
fn what_is_said_is_told_to_the_log_where_that_is_asked_for() {
    let server = Server::start(&["--log-content"]);
    // The best tokens, which are words: the log writes quotation marks and line ends in another way.
    let request = json!({ "prompt": "Once upon a time", "max_tokens": 4, "temperature": 0, "stream": true });
    let events = server.post(TEXT, &request.to_string()).events();
    let text: String = events.iter().map(|event| event["choices"][0]["text"].as_str().unwrap()).collect();
    let turns = json!({ "messages": [{ "role": "user", "content": "Of a puffin" }], "max_tokens": 2 });
    server.post("/v1/chat/completions", &turns.to_string()).ok();
    crate::server::wait_until("all of it is told", || {
        let told = server.told().join("\n");
        ["Once upon a time", "Of a puffin", text.trim()].iter().all(|part| told.contains(part))
    });
}
