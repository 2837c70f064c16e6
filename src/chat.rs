//! What comes out of a chat model: its reasoning, what it says, and the calls of tools that it makes.

mod answer;
mod thinking;
mod tools;

pub use answer::{Answer, Delta};
pub use thinking::{ThinkTags, ThinkingBudget};
pub use tools::{Arguments, Tool, ToolCall, ToolFormat};
