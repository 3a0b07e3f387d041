//! What can go wrong with a call, in Consul's words: clients and Consul itself search answers for them.

use serde::{Deserialize, Serialize};

use crate::duration;
use crate::time::Duration;

/// Why a call failed. The text is for the user; the HTTP status is decided in `lictor-http`'s `reply.rs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Error {
    /// No leader was known for [`crate::config::Limits::leader_wait`]. Nothing was done.
    #[error("No cluster leader")]
    NoLeader,
    /// The leader lost its office after the write entered its log: it may yet take place or not.
    #[error("leadership lost while committing log")]
    LeadershipLost,
    /// A call was handed to the leader and no answer came back: a write may have taken place or not.
    #[error("rpc error: lost contact with the leader; a write may or may not have taken place")]
    LeaderUnreachable,
    /// `?dc=` names a datacenter that this agent does not know.
    #[error("No path to datacenter")]
    NoPathToDatacenter,
    /// A value is over the limit.
    #[error("Value exceeds {limit} byte limit")]
    ValueTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// A key is over the limit.
    #[error("Key exceeds {limit} byte limit")]
    KeyTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// `?acquire=` or `?release=` without a session.
    #[error("missing session")]
    MissingSession,
    /// `?acquire=` with something that is no session ID.
    #[error("failed session lookup: index error: UUID must be 36 characters")]
    MalformedSession,
    /// `?acquire=` with a session that does not exist (any more).
    #[error("invalid session \"{0}\"")]
    InvalidSession(String),
    /// A session that does not exist (any more) cannot be renewed (404).
    #[error("Session id '{0}' not found")]
    NoSuchSession(String),
    /// A session on a node without a name.
    #[error("Must provide Node")]
    MissingSessionNode,
    /// A session with a behaviour that there is not.
    #[error("Invalid Behavior setting '{0}'")]
    BadBehavior(String),
    /// A session with a TTL that is no duration.
    #[error("Session TTL '{text}' invalid: {why}")]
    BadSessionTtl {
        /// What was given.
        text: String,
        /// Go's words for what is wrong with it.
        why: String,
    },
    /// A session with a TTL that is out of bounds.
    #[error(
        "Invalid Session TTL '{nanos}', must be between [{}={}]", duration::format(*min), duration::format(*max)
    )]
    SessionTtlOutOfBounds {
        /// The TTL in nanoseconds.
        nanos: i64,
        /// The least that there may be.
        min: Duration,
        /// The most.
        max: Duration,
    },
    /// A session on a node that is not in the catalog.
    #[error("Missing node registration")]
    MissingNodeRegistration,
    /// A session with a check that its node does not have.
    #[error("Missing check '{0}' registration")]
    MissingCheckRegistration(String),
    /// A session with a check that is critical.
    #[error("Check '{0}' is in critical state")]
    CriticalCheck(String),
    /// A transaction of too many operations (413).
    #[error("Transaction contains too many operations ({count} > {limit})")]
    TxnTooLong {
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A transaction whose parts take too many bytes together (413).
    #[error("Transaction exceeds {limit} byte limit")]
    TxnTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// A value in a transaction is over the limit (413).
    #[error("Value for key {key:?} is too large ({size} > {limit} bytes)")]
    TxnValueTooLarge {
        /// The key, as text.
        key: String,
        /// The size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Something is wrong with a prepared query that was given, or there is none where one is named. In Consul's words (500).
    #[error("{0}")]
    BadQuery(String),
    /// There is no such prepared query (404).
    #[error("Query not found")]
    NoSuchQuery,
    /// The token does not allow what was asked (403).
    #[error("Permission denied")]
    PermissionDenied,
    /// There is no such token (403).
    #[error("ACL not found")]
    UnknownToken,
    /// The names of Consul's built-in policies are no tokens (403).
    #[error("Cannot resolve root ACL")]
    RootToken,
    /// There is no access control (401).
    #[error("ACL support disabled")]
    AclDisabled,
    /// The token of those who give none cannot be destroyed (403).
    #[error("Permission denied: Cannot delete anonymous token")]
    AnonymousStays,
    /// The names of Consul's built-in policies can be no tokens (403).
    #[error("Permission denied: Cannot modify root ACL")]
    RootStays,
    /// There is no such token to be copied (404).
    #[error("Target ACL not found")]
    NoTokenToClone,
    /// A token of a kind that there is not.
    #[error("Invalid ACL Type")]
    BadTokenKind,
    /// A token with rules that are none.
    #[error("ACL rule compilation failed: {0}")]
    BadRules(String),
    /// A token is over the limit (413).
    #[error("Token exceeds {limit} byte limit")]
    TokenTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// A registration without the name of its node, or without the node's address.
    #[error("Must provide node and address")]
    MissingNodeOrAddress,
    /// A service with an ID and without a name.
    #[error("Must provide service name with ID")]
    MissingServiceName,
    /// A deregistration that does not say of which node.
    #[error("Must provide node")]
    MissingNode,
    /// A registration or deregistration is over the limit.
    #[error("Registration exceeds {limit} byte limit")]
    RegistrationTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// Something that is limited has reached its limit; the client should come back later.
    #[error("too many {what}: the limit of {limit} is reached, try again later")]
    Busy {
        /// What is limited.
        what: Busy,
        /// Its limit.
        limit: u64,
    },
    /// The leader's disk has no room for the log. Reads go on.
    #[error("no space left on the disk that holds the raft log: free some and try again")]
    DiskFull,
    /// A read by way of another server brings more than one message between servers may hold.
    #[error(
        "an answer of {size} bytes is too large to be passed on between servers: ask the leader itself, or for less"
    )]
    AnswerTooLarge {
        /// Roughly its size in bytes.
        size: usize,
    },
    /// A server that is to be removed takes no part in raft.
    #[error("address \"{0}\" was not found in the Raft configuration")]
    NoSuchPeerAddress(String),
    /// As above, named by its ID.
    #[error("id \"{0}\" was not found in the Raft configuration")]
    NoSuchPeerId(String),
    /// Two servers cannot have one address.
    #[error("address \"{0}\" belongs to another server of the Raft configuration")]
    AddressTaken(String),
    /// Without its last voter a cluster could never do anything again.
    #[error("cannot remove the last voting server of the cluster")]
    LastVoter,
    /// The members cannot be changed just now: another change is under way.
    #[error("another change of the Raft configuration is under way: try again later")]
    ChangeUnderWay,
    /// Leadership cannot be handed over: no other server is prepared.
    #[error("cannot find peer to transfer leadership to")]
    NoSuccessor,
    /// A restoration's step does not follow the one before: another restoration has begun since, or it was given up.
    #[error("the restoration was interrupted: another one has begun, or it took too long; start again")]
    RestoreInterrupted,
    /// What was to be restored is no image, or has been damaged.
    #[error("cannot restore: {0}")]
    MalformedImage(String),
    /// None of the agents that were to be joined has answered. A line for each of them.
    #[error("{}", listed(.0))]
    JoinFailed(Vec<String>),
    /// A filter of a user event is no regular expression.
    #[error("Invalid {which} filter: {why}")]
    InvalidEventFilter {
        /// Which one.
        which: EventFilter,
        /// Go's words for what is wrong with it.
        why: String,
    },
    /// A user event names a tag, but no service that should have it.
    #[error("Cannot provide tag filter without service filter")]
    TagFilterAlone,
    /// A user event would not fit into a datagram.
    #[error("user event exceeds limit of {limit} bytes")]
    EventTooLarge {
        /// The most bytes that its name, filters and payload may take together, as they travel.
        limit: usize,
    },
    /// Whoever leaves the pool joins nobody and fires no events any more.
    #[error("this agent is leaving the pool")]
    Leaving,
    /// Only servers join those of other datacenters.
    #[error("Must be a server to join WAN cluster")]
    NotAServer,
    /// A service or check cannot be registered as it is defined. What is wrong with it, in Consul's words. The caller is wrong
    /// (400).
    #[error("{0}")]
    BadDefinition(String),
    /// A check is to be registered for a service that is not registered with this agent (500).
    #[error("ServiceID {0:?} does not exist")]
    NoSuchService(String),
    /// What is told of a check is no state (400).
    #[error("Invalid check status: '{0}'")]
    BadCheckStatus(String),
    /// Something is told of a check that is not registered with this agent, or is not one that is told of (500).
    #[error("CheckID {0:?} does not have associated TTL")]
    NoTtl(String),
    /// Maintenance is for a service that is not registered with this agent (404).
    #[error("No service registered with ID {0:?}")]
    ServiceNotRegistered(String),
    /// Maintenance is for a service, but it is not said for which (400).
    #[error("Missing service ID")]
    NoServiceNamed,
    /// It is not said which service is to be taken back (500).
    #[error("ServiceID missing")]
    MissingServiceId,
    /// It is not said which check is to be taken back (500).
    #[error("CheckID missing")]
    MissingCheckId,
    /// This agent keeps no replicated state and knows no server that does.
    #[error("No known Consul servers")]
    NoServers,
    /// The state as a whole was asked of an agent that holds none of it: a server does.
    #[error("this agent keeps no state of its own: ask a server for it, such as the one at {0}")]
    NoStateHere(std::net::IpAddr),
    /// What this agent was about to do for the call took too long.
    #[error("nothing came of it in time: look at the agent's log, and try again")]
    NoAnswer,
    /// The agent is shutting down.
    #[error("the agent is shutting down")]
    ShuttingDown,
    /// The output of a job is not collected on this agent (any more) (404).
    #[error("the output of this job is not collected here")]
    NotCollected,
}

/// Several errors in one text, as Consul lists them.
fn listed(errors: &[String]) -> String {
    let mut text = format!("{} error(s) occurred:\n", errors.len());
    errors.iter().for_each(|error| text.extend(["\n* ", error]));
    text
}

/// A filter of a user event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventFilter {
    /// Of the names of nodes.
    Node,
    /// Of services.
    Service,
    /// Of the tags of services.
    Tag,
}

impl std::fmt::Display for EventFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Node => "node",
            Self::Service => "service",
            Self::Tag => "tag",
        })
    }
}

/// What can be too much at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Busy {
    /// Calls without an answer yet, blocked queries apart.
    OpenCalls,
    /// Blocked queries.
    BlockedQueries,
    /// Bytes proposed and not yet committed.
    UncommittedBytes,
    /// Agents that are being joined.
    Joins,
    /// Services registered with one agent.
    Services,
    /// Checks registered with one agent.
    Checks,
    /// Jobs whose output is collected on one agent.
    Inboxes,
}

impl std::fmt::Display for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::OpenCalls => "open calls",
            Self::BlockedQueries => "blocked queries",
            Self::UncommittedBytes => "uncommitted bytes",
            Self::Joins => "agents to join",
            Self::Services => "services on this agent",
            Self::Checks => "checks on this agent",
            Self::Inboxes => "jobs whose output is collected on this agent",
        })
    }
}
