//! What lies between the network and the routes.

pub mod body;
pub mod connection;
pub mod cors;
pub mod error;
pub mod front;
pub mod keys;
pub mod random;
pub mod tally;
