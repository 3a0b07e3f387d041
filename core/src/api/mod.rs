//! What may be asked of an agent and what it answers: the public operations, free of HTTP.
//!
//! A front end turns each call of its own protocol into a [`Call`] and a [`Reply`] back again. Servers
//! forward calls to each other in this form too, so everything here is plain data that
//! [`wire`](crate::wire) can carry.

pub mod acl;
pub mod agent;
pub mod catalog;
pub mod coordinate;
pub mod event;
pub mod exec;
pub mod health;
pub mod kv;
pub mod operator;
pub mod prepared;
pub mod session;
pub mod snapshot;
pub mod status;
pub mod txn;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use crate::error::{Error, EventFilter};
use crate::id::{Index, SessionId};
use crate::time::Duration;

/// A public operation together with what belongs to every operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// `?dc=`: the datacenter that is meant; the agent's own if absent.
    pub datacenter: Option<String>,
    /// `?token=` or `X-Consul-Token`: on whose behalf.
    pub token: Option<String>,
    /// What is asked.
    pub request: Request,
}

impl Call {
    /// A call to the agent's own datacenter without a token.
    #[must_use]
    pub fn new(request: impl Into<Request>) -> Self {
        Self { datacenter: None, token: None, request: request.into() }
    }
}

/// Every public operation, by subject. A new one cannot be added without saying where it runs: see the
/// one `match` in [`crate::agent`]'s `route.rs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// The key-value store.
    Kv(kv::Request),
    /// Raft's leader and peers.
    Status(status::Request),
    /// The agent that was asked, itself.
    Agent(agent::Request),
    /// The cluster itself, for its operators.
    Operator(operator::Request),
    /// The replicated state as a whole.
    Snapshot(snapshot::Request),
    /// Nodes, services and checks.
    Catalog(catalog::Request),
    /// What checks say.
    Health(health::Request),
    /// User events.
    Event(event::Request),
    /// Places in the network.
    Coordinate(coordinate::Request),
    /// Who may hold locks.
    Session(session::Request),
    /// Several operations on keys at once.
    Txn(txn::Request),
    /// Questions that are kept.
    Prepared(prepared::Request),
    /// Tokens.
    Acl(acl::Request),
    /// What commands on many nodes write.
    Exec(exec::Request),
}

/// Each subject's requests are requests.
macro_rules! requests_of {
    ($($subject:ident => $variant:ident),+ $(,)?) => {$(
        impl From<$subject::Request> for Request {
            fn from(request: $subject::Request) -> Self {
                Self::$variant(request)
            }
        }
    )+};
}

requests_of! {
    kv => Kv,
    status => Status,
    agent => Agent,
    operator => Operator,
    snapshot => Snapshot,
    catalog => Catalog,
    health => Health,
    event => Event,
    coordinate => Coordinate,
    session => Session,
    txn => Txn,
    prepared => Prepared,
    acl => Acl,
    exec => Exec,
}

impl Request {
    /// Whether a list is to begin with what is nearest to the agent that is asked ([`catalog::THIS_AGENT`]).
    #[must_use]
    pub fn is_near_this_agent(&self) -> bool {
        match self {
            Self::Catalog(catalog::Request::Nodes { filter, .. } | catalog::Request::Service { filter, .. })
            | Self::Health(
                health::Request::Checks { filter, .. }
                | health::Request::Service { filter, .. }
                | health::Request::State { filter, .. },
            ) => filter.near.as_deref() == Some(catalog::THIS_AGENT),
            _ => false,
        }
    }

    /// Whether the request means the agent that is asked without naming it.
    #[must_use]
    pub fn means_this_agent(&self) -> bool {
        match self {
            Self::Session(session::Request::Create(wanted)) => wanted.node.is_none(),
            Self::Prepared(prepared::Request::Execute { .. } | prepared::Request::Explain { .. }) => true,
            _ => self.is_near_this_agent(),
        }
    }

    /// Puts the name of the agent that is asked wherever it is meant: see [`Request::means_this_agent`].
    pub fn name_this_agent(&mut self, name: &str) {
        if !self.means_this_agent() {
            return;
        }
        match self {
            Self::Session(session::Request::Create(wanted)) => wanted.node = Some(name.to_owned()),
            Self::Prepared(prepared::Request::Execute { agent, .. } | prepared::Request::Explain { agent, .. }) => {
                name.clone_into(agent);
            }
            Self::Catalog(catalog::Request::Nodes { filter, .. } | catalog::Request::Service { filter, .. })
            | Self::Health(
                health::Request::Checks { filter, .. }
                | health::Request::Service { filter, .. }
                | health::Request::State { filter, .. },
            ) => filter.near = Some(name.to_owned()),
            _ => {}
        }
    }

    /// How a read wants to be read; `None` for what is not a read of replicated data.
    #[must_use]
    pub fn read_options(&self) -> Option<&ReadOptions> {
        match self {
            Self::Kv(
                kv::Request::Get { read, .. } | kv::Request::List { read, .. } | kv::Request::Keys { read, .. },
            )
            | Self::Operator(
                operator::Request::RaftConfiguration { read } | operator::Request::AutopilotConfiguration { read },
            )
            | Self::Snapshot(snapshot::Request::Save { read })
            | Self::Catalog(
                catalog::Request::Nodes { read, .. }
                | catalog::Request::Services { read, .. }
                | catalog::Request::Service { read, .. }
                | catalog::Request::Node { read, .. },
            )
            | Self::Health(
                health::Request::Node { read, .. }
                | health::Request::Checks { read, .. }
                | health::Request::Service { read, .. }
                | health::Request::State { read, .. },
            )
            | Self::Coordinate(coordinate::Request::Nodes { read })
            | Self::Session(
                session::Request::Info { read, .. }
                | session::Request::Node { read, .. }
                | session::Request::List { read },
            )
            | Self::Prepared(
                prepared::Request::Get { read, .. }
                | prepared::Request::List { read }
                | prepared::Request::Execute { read, .. }
                | prepared::Request::Explain { read, .. },
            )
            | Self::Acl(acl::Request::Info { read, .. } | acl::Request::List { read }) => Some(read),
            Self::Txn(txn) => txn.is_read_only().then_some(&txn.read),
            Self::Kv(kv::Request::Put { .. } | kv::Request::Delete { .. } | kv::Request::DeleteTree { .. })
            | Self::Operator(
                operator::Request::RemovePeer(_)
                | operator::Request::AddPeer { .. }
                | operator::Request::TransferLeader { .. }
                | operator::Request::SetAutopilotConfiguration { .. }
                | operator::Request::AutopilotHealth,
            )
            | Self::Snapshot(snapshot::Request::Restore { .. })
            | Self::Catalog(
                catalog::Request::Register(_) | catalog::Request::Deregister(_) | catalog::Request::Datacenters,
            )
            | Self::Coordinate(coordinate::Request::Datacenters | coordinate::Request::Update(_))
            | Self::Session(
                session::Request::Create(_) | session::Request::Destroy { .. } | session::Request::Renew { .. },
            )
            | Self::Prepared(
                prepared::Request::Create(_) | prepared::Request::Update { .. } | prepared::Request::Delete { .. },
            )
            | Self::Acl(
                acl::Request::Set(_)
                | acl::Request::Clone { .. }
                | acl::Request::Destroy { .. }
                | acl::Request::Permit(_),
            )
            | Self::Event(_)
            | Self::Exec(_)
            | Self::Status(_)
            | Self::Agent(_) => None,
        }
    }
}

/// The three consistency modes of `http-api.txt`, "Consistency Modes".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Consistency {
    /// The leader answers while it holds its lease: linearizable as long as clocks drift less than
    /// [`crate::raft::Options::clock_drift_percent`].
    #[default]
    Default,
    /// The leader first asks a quorum whether it still leads: linearizable without any clock.
    Consistent,
    /// Any server answers from what it has: always some prefix of history.
    Stale,
}

/// How a read wants to be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadOptions {
    /// How fresh the answer must be.
    pub consistency: Consistency,
    /// `?index=`: answer once the result is newer than this; 0 answers at once.
    pub index: Index,
    /// `?wait=`: how long to wait for a newer result. Consul's default of 10 minutes if absent, and never
    /// longer than that.
    pub wait: Option<Duration>,
}

/// What the headers of a read tell (`X-Consul-Index`, `X-Consul-KnownLeader`, `X-Consul-LastContact`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadMeta {
    /// To be given back as `?index=`. At least 1.
    pub index: Index,
    /// Whether the server that answered knows a leader.
    pub known_leader: bool,
    /// How long ago the server that answered heard from the leader; zero on the leader itself.
    pub last_contact: Duration,
}

/// The result of a read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read<T> {
    /// For the headers.
    pub meta: ReadMeta,
    /// For the body.
    pub value: T,
}

/// What came of a call.
pub type Reply = Result<Response, Error>;

/// A successful answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Response {
    /// To writes of all kinds: whether the write took place; false only if it had a condition that did not hold.
    Done(bool),
    /// To [`kv::Request::Get`] and `List`: the entries in the byte order of their keys; empty if none.
    KvEntries(Read<kv::Entries>),
    /// To [`kv::Request::Keys`]: in byte order; empty if none.
    KvKeys(Read<Vec<kv::Key>>),
    /// To [`status::Request::Leader`].
    Leader(Option<std::net::SocketAddr>),
    /// To [`status::Request::Peers`].
    Peers(Vec<std::net::SocketAddr>),
    /// To [`agent::Request::Itself`].
    Itself(Box<agent::Itself>),
    /// To [`agent::Request::Members`], by name.
    Members(Vec<agent::Member>),
    /// To [`agent::Request::Join`]: how many answered, of those that were named.
    Joined(usize),
    /// To [`agent::Request::Services`], by ID. Their indexes are 0.
    LocalServices(Vec<catalog::Service>),
    /// To [`agent::Request::Checks`], by ID. Their indexes are 0.
    LocalChecks(Vec<catalog::Check>),
    /// To [`catalog::Request::Datacenters`].
    Datacenters(Vec<String>),
    /// To [`catalog::Request::Nodes`], by name unless ordered otherwise.
    Nodes(Read<Vec<Arc<catalog::Node>>>),
    /// To [`catalog::Request::Services`], by name: all their tags, each once, in the order of their bytes.
    ServiceNames(Read<BTreeMap<String, Vec<String>>>),
    /// To [`catalog::Request::Service`], by node and ID unless ordered otherwise.
    Instances(Read<Vec<catalog::Instance>>),
    /// To [`catalog::Request::Node`]; `None` if there is no such node.
    NodeServices(Read<Option<catalog::NodeServices>>),
    /// To [`health::Request::Node`], `Checks` and `State`, by node and ID unless ordered otherwise.
    Checks(Read<Vec<Arc<catalog::Check>>>),
    /// To [`health::Request::Service`], by node and ID unless ordered otherwise.
    HealthOf(Read<Vec<health::Instance>>),
    /// To [`event::Request::Fire`].
    Fired(event::Event),
    /// To [`event::Request::List`].
    Events(event::Listed),
    /// To [`coordinate::Request::Datacenters`].
    Places(Vec<coordinate::Datacenter>),
    /// To [`coordinate::Request::Nodes`], by name.
    NodePlaces(Read<Vec<coordinate::Place>>),
    /// To [`session::Request::Create`].
    SessionCreated(SessionId),
    /// To [`session::Request::Renew`].
    Renewed(Arc<session::Session>),
    /// To [`session::Request::Info`], `Node` and `List`, by ID.
    Sessions(Read<Vec<Arc<session::Session>>>),
    /// To [`txn::Request`].
    Txn(txn::Outcome),
    /// To [`prepared::Request::Create`].
    QueryCreated(uuid::Uuid),
    /// To [`prepared::Request::Get`] and `List`, by ID.
    Queries(Read<prepared::Queries>),
    /// To [`prepared::Request::Execute`].
    Executed(Read<prepared::Found>),
    /// To [`prepared::Request::Explain`]: the query with all its parts filled in.
    Explained(Read<Arc<prepared::Query>>),
    /// To [`acl::Request::Set`] and `Clone`.
    TokenSet {
        /// The token.
        id: String,
        /// When it was changed last.
        index: Index,
    },
    /// To [`acl::Request::Info`] and `List`, by ID.
    Tokens(Read<Vec<Arc<acl::Token>>>),
    /// To [`operator::Request::RaftConfiguration`].
    RaftConfiguration(operator::RaftConfiguration),
    /// To [`operator::Request::AutopilotConfiguration`].
    Autopilot(operator::Autopilot),
    /// To [`operator::Request::AutopilotHealth`].
    Health(operator::Health),
    /// To [`snapshot::Request::Save`], of a client of this very agent. It cannot travel.
    #[serde(skip)]
    Snapshot(Read<snapshot::Image>),
    /// To [`snapshot::Request::Save`], of another server: when it has applied the log up to here, its own state is as
    /// recent as the question.
    CaughtUpAt(Index),
    /// To [`exec::Request::Open`].
    Inbox(exec::Inbox),
    /// To [`exec::Request::Collect`]: of each node in their order; none if nothing came in time.
    Collected(Vec<exec::Piece>),
}
