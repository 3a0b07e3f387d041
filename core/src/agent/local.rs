//! What is registered with this agent: calls come in, orders go out. See [`crate::local`].

use super::Agent;
use super::calls::Stage;
use super::errands::Errand;
use super::jobs::Then;
use crate::api::{Call, Error, Request, Response, agent, catalog};
use crate::id::Ticket;
use crate::io::{Notice, Output};
use crate::local::{Change, Order};

impl Agent {
    /// Carries out what is asked of the services and checks of this agent. What changes them is answered once it is on the
    /// disk.
    pub(super) fn serve_local(&mut self, ticket: Ticket) {
        let Some(open) = self.calls.get(ticket) else { return };
        let Request::Agent(request) = open.call.request.clone() else { return };
        let token = open.call.token.clone().unwrap_or_default();
        match request {
            agent::Request::Services => {
                let services = self.local.services().cloned().collect();
                self.reply(ticket, Ok(Response::LocalServices(services)));
            }
            agent::Request::Checks => {
                let checks = self.local.checks().cloned().collect();
                self.reply(ticket, Ok(Response::LocalChecks(checks)));
            }
            agent::Request::UpdateCheck { id, status, output } => {
                let updated = self.local.update_check(self.now, &id, &status, output);
                self.reply(ticket, updated.map(|()| Response::Done(true)));
            }
            request => {
                let changed = self.change_local(request, &token);
                self.answer_once_kept(ticket, changed);
            }
        }
    }

    /// Changes what is registered. Gives what is to be kept of it.
    fn change_local(&mut self, request: agent::Request, token: &str) -> Result<Vec<Change>, Error> {
        let now = self.now;
        let or_callers = |own: &mut String| {
            if own.is_empty() {
                token.clone_into(own);
            }
        };
        match request {
            agent::Request::RegisterService(mut definition) => {
                or_callers(&mut definition.token);
                self.local.register_service(now, &definition)
            }
            agent::Request::RegisterCheck(mut definition) => {
                or_callers(&mut definition.token);
                self.local.register_check(now, &definition)
            }
            agent::Request::DeregisterService { id } => self.local.deregister_service(&id),
            agent::Request::DeregisterCheck { id } => self.local.deregister_check(&id),
            agent::Request::ServiceMaintenance { id, enable, reason } => {
                self.local.set_service_maintenance(now, &id, enable, (&reason, token))
            }
            agent::Request::NodeMaintenance { enable, reason } => {
                self.local.set_node_maintenance(now, enable, (&reason, token))
            }
            agent::Request::Redefine(definitions) => self.local.redefine(now, &definitions),
            other => unreachable!("{other:?} is not about what is registered"),
        }
    }

    fn answer_once_kept(&mut self, ticket: Ticket, changed: Result<Vec<Change>, Error>) {
        match changed {
            Ok(changes) => {
                self.calls.enter(ticket, Stage::Pending, None);
                self.keep_all(changes, Then::Answer(ticket));
            }
            Err(error) => self.reply(ticket, Err(error)),
        }
    }

    /// The token to tell the catalog of what clients have registered without one. What it is to know of the node itself, we tell
    /// with our own.
    fn token_of_clients(&self, request: &Request) -> Option<String> {
        let is_of_clients = match request {
            Request::Catalog(catalog::Request::Register(told)) => told.service.is_some() || !told.checks.is_empty(),
            Request::Catalog(catalog::Request::Deregister(_)) => true,
            _ => false,
        };
        self.config.acl.token.clone().filter(|_| is_of_clients)
    }

    /// Carries out what the news of this batch leads to for the services and checks of this agent.
    pub(super) fn tend_local(&mut self) {
        self.local.note_cluster(self.gossip.live());
        // The leader strikes out a node that has left: it must not come back.
        self.local.set_silent(self.pool.leaving.is_some());
        self.local.pump(self.now);
        while let Some(order) = self.local.poll_order() {
            match order {
                Order::Probe(probe) => self.outputs.push_back(Output::Probe(probe)),
                Order::Cancel(probe) => self.outputs.push_back(Output::CancelProbe(probe)),
                Order::Ask { number, token, request } => {
                    let own = (!token.is_empty()).then_some(token);
                    let token = own.or_else(|| self.token_of_clients(&request));
                    let call = Call { datacenter: None, token, request: *request };
                    self.send_errand(Errand::Local(number), call);
                }
                Order::KeepStates(changes) => self.keep_all(changes, Then::States),
                Order::Keep(changes) => self.keep_all(changes, Then::Nothing),
                Order::Tell(news) => self.outputs.push_back(Output::Notice(Notice::Local(news))),
            }
        }
    }
}
