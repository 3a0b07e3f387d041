//! Sessions: who may hold locks.

use std::ops::Bound;

use imbl::OrdSet;

use crate::id::SessionId;

/// The sessions that exist. No command creates one yet, so in a running cluster there is none, and every
/// attempt to take a lock is answered as for a session that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sessions {
    pub(super) ids: OrdSet<SessionId>,
}

impl Sessions {
    /// The sessions that follow this one, by ID; all of them without one. Finds the first in O(log n).
    pub(super) fn after(&self, id: Option<SessionId>) -> impl Iterator<Item = &SessionId> {
        self.ids.range::<_, SessionId>((id.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded))
    }

    /// Whether this session exists.
    pub(super) fn exists(&self, session: SessionId) -> bool {
        self.ids.contains(&session)
    }
}
