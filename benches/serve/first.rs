//! The time to a first token, and what stands before it: the text of a chat, and its ids.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::{Value, json};

use crate::client::Connection;
use crate::figures::{PROMPT, Setting, median, row};
use crate::throughput;

/// Tokens of the answer between two turns.
const ANSWER: usize = 16;
/// Tokens of the second turn.
const TURN: usize = 50;
/// Tokens of a long conversation.
const LONG: usize = 3000;
/// What a first token may take beside its prompt.
const WANTED_MS: f64 = 5.0;

/// How often something is measured.
fn times(setting: &Setting<'_>) -> usize {
    if setting.bench.args.quick { 5 } else { 25 }
}

/// Seconds to the first event of a stream, its tokens that were cached, and its text.
fn first(setting: &Setting<'_>, connection: &mut Connection, body: &str) -> anyhow::Result<(f64, usize, String)> {
    let sent = Instant::now();
    let answer = setting.runtime.block_on(connection.ask("/v1/chat/completions", body))?;
    ensure!(answer.status == 200, "status {}: {:?}", answer.status, answer.json());
    let stream = answer.stream();
    let first = stream.first.unwrap_or(sent);
    Ok(((first - sent).as_secs_f64(), stream.usage.cached, stream.text))
}

/// Of a server that has nothing else to do.
pub fn idle(setting: &mut Setting<'_>) -> anyhow::Result<()> {
    let mut connection = setting.runtime.block_on(Connection::open(setting.server.address))?;
    let (mut server, mut raw) = (Vec::new(), Vec::new());
    for _ in 0..times(setting) {
        let (chat, ids) = setting.texts.chat_of(&setting.server, PROMPT)?;
        server.push(first(setting, &mut connection, &throughput::body(&chat, 2))?.0);
        raw.push(setting.raw.run(&[ids], 2, false)?.first.as_secs_f64());
    }
    compare(&format!("first token of {PROMPT}, nothing else running"), server, raw, |server, raw| {
        (format!("{:+.2} ms", server - raw), format!("< +{WANTED_MS} ms"), server - raw < WANTED_MS)
    });
    Ok(())
}

/// Of a turn whose conversation is cached.
pub fn second_turn(setting: &mut Setting<'_>) -> anyhow::Result<()> {
    let mut connection = setting.runtime.block_on(Connection::open(setting.server.address))?;
    let long = LONG.min(setting.raw.positions() * 5 / 8);
    let body = |messages: &Value, made: usize| {
        json!({ "messages": messages, "max_tokens": made, "ignore_eos": true, "temperature": 0, "stream": true,
                "stream_options": { "include_usage": true } })
        .to_string()
    };
    let (mut server, mut raw, mut cached, mut read) = (Vec::new(), Vec::new(), 0, 0);
    for _ in 0..times(setting).min(if long < LONG { 25 } else { 5 }) {
        let (mut chat, begin) = setting.texts.chat_of(&setting.server, long)?;
        let (_, _, text) = first(setting, &mut connection, &body(&chat, ANSWER))?;
        let turn = setting.texts.message(TURN);
        let turns = chat.as_array_mut().into_iter().flatten().map(|turn| turn.take());
        let answer = json!({ "role": "assistant", "content": text });
        let chat: Value = turns.chain([answer, json!({ "role": "user", "content": turn })]).collect();
        let whole = setting.server.ids(&chat)?;
        let (seconds, known, _) = first(setting, &mut connection, &body(&chat, 2))?;
        server.push(seconds);
        (cached, read) = (known, whole.len() - known);
        setting.raw.run(&[begin], ANSWER, true)?;
        raw.push(setting.raw.run(&[whole], 2, true)?.first.as_secs_f64());
    }
    compare(&format!("first token of a second turn, {cached} cached, {read} new"), server, raw, |server, raw| {
        let wanted = format!("≤ 1.2 ×, or +{WANTED_MS} ms");
        let is_met = server <= 1.2 * raw || server - raw < WANTED_MS;
        (format!("{:.2} ×, {:+.2} ms", server / raw, server - raw), wanted, is_met)
    });
    Ok(())
}

/// Writes the medians, in milliseconds.
fn compare(what: &str, server: Vec<f64>, raw: Vec<f64>, judge: impl Fn(f64, f64) -> (String, String, bool)) {
    let times = server.len();
    let (server, raw) = (1e3 * median(server), 1e3 * median(raw));
    let (compared, wanted, is_met) = judge(server, raw);
    let compared = format!("{compared} (of {times})");
    row(what, [&format!("{server:.2} ms"), &format!("{raw:.2} ms"), &compared, &wanted], Some(is_met));
}

/// A long chat to ids, asked for alone.
pub fn tokenising(setting: &mut Setting<'_>) -> anyhow::Result<()> {
    const TOKENS: usize = 4096;
    let (mut taken, mut count) = (Vec::new(), 0);
    for _ in 0..times(setting) {
        let chat = setting.texts.chat(TOKENS);
        let start = Instant::now();
        count = setting.server.ids(&chat)?.len();
        taken.push(start.elapsed().as_secs_f64());
        std::thread::sleep(Duration::from_millis(1)); // the next one meets a server at rest
    }
    let millis = 1e3 * median(taken);
    let what = format!("rendering and encoding {count} tokens");
    row(&what, [&format!("{millis:.2} ms"), "", "", "< 10 ms"], Some(millis < 10.0));
    Ok(())
}
