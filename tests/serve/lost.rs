//! A GPU that is lost while a server works (property S7): all that runs is told, and whoever asks from then on is sent elsewhere.

use std::path::PathBuf;
use std::process::Command;

use serde_json::json;
use sterna::gpu::Adapter;

use crate::server::{Server, wait_until};
use crate::skipped::skipped;

/// The system's Vulkan, as this process has it open once it has looked for GPUs, and one of those.
fn vulkan() -> Option<(String, String)> {
    let gpu = Adapter::all().into_iter().find(|adapter| adapter.name().ends_with("(Vulkan)"))?;
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let mut paths = maps.lines().filter_map(|line| line.find('/').map(|at| &line[at..]));
    let library = paths.find(|path| path.contains("/libvulkan.so"))?;
    Some((library.to_owned(), gpu.name()))
}

/// A server on a GPU that is lost from when this file is there.
fn start(folder: &tempfile::TempDir) -> Option<(Server, PathBuf)> {
    let Some((library, gpu)) = vulkan() else {
        let required = std::env::var("STERNA_REQUIRE_GPU").is_ok_and(|value| value == "1");
        assert!(!required, "STERNA_REQUIRE_GPU is 1, but this machine offers no GPU by Vulkan");
        skipped(
            "a lost GPU: this machine offers none by Vulkan, not even a software one (Debian: mesa-vulkan-drivers)",
        );
        return None;
    };
    let mut compiler = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    compiler
        .args(["--edition", "2024", "-O", "--crate-type", "cdylib", "-o"])
        .arg(folder.path().join("libvulkan.so.1"));
    let status = compiler.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/serve/lost_vulkan.rs")).status();
    assert!(status.unwrap().success(), "the library is built");
    let lost = folder.path().join("lost");
    let environment = [
        ("LD_LIBRARY_PATH", folder.path().as_os_str()),
        ("LOST_VULKAN", library.as_ref()),
        ("LOST_WHERE", lost.as_os_str()),
    ];
    let server = Server::start_on(&["--device", &gpu, "--slots", "2", "--queue", "8"], &environment);
    wait_until("the model is loaded", || server.get("/health").status == 200);
    Some((server, lost))
}

#[test]
fn all_that_runs_is_told_and_nobody_is_taken_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let Some((server, lost)) = start(&folder) else { return };
    let body = |is_streamed: bool| {
        let text = json!({ "prompt": [5, 6, 7], "max_tokens": 500, "ignore_eos": true, "stream": is_streamed });
        text.to_string()
    };
    let ask = |is_streamed: bool| {
        let mut client = server.client();
        client.send("POST", "/v1/completions", &[], body(is_streamed).as_bytes());
        client
    };
    assert_eq!(server.post("/v1/completions", r#"{"prompt":"a","max_tokens":3}"#).status, 200, "the GPU works");
    // One that streams has begun before the others ask, so that it is none of those that wait.
    let mut streamed = ask(true);
    assert_eq!(streamed.head().status, 200);
    assert!(streamed.chunk().is_some());
    let others = [ask(false), ask(false)];
    wait_until("two run and one waits", || {
        server.metric("sterna_num_requests_running") == 2.0 && server.metric("sterna_num_requests_waiting") == 1.0
    });
    std::fs::write(&lost, "").unwrap();

    let mut text = Vec::new();
    while let Some(chunk) = streamed.chunk().filter(|chunk| !chunk.is_empty()) {
        text.extend(chunk);
    }
    let text = String::from_utf8(text).unwrap();
    let last = text.trim_end().rsplit("\n\n").next().unwrap();
    assert!(last.starts_with("data: {\"error\":"), "{last}");
    for mut other in others {
        let status = other.answer(true).error().0;
        assert!(status == 500 || status == 503, "{status}");
    }

    wait_until("/health says so", || server.get("/health").status == 503);
    assert_eq!(server.get("/health").error(), (503, Some("failed".into()), None));
    assert_eq!(server.post("/v1/completions", &body(false)).error(), (503, Some("failed".into()), None));
    server.wait_idle();
    wait_until("it is told", || server.told().iter().any(|line| line.contains("was lost")));
}
