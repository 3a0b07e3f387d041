//! Lictor's production driver: the core on real clocks, disks and sockets.
//!
//! It is thin and dull, and decides nothing: see [`lictor_core::io`] for the contract that it keeps. One
//! thread owns the [`Agent`](lictor_core::agent::Agent) (`driver.rs`), one the files (`disk.rs`); the sockets are
//! tokio's (`tcp.rs`, `udp.rs`), and so are the checks and the commands of others
//! that are run (`probe`, `process`). Front ends call a [`Handle`] from wherever they are.

mod clock;
mod disk;
mod driver;
mod errands;
mod error;
mod event;
mod fatal;
mod gossip;
pub mod guard;
mod handle;
mod notices;
mod outside;
mod probe;
mod process;
mod recover;
mod resolve;
mod restore;
mod runtime;
mod tcp;
mod udp;

pub use clock::Clock;
pub use disk::{FilesError, Quota};
pub use error::StartError;
pub use gossip::GossipSockets;
pub use handle::Handle;
pub use restore::DataDir;
pub use runtime::{Options, Runtime, Storage, random_seed};
