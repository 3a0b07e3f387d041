//! A picture of the store for reads that need not enter the core (DESIGN, decision 5).

use crate::api::{Call, Reply};
use crate::time::Instant;

/// A picture of the store and of what its server knew when it was taken. Cheap to clone; any thread may
/// read from it.
#[derive(Clone, Debug)]
pub struct View {}

impl View {
    /// The answer to a call, if it can be given from this picture alone: a stale read, or a default read on
    /// a leader within its lease, that need not block; the status; the agent itself. `None` sends the call to
    /// the core. `now` must be read from the clock after the call arrived.
    #[must_use]
    pub fn answer(&self, _now: Instant, _call: &Call) -> Option<Reply> {
        None
    }
}
