//! Calls that one agent makes on another for its own clients: on the leader, or on any server.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use super::Agent;
use super::calls::{Caller, Open, Stage};
use crate::api::{Error, Reply, Request, Response, acl, catalog, coordinate, health, kv, session};
use crate::id::{CallId, Index, PeerId, Term, Ticket};
use crate::peer::{Body, Forward, Outcome};
use crate::time::{Duration, Instant};
use crate::wire;

/// After how long without an answer a read is asked again, at first; the time doubles …
const RESEND: Duration = Duration::from_millis(500);

/// … up to this: for so long a query may sleep, at most, once whoever was cut off can be reached again.
const LONGEST_RESEND: Duration = Duration::from_secs(4);

/// How many writes of one agent are remembered, …
const MEMORY: usize = 1 << 16;

/// … and how many of all agents together.
const MEMORY_OF_ALL: usize = 1 << 20;

/// The writes of other agents that this server took on in the last term that it led, so that none is carried out
/// twice. A server leads a term in one life only: there is nothing to remember beyond it.
#[derive(Debug, Default)]
pub(super) struct Taken {
    term: Term,
    by_origin: BTreeMap<(PeerId, u64), Seen>,
    /// How many writes they remember together.
    total: usize,
}

/// The writes of one life of one agent. They come with growing numbers, if not quite in order.
#[derive(Debug, Default)]
struct Seen {
    /// All up to here count as seen.
    floor: CallId,
    above: BTreeSet<CallId>,
}

impl Taken {
    /// Whether this write was not seen before; if it is to be carried out now, it is seen from now on.
    fn is_new(&mut self, origin: (PeerId, u64), id: CallId, take: bool) -> bool {
        let seen = self.by_origin.entry(origin).or_default();
        if id <= seen.floor || seen.above.contains(&id) {
            return false;
        }
        if take {
            seen.above.insert(id);
            self.total += 1;
            if seen.above.len() > MEMORY {
                seen.floor = seen.above.pop_first().unwrap_or_default();
                self.total -= 1;
            }
            if self.total > MEMORY_OF_ALL {
                self.forget_half_of_one();
            }
        }
        true
    }

    /// Of the life of which the most writes are remembered, the earlier half all count as seen.
    fn forget_half_of_one(&mut self) {
        let Some(most) = self.by_origin.values_mut().max_by_key(|seen| seen.above.len()) else { return };
        let half = most.above.len().div_ceil(2);
        let Some(last) = most.above.iter().nth(half - 1).copied() else { return };
        most.above = most.above.split_off(&last.next());
        most.floor = last;
        self.total -= half;
    }
}

/// The latest calls that were meant for any server and may be carried out once only: nobody's term bounds how long they are
/// remembered.
#[derive(Debug, Default)]
pub(super) struct Recent {
    known: BTreeSet<(PeerId, u64, CallId)>,
    order: VecDeque<(PeerId, u64, CallId)>,
}

impl Recent {
    /// Whether this one was not seen before. It is seen from now on.
    fn is_new(&mut self, from: PeerId, origin: u64, id: CallId) -> bool {
        let call = (from, origin, id);
        let is_new = self.known.insert(call);
        if is_new {
            self.order.push_back(call);
        }
        if self.order.len() > MEMORY
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        is_new
    }
}

impl Agent {
    /// Hands a call to the leader of a term; or to any server, for which the term is 0.
    pub(super) fn forward(&mut self, ticket: Ticket, to: PeerId, term: Term) {
        let give_up = self.blocking_end(ticket).unwrap_or(self.now) + self.config.limits.forward_wait;
        self.forward_until(ticket, to, term, give_up);
    }

    fn forward_until(&mut self, ticket: Ticket, to: PeerId, term: Term, give_up: Instant) {
        let Some(open) = self.calls.get(ticket) else { return };
        // A client agent must find out by itself whether the leader is still there.
        let looks = may_repeat(&open.call.request) || !self.config.server;
        let first = if looks { give_up.min(self.now + RESEND) } else { give_up };
        self.calls.enter(ticket, Stage::Forwarded { to, term, give_up, resend: RESEND }, Some(first));
        self.send_forward(ticket, to, term);
    }

    /// When a forwarded query stops blocking, if it blocks at all.
    fn blocking_end(&mut self, ticket: Ticket) -> Option<Instant> {
        let open = self.calls.get(ticket)?;
        let read = open.call.request.read_options()?;
        if read.index == Index(0) {
            return None;
        }
        let (fixed, wait) = (open.block_until, read.wait);
        let until = fixed.unwrap_or_else(|| self.now + self.longest_block(wait));
        self.calls.get_mut(ticket)?.block_until = Some(until);
        Some(until)
    }

    fn send_forward(&mut self, ticket: Ticket, leader: PeerId, term: Term) {
        let Some(open) = self.calls.get(ticket) else { return };
        let mut call = open.call.clone();
        // What is left of the time for which it may block.
        if let (Some(until), Some(wait)) = (open.block_until, wait_mut(&mut call.request)) {
            *wait = Some(until.since(self.now));
        }
        self.send(leader, Body::Forward(Forward { id: CallId(ticket.0), origin: self.origin, term, call }));
    }

    /// Another agent hands us a call of its client.
    pub(super) fn handle_forward(&mut self, from: PeerId, address: SocketAddr, forward: Forward) {
        let caller = Caller::Peer { peer: from, address, origin: forward.origin, id: forward.id };
        // It asks again because it heard nothing: we are at it.
        if self.calls.by_caller(&caller).is_some() {
            return;
        }
        if !may_repeat(&forward.call.request) && !self.is_new(from, &forward) {
            return;
        }
        self.admit(caller, forward.call, forward.term);
    }

    /// Whether a write was surely not taken on before. The network may bring it twice, or late: even "we do not lead,
    /// nothing was done" is then wrong of a write whose answer is on its way. Of terms that we led in an earlier life
    /// we know nothing, and say nothing; whoever asked finds out that we lost our office, and what that means.
    fn is_new(&mut self, from: PeerId, forward: &Forward) -> bool {
        if forward.term == Term(0) {
            return self.taken_by_any.is_new(from, forward.origin, forward.id);
        }
        let term = self.raft.status().term;
        let leads = self.raft.is_leader();
        if leads && self.taken.term != term {
            self.taken = Taken { term, ..Taken::default() };
        }
        forward.term == self.taken.term && self.taken.is_new((from, forward.origin), forward.id, leads)
    }

    /// The leader, or whom we took for it, answers.
    pub(super) fn handle_answer(&mut self, from: PeerId, id: CallId, origin: u64, outcome: Outcome) {
        let ticket = Ticket(id.0);
        let Some(Stage::Forwarded { to, term, .. }) = self.calls.get(ticket).map(|open| &open.stage) else { return };
        let of_earlier_attempt = matches!(outcome, Outcome::NotLeader { term: refused, .. } if refused != *term);
        if origin != self.origin || *to != from || of_earlier_attempt {
            return;
        }
        match outcome {
            Outcome::Reply(Ok(Response::CaughtUpAt(_))) if !self.config.server => {
                let server = self.servers.address(from).map(|address| address.ip());
                self.reply(ticket, server.map_or(Err(Error::NoServers), |ip| Err(Error::NoStateHere(ip))));
            }
            Outcome::Reply(Ok(Response::CaughtUpAt(index))) => {
                let give_up = self.now + self.config.limits.leader_wait;
                self.calls.enter(ticket, Stage::CatchingUp(index), Some(give_up));
                if index <= self.store.index() {
                    self.evaluate(ticket);
                }
            }
            Outcome::Reply(reply) => self.reply(ticket, reply),
            Outcome::NotLeader { leader, term } if !self.config.server => {
                self.hear_of_no_leader(from, term);
                self.hear_of_leader(from, leader);
                self.calls.enter(ticket, Stage::Held, None);
                self.route(ticket);
            }
            Outcome::NotLeader { .. } => {
                // Nothing was done. If we know no better yet, ask again in a moment.
                let again = self.now + self.config.raft.heartbeat_interval;
                let patience = self.calls.get(ticket).map_or(again, |open| open.patience);
                self.calls.enter(ticket, Stage::Held, Some(again.min(patience)));
                if self.raft.leader() != Some(from) {
                    self.route(ticket);
                }
            }
        }
    }

    /// Whom we asked has not answered for a while.
    pub(super) fn handle_silence(&mut self, ticket: Ticket, asked: (PeerId, Term), give_up: Instant, resend: Duration) {
        let (to, term) = asked;
        if give_up <= self.now {
            self.abandon(to, ticket);
            self.reply(ticket, Err(Error::LeaderUnreachable));
            return;
        }
        // What is meant for any server and may happen once only is not handed to another one: nobody knows what became of it.
        let once = self.calls.get(ticket).is_some_and(|open| term == Term(0) && !may_repeat(&open.call.request));
        if !self.config.server && !once && self.is_suspect(ticket, to, term, resend) {
            return;
        }
        let resend = (resend * 2).min(LONGEST_RESEND);
        let next = (self.now + resend).min(give_up);
        self.calls.enter(ticket, Stage::Forwarded { to, term, give_up, resend }, Some(next));
        if self.calls.get(ticket).is_some_and(|open| may_repeat(&open.call.request)) {
            self.send_forward(ticket, to, term);
        }
    }

    /// A server leaves a call of our client unanswered. Whether something was done about that: another server was asked, or
    /// the leader is doubted, and the call looked at again in a moment.
    fn is_suspect(&mut self, ticket: Ticket, to: PeerId, term: Term, resend: Duration) -> bool {
        let Some(open) = self.calls.get(ticket) else { return false };
        let Stage::Forwarded { give_up, .. } = open.stage else { return false };
        let was_heard = self.servers.heard(to).is_some_and(|heard| self.now.since(heard) < resend);
        // A query that blocks is not answered for long, but the server is there all the same: it is asked each time, so
        // that it has been heard the next time.
        let blocks = open.call.request.read_options().is_some_and(|read| read.index > Index(0));
        if term == Term(0) && blocks && (was_heard || resend == RESEND) {
            self.ask_whether_there(to);
            return false;
        }
        if was_heard {
            return false;
        }
        if term != Term(0) {
            if self.servers.last_leader().is_none_or(|leader| leader.id != to) {
                return false;
            }
            self.doubt_leader();
            let next = give_up.min(self.now + self.config.raft.heartbeat_interval);
            self.calls.enter(ticket, Stage::Forwarded { to, term, give_up, resend }, Some(next));
            return true;
        }
        self.abandon(to, ticket);
        self.servers.pass_over(to);
        match self.servers.first() {
            Some(next) => self.forward_until(ticket, next, Term(0), give_up),
            None => self.hold_for_server(ticket),
        }
        true
    }

    /// There is a new leader: calls to the old one go to the new one, unless they may have been carried out.
    pub(super) fn leave_old_leader(&mut self) {
        let leader = if self.config.server {
            (self.raft.leader(), self.raft.status().term)
        } else {
            let leader = self.servers.last_leader();
            (leader.map(|leader| leader.id), leader.map_or(Term(0), |leader| leader.term))
        };
        let stranded = |open: &Open| matches!(open.stage, Stage::Forwarded { to, term, .. } if term != Term(0) && (Some(to), term) != leader);
        for ticket in self.calls.in_stage(stranded) {
            self.leave(ticket);
        }
    }

    /// Whom a call was handed to does not lead any more, or is not there any more: it goes elsewhere, unless it may have
    /// been carried out.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        let Some(open) = self.calls.get(ticket) else { return };
        let Stage::Forwarded { to, term, give_up, resend } = open.stage else { return };
        if may_repeat(&open.call.request) {
            self.abandon(to, ticket);
            self.start_over(ticket);
        } else {
            // The old leader, if it lives, has a moment to tell what became of the write.
            let give_up = give_up.min(self.now + self.config.raft.heartbeat_interval * 2);
            self.calls.enter(ticket, Stage::Forwarded { to, term, give_up, resend }, Some(give_up));
        }
    }

    pub(super) fn abandon(&mut self, to: PeerId, ticket: Ticket) {
        self.send(to, Body::Abandon { id: CallId(ticket.0), origin: self.origin });
    }
}

/// Whether it does no harm to carry a request out twice.
fn may_repeat(request: &Request) -> bool {
    let harmless = matches!(
        request,
        Request::Status(_) | Request::Session(session::Request::Renew { .. }) | Request::Acl(acl::Request::Permit(_))
    );
    harmless || request.read_options().is_some()
}

/// For how long a read may block.
fn wait_mut(request: &mut Request) -> Option<&mut Option<Duration>> {
    match request {
        Request::Kv(
            kv::Request::Get { read, .. } | kv::Request::List { read, .. } | kv::Request::Keys { read, .. },
        )
        | Request::Catalog(
            catalog::Request::Nodes { read, .. }
            | catalog::Request::Services { read, .. }
            | catalog::Request::Service { read, .. }
            | catalog::Request::Node { read, .. },
        )
        | Request::Health(
            health::Request::Node { read, .. }
            | health::Request::Checks { read, .. }
            | health::Request::Service { read, .. }
            | health::Request::State { read, .. },
        )
        | Request::Coordinate(coordinate::Request::Nodes { read })
        | Request::Session(
            session::Request::Info { read, .. } | session::Request::Node { read, .. } | session::Request::List { read },
        ) => Some(&mut read.wait),
        _ => None,
    }
}

/// The reply, or an error in its place if no message could hold it.
pub(super) fn fitting(reply: Reply) -> Reply {
    /// What an entry takes beside its key and value, at most.
    const OVERHEAD: usize = 96;
    let size: usize = match &reply {
        Ok(Response::KvEntries(read)) => {
            read.value.iter().map(|entry| entry.key.len() + entry.value.len() + OVERHEAD).sum()
        }
        Ok(Response::KvKeys(read)) => read.value.iter().map(|key| key.len() + OVERHEAD).sum(),
        Ok(
            Response::Nodes(_)
            | Response::ServiceNames(_)
            | Response::Instances(_)
            | Response::NodeServices(_)
            | Response::Checks(_)
            | Response::HealthOf(_)
            | Response::NodePlaces(_)
            | Response::Sessions(_)
            | Response::Txn(_)
            | Response::Queries(_)
            | Response::Tokens(_)
            | Response::Executed(_)
            | Response::Collected(_),
        ) => wire::size(&reply),
        Ok(_) | Err(_) => 0,
    };
    if size + OVERHEAD > wire::MAX_BODY_BYTES { Err(Error::AnswerTooLarge { size }) } else { reply }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::api::{Read, ReadMeta};

    #[test]
    fn the_writes_of_many_agents_are_remembered_within_a_limit_and_none_is_taken_on_twice() {
        let (mut taken, each) = (Taken::default(), 40_000);
        let agents = 40_u64;
        let origin = |agent| (PeerId::numbered(agent), agent);
        for id in 1..=each {
            for agent in 0..agents {
                assert!(taken.is_new(origin(agent), CallId(id), true));
            }
        }
        let remembered: usize = taken.by_origin.values().map(|seen| seen.above.len()).sum();
        assert_eq!(remembered, taken.total);
        assert!(remembered <= MEMORY_OF_ALL, "{remembered}");
        for id in (1..=each).step_by(997).chain([each]) {
            assert!((0..agents).all(|agent| !taken.is_new(origin(agent), CallId(id), true)), "{id}");
        }
    }

    #[test]
    fn what_any_server_may_do_it_does_once_and_the_latest_are_remembered() {
        let (mut recent, peer) = (Recent::default(), PeerId::numbered(1));
        assert!(recent.is_new(peer, 7, CallId(1)) && !recent.is_new(peer, 7, CallId(1)));
        assert!(recent.is_new(peer, 8, CallId(1)), "another life of the same agent");
        assert!(recent.is_new(PeerId::numbered(2), 7, CallId(1)), "another agent");
        for id in 2..=2 * MEMORY as u64 {
            assert!(recent.is_new(peer, 7, CallId(id)));
            assert!(!recent.is_new(peer, 7, CallId(id)));
        }
        assert_eq!((recent.known.len(), recent.order.len()), (MEMORY, MEMORY));
    }

    #[test]
    fn an_answer_that_no_message_can_hold_is_an_error_and_not_silence() {
        let entry = Arc::new(kv::Entry {
            key: "big".into(),
            value: vec![7; 512 << 10].into(),
            flags: 0,
            create_index: Index(u64::MAX),
            modify_index: Index(u64::MAX),
            lock_index: u64::MAX,
            session: Some(crate::id::SessionId(uuid::Uuid::max())),
        });
        let answer = |entries| {
            Ok(Response::KvEntries(Read { meta: ReadMeta::default(), value: vec![Arc::clone(&entry); entries] }))
        };
        assert!(matches!(fitting(answer(128)), Err(Error::AnswerTooLarge { size }) if size > 64 << 20));
        let fits = fitting(answer(127)).expect("it fits");
        assert!(wire::encode(&fits).len() < wire::MAX_BODY_BYTES);
    }
}
