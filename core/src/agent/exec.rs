//! Commands that others have this agent run, and what commands write for those whom this agent serves: events and messages come in,
//! orders and answers go out. See [`crate::exec`].

use std::net::SocketAddr;

use super::Agent;
use super::calls::Stage;
use super::errands::Errand;
use crate::api::exec::{Inbox, Request as Collecting};
use crate::api::{Call, Error, Request, Response};
use crate::exec::layout::Place;
use crate::exec::{Step, collector};
use crate::id::{PeerId, Ticket};
use crate::io::{Notice, Output};
use crate::peer::{Body, Exec};

impl Agent {
    /// An event asks for remote execution, is meant for us, and will not come again, not even after a restart.
    pub(super) fn summon(&mut self, payload: &[u8]) {
        self.open_batch = true;
        self.exec.summon(self.now, payload);
    }

    /// Carries out what the news of this batch leads to for the commands that others have us run, and for those whose output is
    /// collected here.
    pub(super) fn tend_exec(&mut self) {
        if self.pool.leaving.is_some() {
            self.exec.stop(self.now);
        }
        loop {
            if let Some(step) = self.exec.poll_step() {
                self.carry_out_exec(step);
            } else if let Some(step) = self.collector.poll_step() {
                self.carry_out_collecting(step);
            } else {
                return;
            }
        }
    }

    fn carry_out_exec(&mut self, step: Step) {
        match step {
            // With the agent's own token, as with Consul: who may write the job may have it run.
            Step::Ask { asked, request } => drop(self.send_errand(Errand::Exec(asked), Call::new(request))),
            Step::HangUp(asked) => self.give_up_errand(&Errand::Exec(asked)),
            Step::Send { peer, address, message } => self.pass_on_exec(peer, address, message),
            Step::Child(action) => self.outputs.push_back(Output::Child(action)),
            Step::Tell(news) => self.outputs.push_back(Output::Notice(Notice::Exec(news))),
        }
    }

    fn carry_out_collecting(&mut self, step: collector::Step) {
        match step {
            collector::Step::Send { peer, address, taken } => self.pass_on_exec(peer, address, Exec::Taken(taken)),
            collector::Step::Answer { ticket, pieces } => self.reply(ticket, Ok(Response::Collected(pieces))),
            collector::Step::Refuse(ticket) => self.reply(ticket, Err(Error::NotCollected)),
        }
    }

    /// Says something to the agent at the other end of a command's output, which may be this one.
    fn pass_on_exec(&mut self, peer: PeerId, address: SocketAddr, message: Exec) {
        if peer == self.config.id {
            self.handle_exec(peer, address, message);
        } else {
            self.send_to(peer, address, Body::Exec(message));
        }
    }

    /// The other end of a command's output says something.
    pub(super) fn handle_exec(&mut self, from: PeerId, address: SocketAddr, message: Exec) {
        match message {
            Exec::Piece { source, number, bytes } => {
                self.collector.handle_piece((from, address), &source, number, &bytes);
            }
            Exec::HowFar(source) => self.collector.handle_how_far((from, address), &source),
            Exec::Taken(taken) => self.exec.handle_taken(self.now, &taken),
        }
    }

    /// Carries out what is asked of the output of a job.
    pub(super) fn serve_collecting(&mut self, ticket: Ticket) {
        let Some(Call { request: Request::Exec(request), token, .. }) = self.calls.get(ticket).map(|open| &open.call)
        else {
            return;
        };
        let (place, owner) = (Place::new(request.prefix(), request.session()), token.clone());
        let owner = owner.as_deref();
        match request {
            Collecting::Open { .. } => {
                let id = self.rng.uuid();
                let (peer, address) = (self.config.id, self.config.address);
                let opened = self.collector.open(self.now, place, owner, id);
                self.reply(ticket, opened.map(|id| Response::Inbox(Inbox { id, peer, address })));
            }
            Collecting::Collect { progress, wait, .. } => {
                let (progress, wait) = (progress.clone(), *wait);
                let until = self.now + self.longest_block(wait);
                match self.collector.collect(&place, owner, ticket, progress, until) {
                    Ok(Some(pieces)) => self.reply(ticket, Ok(Response::Collected(pieces))),
                    Ok(None) => self.calls.enter(ticket, Stage::Pending, Some(until)),
                    Err(error) => self.reply(ticket, Err(error)),
                }
            }
            Collecting::Close { .. } => {
                let ended = self.collector.end(&place, owner);
                self.reply(ticket, ended.map(|()| Response::Done(true)));
            }
        }
    }

    /// Nothing has come in time.
    pub(super) fn end_collecting(&mut self, ticket: Ticket) {
        let Some(Request::Exec(request)) = self.calls.get(ticket).map(|open| &open.call.request) else { return };
        let place = Place::new(request.prefix(), request.session());
        self.collector.give_up(&place, ticket);
        self.reply(ticket, Ok(Response::Collected(Vec::new())));
    }
}

#[cfg(test)]
#[path = "exec_tests.rs"]
mod tests;
