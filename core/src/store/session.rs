//! Sessions: who may hold locks.

use imbl::OrdSet;

use crate::id::SessionId;

/// The sessions that exist. No command creates one yet, so in a running cluster there is none, and every
/// attempt to take a lock is answered as for a session that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sessions {
    pub(super) ids: OrdSet<SessionId>,
}

impl Sessions {
    /// Whether this session exists.
    pub(super) fn exists(&self, session: SessionId) -> bool {
        self.ids.contains(&session)
    }
}
