//! Serves a ternary language model to programs that speak OpenAI's interface, and a chat page to people:
//!
//! ```text
//! cargo run --release --features serve --example serve -- --model FILE
//! ```
//!
//! Requests come in on a few asynchronous threads ([`http`], [`routes`]), are read and checked ([`request`]), and are computed on one
//! thread that has the session ([`engine`]); what comes out of there becomes answers ([`answer`]).

mod answer;
mod app;
mod args;
#[path = "../shared/command.rs"]
mod command;
#[path = "../shared/device.rs"]
mod device;
#[path = "../shared/drivers.rs"]
mod drivers;
mod end;
mod engine;
mod http;
mod load;
mod metrics;
#[path = "../shared/model.rs"]
mod model;
#[path = "../shared/numbers.rs"]
mod numbers;
#[path = "../shared/quiet.rs"]
mod quiet;
mod request;
mod routes;
#[path = "../shared/setup.rs"]
mod setup;
#[expect(dead_code, reason = "what only programs with an end of their own need of it")]
#[path = "../shared/terminal.rs"]
mod terminal;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, bail};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use app::App;
use args::Args;
use engine::Engine;
use http::connection;
use http::cors::Cors;
use http::front::Front;
use http::keys::Keys;
use metrics::Metrics;
use routes::page::Package;
use setup::Setup;

/// Threads that read requests and send answers, which is little work.
const NETWORK_THREADS: usize = 2;
/// Threads that read JSON and encode text.
const PARSING_THREADS: usize = 4;

fn main() -> anyhow::Result<ExitCode> {
    drivers::quiet();
    // A line for each request, and warnings of the library; the environment variable RUST_LOG asks for more or less.
    let environment = env_logger::Env::default().default_filter_or("warn,serve=info");
    env_logger::Builder::from_env(environment).format_timestamp(None).format_target(false).init();
    let args: Args = command::parse();
    if args.device.devices {
        return device::list().map(|()| ExitCode::SUCCESS);
    }
    let keys =
        Keys::gather(&args.settings.api_key, args.settings.api_key_file.as_deref(), args.settings.cache_per_key)?;
    let (host, port) = (args.settings.host, args.settings.port);
    if !host.is_loopback() && keys.is_empty() && !args.settings.no_key {
        bail!("{host} is reached by other machines: give --api-key KEY, or --no-key if all who reach it may use it");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(NETWORK_THREADS)
        .max_blocking_threads(PARSING_THREADS)
        .enable_all()
        .build()?;
    let package = args.settings.web.as_deref().map(Package::read).transpose()?.unwrap_or_default();
    runtime.block_on(serve(args, keys, package, SocketAddr::new(host, port)))?;
    // What still runs aside is not waited for.
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

/// Listens, loads the model meanwhile, and serves it until a signal comes.
async fn serve(args: Args, keys: Keys, package: Package, address: SocketAddr) -> anyhow::Result<()> {
    // Until the model is there, a signal ends the program at once.
    let setup = Setup::begin()?;
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen at {address}"))?;
    terminal::say(&format!("listening on http://{}", listener.local_addr()?));
    let (engine, receiver) = Engine::new();
    let app = Arc::new(App {
        cors: Cors::new(&args.settings.cors),
        settings: args.settings.clone(),
        keys,
        engine,
        metrics: Arc::new(Metrics::new()),
        served: OnceLock::new(),
        package,
    });
    let (ends, connections) = watch::channel(false);
    let most = app.settings.max_connections;
    let accepting = tokio::spawn(connection::accept(listener, Front::new(&app), most, connections));
    let (ended, outcome) = oneshot::channel();
    let engine_app = app.clone();
    std::thread::Builder::new().name("engine".into()).spawn(move || {
        let _ = ended.send(load::load_and_run(&args, &engine_app, &receiver, setup));
    })?;
    let mut ending = std::pin::pin!(end::at_signal(&app, accepting, ends));
    tokio::select! {
        outcome = outcome => {
            outcome.context("the engine failed; please report it")??;
            // It was stopped, and connections still have to send what it made.
            ending.await
        }
        outcome = &mut ending => outcome,
    }
}
