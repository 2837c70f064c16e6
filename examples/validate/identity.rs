//! What exactly was measured: which build, and which bytes of a model.

use std::io::Read;
use std::path::Path;

use anyhow::Context;
use sha2::{Digest, Sha256};

/// A build and a model.
pub struct Identity {
    /// The version of the crate.
    pub version: &'static str,
    /// The commit that it was built from, as the environment variable STERNA_COMMIT said at build time, or "unknown".
    pub commit: &'static str,
    /// The file, or what stands for it.
    pub model: String,
    /// SHA-256 of the file; none without one.
    pub sha256: Option<String>,
}

impl Identity {
    /// Reads the whole file once.
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
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(path)?;
        let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
                count => hasher.update(&buffer[..count]),
            }
        }
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}
