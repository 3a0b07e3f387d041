//! The harness of the end-to-end tests: the real binary as a real process, and a client that says to it
//! exactly what a test wants said.
//!
//! Nothing here knows the crates that the binary is made of: the tests see what a user sees.

pub mod agent;
pub mod binary;
pub mod cluster;
pub mod http;
pub mod load;
pub mod netns;
pub mod wait;

pub use agent::Agent;
pub use http::{Answer, Http};
pub use wait::until;
