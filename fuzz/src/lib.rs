//! What the fuzz targets share. An input is not a file but a recipe for one: which small sound file to begin with, and what to
//! change in it. So most inputs pass the first checks, and reach the code behind them.

#[path = "../../tests/common/counting_allocator.rs"]
mod counting_allocator;
pub mod directory;
pub mod gguf;
pub mod golden;
pub mod input;
pub mod run;
pub mod scratch;
pub mod tiny;
pub mod words;

pub use input::Input;
