//! Users of agents: they register services with checks, tell how those are, set maintenance, fire user events, and read
//! which events came. What an agent has confirmed it must still know at the end, whatever happened to it; and no event
//! comes to it twice.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lictor_core::api::agent::{self, CheckDefinition, ServiceDefinition};
use lictor_core::api::catalog::{Node, Registration, Service};
use lictor_core::api::event::{self, Event as UserEvent, Listed};
use lictor_core::api::{Call, Reply, Request, Response, catalog, health};
use lictor_core::id::CallId;
use lictor_core::io::Input;
use lictor_core::local::Local;
use lictor_core::rng::Rng;
use lictor_core::time::{Duration, Instant};
use lictor_core::wire;

use super::{Event, Phase, World, tell};
use crate::check::catalog::Indexes;
use crate::check::events::Heard;
use crate::check::{Verdict, ensure};
use crate::dice::{Concern, Dice as _, stream};
use crate::host::FROM_FILE;
use crate::plan::RegistrarPlan;

/// The calls of the registrars are numbered from here on.
const ERRANDS: u64 = 1 << 41;

/// The name of the event by which it is seen at the end that events reach everybody.
const LAST: &str = "last";

/// How many services one agent has at most.
const SERVICES: u64 = 4;

/// The names of all services.
const SERVICE_NAMES: [&str; 2] = ["service-0", "service-1"];

/// The tag that a service is given from outside at the end.
const OUTSIDE: &str = "outside";

/// Whether a call is a registrar's.
pub(super) fn is_errand(id: CallId) -> bool {
    id.0 >= ERRANDS
}

/// All users of agents in one.
#[derive(Debug)]
pub(super) struct Registrar {
    plan: RegistrarPlan,
    dice: Rng,
    next: u64,
    /// By the numbers of their calls.
    open: BTreeMap<u64, Errand>,
    /// What may be registered with each agent: for each service its port, or that it is not there.
    known: Vec<BTreeMap<String, BTreeSet<Option<i64>>>>,
    /// Which events each agent has heard.
    heard: Vec<Heard>,
    /// The event that all must hear in the end was fired.
    has_fired_last: bool,
    /// What was told of the catalog's questions.
    indexes: Indexes,
    /// A service whose tags somebody changed in the catalog, at the end.
    retagged: Option<Retagged>,
}

/// A service whose tags somebody changes in the catalog, as its agent has said that anybody may.
#[derive(Debug)]
struct Retagged {
    host: usize,
    id: String,
    /// When that was done.
    done: Option<Instant>,
}

/// A call under way.
#[derive(Debug)]
struct Errand {
    host: usize,
    life: u64,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// A service is to have this port, or to be there no more.
    Service { id: String, port: Option<i64> },
    /// The list of events that came.
    Listen,
    /// The agent is to leave.
    Leave,
    /// The catalog is to have other tags for a service.
    Retag,
    /// Anything else.
    Other,
}

impl Registrar {
    pub(super) fn new(plan: &RegistrarPlan, hosts: usize, seed: u64) -> Self {
        Self {
            plan: plan.clone(),
            dice: stream(seed, Concern::Registrar),
            next: ERRANDS,
            open: BTreeMap::new(),
            known: vec![BTreeMap::new(); hosts],
            heard: vec![Heard::default(); hosts],
            has_fired_last: false,
            indexes: Indexes::default(),
            retagged: None,
        }
    }

    /// The disk of a host is another one: nothing is registered there any more, and no event was heard.
    pub(super) fn wiped(&mut self, host: usize) {
        self.known[host].clear();
        self.heard[host] = Heard::default();
    }

    /// All connections to a host break: what was under way may have been done, or not.
    pub(super) fn disconnected(&mut self, host: usize) {
        let gone: Vec<u64> = self.open.iter().filter(|(_, errand)| errand.host == host).map(|(id, _)| *id).collect();
        for id in gone {
            if let Some(Errand { kind: Kind::Service { id, port }, .. }) = self.open.remove(&id) {
                self.known[host].entry(id).or_insert_with(|| BTreeSet::from([None])).insert(port);
            }
        }
    }

    /// Something to ask of an agent: one change of its services at a time.
    fn draw(&mut self, host: usize) -> Option<(Request, Kind)> {
        let busy = self.open.values().any(|errand| errand.host == host && matches!(errand.kind, Kind::Service { .. }));
        let number = self.dice.below(SERVICES);
        let id = format!("s{number}");
        let other = |request: agent::Request| Some((request.into(), Kind::Other));
        match self.dice.below(16) {
            0..5 if !busy => {
                let port = self.dice.between(1, 60_000) as i64;
                let request = agent::Request::RegisterService(Box::new(self.definition(&id, number, port)));
                Some((request.into(), Kind::Service { id, port: Some(port) }))
            }
            5..7 if !busy => {
                let request = agent::Request::DeregisterService { id: id.clone() };
                Some((request.into(), Kind::Service { id, port: None }))
            }
            7..11 => {
                let status = (*self.dice.pick(&[health::PASSING, health::PASSING, health::WARNING, health::CRITICAL]))
                    .to_owned();
                let output = format!("told {}", self.next);
                other(agent::Request::UpdateCheck { id: format!("service:{id}"), status, output })
            }
            11 => {
                let enable = self.dice.one_in(2);
                other(agent::Request::ServiceMaintenance { id, enable, reason: String::new() })
            }
            12 => {
                let enable = self.dice.one_in(3);
                other(agent::Request::NodeMaintenance { enable, reason: "work".to_owned() })
            }
            13..16 => {
                let event = UserEvent { name: format!("e{}", self.dice.below(3)), ..UserEvent::default() };
                Some((event::Request::Fire(event).into(), Kind::Other))
            }
            _ => None,
        }
    }

    fn definition(&mut self, id: &str, number: u64, port: i64) -> ServiceDefinition {
        // A short time to live is over soon; a long one never is.
        let ttl = *self.dice.pick(&[Duration::from_secs(2), Duration::from_secs(3_600), Duration::from_secs(3_600)]);
        let check = CheckDefinition { ttl, ..CheckDefinition::default() };
        ServiceDefinition {
            id: id.to_owned(),
            name: SERVICE_NAMES[number as usize / 2].to_owned(),
            tags: self.dice.one_in(2).then(|| vec![format!("t{}", self.dice.below(3))]),
            port,
            enable_tag_override: self.dice.one_in(3),
            checks: if self.dice.one_in(3) { Vec::new() } else { vec![check] },
            ..ServiceDefinition::default()
        }
    }
}

impl World {
    pub(super) fn on_register(&mut self) -> Verdict {
        let hosts = self.hosts.len() as u64;
        if !matches!(self.phase, Phase::Trouble | Phase::Calm { .. }) {
            return Ok(());
        }
        let Some(registrar) = &mut self.registrar else { return Ok(()) };
        let (low, high) = registrar.plan.pause_ms;
        let pause = registrar.dice.duration(Duration::from_millis(low), Duration::from_millis(high + 1));
        let host = registrar.dice.below(hosts) as usize;
        let drawn = registrar.draw(host);
        if let Some(agent) = &self.hosts[host].agent {
            registrar.indexes.never_go_back(agent.store(), &self.hosts[0].config.name, &SERVICE_NAMES)?;
        }
        self.after(pause, Event::Register);
        if let Some((request, kind)) = drawn.filter(|_| self.hosts[host].agent.is_some()) {
            self.run_errand(host, request, kind);
        }
        Ok(())
    }

    /// All troubles are over: tags that somebody changes in the catalog stay as they are, if the agent whose service it is has
    /// said that anybody may change them, and come to that agent.
    pub(super) fn tags_stay(&mut self) -> Verdict {
        let Some(sync_ms) = self.plan.pool.as_ref().map(|pool| pool.sync_ms).filter(|ms| *ms > 0) else {
            return Ok(());
        };
        let Some(registrar) = &mut self.registrar else { return Ok(()) };
        let Some(Retagged { host, id, done }) = &registrar.retagged else {
            self.retag();
            return if self.registrar.as_ref().is_some_and(|registrar| registrar.retagged.is_some()) {
                Err("nobody has changed a service's tags yet".to_owned())
            } else {
                Ok(())
            };
        };
        let agent = &self.hosts[*host];
        let Some(local) = agent.agent.as_ref().map(lictor_core::agent::Agent::local) else { return Ok(()) };
        // Until its next comparison with the catalog the agent knows nothing of it.
        let compared = done.is_some_and(|done| self.now.since(done) >= Duration::from_millis(sync_ms * 3));
        let known = local.services().find(|service| service.id == *id).and_then(|service| service.tags.clone());
        ensure!(
            compared && known.is_some_and(|tags| tags == [OUTSIDE]),
            "{} does not have the tag of its service {id} that somebody gave it in the catalog",
            agent.config.name
        );
        Ok(())
    }

    fn retag(&mut self) {
        let open = |local: &Local| local.services().find(|service| service.enable_tag_override).cloned();
        let found =
            self.hosts.iter().enumerate().find_map(|(host, target)| {
                Some((host, target.config.name.clone(), open(target.agent.as_ref()?.local())?))
            });
        let Some((host, name, service)) = found else { return };
        let Some(node) = self.hosts[host].agent.as_ref().map(|_| Node {
            name,
            address: self.hosts[host].config.gossip.address.ip().to_string(),
            id: self.hosts[host].config.id.0.to_string(),
            ..Node::default()
        }) else {
            return;
        };
        let id = service.id.clone();
        let service = Service { tags: Some(vec![OUTSIDE.to_owned()]), ..service };
        let registration = Registration { node, service: Some(service), ..Registration::default() };
        if let Some(registrar) = &mut self.registrar {
            registrar.retagged = Some(Retagged { host, id, done: None });
        }
        self.run_errand(host, catalog::Request::Register(Box::new(registration)).into(), Kind::Retag);
    }

    /// An agent is asked to leave the pool.
    pub(super) fn ask_to_leave(&mut self, host: usize) {
        if self.hosts[host].agent.is_some() {
            self.run_errand(host, agent::Request::Leave.into(), Kind::Leave);
        }
    }

    /// Asks which events came: now, or once there are others than those of this index.
    pub(super) fn listen(&mut self, host: usize, index: u64) {
        if self.registrar.is_none() {
            return;
        }
        let none = String::new();
        let (name, node_filter, service_filter, tag_filter) = (none.clone(), none.clone(), none.clone(), none);
        let wait = Some(Duration::from_secs(600));
        let list = event::Request::List { name, node_filter, service_filter, tag_filter, index, wait };
        self.run_errand(host, list.into(), Kind::Listen);
    }

    fn run_errand(&mut self, host: usize, request: Request, kind: Kind) {
        let life = self.hosts[host].life;
        let Some(registrar) = &mut self.registrar else { return };
        let id = registrar.next;
        registrar.next += 1;
        registrar.open.insert(id, Errand { host, life, kind });
        tell!(self, "user asks {host}: errand {} {request:?}", id - ERRANDS);
        self.note(24, id);
        self.trace.bytes(&wire::encode(&request));
        self.stats.local.asked += 1;
        self.feed(host, Input::Call { id: CallId(id), call: Call::new(request) });
    }

    pub(super) fn errand_answered(&mut self, id: CallId, reply: &Reply) -> Verdict {
        self.note(25, id.0);
        self.trace.bytes(&wire::encode(reply));
        tell!(self, "user has errand {}: {reply:?}", id.0 - ERRANDS);
        let Some(registrar) = &mut self.registrar else { return Ok(()) };
        let Some(Errand { host, life, kind }) = registrar.open.remove(&id.0) else { return Ok(()) };
        match (kind, reply) {
            (Kind::Service { id, port }, Ok(_)) => {
                registrar.known[host].insert(id, BTreeSet::from([port]));
                self.stats.local.done += 1;
            }
            (Kind::Service { id, port }, Err(_)) => {
                registrar.known[host].entry(id).or_insert_with(|| BTreeSet::from([None])).insert(port);
                self.stats.local.refused += 1;
            }
            (Kind::Listen, Ok(Response::Events(listed))) => self.hear_events(host, life, listed)?,
            // Too many wait, or the agent leaves: it is asked again when it comes back.
            (Kind::Listen, _) | (Kind::Leave, _) => {}
            (Kind::Retag, reply) => {
                let now = self.now;
                if let Some(retagged) = registrar.retagged.take_if(|_| reply.is_ok()) {
                    registrar.retagged = Some(Retagged { done: Some(now), ..retagged });
                }
            }
            (Kind::Other, reply) => {
                let local = &mut self.stats.local;
                *(if reply.is_ok() { &mut local.done } else { &mut local.refused }) += 1;
                local.events_fired += u64::from(matches!(reply, Ok(Response::Fired(_))));
            }
        }
        Ok(())
    }

    fn hear_events(&mut self, host: usize, life: u64, listed: &Listed) -> Verdict {
        let Some(registrar) = &mut self.registrar else { return Ok(()) };
        let fresh = registrar.heard[host].listed(life, listed).map_err(|why| format!("agent {host} {why}"))?;
        self.stats.local.events_heard += fresh;
        self.listen(host, listed.index);
        Ok(())
    }

    /// What each agent knows of its services is what it has confirmed.
    pub(super) fn registrations_are_kept(&self) -> Verdict {
        let Some(registrar) = &self.registrar else { return Ok(()) };
        for (host, target) in self.hosts.iter().enumerate() {
            let Some(agent) = &target.agent else { continue };
            is_as_confirmed(agent.local(), &registrar.known[host]).map_err(|why| format!("agent {host} {why}"))?;
        }
        Ok(())
    }

    /// All troubles are over, and everybody sees everybody: an event that is fired now reaches all of them.
    pub(super) fn everybody_hears(&mut self) -> Verdict {
        let Some(registrar) = &mut self.registrar else { return Ok(()) };
        if !std::mem::replace(&mut registrar.has_fired_last, true) {
            let living: Vec<usize> = (0..self.hosts.len()).filter(|host| self.hosts[*host].agent.is_some()).collect();
            let host = *registrar.dice.pick(&living);
            let event = UserEvent { name: LAST.to_owned(), payload: Bytes::from_static(b"!"), ..UserEvent::default() };
            self.run_errand(host, event::Request::Fire(event).into(), Kind::Other);
        }
        let Some(registrar) = &self.registrar else { return Ok(()) };
        for (host, target) in self.hosts.iter().enumerate() {
            ensure!(
                target.agent.is_none() || registrar.heard[host].has(LAST),
                "agent {host} has not heard of the last event"
            );
        }
        Ok(())
    }
}

/// Compares what an agent knows of its services with what it may know.
fn is_as_confirmed(local: &Local, known: &BTreeMap<String, BTreeSet<Option<i64>>>) -> Verdict {
    let there: BTreeMap<&str, i64> = local.services().map(|service| (service.id.as_str(), service.port)).collect();
    for (id, may_be) in known {
        let is = there.get(id.as_str()).copied();
        ensure!(
            may_be.contains(&is),
            "has the port {is:?} for its service {id}; by what it has confirmed, one of {may_be:?}"
        );
    }
    let stray = there.keys().find(|id| !known.contains_key(**id) && !id.starts_with(FROM_FILE));
    ensure!(stray.is_none(), "has a service {stray:?} that nobody registered");
    Ok(())
}
