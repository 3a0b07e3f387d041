//! What is to be done at a time about the pool, gossip apart.

/// What is to be done at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// The configured agents are joined.
    Retry,
    /// The members of an earlier life are joined.
    Rejoin,
    /// The names of hosts that a join still waits for are given up.
    Resolve(JoinId),
    /// What is known of the members is written down.
    Remember,
    /// The clocks could not be written down, and are now.
    Clocks,
    /// The servers are told where in the network we are.
    Place,
    /// A step of leaving has taken too long.
    Leave,
}

/// A join that is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct JoinId(pub(super) u64);
