//! What must hold, watched from outside the core.

pub(crate) mod acl;
pub(crate) mod catalog;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod gossip;
pub(crate) mod linear;
pub(crate) mod lock;
pub(crate) mod model;
pub(crate) mod raft;
pub(crate) mod session;
pub(crate) mod snapshot;
pub(crate) mod stale;
pub(crate) mod txn;
pub(crate) mod watch;

/// What a checker says: nothing, or a sentence about what was violated.
pub(crate) type Verdict = Result<(), String>;

/// Fails with a sentence unless the condition holds.
macro_rules! ensure {
    ($holds:expr, $($sentence:tt)+) => {
        if !$holds {
            return Err(format!($($sentence)+));
        }
    };
}
pub(crate) use ensure;
