//! What commands and tests ask agents with: a small HTTP [`client`], and the [`recipe`]s for locks and semaphores that rest
//! on nothing but the HTTP API.

pub mod client;
pub mod recipe;
