//! Users of agents: they register services with checks, tell how those are, set maintenance, fire user events, and read
//! which events came. What an agent has confirmed it must still know at the end, whatever happened to it; and no event
//! comes to it twice.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lictor_core::api::agent::{self, CheckDefinition, ServiceDefinition};
use lictor_core::api::event::{self, Event as UserEvent, Listed};
use lictor_core::api::{Call, Reply, Request, Response, health};
use lictor_core::id::CallId;
use lictor_core::io::Input;
use lictor_core::local::Local;
use lictor_core::rng::Rng;
use lictor_core::time::Duration;
use lictor_core::wire;

use super::{Event, Phase, World, tell};
use crate::check::events::Heard;
use crate::check::{Verdict, ensure};
use crate::dice::{Concern, Dice as _, stream};
use crate::plan::RegistrarPlan;

/// The calls of the registrars are numbered from here on.
const ERRANDS: u64 = 1 << 41;

/// The name of the event by which it is seen at the end that events reach everybody.
const LAST: &str = "last";

/// How many services one agent has at most.
const SERVICES: u64 = 4;

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
            name: format!("service-{}", number / 2),
            tags: self.dice.one_in(2).then(|| vec![format!("t{}", self.dice.below(3))]),
            port,
            checks: if self.dice.one_in(3) { Vec::new() } else { vec![check] },
            ..ServiceDefinition::default()
        }
    }
}

impl World {
    pub(super) fn on_register(&mut self) {
        let hosts = self.hosts.len() as u64;
        if !matches!(self.phase, Phase::Trouble | Phase::Calm { .. }) {
            return;
        }
        let Some(registrar) = &mut self.registrar else { return };
        let (low, high) = registrar.plan.pause_ms;
        let pause = registrar.dice.duration(Duration::from_millis(low), Duration::from_millis(high + 1));
        let host = registrar.dice.below(hosts) as usize;
        let drawn = registrar.draw(host);
        self.after(pause, Event::Register);
        if let Some((request, kind)) = drawn.filter(|_| self.hosts[host].agent.is_some()) {
            self.run_errand(host, request, kind);
        }
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
    let stray = there.keys().find(|id| !known.contains_key(**id));
    ensure!(stray.is_none(), "has a service {stray:?} that nobody registered");
    Ok(())
}
