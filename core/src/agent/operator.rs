//! What operators ask of the cluster itself, and what follows from where peers are.

use std::net::SocketAddr;

use super::Agent;
use super::calls::Stage;
use crate::acl::Authority;
use crate::api::operator::{Peer, Request};
use crate::api::{self, Error, Response};
use crate::id::{PeerId, Ticket};
use crate::peer::Body;
use crate::raft::{Change, Position, Refused};

impl Agent {
    /// Carries out what an operator asks of the leader, which we are. It has been judged.
    pub(super) fn operate(&mut self, ticket: Ticket) {
        let Some(open) = self.calls.get(ticket) else { return };
        let api::Request::Operator(request) = &open.call.request else { return };
        match request.clone() {
            Request::AddPeer { id, address } => self.add_peer(ticket, id, address),
            Request::RemovePeer(peer) => self.remove_peer(ticket, &peer),
            Request::TransferLeader { to } => self.hand_over(ticket, to),
            Request::AutopilotHealth => {
                let sight = self.pool.sight();
                let health = (self.duties.as_ref())
                    .map(|duties| duties.health(self.now, &self.config, &self.raft, &self.store, sight));
                self.reply(ticket, health.map(Response::Health).ok_or(Error::NoLeader));
            }
            Request::SetAutopilotConfiguration { .. } => self.propose(ticket, &Authority::everything()),
            Request::RaftConfiguration { .. } | Request::AutopilotConfiguration { .. } => self.read_when_sure(ticket),
        }
    }

    fn add_peer(&mut self, ticket: Ticket, id: PeerId, address: SocketAddr) {
        let change = match self.raft.members().address(id) {
            None => Change::Add { id, address },
            Some(known) if known != address => Change::Move { id, address },
            Some(_) => return self.reply(ticket, Ok(Response::Done(true))),
        };
        let made = self.change_members(change);
        if made.is_ok() {
            self.addresses.insert(id, (address, self.raft.address(id)));
        }
        self.await_change(ticket, made, Error::AddressTaken(address.to_string()));
    }

    fn remove_peer(&mut self, ticket: Ticket, peer: &Peer) {
        let servers = &self.raft.members().servers;
        let (found, unknown) = match peer {
            Peer::Address(text) => {
                let address = text.parse::<SocketAddr>().ok();
                let found = servers.iter().find(|(_, server)| Some(server.address) == address);
                (found.map(|(id, _)| *id), Error::NoSuchPeerAddress(text.clone()))
            }
            Peer::Id(text) => {
                let found = servers.keys().find(|id| id.0.to_string() == *text);
                (found.copied(), Error::NoSuchPeerId(text.clone()))
            }
        };
        let made = match found {
            Some(id) => self.change_members(Change::Remove(id)),
            None => Err(Refused::Unknown),
        };
        self.await_change(ticket, made, unknown);
    }

    /// A change of the members, if the disk has room for it.
    pub(super) fn change_members(&mut self, change: Change) -> Result<Position, Refused> {
        if !self.take_room(CHANGE_BYTES) {
            return Err(Refused::TooSoon);
        }
        self.raft.change_members(change)
    }

    /// A call waits for a change of the members, or for the time when it can be made.
    fn await_change(&mut self, ticket: Ticket, made: Result<Position, Refused>, wrong: Error) {
        match made {
            Ok(position) => self.calls.enter(ticket, Stage::Proposed(position), None),
            Err(Refused::Unchanged) => self.reply(ticket, Ok(Response::Done(true))),
            Err(Refused::LastVoter) => self.reply(ticket, Err(Error::LastVoter)),
            Err(Refused::Unknown | Refused::AddressTaken) => self.reply(ticket, Err(wrong)),
            Err(Refused::TooSoon | Refused::NotLeader) => self.hold_back(ticket),
        }
    }

    /// What cannot be done just now is looked at again in a moment.
    pub(super) fn hold_back(&mut self, ticket: Ticket) {
        let Some(open) = self.calls.get(ticket) else { return };
        let again = open.patience.min(self.now + self.config.raft.heartbeat_interval);
        self.calls.enter(ticket, Stage::Held, Some(again));
    }

    fn hand_over(&mut self, ticket: Ticket, to: Option<PeerId>) {
        if to == Some(self.config.id) {
            return self.reply(ticket, Ok(Response::Done(true)));
        }
        if self.raft.transfer_leadership(to).is_none() {
            return self.reply(ticket, Err(Error::NoSuccessor));
        }
        // The transfer itself ends sooner, one way or the other.
        let give_up = self.now + self.config.raft.election_timeout * 2;
        self.calls.enter(ticket, Stage::HandingOver, Some(give_up));
    }

    /// Leadership has passed to another, if one is known: whoever asked for that has it.
    pub(super) fn answer_handed_over(&mut self) {
        let Some(leader) = self.raft.leader() else { return };
        let wanted = |call: &api::Call| match call.request {
            api::Request::Operator(Request::TransferLeader { to }) => to.unwrap_or(leader) == leader,
            _ => false,
        };
        for ticket in self.calls.in_stage(|open| open.stage == Stage::HandingOver) {
            let done = leader != self.config.id && self.calls.get(ticket).is_some_and(|open| wanted(&open.call));
            self.reply(ticket, if done { Ok(Response::Done(true)) } else { Err(Error::NoSuccessor) });
        }
    }

    /// A peer says where it is. If that is not where the members' list has it, a leader changes the list.
    pub(super) fn note_address(&mut self, from: PeerId, address: SocketAddr) {
        let members = self.raft.members();
        let listed = members.address(from);
        if listed.is_none() && !members.servers.is_empty() && self.raft.leader() != Some(from) {
            return;
        }
        let moved = listed.is_some_and(|listed| listed != address);
        self.addresses.insert(from, (address, self.raft.address(from)));
        if !moved {
            return;
        }
        match self.raft.leader() {
            // Refused now, it is made when the peer speaks again.
            Some(leader) if leader == self.config.id => {
                let _ = self.change_members(Change::Move { id: from, address });
            }
            Some(leader) if leader != from => self.send(leader, Body::Moved { id: from, address }),
            _ => {}
        }
    }

    /// Whether nobody may know where we are: we belong to a cluster and hear of no leader, and have no vote to ask for.
    pub(super) fn announces(&self) -> bool {
        self.raft.leader().is_none() && {
            let members = self.raft.members();
            members.is_member(self.config.id) && !members.is_voter(self.config.id)
        }
    }

    pub(super) fn maybe_announce(&mut self) {
        if self.next_announcement > self.now || !self.announces() {
            return;
        }
        self.next_announcement = self.now + self.config.raft.election_timeout;
        let others: Vec<PeerId> = self.raft.members().others(self.config.id).collect();
        for peer in others {
            self.send(peer, Body::Announce);
        }
    }
}

/// Roughly what a change of the members takes in the log.
const CHANGE_BYTES: usize = 1024;
