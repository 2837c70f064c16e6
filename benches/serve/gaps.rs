//! What readers of streams see: the time between two tokens while others' prompts are read, and how first tokens and gaps are spread
//! where requests come by themselves.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::json;
use sterna::measure::Latency;
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use crate::client::{Answer, Connection};
use crate::figures::{MADE, PROMPT, SLOTS, Setting, row};
use crate::raw::Arrival;
use crate::throughput::{Reply, body};

/// Streams that are read while prompts come.
const STREAMS: usize = 8;
/// Which share of its time the engine would read long prompts, if it read them alone.
const READING: f64 = 0.3;
/// The most long prompts a second.
const MOST_PROMPTS: f64 = 20.0;

/// Requests that were sent at times of their own.
type Replies = Vec<JoinHandle<std::io::Result<Reply>>>;

/// The gaps between the tokens of streams while long prompts arrive.
pub fn under_prompts(setting: &mut Setting<'_>) -> anyhow::Result<()> {
    // A small model reads a whole prompt in a few milliseconds, and is held to less.
    let positions = setting.raw.positions();
    let (long, longest_ids) = setting.texts.chat_of(&setting.server, positions * 7 / 8)?;
    drop(long);
    let reading = setting.raw.run(&[longest_ids], 2, false)?.first;
    let stall = if reading > Duration::from_millis(400) { 200 } else { 5 };
    let arguments = ["--slots", &SLOTS.to_string(), "--max-stall", &stall.to_string()];
    let server = setting.bench.server(setting.bench.args.threads, &arguments)?;
    let rate = (READING / reading.as_secs_f64()).min(MOST_PROMPTS);
    let time = (setting.time * 2).max(reading * 12);
    let short: Vec<String> = (0..STREAMS).map(|_| body(&setting.texts.chat(32), positions - 64)).collect();
    let mut at = 0.0;
    let mut prompts = Vec::new();
    while at < time.as_secs_f64() {
        at += setting.texts.random.gap(rate);
        prompts.push((at, body(&setting.texts.chat(positions * 7 / 8), 4)));
    }
    let sent = prompts.len();
    let replies: anyhow::Result<(Vec<Answer>, Vec<Reply>)> = setting.runtime.block_on(async {
        let start = Instant::now();
        let streams: Vec<_> = short
            .into_iter()
            .map(|body| {
                tokio::spawn(async move {
                    let mut connection = Connection::open(server.address).await?;
                    let mut answers = Vec::new();
                    while start.elapsed() < time {
                        answers.push(connection.ask("/v1/chat/completions", &body).await?);
                    }
                    Ok::<_, std::io::Error>(answers)
                })
            })
            .collect();
        let mut read = Vec::new();
        for task in send(start, server.address, prompts) {
            read.push(task.await??);
        }
        let mut answers = Vec::new();
        for stream in streams {
            answers.extend(stream.await??);
        }
        Ok((answers, read))
    });
    let (streams, read) = replies?;
    let refused = read.iter().filter(|reply| reply.answer.status == 429).count();
    let gaps = streams.iter().flat_map(gaps_of);
    let Some(gaps) = Latency::of(gaps) else { anyhow::bail!("streams make tokens") };
    let wanted = 1.5 * stall as f64;
    let long = positions * 7 / 8;
    let what = format!(
        "gaps of {STREAMS} streams, {sent} prompts of {long} meanwhile ({rate:.1} a second, {refused} refused), --max-stall {stall}"
    );
    let figures = format!("p50 {:.2}, p99 {:.2}, most {:.2} ms", 1e3 * gaps.p50, 1e3 * gaps.p99, 1e3 * gaps.most);
    let wanted_text = format!("p99 ≤ {wanted} ms");
    let alone = format!("{:.1} ms for such a prompt", 1e3 * reading.as_secs_f64());
    row(&what, [&figures, &alone, "", &wanted_text], Some(1e3 * gaps.p99 <= wanted));
    Ok(())
}

/// Sends requests when their time has come.
fn send(start: Instant, address: std::net::SocketAddr, requests: Vec<(f64, String)>) -> Replies {
    let one = |(at, body): (f64, String)| {
        tokio::spawn(async move {
            sleep_until((start + Duration::from_secs_f64(at)).into()).await;
            let sent = Instant::now();
            let mut connection = Connection::open(address).await?;
            let answer = connection.ask("/v1/chat/completions", &body).await?;
            Ok(Reply { sent, answer })
        })
    };
    requests.into_iter().map(one).collect()
}

/// The times between the tokens of a stream.
fn gaps_of(answer: &Answer) -> Vec<Duration> {
    answer.stream().times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// Requests that come by themselves (Poisson), of mixed lengths, at shares of what the engine can do; the same ones come to a session
/// without a server.
pub fn arrivals(setting: &mut Setting<'_>) -> anyhow::Result<()> {
    let prompts: anyhow::Result<Vec<Vec<u32>>> =
        (0..SLOTS).map(|_| Ok(setting.texts.chat_of(&setting.server, PROMPT)?.1)).collect();
    let run = setting.raw.run(&prompts?, MADE, false)?;
    let most = SLOTS as f64 / run.time.as_secs_f64(); // requests a second
    println!(
        "\n| arrivals | of | requests | tok/s | first token p50, p95, p99 ms | gap p50, p99, most ms |\n|---|---|---|---|---|---|"
    );
    for share in [0.5, 0.8] {
        let rate = share * most;
        let time = (setting.time * 2).as_secs_f64().max(20.0 / rate);
        let (mut at, mut requests, mut arrivals) = (0.0, Vec::new(), Vec::new());
        while at < time {
            at += setting.texts.random.gap(rate);
            // As long as the requests of the rate, on average.
            let (prompt, made) =
                (32 + setting.texts.random.below(2 * PROMPT - 64), 2 + setting.texts.random.below(2 * MADE - 4));
            let (chat, ids) = setting.texts.chat_of(&setting.server, prompt)?;
            requests.push((at, body(&chat, made)));
            arrivals.push(Arrival { at, ids, made });
        }
        let count = requests.len();
        let load = format!("{rate:.2} a second, {:.0} % of what it can", 100.0 * share);
        let (start, address) = (Instant::now(), setting.server.address);
        let replies: anyhow::Result<Vec<Reply>> = setting.runtime.block_on(async {
            let mut replies = Vec::new();
            for task in send(start, address, requests) {
                replies.push(task.await??);
            }
            Ok(replies)
        });
        let (mut first, mut gaps, mut tokens, mut end) = (Vec::new(), Vec::new(), 0, start);
        for Reply { sent, answer } in replies? {
            ensure!(answer.status == 200, "status {}: {}", answer.status, json!(answer.json()));
            let stream = answer.stream();
            ensure!(stream.is_whole, "a stream broke off");
            first.extend(stream.first.map(|first| first - sent));
            gaps.extend(stream.times.windows(2).map(|pair| pair[1] - pair[0]));
            tokens += stream.usage.made;
            end = end.max(answer.last().unwrap_or(end));
        }
        line(&load, "server", count, tokens as f64 / (end - start).as_secs_f64(), first, gaps);
        let run = setting.raw.arrivals(&arrivals)?;
        line("", "without", count, run.tokens as f64 / run.time.as_secs_f64(), run.first, run.gaps);
    }
    Ok(())
}

fn line(load: &str, of: &str, count: usize, rate: f64, first: Vec<Duration>, gaps: Vec<Duration>) {
    let millis = |seconds: f64| format!("{:.2}", 1e3 * seconds);
    let first = Latency::of(first).map(|l| [l.p50, l.p95, l.p99].map(millis).join(", ")).unwrap_or_default();
    let gaps = Latency::of(gaps).map(|l| [l.p50, l.p99, l.most].map(millis).join(", ")).unwrap_or_default();
    println!("| {load} | {of} | {count} | {rate:.1} | {first} | {gaps} |");
}
