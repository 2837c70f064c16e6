//! Who may ask: the keys of the command line, of a file, or of the environment.

use std::path::Path;

use anyhow::{Context, bail};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use sha2::{Digest, Sha256};
use sterna::generate::Reuse;

use super::error::ApiError;

/// The variable that may hold keys, with commas between them.
pub const VARIABLE: &str = "STERNA_API_KEY";

/// The keys that open this server; none if it is open.
pub struct Keys {
    digests: Vec<[u8; 32]>,
    /// Whether those who bring different keys share no cached prompts.
    are_apart: bool,
}

/// Who asks, as far as it matters what prompts are cached.
#[derive(Clone, Copy, Default)]
pub struct Caller(Option<[u8; 32]>); // the digest of the key, where keys are kept apart

impl Caller {
    /// Who sent a request that was let in.
    pub fn of(request: &Request) -> Self {
        request.extensions().get().copied().unwrap_or_default()
    }

    /// With whom a request shares what is cached: with those of the same key, where keys are kept apart, and of the same salt, if the
    /// request has one.
    pub fn reuse(self, salt: Option<&str>) -> Reuse {
        if self.0.is_none() && salt.is_none() {
            return Reuse::Shared;
        }
        // Of a fixed length, so that no key and salt are written like another pair.
        let both = [self.0.unwrap_or_default(), digest(salt.unwrap_or_default().as_bytes())].concat();
        Reuse::Within(digest(&both).iter().take(8).fold(0, |group, &byte| group << 8 | u64::from(byte)))
    }
}

impl Keys {
    /// From all places where they may be.
    pub fn gather(given: &[String], file: Option<&Path>, are_apart: bool) -> anyhow::Result<Self> {
        let mut keys = given.to_vec();
        if let Some(path) = file {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("cannot read the keys of {}", path.display()))?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            let before = keys.len();
            keys.extend(lines.map(str::to_owned));
            if keys.len() == before {
                bail!("{} holds no key: write one in each line", path.display());
            }
        }
        let variable = std::env::var(VARIABLE).unwrap_or_default();
        keys.extend(variable.split(',').map(str::trim).filter(|key| !key.is_empty()).map(str::to_owned));
        if keys.iter().any(String::is_empty) {
            bail!("an empty key would open the server to all; leave --api-key away for that");
        }
        if are_apart && keys.is_empty() {
            bail!(
                "--cache-per-key keeps apart those who bring different keys, and this server has none: give it some with --api-key"
            );
        }
        Ok(Self { digests: keys.iter().map(|key| digest(key.as_bytes())).collect(), are_apart })
    }

    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    /// Whether a request has one of them, if one is needed: then who asks.
    pub fn check(&self, headers: &HeaderMap) -> Result<Caller, ApiError> {
        if self.digests.is_empty() {
            return Ok(Caller::default());
        }
        let message = match given(headers) {
            Some(key) if self.holds(key) => return Ok(Caller(self.are_apart.then(|| digest(key)))),
            Some(_) => "this API key is not one of this server's",
            None => "this server needs an API key: send it as \"Authorization: Bearer KEY\"",
        };
        Err(ApiError::new(StatusCode::UNAUTHORIZED, message).coded("invalid_api_key"))
    }

    /// All are compared, whole, so that the time tells nothing.
    fn holds(&self, key: &[u8]) -> bool {
        let key = digest(key);
        let differs = |other: &[u8; 32]| key.iter().zip(other).fold(0, |bits, (a, b)| bits | (a ^ b));
        self.digests.iter().fold(false, |holds, other| holds | (differs(other) == 0))
    }
}

fn digest(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// The key of a request, by whatever header its client sends it.
fn given(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.as_bytes().split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
    });
    let plain = || ["x-api-key", "api-key"].iter().find_map(|name| headers.get(*name)).map(|value| value.as_bytes());
    bearer.or_else(plain)
}
