//! Remote execution: `/v1/exec` and what is below it, and what the command line shares with it.

mod drive;
mod jobs;
mod order;
pub(crate) mod output;
mod told;

pub use drive::drive;
pub(crate) use jobs::{Jobs, METHODS};
pub use told::{Narrator, over};
