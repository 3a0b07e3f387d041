//! Where a call must run: here, on any server, or on the leader.

use super::Agent;
use super::calls::{Caller, Stage};
use crate::api::{
    Call, Consistency, Error, Reply, Request, acl, agent, catalog, coordinate, event, health, kv, operator, prepared,
    session, snapshot, status,
};
use crate::authorize;
use crate::error::Busy;
use crate::id::{Term, Ticket};
use crate::peer::{Body, Outcome};

/// Where a request runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On the agent that was asked, from what it knows.
    Here,
    /// On any server of the datacenter.
    AnyServer,
    /// On the leader.
    Leader,
}

/// The one place that says where each request runs. A new request does not compile without an answer.
pub(super) fn place(request: &Request) -> Place {
    match request {
        // A server knows the answer itself.
        Request::Status(status::Request::Leader | status::Request::Peers) | Request::Acl(acl::Request::Permit(_)) => {
            Place::AnyServer
        }
        Request::Agent(_)
        | Request::Event(_)
        | Request::Exec(_)
        | Request::Catalog(catalog::Request::Datacenters)
        | Request::Coordinate(coordinate::Request::Datacenters) => Place::Here,
        Request::Kv(
            kv::Request::Get { read, .. } | kv::Request::List { read, .. } | kv::Request::Keys { read, .. },
        ) => match read.consistency {
            Consistency::Stale => Place::AnyServer,
            Consistency::Default | Consistency::Consistent => Place::Leader,
        },
        Request::Operator(
            operator::Request::RaftConfiguration { read } | operator::Request::AutopilotConfiguration { read },
        )
        | Request::Snapshot(snapshot::Request::Save { read })
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
        )
        | Request::Prepared(
            prepared::Request::Get { read, .. }
            | prepared::Request::List { read }
            | prepared::Request::Execute { read, .. }
            | prepared::Request::Explain { read, .. },
        )
        | Request::Acl(acl::Request::Info { read, .. } | acl::Request::List { read }) => match read.consistency {
            Consistency::Stale => Place::AnyServer,
            Consistency::Default | Consistency::Consistent => Place::Leader,
        },
        Request::Txn(txn) if txn.is_read_only() && txn.read.consistency == Consistency::Stale => Place::AnyServer,
        Request::Txn(_) => Place::Leader,
        Request::Kv(kv::Request::Put { .. } | kv::Request::Delete { .. } | kv::Request::DeleteTree { .. })
        | Request::Operator(
            operator::Request::RemovePeer(_)
            | operator::Request::AddPeer { .. }
            | operator::Request::TransferLeader { .. }
            | operator::Request::SetAutopilotConfiguration { .. }
            | operator::Request::AutopilotHealth,
        )
        | Request::Snapshot(snapshot::Request::Restore { .. })
        | Request::Catalog(catalog::Request::Register(_) | catalog::Request::Deregister(_))
        | Request::Coordinate(coordinate::Request::Update(_))
        | Request::Session(
            session::Request::Create(_) | session::Request::Destroy { .. } | session::Request::Renew { .. },
        )
        | Request::Prepared(
            prepared::Request::Create(_) | prepared::Request::Update { .. } | prepared::Request::Delete { .. },
        )
        | Request::Acl(acl::Request::Set(_) | acl::Request::Clone { .. } | acl::Request::Destroy { .. }) => {
            Place::Leader
        }
    }
}

impl Agent {
    /// A call comes in; if it is another agent's, that agent takes us for the leader of the term `asked_in`.
    pub(super) fn admit(&mut self, caller: Caller, mut call: Call, asked_in: Term) {
        if !matches!(caller, Caller::Peer { .. }) {
            call.request.name_this_agent(&self.config.name);
            self.give_token(caller, &mut call);
        }
        if let Some(reply) = self.answer_at_once(&call) {
            self.replies.push((caller, reply));
            return;
        }
        let limit = self.config.limits.open_calls;
        if self.calls.len() - self.watches.len() >= limit {
            let busy = Error::Busy { what: Busy::OpenCalls, limit: limit as u64 };
            self.replies.push((caller, Err(busy)));
            return;
        }
        let ticket = self.calls.open(caller, call, self.now + self.config.limits.leader_wait, asked_in);
        self.route(ticket);
    }

    /// What needs no stage: questions to this very agent, and calls that are wrong wherever they run.
    fn answer_at_once(&self, call: &Call) -> Option<Reply> {
        if call.datacenter.as_ref().is_some_and(|dc| *dc != self.config.datacenter) {
            return Some(Err(Error::NoPathToDatacenter));
        }
        if let Request::Acl(request) = &call.request
            && let Some(reply) = authorize::without_tokens(&self.config, request)
        {
            return Some(reply);
        }
        let knows = self.config.server && matches!(call.request, Request::Status(_));
        if knows || place(&call.request) == Place::Here {
            return self.view.answer(self.now, call);
        }
        self.check_limits(&call.request).err().map(Err)
    }

    /// Where a request runs, as this agent is set up.
    fn place(&self, request: &Request) -> Place {
        match request {
            // Who may fire an event, servers know.
            Request::Event(event::Request::Fire(_)) if self.config.acl.is_on() && !self.config.server => {
                Place::AnyServer
            }
            request => place(request),
        }
    }

    /// Sends a call where it must run.
    pub(super) fn route(&mut self, ticket: Ticket) {
        let Some(open) = self.calls.get(ticket) else { return };
        let place = self.place(&open.call.request);
        if place == Place::Here {
            self.serve_here(ticket);
        } else if !self.config.server {
            self.route_to_server(ticket, place);
        } else if place == Place::AnyServer {
            self.evaluate(ticket);
        } else if self.raft.is_leader() {
            self.serve(ticket);
        } else if let Caller::Peer { .. } = open.caller {
            self.refuse(ticket);
        } else if let Some((leader, _)) = self.raft.leader_address() {
            self.forward(ticket, leader, self.raft.status().term);
        } else {
            // A leader may be lost and heard again in one batch, which nobody will tell: look now and then.
            let look = open.patience.min(self.now + self.config.raft.election_timeout);
            self.calls.enter(ticket, Stage::Held, Some(look));
        }
    }

    /// Sends a call to a server, as we are none.
    fn route_to_server(&mut self, ticket: Ticket, place: Place) {
        let to = match place {
            Place::Leader => self.servers.leader().map(|leader| (leader.id, leader.term)),
            Place::AnyServer | Place::Here => self.servers.first().map(|first| (first, Term(0))),
        };
        match to {
            // Nobody relies on us for that: servers do not ask clients.
            _ if self.calls.get(ticket).is_some_and(|open| matches!(open.caller, Caller::Peer { .. })) => {
                self.refuse(ticket);
            }
            Some((to, term)) => self.forward(ticket, to, term),
            None => self.hold_for_server(ticket),
        }
    }

    /// Runs a call that is about this very agent.
    fn serve_here(&mut self, ticket: Ticket) {
        let Some(open) = self.calls.get(ticket) else { return };
        match &open.call.request {
            Request::Event(_) => self.serve_event(ticket),
            Request::Exec(_) => self.serve_collecting(ticket),
            Request::Agent(
                agent::Request::Members { .. }
                | agent::Request::Join { .. }
                | agent::Request::ForceLeave { .. }
                | agent::Request::Leave,
            )
            | Request::Catalog(_)
            | Request::Coordinate(_) => self.serve_pool(ticket),
            _ => self.serve_local(ticket),
        }
    }

    /// Runs a call on this server, which leads.
    fn serve(&mut self, ticket: Ticket) {
        let Some(open) = self.calls.get(ticket) else { return };
        let renews = matches!(open.call.request, Request::Session(session::Request::Renew { .. }));
        if renews || open.call.request.read_options().is_some() {
            return self.read_when_sure(ticket);
        }
        self.write_when_sure(ticket);
    }

    /// Judges a write, and carries it out. It is certain that we lead, if anything depends on it.
    pub(super) fn write(&mut self, ticket: Ticket) {
        let Some(authority) = self.judge_write(ticket) else { return };
        if self.calls.get(ticket).is_some_and(|open| matches!(open.call.request, Request::Operator(_))) {
            self.operate(ticket);
        } else {
            self.propose(ticket, &authority);
        }
    }

    /// Answers a call and closes it.
    pub(super) fn reply(&mut self, ticket: Ticket, reply: Reply) {
        self.watches.remove(ticket);
        if let Some(open) = self.calls.close(ticket) {
            self.replies.push((open.caller, reply));
        }
    }

    /// Tells the agent that forwarded a call to look for the leader elsewhere.
    fn refuse(&mut self, ticket: Ticket) {
        self.watches.remove(ticket);
        if let Some(open) = self.calls.close(ticket)
            && let Caller::Peer { peer, address, origin, id } = open.caller
        {
            let outcome = Outcome::NotLeader { term: open.asked_in, leader: self.leading() };
            self.send_to(peer, address, Body::Answer { id, origin, outcome });
        }
    }

    /// The client has gone.
    pub(super) fn hang_up(&mut self, caller: Caller) {
        let Some(ticket) = self.calls.by_caller(&caller) else { return };
        self.watches.remove(ticket);
        if let Some(open) = self.calls.close(ticket)
            && let Stage::Forwarded { to, .. } = open.stage
        {
            self.abandon(to, ticket);
        }
    }

    /// A call is due: what that means depends on its stage.
    pub(super) fn handle_deadline(&mut self, ticket: Ticket) {
        let Some(open) = self.calls.get(ticket) else { return };
        match open.stage {
            // We lead, and yet could not do it: another change of the members has been under way all the time.
            Stage::Held if open.patience <= self.now && self.raft.is_leader() => {
                self.reply(ticket, Err(Error::ChangeUnderWay));
            }
            Stage::Held if open.patience <= self.now => {
                let nobody = !self.config.server && self.servers.is_empty();
                self.reply(ticket, Err(if nobody { Error::NoServers } else { Error::NoLeader }));
            }
            Stage::Held => self.route(ticket),
            Stage::Forwarded { to, term, give_up, resend } => self.handle_silence(ticket, (to, term), give_up, resend),
            Stage::Proposed(_) => self.reply(ticket, Err(Error::LeadershipLost)),
            Stage::Blocked if matches!(open.call.request, Request::Event(_)) => self.answer_listing(ticket),
            Stage::Blocked => self.read_when_sure(ticket),
            Stage::Confirming(_) | Stage::CatchingUp(_) => self.reply(ticket, Err(Error::NoLeader)),
            Stage::HandingOver => self.reply(ticket, Err(Error::NoSuccessor)),
            Stage::Pending if matches!(open.call.request, Request::Exec(_)) => self.end_collecting(ticket),
            Stage::Pending => self.reply(ticket, Err(Error::NoAnswer)),
        }
    }

    /// If we led, and do not any more (or do again, in another term), what relied on it starts over.
    pub(super) fn leave_office(&mut self) {
        let relied = |open: &super::calls::Open| match open.stage {
            Stage::Confirming(_) | Stage::Blocked => true,
            // It waited to be judged by us.
            Stage::CatchingUp(_) => open.call.request.read_options().is_none(),
            _ => false,
        };
        let again = |open: &super::calls::Open| relied(open) && place(&open.call.request) == Place::Leader;
        for ticket in self.calls.in_stage(again) {
            self.watches.remove(ticket);
            self.start_over(ticket);
        }
        self.answer_handed_over();
        // Proposals may yet be committed by our successor: we shall see them applied, or others in their place.
        let deadline = self.now + self.config.limits.leader_wait;
        let (leads, term) = (self.raft.is_leader(), self.raft.status().term);
        let left = |open: &super::calls::Open| matches!(open.stage, Stage::Proposed(at) if !leads || at.term < term);
        for ticket in self.calls.in_stage(left) {
            self.calls.limit_deadline(ticket, deadline);
        }
    }

    /// Routes a call anew, with all its patience.
    pub(super) fn start_over(&mut self, ticket: Ticket) {
        let patience = self.now + self.config.limits.leader_wait;
        if let Some(open) = self.calls.get_mut(ticket) {
            open.patience = patience;
        }
        self.route(ticket);
    }

    /// A leader is known that was not before.
    pub(super) fn meet_leader(&mut self) {
        self.route_held();
        self.leave_old_leader();
        self.local.leader_returned(self.now);
    }
}
