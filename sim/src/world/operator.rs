//! The operator at work. It stands in for what agents do of their own accord as they find each other (they join those
//! that are not members, and tell that one has moved), and for people with tools. Like any client it asks some host,
//! waits, loses patience, and asks again.

use std::collections::BTreeMap;

use lictor_core::api::operator::{Autopilot, Peer, Request};
use lictor_core::api::{Call, Consistency, Error, ReadOptions, Reply, Response};
use lictor_core::id::{CallId, Index, PeerId};
use lictor_core::io::Input;
use lictor_core::peer::{Body, Envelope};
use lictor_core::raft::{Configuration, Kind};
use lictor_core::rng::Rng;
use lictor_core::time::{Duration, Instant};
use lictor_core::wire;

use super::{Event, Phase, World, tell};
use crate::check::raft::members::voters;
use crate::check::{Verdict, ensure};
use crate::dice::{Concern, Dice as _, stream};
use crate::host::{peer, server_of};
use crate::plan::OperatorPlan;

/// The calls of the operator are numbered from here on.
const ORDERS: u64 = 1 << 40;

/// How many orders are under way at a time.
const AT_A_TIME: usize = 2;

/// After this long an order that was not answered has certainly been forgotten.
const FORGOTTEN: Duration = Duration::from_secs(20);

/// Whether a call is the operator's.
pub(super) fn is_order(id: CallId) -> bool {
    id.0 >= ORDERS
}

/// The operator.
#[derive(Debug)]
pub(super) struct Operator {
    plan: OperatorPlan,
    dice: Rng,
    /// By their numbers.
    open: BTreeMap<u64, Order>,
    next: u64,
    /// How many troubles say of each host that it is not wanted.
    pub(super) dismissed: Vec<u32>,
    /// Live voters that were to be removed, of whom it is not known whether they were, and until when they may be.
    removing: BTreeMap<usize, Instant>,
    /// The leader looks after the servers as it should.
    has_configured: bool,
}

/// An order under way.
#[derive(Debug)]
struct Order {
    host: usize,
    life: u64,
    request: Request,
    /// The order makes no sense: it must be refused.
    is_wrong: bool,
    /// The live voter that it removes.
    removes: Option<usize>,
}

impl Operator {
    pub(super) fn new(plan: &OperatorPlan, hosts: usize, seed: u64) -> Self {
        Self {
            plan: plan.clone(),
            dice: stream(seed, Concern::Operator),
            open: BTreeMap::new(),
            next: ORDERS,
            dismissed: vec![0; hosts],
            removing: BTreeMap::new(),
            has_configured: false,
        }
    }

    /// The live voters that an order may yet remove.
    pub(super) fn may_yet_remove(&self, now: Instant) -> Vec<usize> {
        let fresh = self.open.values().filter_map(|order| order.removes);
        let unknown = self.removing.iter().filter(|(_, until)| **until > now).map(|(server, _)| *server);
        let mut all: Vec<usize> = fresh.chain(unknown).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// All troubles are over: every host is wanted again, and the leader is told once more how it should look after them.
    pub(super) fn calm_down(&mut self) {
        self.dismissed.fill(0);
        self.has_configured = false;
        self.plan.transfers_percent = 0;
        self.plan.meddles_percent = 0;
    }

    fn settings(&self) -> Autopilot {
        Autopilot {
            cleanup_dead_servers: self.plan.cleanup_dead_servers,
            last_contact_threshold: Duration::from_millis(self.plan.last_contact_ms),
            max_trailing_logs: self.plan.max_trailing_logs,
            server_stabilization_time: Duration::from_millis(self.plan.stabilization_ms),
            ..Autopilot::default()
        }
    }

    /// Something useless or wrong. Whether it must be refused.
    fn meddle(&mut self, members: &Configuration) -> (Request, bool) {
        let read = ReadOptions { consistency: Consistency::Default, index: Index(0), wait: None };
        match self.dice.below(8) {
            0 => (Request::RemovePeer(Peer::Id(PeerId::numbered(60_000).0.to_string())), true),
            1 => (Request::RemovePeer(Peer::Address("10.9.9.9:8300".to_owned())), true),
            2 => (Request::RemovePeer(Peer::Address("nowhere".to_owned())), true),
            3 => {
                let (mut ids, lone) = (members.voters(), members.voter_count() == 1);
                match ids.next().filter(|_| lone) {
                    // Unless another got a vote meanwhile, in which case nothing is lost.
                    Some(last) => (Request::RemovePeer(Peer::Id(last.0.to_string())), false),
                    None => (Request::AutopilotHealth, false),
                }
            }
            4 => (Request::RaftConfiguration { read }, false),
            5 => (Request::AutopilotConfiguration { read }, false),
            6 => {
                let cas = Some(Index(self.dice.below(200)));
                (Request::SetAutopilotConfiguration { settings: self.settings(), cas }, false)
            }
            _ => (Request::AutopilotHealth, false),
        }
    }
}

/// What the operator would have done.
#[derive(Debug)]
struct Need {
    request: Request,
    removes: Option<usize>,
}

impl World {
    /// Whether this host should be a server.
    pub(super) fn is_wanted(&self, host: usize) -> bool {
        match (&self.operator, self.phase) {
            (None, _) => !self.hosts[host].departed,
            (Some(operator), Phase::Trouble) => operator.dismissed[host] == 0,
            (Some(_), _) => !self.plan.hosts[host].retires,
        }
    }

    pub(super) fn on_operate(&mut self) -> Verdict {
        let leader = self.watcher.leader().map(|server| self.host_of[server]);
        let hosts = self.hosts.len() as u64;
        let Some(operator) = &mut self.operator else { return Ok(()) };
        let (low, high) = operator.plan.pause_ms;
        let pause = operator.dice.duration(Duration::from_millis(low), Duration::from_millis(high + 1));
        let any = operator.dice.below(hosts) as usize;
        let host = if operator.dice.percent(operator.plan.strays_percent) { any } else { leader.unwrap_or(any) };
        let is_busy = operator.open.len() >= AT_A_TIME;
        self.after(pause, Event::Operate);
        let Some(agent) = self.hosts[host].agent.as_ref().filter(|_| !is_busy) else { return Ok(()) };
        let members = std::sync::Arc::clone(agent.raft().members());
        if let Some((need, is_wrong)) = self.next_order(&members) {
            self.order(host, need, is_wrong);
        }
        Ok(())
    }

    /// What to ask for next, seeing these members. Whether it must be refused.
    fn next_order(&mut self, members: &Configuration) -> Option<(Need, bool)> {
        let needs = self.needs(members);
        let operator = self.operator.as_mut()?;
        let plain = |request| Need { request, removes: None };
        if !operator.has_configured && operator.dice.one_in(2) {
            return Some((
                plain(Request::SetAutopilotConfiguration { settings: operator.settings(), cas: None }),
                false,
            ));
        }
        if operator.dice.percent(operator.plan.meddles_percent) {
            let (request, is_wrong) = operator.meddle(members);
            return Some((plain(request), is_wrong));
        }
        if operator.dice.percent(operator.plan.transfers_percent) {
            let ids: Vec<PeerId> = members.servers.keys().copied().collect();
            let to = if ids.is_empty() || operator.dice.one_in(2) { None } else { Some(*operator.dice.pick(&ids)) };
            return Some((plain(Request::TransferLeader { to }), false));
        }
        if needs.is_empty() {
            return None;
        }
        let chosen = operator.dice.below(needs.len() as u64) as usize;
        needs.into_iter().nth(chosen).map(|need| (need, false))
    }

    /// What is not as it should be.
    fn needs(&mut self, members: &Configuration) -> Vec<Need> {
        let mut needs = Vec::new();
        for (host, target) in self.hosts.iter().enumerate() {
            let (id, address) = (peer(target.server), target.address());
            if target.agent.is_some() && self.is_wanted(host) && members.address(id) != Some(address) {
                needs.push(Need { request: Request::AddPeer { id, address }, removes: None });
            }
        }
        let unwanted: Vec<PeerId> = members
            .servers
            .keys()
            .copied()
            .filter(|id| !self.is_current(*id) || !self.is_wanted(self.host_of[server_of(*id)]))
            .collect();
        for id in unwanted {
            let server = server_of(id);
            let by_id = Request::RemovePeer(Peer::Id(id.0.to_string()));
            if self.watcher.is_lost(server) {
                // The leader would do it, too, once it has another in its place.
                let in_the_way = members.address(id) == Some(self.hosts[self.host_of[server]].address());
                let Some(operator) = &mut self.operator else { continue };
                if in_the_way || !operator.plan.cleanup_dead_servers || operator.dice.one_in(8) {
                    needs.push(Need { request: by_id, removes: None });
                }
            } else if self.may_remove(server, members) {
                let removes = members.is_voter(id).then_some(server);
                let Some(operator) = &mut self.operator else { continue };
                let request = match members.address(id).filter(|_| operator.dice.one_in(2)) {
                    Some(address) => Request::RemovePeer(Peer::Address(address.to_string())),
                    None => by_id,
                };
                needs.push(Need { request, removes });
            }
        }
        needs
    }

    /// Whether those that are left can do without one that is alive. Nobody else must be on the way out.
    fn may_remove(&self, server: usize, members: &Configuration) -> bool {
        if !members.is_voter(peer(server)) {
            return true;
        }
        let others = |removing: Vec<usize>| removing.iter().any(|other| *other != server);
        if self.operator.as_ref().is_some_and(|operator| others(operator.may_yet_remove(self.now))) {
            return false;
        }
        self.watcher.all_in_force().chain([members]).all(|members| {
            let left: Vec<usize> = voters(members).filter(|other| *other != server).collect();
            let gone = left.iter().filter(|other| self.is_gone(**other, members)).count();
            !left.is_empty() && gone <= (left.len() - 1) / 2
        })
    }

    fn order(&mut self, host: usize, need: Need, is_wrong: bool) {
        let life = self.hosts[host].life;
        let Some(operator) = &mut self.operator else { return };
        let id = operator.next;
        operator.next += 1;
        let (low, high) = operator.plan.patience_ms;
        let patience = operator.dice.duration(Duration::from_millis(low), Duration::from_millis(high + 1));
        let call = Call::new(need.request.clone());
        let order = Order { host, life, request: need.request, is_wrong, removes: need.removes };
        tell!(self, "operator asks {host}: order {} {:?}", id - ORDERS, order.request);
        self.note(18, id);
        self.trace.bytes(&wire::encode(&call.request));
        self.stats.orders.asked += 1;
        if let Some(operator) = &mut self.operator {
            operator.open.insert(id, order);
        }
        self.after(patience, Event::OrderLate(id));
        self.feed(host, Input::Call { id: CallId(id), call });
    }

    /// The operator's patience ends: what it asked for may have happened, or may yet.
    pub(super) fn on_order_late(&mut self, id: u64) {
        let until = self.now + FORGOTTEN;
        let Some(operator) = &mut self.operator else { return };
        let Some(order) = operator.open.remove(&id) else { return };
        if let Some(server) = order.removes {
            operator.removing.insert(server, until);
        }
        self.stats.orders.unknown += 1;
        if self.hosts[order.host].agent.is_some() && self.hosts[order.host].life == order.life {
            self.feed(order.host, Input::Hangup { id: CallId(id) });
        }
    }

    pub(super) fn order_answered(&mut self, id: CallId, reply: &Reply) -> Verdict {
        self.note(19, id.0);
        self.trace.bytes(&wire::encode(reply));
        let until = self.now + FORGOTTEN;
        let Some(operator) = &mut self.operator else { return Ok(()) };
        let Some(order) = operator.open.remove(&id.0) else { return Ok(()) };
        tell!(self, "operator has order {}: {reply:?}", id.0 - ORDERS);
        let Some(operator) = &mut self.operator else { return Ok(()) };
        let is_unknown = matches!(reply, Err(Error::LeadershipLost | Error::LeaderUnreachable));
        if let Some(server) = order.removes.filter(|_| is_unknown) {
            operator.removing.insert(server, until);
        }
        let done = matches!(reply, Ok(Response::Done(true)));
        if done && matches!(&order.request, Request::SetAutopilotConfiguration { cas: None, .. }) {
            operator.has_configured = true;
        }
        let orders = &mut self.stats.orders;
        match reply {
            _ if is_unknown => orders.unknown += 1,
            Ok(_) => orders.done += 1,
            Err(_) => orders.refused += 1,
        }
        ensure!(
            !order.is_wrong || reply.is_err(),
            "the operator asks for what makes no sense, {:?}, and is told {reply:?}",
            order.request
        );
        Ok(())
    }

    /// A server that has no vote begins no election in calm times, when it must have heard of that or cannot win.
    pub(super) fn check_outsider(&mut self, server: usize, envelope: &Envelope) -> Verdict {
        let Body::Raft(message) = &envelope.body else { return Ok(()) };
        let Kind::Vote { .. } = message.kind else { return Ok(()) };
        if self.watcher.members().is_none_or(|members| members.is_voter(peer(server))) {
            return Ok(());
        }
        self.stats.outsiders_campaigns += 1;
        let calm_since = match self.phase {
            Phase::Trouble | Phase::Over => return Ok(()),
            Phase::Calm { since } => since,
            Phase::Probing { .. } | Phase::Settling { .. } => Instant::ZERO,
        };
        ensure!(
            self.now < calm_since + self.settling_time(),
            "server {server}, which has no vote, begins an election in term {} of a calm cluster",
            message.term
        );
        Ok(())
    }

    /// Whether the members are those that the operator wants, each with a vote.
    pub(super) fn members_are_as_wanted(&self) -> Verdict {
        if self.operator.is_none() {
            return Ok(());
        }
        let Some(members) = self.watcher.members() else { return Err("nobody is a member".to_owned()) };
        for (host, target) in self.hosts.iter().enumerate() {
            let id = peer(target.server);
            if self.is_wanted(host) {
                ensure!(members.is_voter(id), "server {} has no vote among {members}", target.server);
                ensure!(
                    members.address(id) == Some(target.address()),
                    "server {} is at {}, and the members say {:?}",
                    target.server,
                    target.address(),
                    members.address(id)
                );
            }
        }
        let stray = members.servers.keys().find(|id| {
            let host = self.host_of[server_of(**id)];
            !self.is_current(**id) || !self.is_wanted(host)
        });
        match stray {
            Some(id) => Err(format!("server {} is still one of {members}", server_of(*id))),
            None => Ok(()),
        }
    }
}
