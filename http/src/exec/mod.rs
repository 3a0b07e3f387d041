//! Remote execution: `/v1/exec`, and what the command line shares with it.

mod drive;
mod told;

pub use drive::drive;
pub use told::{Narrator, over};
