//! Tokens a second of some clients at once, and what each token costs beside its step.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::client::{Answer, Connection};
use crate::figures::{MADE, PROMPT, SLOTS, Setting, median, row};
use crate::raw::Raw;
use crate::server::cpu_seconds;

/// Fewer say nothing of how far figures lie apart.
const ROUNDS: usize = 3;

/// A request whose answer came.
pub struct Reply {
    pub sent: Instant,
    pub answer: Answer,
}

/// A stream of exactly so many tokens, the most likely ones, with nothing taken from a cache.
pub fn body(messages: &Value, made: usize) -> String {
    let asked = json!({
        "messages": messages, "max_tokens": made, "ignore_eos": true, "temperature": 0, "cache_prompt": false,
        "stream": true, "stream_options": { "include_usage": true },
    });
    asked.to_string()
}

/// Sends all requests at once, each on a connection of its own, and waits for all answers.
async fn together(connections: &mut Vec<Connection>, bodies: Vec<String>) -> anyhow::Result<Vec<Reply>> {
    let tasks: Vec<_> = connections
        .drain(..)
        .zip(bodies)
        .map(|(mut connection, body)| {
            tokio::spawn(async move {
                let sent = Instant::now();
                let answer = connection.ask("/v1/chat/completions", &body).await?;
                Ok::<_, std::io::Error>((connection, Reply { sent, answer }))
            })
        })
        .collect();
    let mut replies = Vec::new();
    for task in tasks {
        let (connection, reply) = task.await??;
        ensure!(reply.answer.status == 200, "status {}: {:?}", reply.answer.status, reply.answer.json());
        connections.push(connection);
        replies.push(reply);
    }
    Ok(replies)
}

/// One round of so many clients: seconds from the first request to the last byte, and tokens.
fn round(
    setting: &Setting<'_>,
    connections: &mut Vec<Connection>,
    bodies: Vec<String>,
) -> anyhow::Result<(f64, usize)> {
    let start = Instant::now();
    let replies = setting.runtime.block_on(together(connections, bodies))?;
    let last = replies.iter().filter_map(|reply| reply.answer.last()).max().context("there are replies")?;
    let mut tokens = 0;
    for reply in &replies {
        let stream = reply.answer.stream();
        ensure!(stream.is_whole && stream.finished == 1, "a stream broke off");
        tokens += stream.usage.made;
    }
    Ok(((last - start).as_secs_f64(), tokens))
}

fn connect(setting: &Setting<'_>, count: usize) -> anyhow::Result<Vec<Connection>> {
    setting.runtime.block_on(async {
        let mut connections = Vec::new();
        for _ in 0..count {
            connections.push(Connection::open(setting.server.address).await?);
        }
        Ok(connections)
    })
}

/// Chats of the wanted length as requests and as ids.
fn prompts(setting: &mut Setting<'_>, count: usize, made: usize) -> anyhow::Result<(Vec<String>, Vec<Vec<u32>>)> {
    let (mut bodies, mut ids) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let (chat, of_chat) = setting.texts.chat_of(&setting.server, PROMPT)?;
        bodies.push(body(&chat, made));
        ids.push(of_chat);
    }
    Ok((bodies, ids))
}

/// Throughput of so many clients, who each send one request at the same time; the whole time counts, prompts too.
pub fn measure(setting: &mut Setting<'_>, clients: usize) -> anyhow::Result<()> {
    let (bodies, ids) = prompts(setting, clients, MADE)?;
    let mut connections = connect(setting, clients)?;
    let (mut server, mut raw, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    // The first round warms up.
    round(setting, &mut connections, bodies.clone())?;
    setting.raw.run(&ids, MADE, false)?;
    let start = Instant::now();
    while server.len() < ROUNDS || start.elapsed() < setting.time {
        let (seconds, tokens) = round(setting, &mut connections, bodies.clone())?;
        let run = setting.raw.run(&ids, MADE, false)?;
        let rates = [tokens as f64 / seconds, run.tokens as f64 / run.time.as_secs_f64()];
        server.push(rates[0]);
        raw.push(rates[1]);
        ratios.push(100.0 * rates[0] / rates[1]);
    }
    let spread = ratios.iter().fold((f64::INFINITY, 0.0_f64), |(least, most), &r| (least.min(r), most.max(r)));
    let (rounds, ratio) = (ratios.len(), median(ratios));
    let what = format!("{clients} at once, {PROMPT} + {MADE} tokens");
    let compared = format!("{ratio:.1} % ({:.0} to {:.0}, {rounds} rounds)", spread.0, spread.1);
    row(&what, [&tokens(median(server)), &tokens(median(raw)), &compared, "≥ 95 %"], Some(ratio >= 95.0));
    Ok(())
}

fn tokens(rate: f64) -> String {
    format!("{rate:.1} tok/s")
}

/// Time of the cores beside the steps, with one thread that computes, so that a step's time is its cores' time too.
pub fn overhead(setting: &mut Setting<'_>) -> anyhow::Result<()> {
    let server = setting.bench.server(1, &["--slots", &SLOTS.to_string()])?;
    let many = std::mem::replace(&mut setting.server, server);
    let mut raw = Raw::new(&setting.bench.model, 1, SLOTS)?;
    let made = (raw.positions() - PROMPT - 16).min(if setting.bench.args.quick { 128 } else { 512 });
    let (bodies, ids) = prompts(setting, SLOTS, made)?;
    let mut connections = connect(setting, SLOTS)?;
    let measured = |setting: &Setting<'_>| -> anyhow::Result<[f64; 2]> {
        Ok([setting.server.cpu().unwrap_or(f64::NAN), setting.server.metric("sterna_step_seconds_sum")?])
    };
    let own = || cpu_seconds("self").unwrap_or(f64::NAN);
    round(setting, &mut connections, bodies.clone())?;
    let (mut taken, mut stepped, mut client, mut without, mut count) = (0.0, 0.0, 0.0, 0.0, 0);
    let start = Instant::now();
    while start.elapsed() < setting.time.max(Duration::from_secs(5)) {
        let ([cpu, step], before) = (measured(setting)?, own());
        count += round(setting, &mut connections, bodies.clone())?.1;
        let between = own();
        raw.run(&ids, made, false)?;
        without += own() - between;
        client += between - before;
        let after = measured(setting)?;
        taken += after[0] - cpu;
        stepped += after[1] - step;
    }
    setting.server = many;
    let [taken, stepped, client, without] = [taken, stepped, client, without].map(|time| 1e6 * time / count as f64);
    let (beside_steps, beside_raw) = (taken - stepped, taken - without);
    let micros = |time: f64| format!("{time:.1} µs");
    let (server, compared) = (micros(taken), format!("{beside_raw:+.1} µs (the client took {client:.1})"));
    row("cores' time a token, 16 at once, 1 thread", [&server, &micros(without), &compared, ""], None);
    let steps = format!("{} in steps", micros(stepped));
    row(
        "the same, beside the steps",
        [&server, &steps, &format!("{beside_steps:+.1} µs"), "< 50 µs"],
        Some(beside_steps < 50.0),
    );
    Ok(())
}
