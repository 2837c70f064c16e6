//! Text that is read from files and from stdin.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail};

/// The text of a file, or of stdin for "-".
pub fn read(path: &Path) -> anyhow::Result<String> {
    let from = if path.as_os_str() == "-" { "stdin".into() } else { path.display().to_string() };
    let mut bytes = Vec::new();
    let read = match path.as_os_str() == "-" {
        true => std::io::stdin().read_to_end(&mut bytes),
        false => std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)),
    };
    read.with_context(|| format!("cannot read {from}"))?;
    decode(bytes).with_context(|| format!("cannot read {from}"))
}

/// UTF-8, or UTF-16 if its mark says so, as Windows writes it. The mark is no part of the text.
fn decode(bytes: Vec<u8>) -> anyhow::Result<String> {
    let units = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let (pairs, rest) = bytes.as_chunks::<2>();
        let text = String::from_utf16(&pairs.iter().copied().map(unit).collect::<Vec<_>>());
        text.ok().filter(|_| rest.is_empty()).context("its mark says UTF-16, and it is not")
    };
    match bytes.as_slice() {
        [0xff, 0xfe, rest @ ..] => units(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => units(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => Ok(std::str::from_utf8(rest).context("it is not UTF-8 text")?.to_owned()),
        _ => match String::from_utf8(bytes) {
            Ok(text) => Ok(text),
            Err(error) => bail!("it is not UTF-8 text ({})", error.utf8_error()),
        },
    }
}
