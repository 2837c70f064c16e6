//! From the command line to a model that is served: how much fits, what it is called, and the thread it runs on.

use std::io::Read;
use std::path::Path;
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use anyhow::Context;
use sha2::{Digest, Sha256};
use sterna::chat::{Chat, ChatOptions};
use sterna::generate::{PromptLookup, Session, SessionOptions, StepBudget};
use sterna::{Interrupt, Model};

use crate::answer::unix_time;
use crate::app::{App, Served};
use crate::args::{Args, Sizes};
use crate::engine::{self, Command, Limits};
use crate::setup::Setup;
use crate::{device, terminal};

/// Slots of a server that was told no number, at most.
const MOST_SLOTS: usize = 16;
/// Positions of a slot that was told no number, at most.
const CONTEXT: usize = 4096;
/// Requests that may wait for each slot, and at least, if no number was told.
const QUEUE: (usize, usize) = (4, 32);
/// What a name of the content is made of: the beginning of each file, and its size.
const NAMED_BYTES: u64 = 1 << 16;

/// Loads the model and serves it, until the engine is stopped.
pub fn load_and_run(
    args: &Args,
    app: &Arc<App>,
    receiver: &mpsc::Receiver<Command>,
    setup: Setup,
) -> anyhow::Result<()> {
    let model = args.model.open()?;
    let session = session(args, &model)?;
    let served = Served {
        id: name(&args.model.model),
        created: unix_time(),
        fingerprint: format!("sterna-{}-{}", env!("CARGO_PKG_VERSION"), fingerprint(&args.model.model)?),
        device: session.device().to_owned(),
        positions: session.positions(),
        slots: session.sequences(),
        lookup: if args.settings.no_lookup { PromptLookup::Never } else { PromptLookup::WhereFaster },
        chat: chat(args, &model)?,
        constrainer: OnceLock::new(),
        weight_bytes: session.loaded().weight_bytes(),
        model,
    };
    setup.end();
    let (slots, positions) = (served.slots, served.positions);
    terminal::say(&format!("ready: {} on {}, {slots} slots of {positions} positions", served.id, served.device));
    let _ = app.served.set(Arc::new(served)); // nobody else does
    let queue = args.sizes.queue.unwrap_or((slots * QUEUE.0).max(QUEUE.1));
    let shared = app.engine.shared().clone();
    shared.open(slots, queue);
    let longest_stall = Some(Duration::from_millis(args.sizes.max_stall));
    let limits = Limits { budget: StepBudget { longest_stall, ..StepBudget::default() } };
    engine::run(session, receiver, shared, app.metrics.clone(), limits);
    Ok(())
}

/// How the model talks. A template of the model's that is refused leaves all but chats; one of the command line's must be sound.
fn chat(args: &Args, model: &Model) -> anyhow::Result<sterna::Result<Chat>> {
    let Some(path) = &args.settings.chat_template else {
        let chat = model.chat();
        if let (Err(error), None) = (&chat, model.config().pooling) {
            log::warn!("this model cannot chat: {error}");
        }
        return Ok(chat);
    };
    let mut options = ChatOptions::default();
    options.template = Some(std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?);
    Ok(Ok(model.chat_with(&options).with_context(|| format!("the template {}", path.display()))?))
}

fn session(args: &Args, model: &Model) -> anyhow::Result<Session> {
    let Sizes { slots, context, chunk, .. } = args.sizes;
    let positions = context.unwrap_or(model.config().context.min(CONTEXT));
    let slots = slots.unwrap_or_else(|| affordable_slots(model, positions));
    let options = SessionOptions {
        context: Some(positions),
        sequences: slots,
        chunk,
        interrupt: Interrupt::new(),
        ..SessionOptions::default()
    };
    device::load(&args.device, model, &options)
}

/// As many as a quarter of the free memory holds.
fn affordable_slots(model: &Model, positions: usize) -> usize {
    let config = model.config();
    let heads = config.heads;
    // Keys and values, in f16.
    let bytes = config.layers * 2 * heads.kv_heads * heads.head_dim * 2 * positions;
    let affordable = free_memory().map_or(MOST_SLOTS as u64, |free| free / 4 / (bytes as u64).max(1));
    usize::try_from(affordable).unwrap_or(MOST_SLOTS).clamp(1, MOST_SLOTS)
}

/// Bytes of memory that this process may still take; none where the system does not tell.
fn free_memory() -> Option<u64> {
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let of_system = line.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10;
    let limit = number("/sys/fs/cgroup/memory.max").zip(number("/sys/fs/cgroup/memory.current"));
    Some(limit.map_or(of_system, |(most, taken)| of_system.min(most.saturating_sub(taken))))
}

/// What a model is called: by its repository, OWNER/REPO, if it lies in the Hugging Face cache, where the file itself has the name of
/// its hash; or else by the name of its file or folder.
fn name(path: &Path) -> String {
    if let Some(repository) = repository(path) {
        return repository;
    }
    let is_file = path.is_file();
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = if is_file { whole.file_stem() } else { whole.file_name() };
    name.map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned())
}

/// The repository of a path within `models--OWNER--REPO/snapshots`.
fn repository(path: &Path) -> Option<String> {
    let snapshots = path.ancestors().find(|folder| folder.ends_with("snapshots"))?;
    let (owner, repo) = snapshots.parent()?.file_name()?.to_str()?.strip_prefix("models--")?.split_once("--")?;
    Some(format!("{owner}/{repo}"))
}

/// Eight digits that tell one model from another.
fn fingerprint(path: &Path) -> anyhow::Result<String> {
    let cannot = || format!("cannot read {}", path.display());
    let mut files = match path.is_dir() {
        true => {
            let entries = path.read_dir().with_context(cannot)?.filter_map(Result::ok).map(|entry| entry.path());
            entries.filter(|path| path.is_file()).collect()
        }
        false => vec![path.to_owned()],
    };
    files.sort();
    let mut hash = Sha256::new();
    for path in files {
        let file = std::fs::File::open(&path).with_context(cannot)?;
        hash.update(file.metadata().with_context(cannot)?.len().to_le_bytes());
        let mut begin = Vec::new();
        file.take(NAMED_BYTES).read_to_end(&mut begin).with_context(cannot)?;
        hash.update(&begin);
    }
    Ok(hash.finalize().iter().take(4).map(|byte| format!("{byte:02x}")).collect())
}
