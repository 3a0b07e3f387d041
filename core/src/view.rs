//! A picture of the store for reads that need not enter the core (DESIGN, decision 5).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::api::agent::Itself;
use crate::api::txn::Outcome;
use crate::api::{
    Call, Consistency, Error, Read, ReadMeta, Reply, Request, Response, agent, operator, snapshot, status,
};
use crate::authorize::{self, filter};
use crate::config::Config;
use crate::id::Index;
use crate::local::Counts;
use crate::raft::{Configuration, Position, Raft, SnapshotMeta, Status};
use crate::sight::{Section, Sight};
use crate::store::{Answer, Body, Question, Store};
use crate::time::{Duration, Instant};

/// A picture of the store and of what its server knew when it was taken. Cheap to clone; any thread may
/// read from it.
#[derive(Clone, Debug)]
pub struct View {
    config: Arc<Config>,
    store: Store,
    status: Status,
    leader: Option<SocketAddr>,
    members: Arc<Configuration>,
    /// The log entry that named the members.
    members_index: Index,
    applied: Position,
    /// The members as of what is applied, and the entry that named them.
    applied_members: (Index, Arc<Configuration>),
    is_leader: bool,
    /// Default reads may be answered before this; see [`Raft::lease_until`].
    lease_until: Instant,
    last_contact: Instant,
    taken_at: Instant,
    /// What was last seen of the gossip pool.
    sight: Arc<Sight>,
    figures: Figures,
}

/// What only statistics tell.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    /// Messages that were thrown away.
    pub(crate) dropped: u64,
    /// The newest snapshot on the disk.
    pub(crate) snapshot: Option<Position>,
    /// What is registered with the agent.
    pub(crate) registered: Counts,
}

impl View {
    pub(crate) fn new(config: &Arc<Config>, raft: &Raft, store: &Store, sight: &Arc<Sight>, figures: Figures) -> Self {
        let (applied_index, applied_members) = raft.membership().at(raft.applied().index);
        Self {
            config: Arc::clone(config),
            store: store.clone(),
            status: raft.status(),
            leader: raft.leader_address().map(|(_, address)| address),
            members: Arc::clone(raft.members()),
            members_index: raft.membership().latest_index(),
            applied: raft.applied(),
            applied_members: (applied_index, Arc::clone(applied_members)),
            is_leader: raft.is_leader(),
            lease_until: raft.lease_until(),
            last_contact: raft.last_contact(),
            taken_at: raft.now(),
            sight: Arc::clone(sight),
            figures,
        }
    }

    /// Whether nobody could tell the two apart by their answers (statistics apart).
    pub(crate) fn says_the_same_as(&self, other: &Self) -> bool {
        self.store.index() == other.store.index()
            && (self.leader, self.is_leader) == (other.leader, other.is_leader)
            && (self.lease_until, self.status.term) == (other.lease_until, other.status.term)
            && (self.is_leader || self.last_contact == other.last_contact)
            && Arc::ptr_eq(&self.members, &other.members)
            && Arc::ptr_eq(&self.sight, &other.sight)
            && (self.figures.dropped, self.figures.registered) == (other.figures.dropped, other.figures.registered)
    }

    /// The answer to a call, if it can be given from this picture alone: a stale read, or a default read on
    /// a leader within its lease, that need not block; the status; the agent itself. `None` sends the call to
    /// the core. `now` must be read from the clock after the call arrived. A call without a token is one with the agent's own
    /// for such clients.
    #[must_use]
    pub fn answer(&self, now: Instant, call: &Call) -> Option<Reply> {
        match &call.request {
            // An agent that is no server knows nothing but itself.
            request if !self.config.server && !matches!(request, Request::Agent(_)) => None,
            Request::Status(status::Request::Leader) => Some(Ok(Response::Leader(self.leader))),
            Request::Status(status::Request::Peers) => {
                let voters = self.members.servers.values().filter(|server| server.voter);
                Some(Ok(Response::Peers(voters.map(|server| server.address).collect())))
            }
            Request::Agent(agent::Request::Itself) => Some(Ok(Response::Itself(Box::new(self.itself())))),
            // What else is asked of the agent itself changes something, or is known inside only.
            Request::Agent(_) | Request::Event(_) | Request::Exec(_) => None,
            Request::Kv(_)
            | Request::Operator(_)
            | Request::Snapshot(_)
            | Request::Catalog(_)
            | Request::Health(_)
            | Request::Coordinate(_)
            | Request::Session(_)
            | Request::Txn(_)
            | Request::Prepared(_)
            | Request::Acl(_) => self.read(now, call),
        }
    }

    fn read(&self, now: Instant, call: &Call) -> Option<Reply> {
        let read = call.request.read_options()?;
        let sure = match read.consistency {
            Consistency::Stale => true,
            Consistency::Default => now < self.lease_until,
            // The only voter need not ask anybody whether it leads.
            Consistency::Consistent => self.lease_until == Instant::NEVER,
        };
        if !sure {
            return None;
        }
        if call.datacenter.as_ref().is_some_and(|dc| *dc != self.config.datacenter) {
            return Some(Err(Error::NoPathToDatacenter));
        }
        if let Request::Txn(txn) = &call.request {
            // The core says what is wrong with it.
            self.config.limits.check_txn(txn).ok()?;
        }
        if let Request::Acl(request) = &call.request
            && let Some(reply) = authorize::without_tokens(&self.config, request)
        {
            return Some(reply);
        }
        let token = call.token.as_deref().filter(|token| !token.is_empty()).or(self.config.acl.token.as_deref());
        let authority = match authorize::judge(&self.config, &self.store, token, &call.request) {
            Ok(authority) => authority,
            Err(error) => return Some(Err(error)),
        };
        if let Some(response) = self.look(now, &call.request) {
            return Some(Ok(response));
        }
        let mut request = Cow::Borrowed(&call.request);
        if request.means_this_agent() {
            request.to_mut().name_this_agent(&self.config.name);
        }
        let mut answer = query(&self.store, &request)?;
        if !is_news(answer.changed, read.index) {
            return None;
        }
        if let Err(error) = filter(&authority, &self.store, &request, &mut answer) {
            return Some(Err(error));
        }
        Some(respond(answer, self.leader.is_some(), self.contact_age(now)))
    }

    /// The answer to a read that never blocks; `None` to all else.
    pub(crate) fn look(&self, now: Instant, request: &Request) -> Option<Response> {
        match request {
            Request::Operator(operator::Request::RaftConfiguration { .. }) => {
                Some(Response::RaftConfiguration(self.raft_configuration()))
            }
            Request::Operator(operator::Request::AutopilotConfiguration { .. }) => {
                Some(Response::Autopilot(self.store.autopilot().clone()))
            }
            Request::Snapshot(snapshot::Request::Save { .. }) => {
                let meta = ReadMeta {
                    index: self.store.visible_index().max(Index(1)),
                    known_leader: self.leader.is_some(),
                    last_contact: self.contact_age(now),
                };
                Some(Response::Snapshot(Read { meta, value: self.image() }))
            }
            _ => None,
        }
    }

    fn image(&self) -> snapshot::Image {
        let (configuration_index, configuration) = &self.applied_members;
        let meta = SnapshotMeta {
            position: self.applied,
            configuration: Configuration::clone(configuration),
            configuration_index: *configuration_index,
        };
        crate::snapshot::image(&meta, self.store.clone(), self.config.snapshots.piece_bytes)
    }

    fn contact_age(&self, now: Instant) -> Duration {
        if self.is_leader { Duration::ZERO } else { now.since(self.last_contact) }
    }

    fn raft_configuration(&self) -> operator::RaftConfiguration {
        let servers = self.members.servers.iter().map(|(id, server)| operator::RaftServer {
            id: *id,
            node: self.sight.names.get(id).cloned(),
            address: server.address,
            leader: self.status.leader == Some(*id),
            voter: server.voter,
        });
        operator::RaftConfiguration { servers: servers.collect(), index: self.members_index }
    }

    /// The last log index that this picture includes.
    #[must_use]
    pub fn index(&self) -> Index {
        self.store.index()
    }

    fn itself(&self) -> Itself {
        Itself {
            member: self.sight.member.clone(),
            config: self.config.settings.clone(),
            coordinate: self.sight.coordinate.clone(),
            stats: self.stats(),
        }
    }

    /// As Consul has it: `0` on the leader, `never`, or for how long. Of the moment when the picture was taken.
    fn last_contact_text(&self) -> String {
        match (self.is_leader, self.leader) {
            (true, _) => "0".to_owned(),
            (false, None) if self.last_contact == Instant::ZERO => "never".to_owned(),
            (false, _) => format!("{:?}", self.taken_at.since(self.last_contact)),
        }
    }

    fn members_text(&self) -> String {
        let servers = self.members.servers.iter().map(|(id, server)| {
            let suffrage = if server.voter { "Voter" } else { "Nonvoter" };
            format!("{{Suffrage:{suffrage} ID:{} Address:{}}}", id.0, server.address)
        });
        format!("[{}]", servers.collect::<Vec<_>>().join(" "))
    }

    fn stats(&self) -> BTreeMap<String, Section> {
        let Counts { services, checks, ttls, monitors } = self.figures.registered;
        let agent = [("check_monitors", monitors), ("check_ttls", ttls), ("checks", checks), ("services", services)]
            .map(|(name, count)| (name, count.to_string()));
        let build = [
            ("prerelease", String::new()),
            ("version", self.config.settings.version.clone()),
            ("revision", self.config.settings.revision.clone()),
        ];
        let mut stats = BTreeMap::from([
            ("agent".to_owned(), section(&agent)),
            ("peers".to_owned(), section(&[("dropped_messages", self.figures.dropped.to_string())])),
            ("build".to_owned(), section(&build)),
            // That it can collect what commands on other nodes write: see `exec/collector.rs`.
            ("exec".to_owned(), section(&[("collects", "true".to_owned())])),
            ("serf_lan".to_owned(), self.sight.lan.clone()),
        ]);
        stats.extend(self.sight.wan.clone().map(|wan| ("serf_wan".to_owned(), wan)));
        let consul = if self.config.server {
            stats.insert("raft".to_owned(), self.raft_stats());
            section(&[
                ("leader", self.is_leader.to_string()),
                ("leader_addr", self.leader.map(|address| address.to_string()).unwrap_or_default()),
                ("bootstrap", self.config.settings.bootstrap.to_string()),
                ("server", "true".to_owned()),
                ("known_datacenters", "1".to_owned()),
            ])
        } else {
            let known = self.sight.live_servers.to_string();
            section(&[("known_servers", known), ("server", "false".to_owned())])
        };
        stats.insert("consul".to_owned(), consul);
        stats
    }

    fn raft_stats(&self) -> Section {
        let Status { role, term, commit, applied, last, durable, .. } = self.status;
        let snapshot = self.figures.snapshot.unwrap_or_default();
        section(&[
            ("state", role.to_owned()),
            ("term", term.to_string()),
            ("commit_index", commit.to_string()),
            ("applied_index", applied.to_string()),
            ("last_log_index", last.index.to_string()),
            ("last_log_term", last.term.to_string()),
            ("durable_index", durable.to_string()),
            ("fsm_pending", "0".to_owned()),
            ("last_contact", self.last_contact_text()),
            ("last_snapshot_index", snapshot.index.to_string()),
            ("last_snapshot_term", snapshot.term.to_string()),
            ("latest_configuration", self.members_text()),
            ("latest_configuration_index", self.members_index.to_string()),
            ("protocol_version", PROTOCOL_VERSION.to_owned()),
            ("protocol_version_max", PROTOCOL_VERSION.to_owned()),
            ("protocol_version_min", PROTOCOL_VERSION.to_owned()),
            ("snapshot_version_max", SNAPSHOT_VERSION.to_owned()),
            ("snapshot_version_min", SNAPSHOT_VERSION.to_owned()),
            ("num_peers", self.members.voter_count().saturating_sub(1).to_string()),
        ])
    }
}

fn section(rows: &[(&str, String)]) -> Section {
    rows.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

/// What `raft` says of itself in the statistics: servers are known by their IDs, as in Consul's version 3.
const PROTOCOL_VERSION: &str = "3";

/// Likewise, of the form of snapshots.
const SNAPSHOT_VERSION: &str = "1";

/// The answer of a store to a read of replicated data; `None` for anything else.
pub(crate) fn query(store: &Store, request: &Request) -> Option<Answer> {
    store.query(Question::of(request)?)
}

/// Whether a read that asks for news beyond `asked` may be answered by what was changed then.
pub(crate) fn is_news(changed: Index, asked: Index) -> bool {
    asked == Index(0) || changed > asked
}

/// Wraps an answer up.
pub(crate) fn respond(answer: Answer, known_leader: bool, last_contact: Duration) -> Reply {
    let meta = ReadMeta { index: answer.index, known_leader, last_contact };
    Ok(match answer.body {
        Body::Entries(value) => Response::KvEntries(Read { meta, value }),
        Body::Keys(value) => Response::KvKeys(Read { meta, value }),
        Body::Nodes(value) => Response::Nodes(Read { meta, value }),
        Body::ServiceNames(value) => Response::ServiceNames(Read { meta, value }),
        Body::Instances(value) => Response::Instances(Read { meta, value }),
        Body::NodeServices(value) => Response::NodeServices(Read { meta, value }),
        Body::Checks(value) => Response::Checks(Read { meta, value }),
        Body::HealthOf(value) => Response::HealthOf(Read { meta, value }),
        Body::Places(value) => Response::NodePlaces(Read { meta, value }),
        Body::Sessions(value) => Response::Sessions(Read { meta, value }),
        Body::Txn(outcome) => Response::Txn(Outcome { read: Some(meta), ..outcome }),
        Body::Queries(value) => Response::Queries(Read { meta, value }),
        Body::Tokens(value) => Response::Tokens(Read { meta, value }),
        Body::NoSuchQuery => return Err(Error::NoSuchQuery),
    })
}
