//! Lictor's production driver: the core on real clocks, disks and sockets.
//!
//! It is thin and dull, and decides nothing: see [`lictor_core::io`] for the contract that it keeps. One
//! thread owns the [`Agent`](lictor_core::agent::Agent) (`driver.rs`), one the files (`disk.rs`); peers'
//! sockets are tokio's (`tcp.rs`). Front ends call a [`Handle`] from wherever they are.

mod clock;
mod disk;
mod driver;
mod error;
mod event;
mod fatal;
mod handle;
mod notices;
mod recover;
mod restore;
mod runtime;
mod tcp;

pub use clock::Clock;
pub use disk::{FilesError, Quota};
pub use error::StartError;
pub use handle::Handle;
pub use restore::DataDir;
pub use runtime::{Options, Runtime, Storage, random_seed};
