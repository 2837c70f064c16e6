//! Hundreds of clients that do for minutes what clients do: read streams and whole answers, go away at any time, read slowly or not at
//! all, send what is too large, no JSON, or no request. Every request must come to a whole answer, a refusal that was due, or its
//! client's own end; memory must not grow; and when all are gone, nothing runs and nothing waits.

mod clients;
mod kinds;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sterna::measure::Latency;
use tokio::runtime::Runtime;

use crate::client::Connection;
use crate::figures::median;
use crate::server::Server;
use crate::texts::Texts;
use crate::{Args, Bench};
use clients::{Client, Outcome, Said};
use kinds::Kind;

const SLOTS: usize = 16;
/// Fewer than there are clients, so that some are told to come again.
const QUEUE: usize = 64;
/// How often the server is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long it may take until nothing runs any more once all are gone.
const SETTLED: Duration = Duration::from_secs(10);
/// Memory that may be more in the last quarter than in the second: what allocators keep of peaks.
const GROWN: f64 = 0.05;

/// Faults that are written out.
const MOST_FAULTS: usize = 20;

/// What became of all requests.
#[derive(Default)]
struct Count {
    outcomes: BTreeMap<Kind, BTreeMap<&'static str, u64>>,
    lost: Vec<String>,
    tokens: u64,
}

/// The server's memory and how soon it answers, second for second.
#[derive(Default)]
struct Looks {
    resident: Vec<f64>, // MB
    health: Vec<Duration>,
    unwell: u64,
}

pub fn soak(bench: &Bench, runtime: &Runtime) -> anyhow::Result<ExitCode> {
    let Args { minutes, connections, seed, threads, .. } = bench.args;
    let mut server = bench.server(threads, &["--slots", &SLOTS.to_string(), "--queue", &QUEUE.to_string()])?;
    let mut texts = Texts::new(&server, seed)?;
    let positions = bench.model.config().context.min(4096);
    let chats = (0..64).map(|place| texts.chat((24 + 5 * place).min(positions / 2))).collect();
    let said = Arc::new(Said::new(chats, positions));
    println!("{connections} connections, {SLOTS} slots, a queue of {QUEUE}, {minutes} minutes\n");
    let files = server.files();
    let deadline = Instant::now() + Duration::from_secs_f64(60.0 * minutes);
    let (count, looks) = runtime.block_on(async {
        let clients: Vec<_> = (0..connections as u64)
            .map(|number| tokio::spawn(run(Client::new(server.address, said.clone(), seed << 32 | number), deadline)))
            .collect();
        let looks = look(&server, deadline).await;
        let mut count = Count::default();
        for client in clients {
            let of_one = client.await?;
            for (kind, outcomes) in of_one.outcomes {
                let of_kind = count.outcomes.entry(kind).or_default();
                outcomes.into_iter().for_each(|(word, times)| *of_kind.entry(word).or_default() += times);
            }
            count.lost.extend(of_one.lost);
            count.tokens += of_one.tokens;
        }
        Ok::<_, anyhow::Error>((count, looks))
    })?;
    report(&count, &looks, minutes);
    let faults = faults(&mut server, &count, &looks, files);
    faults.iter().take(MOST_FAULTS).for_each(|fault| println!("- **fault**: {fault}"));
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One client, who does one thing after the other.
async fn run(mut client: Client, deadline: Instant) -> Count {
    let mut count = Count::default();
    while Instant::now() < deadline {
        client.think().await;
        let kind = client.choose();
        let word = match client.act(kind).await {
            Outcome::Whole(tokens) => {
                count.tokens += tokens as u64;
                "whole"
            }
            Outcome::Refused => "refused, as due",
            Outcome::Busy => "told to come again",
            Outcome::Gone => "went away",
            Outcome::LetGo => "let go",
            Outcome::Lost(why) => {
                count.lost.push(format!("{kind:?}: {why}"));
                "lost"
            }
        };
        *count.outcomes.entry(kind).or_default().entry(word).or_default() += 1;
    }
    count
}

/// Looks at the server every second: its memory, and how soon it says that it is well.
async fn look(server: &Server, deadline: Instant) -> Looks {
    let mut looks = Looks::default();
    while Instant::now() < deadline {
        tokio::time::sleep(LOOK).await;
        looks.resident.extend(server.resident().map(|bytes| bytes as f64 / 1e6));
        let start = Instant::now();
        let answer = async { Connection::open(server.address).await?.get("/health").await }.await;
        match answer {
            Ok(answer) if answer.status == 200 => looks.health.push(start.elapsed()),
            _ => looks.unwell += 1,
        }
    }
    looks
}

fn report(count: &Count, looks: &Looks, minutes: f64) {
    let words = ["whole", "refused, as due", "told to come again", "went away", "let go", "lost"];
    println!("| what clients do | {} |\n|---|{}", words.join(" | "), "---|".repeat(words.len()));
    for (kind, outcomes) in &count.outcomes {
        let cells = words.map(|word| outcomes.get(word).map_or(String::new(), u64::to_string));
        println!("| {} | {} |", kind.name(), cells.join(" | "));
    }
    println!("\n{:.0} tokens a second in whole answers.", count.tokens as f64 / (60.0 * minutes));
    if let Some(health) = Latency::of(looks.health.iter().copied()) {
        let millis = [health.p50, health.p99, health.most].map(|seconds| format!("{:.1}", 1e3 * seconds)).join(", ");
        println!("/health answers in p50, p99, most {millis} ms, on a connection of its own.");
    }
    let quarters = quarters(&looks.resident).map(|megabytes| format!("{megabytes:.1}")).join(", ");
    println!("Resident memory in the four quarters: {quarters} MB.\n");
}

/// The medians of the quarters.
fn quarters(figures: &[f64]) -> [f64; 4] {
    let of = |quarter: usize| median(figures[figures.len() * quarter / 4..figures.len() * (quarter + 1) / 4].to_vec());
    [of(0), of(1), of(2), of(3)]
}

/// What must not be.
fn faults(server: &mut Server, count: &Count, looks: &Looks, files: Option<usize>) -> Vec<String> {
    let mut faults = count.lost.clone();
    let [_, second, _, last] = quarters(&looks.resident);
    if last > second * (1.0 + GROWN) {
        faults.push(format!("memory grew from {second:.1} to {last:.1} MB"));
    }
    if looks.unwell > 0 {
        faults.push(format!("/health did not answer 200 {} times", looks.unwell));
    }
    if !server.is_running() {
        faults.push("the server has ended".into());
        return faults;
    }
    if let Err(error) = server.wait_idle(SETTLED) {
        faults.push(error.to_string());
    }
    for metric in ["sterna_num_requests_running", "sterna_num_requests_waiting", "sterna_kv_cache_usage_perc"] {
        match server.metric(metric) {
            Ok(value) => println!("{metric} {value}"),
            Err(error) => faults.push(error.to_string()),
        }
    }
    let deadline = Instant::now() + SETTLED;
    while server.files() > files && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    if server.files() > files {
        faults.push(format!("{:?} files are open, and before all there were {files:?}", server.files()));
    }
    match server.ask("POST", "/v1/completions", r#"{"prompt":"a","max_tokens":1}"#) {
        Ok((200, _)) => {}
        other => faults.push(format!("the next request: {other:?}")),
    }
    faults
}
