//! How the server ends: at the first signal it takes no more and lets the answers at work come to their end; at the second it ends
//! at once.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::app::App;
use crate::engine::Health;
use crate::terminal;

/// How long connections have at least to send what was made, once nothing runs any more.
const LAST_BYTES: Duration = Duration::from_secs(5);
/// How often it is looked whether something still runs.
const LOOK: Duration = Duration::from_millis(10);

/// Waits for a signal, and then for all that is at work. `accepting` takes connections, `ends` tells them to end.
pub async fn at_signal(app: &App, accepting: JoinHandle<()>, ends: watch::Sender<bool>) -> anyhow::Result<()> {
    let mut signals = signals()?;
    signals.changed().await?;
    terminal::say("ending: answers that are being made go on; a second signal ends them");
    let settings = &app.settings;
    let drained = async {
        // Whoever sends requests here learns from /health that others should have them.
        app.engine.shared().set_health(Health::Leaving);
        sleep(settings.drain_delay).await;
        app.engine.drain();
        let deadline = Instant::now() + settings.drain_timeout;
        while app.engine.requests() > 0 && Instant::now() < deadline {
            sleep(LOOK).await;
        }
        accepting.abort();
        app.engine.stop();
        ends.send_replace(true);
        // All connections hold an end of this.
        let left = deadline.saturating_duration_since(Instant::now());
        let _ = timeout(LAST_BYTES.max(left), ends.closed()).await;
    };
    tokio::select! {
        () = drained => Ok(()),
        _ = signals.changed() => std::process::exit(terminal::INTERRUPTED.into()),
    }
}

/// Changes with each signal that asks the program to end.
#[cfg(unix)]
fn signals() -> anyhow::Result<watch::Receiver<u32>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (sender, receiver) = watch::channel(0);
    for number in terminal::signals() {
        let (mut signal, sender) = (signal(SignalKind::from_raw(number))?, sender.clone());
        tokio::spawn(async move {
            while signal.recv().await.is_some() {
                sender.send_modify(|count| *count += 1);
            }
        });
    }
    Ok(receiver)
}

#[cfg(not(unix))]
fn signals() -> anyhow::Result<watch::Receiver<u32>> {
    let (sender, receiver) = watch::channel(0);
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            sender.send_modify(|count| *count += 1);
        }
    });
    Ok(receiver)
}
