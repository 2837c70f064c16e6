//! Conversations become prompts: templates against what `transformers` renders, hostile ones within their limits, and the ids of
//! turns.

#[path = "../common/skipped.rs"]
mod skipped;

mod hostile;
mod messages;
mod prompts;
mod renderings;
mod shared;
