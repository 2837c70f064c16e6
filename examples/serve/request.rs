//! What requests say, read and checked: nothing of it reaches the engine before.

pub mod chat;
pub mod fields;
pub mod form;
pub mod inputs;
pub mod options;
pub mod refused;
pub mod sequence;
