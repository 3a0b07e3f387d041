//! What gossip knows of the members is brought into raft and into the catalog.
//!
//! A server of our datacenter that is live joins raft, without a vote at first; one that has left is removed. Whether a failed one
//! is, autopilot decides. In the catalog, every live agent has its node with a check that passes, and servers have an
//! instance of their service; the check of a failed agent is critical; the node of one that has left, or was forgotten, goes with
//! all it has.
//!
//! Only what differs from the store is proposed, so a quiet cluster writes nothing. A member is looked at when there is news of
//! it, and all are once a minute. After a look that led to something, the log must have got that far before the next
//! one: what the look finds then is really still to be done. If it is the very same again, it is of no use, and left
//! until all are looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::api::catalog::{Check, Deregistration, Node, Registration, Service};
use crate::api::health::{CRITICAL, PASSING, SERF_ALIVE, SERF_CHECK_ID, SERF_CHECK_NAME, SERF_FAILED, SERVER_SERVICE};
use crate::config::Config;
use crate::gossip::{Gossip, Member, Status};
use crate::id::{Index, PeerId};
use crate::raft::{Change, Raft, Role};
use crate::server::{ROLE, Server};
use crate::store::{Command, Store};
use crate::time::{Duration, Instant};

/// How often all members are looked at.
const FULL_EVERY: Duration = Duration::from_secs(60);

/// For how long a node's agent must be missing in our pool before its node goes, unless we saw ourselves how it was
/// forgotten: a pool takes time to come together again.
const MISSING_FOR: Duration = Duration::from_secs(120);

/// After how long what could not be done is tried again.
const SOON: Duration = Duration::from_secs(5);

/// When to try again to look at all, if what was proposed is not applied yet.
const PAUSE: Duration = Duration::from_secs(1);

/// How many commands are proposed at a time.
const AT_ONCE: usize = 128;

/// Something to be done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// The catalog is to be changed.
    Command(Box<Command>),
    /// Raft's members are to be changed, on account of this member of the pool.
    Change(String, Change),
    /// This server is not added, as it founds a cluster alone, and there is another one that does. To be told once.
    SecondBootstrap(String),
}

/// What is known of the way that members have gone into raft and the catalog.
#[derive(Debug)]
pub(super) struct Reconcile {
    next_full: Instant,
    /// Members to be looked at, by name.
    due: BTreeSet<String>,
    /// What was proposed lies up to here in the log.
    proposed: Index,
    /// What was last proposed for a member. If it is still wanted once it is applied, it is of no use.
    tried: BTreeMap<String, Command>,
    /// Changes of raft's members that were refused for good reason.
    refused: BTreeSet<String>,
    /// Nodes whose agents are missing in the pool, and since when.
    missing: BTreeMap<String, Instant>,
    /// Members that were forgotten while we led, and what servers they were.
    forgotten: BTreeMap<String, Option<PeerId>>,
    told: BTreeSet<String>,
    /// The last restoration that we know of. It brings another catalog.
    restored_at: Option<Index>,
}

/// What a member is looked at with.
#[derive(Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    pub(crate) config: &'a Config,
    pub(crate) raft: &'a Raft,
    pub(crate) gossip: &'a Gossip,
    pub(crate) store: &'a Store,
}

impl Reconcile {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            next_full: now + FULL_EVERY,
            due: BTreeSet::new(),
            proposed: Index(0),
            tried: BTreeMap::new(),
            refused: BTreeSet::new(),
            missing: BTreeMap::new(),
            forgotten: BTreeMap::new(),
            told: BTreeSet::new(),
            restored_at: None,
        }
    }

    /// There is news of a member.
    pub(super) fn note_member(&mut self, name: &str) {
        self.due.insert(name.to_owned());
        self.forgotten.remove(name);
        // It may have stood in another's way, such as by its address.
        self.due.append(&mut self.refused);
    }

    /// A member that was gone is forgotten; it was this server, if it was one.
    pub(super) fn note_forgotten(&mut self, name: &str, server: Option<PeerId>) {
        self.note_member(name);
        self.forgotten.insert(name.to_owned(), server);
    }

    /// Something that was due is in the log, at this index.
    pub(super) fn note_proposed(&mut self, index: Index) {
        self.proposed = self.proposed.max(index);
    }

    /// Something that was due could not be done just now: all is looked at again soon.
    pub(super) fn note_undone(&mut self, now: Instant) {
        self.next_full = self.next_full.min(now + SOON);
    }

    /// The node of one that has left was registered. Its agent's words may have come late, and the node is to go again; or the
    /// agent is back, and the pool will say so before all are looked at.
    pub(super) fn note_ghost(&mut self, now: Instant) {
        self.next_full = self.next_full.min(now + SOON);
    }

    /// A change of raft's members cannot be made, and time alone does not help.
    pub(super) fn note_refused(&mut self, name: String) {
        self.refused.insert(name);
    }

    pub(super) const fn poll_timeout(&self) -> Instant {
        self.next_full
    }

    /// What is to be done now.
    pub(super) fn poll(&mut self, now: Instant, around: Surroundings<'_>) -> Vec<Step> {
        let Surroundings { raft, store, .. } = around;
        // Before that we do not know what earlier leaders have brought into the store.
        if raft.confirmed_round().is_none() || store.index() < self.proposed {
            if self.next_full <= now {
                self.next_full = now + PAUSE;
            }
            return Vec::new();
        }
        // The first look of a leader is at all of them, too.
        let restored = self.restored_at.replace(store.restored_at()) != Some(store.restored_at());
        if self.next_full <= now || restored {
            self.next_full = now + FULL_EVERY;
            self.look_at_all(now, around);
        }
        let (mut steps, mut changes) = (Vec::new(), false);
        for name in std::mem::take(&mut self.due) {
            let command = self.command(now, &name, around);
            if command.is_none() {
                self.tried.remove(&name);
            }
            let command = command.filter(|wanted| self.tried.get(&name) != Some(wanted));
            let change = self.change(&name, around).filter(|_| !self.refused.contains(&name));
            if command.is_none() && change.is_none() {
                self.forgotten.remove(&name);
                continue;
            }
            // It is looked at again once that is done; and what is too much for now has its turn then.
            self.due.insert(name.clone());
            if let Some(command) = command.filter(|_| steps.len() < AT_ONCE) {
                self.tried.insert(name.clone(), command.clone());
                steps.push(Step::Command(Box::new(command)));
            }
            match change {
                // One at a time: the next must wait for it anyway.
                Some(change @ Step::Change(..)) if !changes => {
                    changes = true;
                    steps.push(change);
                }
                Some(Step::SecondBootstrap(_)) => {
                    self.refused.insert(name.clone());
                    if self.told.insert(name.clone()) {
                        steps.push(Step::SecondBootstrap(name));
                    }
                }
                _ => {}
            }
        }
        steps
    }

    /// All members are due, and the nodes in the catalog that seem to have been members.
    fn look_at_all(&mut self, now: Instant, around: Surroundings<'_>) {
        self.tried.clear();
        self.refused.clear();
        self.due.extend(around.gossip.members().map(|member| member.name.to_string()));
        let nodes = around.store.nodes().map(|node| &node.name).filter(|name| serf_check(around.store, name).is_some());
        // The catalog does not tell names apart by their case.
        let present: BTreeSet<String> =
            around.gossip.members().map(|member| member.name.as_str().to_lowercase()).collect();
        let missing: Vec<&String> = nodes.filter(|name| !present.contains(&name.to_lowercase())).collect();
        self.due.extend(missing.iter().map(|name| (*name).clone()));
        let trusted = is_pool_whole(around);
        let before = std::mem::take(&mut self.missing);
        if trusted {
            let since = |name: &String| before.get(name).copied().unwrap_or(now);
            self.missing = missing.into_iter().map(|name| (name.clone(), since(name))).collect();
        }
    }

    /// What the catalog should say of a member and does not.
    fn command(&self, now: Instant, name: &str, around: Surroundings<'_>) -> Option<Command> {
        let Surroundings { config, gossip, store, .. } = around;
        let Some(member) = gossip.member(name) else {
            let gone = self.forgotten.contains_key(name)
                || self.missing.get(name).is_some_and(|since| now.since(*since) >= MISSING_FOR);
            return if gone { deregister(store, name, None).filter(|_| !has_namesake(name, gossip)) } else { None };
        };
        let known_role = matches!(member.tags.get(ROLE).map(String::as_str), Some("consul" | "node"));
        if !known_role || member.tags.get("dc") != Some(&config.datacenter) {
            return None;
        }
        match member.status() {
            Status::Alive | Status::Leaving => live(member, config, store),
            Status::Failed => failed(member, store).filter(|_| !has_namesake(name, gossip)),
            // As long as we lead, we are here.
            Status::Left if name == config.name => None,
            Status::Left => deregister(store, name, member.tags.get("id")).filter(|_| !has_namesake(name, gossip)),
        }
    }

    /// What should change in raft on account of a member.
    fn change(&self, name: &str, around: Surroundings<'_>) -> Option<Step> {
        let Surroundings { config, raft, gossip, .. } = around;
        let members = raft.members();
        let live = |id: PeerId| servers(around).any(|server| server.id == id && server.status.is_live());
        let remove = |id: PeerId| {
            let goes = id != config.id && members.is_member(id) && !live(id);
            goes.then(|| Step::Change(name.to_owned(), Change::Remove(id)))
        };
        let Some(member) = gossip.member(name) else {
            return self.forgotten.get(name).copied().flatten().and_then(remove);
        };
        let Server { id, address, status, bootstrap, .. } = Server::of(member, &config.datacenter)?;
        match status {
            Status::Left => remove(id),
            Status::Alive if id == config.id => None,
            Status::Alive => match members.address(id) {
                None if bootstrap && servers(around).any(|other| other.bootstrap && other.id != id) => {
                    Some(Step::SecondBootstrap(name.to_owned()))
                }
                None => {
                    // Whoever had the address before has lost it, and with it what it was.
                    let former = members.servers.iter().find(|(_, server)| server.address == address);
                    let former = former.and_then(|(former, _)| remove(*former));
                    Some(former.unwrap_or_else(|| Step::Change(name.to_owned(), Change::Add { id, address })))
                }
                // One that answers us is where we believe it to be, whatever gossip says.
                Some(known) if known != address && !is_heard(id, around) => {
                    Some(Step::Change(name.to_owned(), Change::Move { id, address }))
                }
                Some(_) => None,
            },
            Status::Leaving | Status::Failed => None,
        }
    }
}

fn servers<'a>(around: Surroundings<'a>) -> impl Iterator<Item = Server> + 'a {
    around.gossip.members().filter_map(|member| Server::of(member, &around.config.datacenter))
}

/// Whether a member of raft has spoken to us, the leader, lately.
fn is_heard(id: PeerId, around: Surroundings<'_>) -> bool {
    let Role::Leader(leader) = around.raft.role() else { return false };
    let patience = around.config.raft.election_timeout;
    leader.progress.get(&id).is_some_and(|progress| around.raft.now().since(progress.heard) < patience)
}

/// Whether all the servers that we speak with are in our pool. If not, it tells nothing about who else is gone.
fn is_pool_whole(around: Surroundings<'_>) -> bool {
    let pool: BTreeSet<PeerId> = servers(around).map(|server| server.id).collect();
    around.raft.members().others(around.config.id).all(|id| pool.contains(&id) || !is_heard(id, around))
}

/// Whether a live member has the same node in the catalog, which does not tell names apart by their case. It is that
/// member's then.
fn has_namesake(name: &str, gossip: &Gossip) -> bool {
    let lower = name.to_lowercase();
    let mut others = gossip.members().filter(|other| other.status().is_live() && other.name.as_str() != name);
    others.any(|other| other.name.as_str().to_lowercase() == lower)
}

fn serf_check<'a>(store: &'a Store, name: &str) -> Option<&'a Arc<Check>> {
    store.checks_of(name).find(|check| check.id == SERF_CHECK_ID)
}

fn says(check: &Check, status: &str, output: &str) -> bool {
    check.status == status && check.output == output && check.service_id.is_empty()
}

/// The check of an agent's node.
fn check(member: &Member, status: &str, output: &str) -> Check {
    Check {
        node: member.name.to_string(),
        id: SERF_CHECK_ID.to_owned(),
        name: SERF_CHECK_NAME.to_owned(),
        status: status.to_owned(),
        output: output.to_owned(),
        ..Check::default()
    }
}

/// A member's node as gossip has it; what only its agent can tell of it stays as it is.
fn node(member: &Member, known: Option<&Node>) -> Node {
    let known = known.cloned().unwrap_or_default();
    Node {
        name: member.name.to_string(),
        id: member.tags.get("id").cloned().unwrap_or_default(),
        address: member.address.ip().to_string(),
        create_index: Index(0),
        modify_index: Index(0),
        ..known
    }
}

/// A live member's node, check and service, as far as they are not there.
fn live(member: &Member, config: &Config, store: &Store) -> Option<Command> {
    let name = member.name.as_str();
    let known = store.node(name).map(|known| &**known);
    let node = node(member, known);
    let is_known = known.is_some_and(|known| (&known.address, &known.id) == (&node.address, &node.id));
    let passes = serf_check(store, name).is_some_and(|check| says(check, PASSING, SERF_ALIVE));
    let service =
        Server::of(member, &config.datacenter).map(|server| i64::from(server.address.port())).filter(|port| {
            let mut services = store.services_of(name);
            !services.any(|known| {
                (known.id.as_str(), known.name.as_str(), known.port) == (SERVER_SERVICE, SERVER_SERVICE, *port)
            })
        });
    if is_known && passes && service.is_none() {
        return None;
    }
    let service = service.map(|port| Service {
        node: name.to_owned(),
        id: SERVER_SERVICE.to_owned(),
        name: SERVER_SERVICE.to_owned(),
        tags: Some(Vec::new()),
        port,
        ..Service::default()
    });
    let checks = if passes { Vec::new() } else { vec![check(member, PASSING, SERF_ALIVE)] };
    Some(Command::Register(Box::new(Registration { node, service, checks })))
}

/// A failed member's check, if it does not say so.
fn failed(member: &Member, store: &Store) -> Option<Command> {
    let name = member.name.as_str();
    if serf_check(store, name).is_some_and(|check| says(check, CRITICAL, SERF_FAILED)) {
        return None;
    }
    let node = store.node(name).map_or_else(|| node(member, None), |known| Node::clone(known));
    let checks = vec![check(member, CRITICAL, SERF_FAILED)];
    Some(Command::Register(Box::new(Registration { node, service: None, checks })))
}

/// A member's node goes, if it is still its agent's: others may have registered a node of that name since. It is the agent's
/// by its check, or by this ID: an agent that leaves may register itself once more, in the last moment.
fn deregister(store: &Store, name: &str, id: Option<&String>) -> Option<Command> {
    let is_by_id = id.is_some_and(|id| !id.is_empty() && store.node(name).is_some_and(|node| node.id == *id));
    let goes = is_by_id || serf_check(store, name).is_some();
    goes.then(|| Command::Deregister(Deregistration { node: name.to_owned(), ..Deregistration::default() }))
}
