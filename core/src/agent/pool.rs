//! The agent in its gossip pool: who is there, and what becomes of it.
//!
//! Joining stands in `joining.rs`, leaving in `leaving.rs`, what survives a restart in `remembering.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Agent;
use super::errands::Errand;
use super::joining::Joins;
use super::leaving::Leaving;
use super::remembering::Memory;
use super::timers::Due;
use crate::api::{self, Call, Response, agent, coordinate};
use crate::config::Config;
use crate::gossip::{self, Gossip, News, Transmit};
use crate::id::{LamportTime, Ticket};
use crate::io::{Notice, Output, PoolNews};
use crate::rng::Rng;
use crate::server::Server;
use crate::sight::{Section, Sight};
use crate::time::{Deadlines, Duration, Instant};

/// Statistics of the pool are at most so old, as long as something happens at all.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often the servers are told where in the network we are, at most (Consul's 15 s) …
const PLACE_EVERY: Duration = Duration::from_secs(15);

/// … and how often they are told that by all agents together, in a second (Consul's 64).
const PLACES_PER_SECOND: u32 = 64;

/// Who has not moved says so again after this many times, lest the servers have forgotten.
const SAME_PLACES: u32 = 40;

/// A cluster's first event is its second: in Consul a leader has fired one of its own by then, and tools know the numbers.
const FIRST_EVENTS: LamportTime = LamportTime(1);

/// What the agent has to do with its pool, apart from gossip.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) rng: Rng,
    pub(super) timers: Deadlines<Due>,
    pub(super) joins: Joins,
    pub(super) memory: Memory,
    pub(super) leaving: Option<Leaving>,
    /// The farewell is said: in this batch the owner is told.
    pub(super) has_left: bool,
    sight: Arc<Sight>,
    /// Members have come, gone or changed since.
    sight_is_old: bool,
    next_look: Instant,
    /// What we last said of where we are, and how often we have not said so since.
    told: Option<(coordinate::Place, u32)>,
}

/// What we are in our pool, until we have joined others.
///
/// # Panics
/// If others could not take us in, which [`Config::check`] tells beforehand.
pub(super) fn gossip(config: &Config, rng: Rng, now: Instant) -> Gossip {
    let gossip = Gossip::new(config.gossip.options.clone(), config.identity(), rng, now);
    let mut gossip = gossip.expect("the configuration was checked");
    gossip.skip_event_times(FIRST_EVENTS);
    gossip
}

impl Pool {
    pub(super) fn new(config: &Config, gossip: &Gossip, mut rng: Rng, now: Instant) -> Self {
        let mut timers = Deadlines::default();
        if !config.gossip.retry_join.is_empty() {
            timers.set(Due::Retry, now);
        }
        if config.gossip.send_coordinates {
            timers.set(Due::Place, now + rng.duration(PLACE_EVERY / 2, PLACE_EVERY));
        }
        Self {
            rng,
            timers,
            joins: Joins::default(),
            memory: Memory::default(),
            leaving: None,
            has_left: false,
            sight: Arc::new(sight(config, gossip)),
            sight_is_old: false,
            next_look: now,
            told: None,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// What was last seen of the pool.
    pub(super) const fn sight(&self) -> &Arc<Sight> {
        &self.sight
    }
}

impl Agent {
    /// Carries out what is asked of the pool.
    pub(super) fn serve_pool(&mut self, ticket: Ticket) {
        let Some(open) = self.calls.get(ticket) else { return };
        let api::Request::Agent(request) = &open.call.request else {
            return self.serve_pool_of_datacenters(ticket);
        };
        match request.clone() {
            agent::Request::Members { wan } => {
                let members = if wan { self.wan_members() } else { self.gossip.members().map(member).collect() };
                self.reply(ticket, Ok(Response::Members(members)));
            }
            agent::Request::Join { addresses, wan } => self.serve_join(ticket, &addresses, wan),
            agent::Request::ForceLeave { node, prune } => {
                // As Consul does, one that nobody knows is gone as well.
                self.gossip.force_leave(self.now, &node, prune);
                self.reply(ticket, Ok(Response::Done(true)));
            }
            agent::Request::Leave => self.serve_leave(ticket),
            _ => {}
        }
    }

    /// Answers what the pool of all datacenters' servers knows: of ourselves alone.
    fn serve_pool_of_datacenters(&mut self, ticket: Ticket) {
        let Some(open) = self.calls.get(ticket) else { return };
        let datacenter = self.config.datacenter.clone();
        let response = match &open.call.request {
            api::Request::Catalog(_) => Response::Datacenters(vec![datacenter]),
            api::Request::Coordinate(_) => {
                // Its datacenter is named beside it.
                let node = self.config.name.clone();
                let us = self.config.server.then(|| coordinate::Place { node, coordinate: Default::default() });
                let places = us.into_iter().collect();
                Response::Places(vec![coordinate::Datacenter { name: datacenter, places }])
            }
            _ => return,
        };
        self.reply(ticket, Ok(response));
    }

    /// The pool of all datacenters' servers: as yet it has only us, and only if we are a server.
    fn wan_members(&self) -> Vec<agent::Member> {
        let us = self.gossip.member(self.gossip.name().as_str()).filter(|_| self.config.server);
        us.map(|us| agent::Member { name: wan_name(&self.config), port: self.config.wan_port(), ..member(us) })
            .into_iter()
            .collect()
    }

    /// Does what is due, takes note of what has happened in the pool, and sends what gossip wants sent.
    pub(super) fn tend_pool(&mut self) {
        while let Some(due) = self.pool.timers.pop_due(self.now) {
            match due {
                Due::Retry => self.retry_join(),
                Due::Rejoin => self.rejoin(),
                Due::Resolve(id) => self.resolved_too_late(id),
                Due::Remember => self.remember_members(),
                Due::Clocks => self.remember_clocks(),
                Due::Place => self.tell_place(),
                Due::Leave => self.leave_step_timed_out(),
            }
        }
        self.maybe_leave_on();
        while let Some(news) = self.gossip.poll_news() {
            self.hear_news(news);
        }
        while let Some(transmit) = self.gossip.poll_transmit() {
            self.outputs.push_back(match transmit {
                Transmit::Datagram { to, bytes } => Output::Datagram { to, bytes },
                Transmit::Stream { to, bytes } => Output::Stream { to, bytes },
            });
        }
    }

    fn hear_news(&mut self, news: News) {
        self.note_pool_news(&news);
        let known = |member: &gossip::Member| (member.name.to_string(), member.address);
        let told = match news {
            News::Joined(member) => {
                let (name, address) = known(&member);
                self.members_changed(PoolNews::Joined { name, address })
            }
            News::Updated(member) => {
                let (name, address) = known(&member);
                self.members_changed(PoolNews::Updated { name, address })
            }
            News::Failed(member) => {
                let (name, address) = known(&member);
                self.members_changed(PoolNews::Failed { name, address })
            }
            News::Left(member) => {
                let (name, address) = known(&member);
                self.members_changed(PoolNews::Left { name, address })
            }
            News::Reaped(member) => self.members_changed(PoolNews::Reaped { name: member.name.to_string() }),
            News::Refuted { .. } => PoolNews::Refuted,
            News::Conflict { name, known, claimed } => PoolNews::Conflict { name: name.to_string(), known, claimed },
            News::Stranger { from } => PoolNews::Stranger { from },
            News::NameLost { holder } => PoolNews::NameLost { name: self.config.name.clone(), holder },
            News::Suspected { .. } => return,
            News::UserEvent(event) => return self.hold_event(event),
            News::JoinSucceeded { address } => return self.join_answered(address, None),
            News::JoinFailed { address, reason } => return self.join_answered(address, Some(reason)),
            News::LeaveDone => return self.farewell_said(),
        };
        self.notice(told);
    }

    pub(super) fn notice(&mut self, news: PoolNews) {
        self.outputs.push_back(Output::Notice(Notice::Pool(news)));
    }

    /// Members have come, gone or changed.
    fn members_changed(&mut self, news: PoolNews) -> PoolNews {
        self.pool.sight_is_old = true;
        self.remember_soon();
        news
    }

    /// Looks at the pool again, if something has changed in it, or some time has passed.
    pub(super) fn look_at_pool(&mut self) {
        if !self.pool.sight_is_old && self.pool.next_look > self.now {
            return;
        }
        self.pool.sight_is_old = false;
        self.pool.next_look = self.now + LOOK_EVERY;
        let sight = sight(&self.config, &self.gossip);
        if sight != *self.pool.sight {
            self.pool.sight = Arc::new(sight);
        }
    }

    /// Tells the servers where in the network we are.
    fn tell_place(&mut self) {
        let live = u32::try_from(self.gossip.live()).unwrap_or(u32::MAX);
        let interval = PLACE_EVERY.max(Duration::from_secs(1) * live / PLACES_PER_SECOND);
        self.pool.timers.set(Due::Place, self.now + interval + self.pool.rng.duration(Duration::ZERO, interval / 8));
        let place = coordinate::Place { node: self.config.name.clone(), coordinate: self.gossip.coordinate().clone() };
        if let Some((told, silent)) = &mut self.pool.told
            && *told == place
            && *silent < SAME_PLACES
        {
            *silent += 1;
            return;
        }
        self.pool.told = Some((place.clone(), 0));
        self.send_errand(Errand::Place, Call::new(coordinate::Request::Update(place)));
    }

    /// Nobody has taken note of where we are.
    pub(super) fn place_unheard(&mut self) {
        self.pool.told = None;
    }
}

/// A member as clients see it.
fn member(member: &gossip::Member) -> agent::Member {
    agent::Member {
        name: member.name.to_string(),
        address: member.address.ip(),
        port: member.address.port(),
        tags: gossip::Tags::clone(&member.tags),
        status: match member.status() {
            gossip::Status::Alive => agent::MemberStatus::Alive,
            gossip::Status::Leaving => agent::MemberStatus::Leaving,
            gossip::Status::Left => agent::MemberStatus::Left,
            gossip::Status::Failed => agent::MemberStatus::Failed,
        },
    }
}

/// What we are called in the pool of all datacenters' servers.
fn wan_name(config: &Config) -> String {
    format!("{}.{}", config.name, config.datacenter)
}

/// What is seen of the pool now. It looks at every member.
fn sight(config: &Config, gossip: &Gossip) -> Sight {
    let us = gossip.member(gossip.name().as_str()).expect("we are a member of our own pool");
    let (mut names, mut failed, mut live_servers) = (BTreeMap::new(), BTreeSet::new(), 0);
    let (mut members, mut gone, mut left) = (0_usize, 0_usize, 0_usize);
    for other in gossip.members() {
        let status = other.status();
        members += 1;
        gone += usize::from(status == gossip::Status::Failed);
        left += usize::from(status == gossip::Status::Left);
        let Some(Server { id, .. }) = Server::of(other, &config.datacenter) else { continue };
        live_servers += usize::from(status.is_live());
        // One server may have had two names: that of the living one counts.
        if status.is_live() || !names.contains_key(&id) {
            names.insert(id, other.name.to_string());
            if status == gossip::Status::Failed {
                failed.insert(id)
            } else {
                failed.remove(&id)
            };
        }
    }
    let numbers = PoolNumbers {
        members,
        failed: gone,
        left,
        health: gossip.health(),
        event_time: gossip.event_clock().0,
        member_time: gossip.clock().0,
        events: gossip.broadcasts().events.len(),
        intents: gossip.broadcasts().intents.len(),
    };
    // The other pool has only us, who have never said anything there.
    let alone = PoolNumbers { members: 1, ..PoolNumbers::default() };
    Sight {
        member: member(us),
        coordinate: gossip.coordinate().clone(),
        names,
        failed,
        live_servers,
        lan: numbers.section(),
        wan: config.server.then(|| alone.section()),
    }
}

/// What statistics tell of a pool.
#[derive(Clone, Copy, Debug, Default)]
struct PoolNumbers {
    members: usize,
    failed: usize,
    left: usize,
    health: u32,
    event_time: u64,
    member_time: u64,
    events: usize,
    intents: usize,
}

impl PoolNumbers {
    /// With Serf's names. Nobody asks the pool anything in that form (`query`), and packets are not encrypted.
    fn section(self) -> Section {
        let rows = [
            ("members", self.members.to_string()),
            ("failed", self.failed.to_string()),
            ("left", self.left.to_string()),
            ("health_score", self.health.to_string()),
            // Clocks begin with 1 there, and tell the next time.
            ("event_time", (self.event_time + 1).to_string()),
            ("member_time", (self.member_time + 1).to_string()),
            ("query_time", "1".to_owned()),
            ("event_queue", self.events.to_string()),
            ("intent_queue", self.intents.to_string()),
            ("query_queue", "0".to_owned()),
            ("encrypted", "false".to_owned()),
        ];
        rows.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}
