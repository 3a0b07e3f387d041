//! Lictor's engine: one pure, sans-IO state machine for every role of an agent.

pub mod agent;
pub mod api;
pub mod config;
pub mod coordinate;
pub mod error;
pub mod event;
pub mod file;
pub mod gossip;
pub mod id;
pub mod io;
pub mod keep;
mod leader;
pub mod local;
pub mod peer;
pub mod probe;
pub mod raft;
pub mod recovery;
pub mod rng;
pub mod server;
mod sight;
pub mod snapshot;
pub mod store;
pub mod time;
pub mod view;
pub mod wal;
pub mod watch;
pub mod wire;
