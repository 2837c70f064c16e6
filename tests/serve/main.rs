//! The server as its clients meet it: started as a program with a small model, and spoken to over sockets, byte for byte.
//!
//! Nothing here waits for a time to pass and then hopes: what is waited for is looked at until it is so, or too long.

mod around;
mod cancel;
mod chat;
mod client;
mod completions;
mod drain;
mod embeddings;
mod errors;
#[path = "../common/examples.rs"]
mod examples;
mod forms;
#[cfg(unix)]
mod hub;
mod limits;
mod load;
#[cfg(all(target_os = "linux", target_env = "gnu", feature = "gpu"))]
mod lost;
mod metrics;
mod server;
#[cfg(all(target_os = "linux", target_env = "gnu", feature = "gpu"))]
#[path = "../common/skipped.rs"]
mod skipped;

/// What waits for deadlines of half a minute and more waits for all of them at once.
#[test]
fn deadlines_are_kept() {
    let tests: [(&str, fn()); 4] = [
        ("bodies that do not come", limits::heads_and_bodies_that_do_not_come_end_their_connections_and_no_others),
        ("an answer that nobody reads", limits::a_client_that_does_not_read_its_answer_is_let_go),
        ("a stream that waits", load::a_stream_that_waits_can_begin_at_once_and_is_kept_alive),
        ("a stream that nobody reads", cancel::whoever_reads_nothing_keeps_nobody_else_waiting),
    ];
    std::thread::scope(|scope| {
        for (name, test) in tests {
            // A panic names the thread, and ends this test too.
            std::thread::Builder::new().name(name.into()).spawn_scoped(scope, test).unwrap();
        }
    });
}
