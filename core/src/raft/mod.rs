//! Raft.
pub mod log;
pub mod membership;
pub mod message;

pub use log::{Entry, HardState, Payload, Position};
pub use membership::Configuration;
pub use message::{Kind, Message};
