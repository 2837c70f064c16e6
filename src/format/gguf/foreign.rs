//! Files that are not GGUF, but that people hand to a GGUF reader: other model formats, and downloads that went wrong.
//! Each gets a text that says what the file is and what to do, because "bad magic" helps nobody.

use crate::error::Error;

/// What a file of `length` bytes is instead, if it does not start with `GGUF`. `file` are its first bytes, or all.
pub(super) fn recognise(file: &[u8], length: usize) -> Option<Error> {
    let malformed = |text: &str| Some(Error::Malformed(text.into()));
    let unsupported = |text: &str| Some(Error::Unsupported(text.into()));
    match file {
        [b'G', b'G', b'U', b'F', ..] => None,
        [] => malformed("the file is empty"),
        [b'P', b'K', 3, 4, ..] => {
            unsupported("this is a zip archive (a PyTorch checkpoint?): convert it to GGUF first")
        }
        [0x80, 2..=5, ..] => unsupported("this is a Python pickle (a PyTorch checkpoint?): convert it to GGUF first"),
        [0x1f, 0x8b, ..] => unsupported("this is a gzip archive: unpack it first"),
        [b't', b'j', b'g', b'g', ..] | [b'f', b'm', b'g', b'g', ..] | [b'l', b'm', b'g', b'g', ..] => {
            unsupported("this is a ggml file from before GGUF (early 2023): get a GGUF file of the model")
        }
        _ if file.starts_with(b"version https://git-lfs") => malformed(
            "this is a Git LFS pointer, a few lines of text in place of the model: run `git lfs pull`, or download the \
             file itself",
        ),
        _ if is_html(file) => malformed("this is an HTML page, not a model: the download gave an error or login page"),
        _ if is_safetensors(file, length) => unsupported(
            "this is a safetensors file, not GGUF: give it the ending .safetensors, with its config.json beside it, or open \
             the directory that holds both",
        ),
        _ => Some(Error::Malformed(first_bytes(file))),
    }
}

fn is_html(file: &[u8]) -> bool {
    let head = &file[..file.len().min(256)];
    let head = head.trim_ascii_start().to_ascii_lowercase();
    head.starts_with(b"<!doctype") || head.starts_with(b"<html")
}

/// A safetensors file is the length of a JSON object as u64, then the object.
fn is_safetensors(file: &[u8], length: usize) -> bool {
    matches!(file.split_first_chunk::<8>(), Some((header, [b'{', ..]))
        if u64::from_le_bytes(*header) <= length as u64 - 8)
}

fn first_bytes(file: &[u8]) -> String {
    const SHOWN_BYTES: usize = 4096;
    let head = &file[..file.len().min(SHOWN_BYTES)];
    if head.iter().all(|&byte| byte == 0) {
        return "the file begins with zeros only: its download was not finished".into();
    }
    let magic = &head[..head.len().min(4)];
    format!("the file begins with {magic:02x?} (\"{}\"), a GGUF file with \"GGUF\"", magic.escape_ascii())
}
