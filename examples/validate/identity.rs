//! What exactly was measured: which build, and which bytes of a model.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use sha2::{Digest, Sha256};
use sterna::format::locate;
use sterna::format::safetensors::Checkpoint;

/// A build and a model.
pub struct Identity {
    /// The version of the crate.
    pub version: &'static str,
    /// The commit that it was built from, as the environment variable STERNA_COMMIT said at build time, or "unknown".
    pub commit: &'static str,
    /// The file, or what stands for it.
    pub model: String,
    /// SHA-256 of the file, or of a directory's config.json and weights one behind the other, in the order of their names; none
    /// without a file.
    pub sha256: Option<String>,
}

impl Identity {
    /// Reads all weights once.
    pub fn of(file: Option<&Path>) -> anyhow::Result<Self> {
        Ok(Self {
            version: env!("CARGO_PKG_VERSION"),
            commit: option_env!("STERNA_COMMIT").unwrap_or("unknown"),
            model: match file {
                Some(path) => path.display().to_string(),
                None => "seeded random trits of the shape of BitNet b1.58 2B-4T: fit for timing only".into(),
            },
            sha256: file.map(hash).transpose()?,
        })
    }
}

fn hash(path: &Path) -> anyhow::Result<String> {
    let mut hasher = Sha256::new();
    for file in files(path)? {
        add(&mut hasher, &file).with_context(|| format!("cannot read {}", file.display()))?;
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The file that a path means, or what of a directory makes the network.
fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let place = locate(path)?;
    let Some(directory) = Checkpoint::directory(&place) else { return Ok(vec![place]) };
    let entries = directory.read_dir().with_context(|| format!("cannot read {}", directory.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.retain(|file| file.ends_with("config.json") || file.extension().is_some_and(|end| end == "safetensors"));
    files.sort();
    Ok(files)
}

fn add(hasher: &mut Sha256, path: &Path) -> std::io::Result<()> {
    let (mut file, mut buffer) = (std::fs::File::open(path)?, vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            count => hasher.update(&buffer[..count]),
        }
    }
}
