//! Committed entries → the store → those who wait for them.

use super::Agent;
use crate::api::{Error, Reply, Request, Response, session};
use crate::gossip::Status;
use crate::id::Index;
use crate::raft::{Entry, Payload};
use crate::store::Command;
use crate::wire;

/// Whether a request goes through the log, or changes the members.
fn is_write(request: &Request) -> bool {
    let renews = matches!(request, Request::Session(session::Request::Renew { .. }));
    request.read_options().is_none() && !renews
}

impl Agent {
    /// Applies whatever was committed.
    pub(super) fn apply_committed(&mut self) {
        while let Some(entry) = self.raft.next_to_apply() {
            self.snapshots.applied(entry.size());
            let reply = self.apply(&entry);
            for (term, ticket) in self.calls.proposed_at(entry.index) {
                if term == entry.term {
                    let reply = self.conceal(ticket, reply.clone());
                    self.reply(ticket, reply);
                } else {
                    // Another leader's entry took this place: ours never happened, and may be tried again.
                    self.start_over(ticket);
                }
            }
        }
        self.answer_caught_up();
    }

    /// Answers the calls that waited for our store to get as far as the leader's was.
    pub(super) fn answer_caught_up(&mut self) {
        for ticket in self.calls.caught_up_by(self.store.index()) {
            // A write waited until we know all tokens.
            if self.calls.get(ticket).is_some_and(|open| open.call.request.read_options().is_none()) {
                self.route(ticket);
            } else {
                self.evaluate(ticket);
            }
        }
    }

    fn apply(&mut self, entry: &Entry) -> Reply {
        match &entry.payload {
            Payload::Noop => {
                self.store.note_applied(entry.index);
                // Nobody asks for these; a call cannot have proposed them.
                Err(Error::LeadershipLost)
            }
            Payload::Configuration(_) => {
                self.store.note_applied(entry.index);
                Ok(Response::Done(true))
            }
            Payload::Command(bytes) => {
                let command: Command = match wire::decode(bytes) {
                    Ok(command) => command,
                    Err(error) => panic!("entry {} of the log is no command: {error}", entry.position()),
                };
                self.apply_command(entry.index, command)
            }
        }
    }

    fn apply_command(&mut self, index: Index, command: Command) -> Reply {
        let ends_delays = matches!(command, Command::EndLockDelays(_));
        self.watch_for_the_departed(&command);
        let applied = self.store.apply(index, command);
        if ends_delays {
            self.lock_delays.observe_all(self.now, &self.store);
        }
        for touch in &applied.touched {
            self.watches.touched(touch, &mut self.woken);
            self.follow_sessions(touch);
        }
        applied.response
    }

    /// What an agent has said of itself may come late, after it has left and its node was struck out.
    fn watch_for_the_departed(&mut self, command: &Command) {
        let (Command::Register(told), Some(duties)) = (command, &mut self.duties) else { return };
        if self.gossip.member(&told.node.name).is_some_and(|member| member.status() == Status::Left) {
            duties.note_ghost(self.now);
        }
    }

    /// Looks again at the blocked calls whose result may have changed, once for the whole batch.
    pub(super) fn answer_woken(&mut self) {
        for ticket in std::mem::take(&mut self.woken) {
            if self.has_news(ticket) {
                self.watches.remove(ticket);
                self.read_when_sure(ticket);
            }
        }
    }

    /// Answers the calls that waited for a quorum to confirm that we lead.
    pub(super) fn answer_confirmed(&mut self) {
        let Some(round) = self.raft.confirmed_round() else { return };
        for ticket in self.calls.confirmed_by(round) {
            let request = self.calls.get(ticket).map(|open| &open.call.request);
            // A write waited to be judged by who certainly leads.
            if request.is_some_and(is_write) { self.write(ticket) } else { self.evaluate(ticket) }
        }
    }
}
