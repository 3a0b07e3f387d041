//! What of the registrations is on the disk, a small file each (see [`crate::keep`]).
//!
//! | below `agent/` | |
//! |---|---|
//! | `services/<hash of the ID>` | a service |
//! | `checks/<hash of the ID>` | a check, or maintenance |
//! | `states/<hash of the ID>` | what was last told of a check with a time to live |

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::api::agent::{CheckDefinition, ServiceDefinition};
use crate::keep::seal;
use crate::time::Duration;

pub(super) const SERVICES: &str = "services/";
pub(super) const CHECKS: &str = "checks/";
pub(super) const STATES: &str = "states/";

/// A change of what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The file, below [`FOLDER`](crate::keep::FOLDER).
    pub name: String,
    /// What it is to hold; `None` to remove it.
    pub content: Option<Vec<u8>>,
}

/// A check, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum KeptCheck {
    /// One that was defined.
    Defined(Box<CheckDefinition>),
    /// The node or a service is under maintenance.
    Maintenance {
        /// The service; empty for the node.
        service: String,
        reason: String,
        token: String,
    },
}

/// What was last told of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptState {
    /// The check.
    pub(super) id: String,
    pub(super) status: String,
    pub(super) output: String,
    /// Until when it holds, since the beginning of 1970; `None` if the agent did not know the time.
    pub(super) until: Option<Duration>,
}

/// The file for an ID. IDs are any text of any length; two of the same hash would need a search of decades.
pub(super) fn file(folder: &str, id: &str) -> String {
    format!("{folder}{}", Uuid::new_v5(&Uuid::NAMESPACE_OID, id.as_bytes()).simple())
}

pub(super) fn keep_service(service: &ServiceDefinition) -> Change {
    Change { name: file(SERVICES, &service.id), content: Some(seal(service)) }
}

pub(super) fn keep_check(id: &str, check: &KeptCheck) -> Change {
    Change { name: file(CHECKS, id), content: Some(seal(check)) }
}

pub(super) fn keep_state(state: &KeptState) -> Change {
    Change { name: file(STATES, &state.id), content: Some(seal(state)) }
}

pub(super) fn forget(folder: &str, id: &str) -> Change {
    Change { name: file(folder, id), content: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_has_a_file_name_of_its_own() {
        let long = "x".repeat(10_000);
        let names: std::collections::BTreeSet<_> =
            ["", "a", "A", "a/b", "a\0b", "..", &long].map(|id| file(SERVICES, id)).into();
        assert_eq!(names.len(), 7);
        for name in names {
            let hash = name.strip_prefix(SERVICES).unwrap();
            assert!(hash.len() == 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
        }
        // Files of earlier lives must be found again.
        assert_eq!(file(CHECKS, "web"), "checks/e8cd958e66455478bdcf1cd19353ac12");
    }
}
