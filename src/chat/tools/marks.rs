//! Tags in text that arrives in pieces: whether one is there, may come, or cannot.

/// What a text begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begins {
    /// The tag of this index.
    With(usize),
    /// What one of the tags begins with, and nothing after it yet.
    Unsure,
    /// None of the tags.
    Otherwise,
}

/// Which of the tags a text begins with. No tag may be the beginning of another.
pub(super) fn begins(text: &[u8], tags: &[&str]) -> Begins {
    match tags.iter().position(|tag| text.starts_with(tag.as_bytes())) {
        Some(index) => Begins::With(index),
        None if tags.iter().any(|tag| tag.as_bytes().starts_with(text)) => Begins::Unsure,
        None => Begins::Otherwise,
    }
}

/// The same after white space, which is read.
pub(super) fn begins_after_space(text: &[u8], at: &mut usize, tags: &[&str]) -> Begins {
    skip_space(text, at);
    begins(&text[*at..], tags)
}

/// Reads white space.
pub(super) fn skip_space(text: &[u8], at: &mut usize) {
    *at += text[*at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
}

/// Bytes at the end of a text that may become the tag: the longest end that the tag begins with.
pub(in crate::chat) fn beginning(text: &str, tag: &str) -> usize {
    let longest = text.len().min(tag.len().saturating_sub(1));
    let (text, tag) = (text.as_bytes(), tag.as_bytes());
    (1..=longest).rev().find(|&count| text.ends_with(&tag[..count])).unwrap_or(0)
}
