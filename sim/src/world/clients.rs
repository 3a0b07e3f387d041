//! Clients at work: they ask, wait, lose patience, and are told.

use lictor_core::api::{Reply, Response};
use lictor_core::io::Input;
use lictor_core::time::Duration;
use lictor_core::wire;

use super::{Event, Phase, World, tell};
use crate::check::{Verdict, watch};
use crate::history::{self, Op, OpId, Outcome, call_id};

impl World {
    pub(super) fn on_ask(&mut self, client: usize) -> Verdict {
        if !matches!(self.phase, Phase::Trouble | Phase::Calm { .. }) {
            return Ok(());
        }
        let host = self.clients[client].host;
        if self.hosts[host].agent.is_none() {
            // The connection is refused: nothing was asked.
            self.stats.connections_refused += 1;
            self.clients[client].maybe_move(self.hosts.len(), true);
            self.think(client);
            return Ok(());
        }
        let op = self.history.len();
        let request = self.clients[client].next_request(op);
        self.clients[client].current = Some(op);
        let invoked = self.invoke(client, host, request);
        let patience = self.clients[client].patience(self.history[invoked].blocks());
        self.after(patience, Event::Impatient(invoked));
        self.serve(invoked)
    }

    /// A request is on its way. The caller sees to it that it is served.
    pub(super) fn invoke(&mut self, client: usize, host: usize, request: lictor_core::api::kv::Request) -> OpId {
        let id = self.history.len();
        self.note(8, id as u64);
        self.trace.bytes(&wire::encode(&request));
        tell!(self, "client {client} asks {host}: #{id} {}", history::describe(&request));
        self.history.push(Op {
            client,
            host,
            life: self.hosts[host].life,
            request,
            invoked: self.now,
            fed: None,
            floor: self.reads.told(),
            end: None,
        });
        id
    }

    /// A request has reached its host. As in an agent's front end, whoever has it first looks at the view.
    pub(super) fn serve(&mut self, id: OpId) -> Verdict {
        let op = &self.history[id];
        let host = op.host;
        if !op.is_open() {
            return Ok(());
        }
        if self.hosts[host].is_paused(self.now) {
            self.hosts[host].waiting.push(id);
            return Ok(());
        }
        let call = lictor_core::api::Call { token: self.usual_token(), ..op.call() };
        let local = self.hosts[host].clock.local(self.now);
        let view = self.hosts[host].view.as_ref().expect("a host that is up has published a view");
        if let Some(reply) = view.answer(local, &call) {
            return self.answer(id, reply, true);
        }
        if op.blocks().is_some() {
            self.blocked[host].push(id);
        }
        self.feed(host, Input::Call { id: call_id(id), call });
        Ok(())
    }

    /// A client is told.
    pub(super) fn answer(&mut self, id: OpId, reply: Reply, from_view: bool) -> Verdict {
        self.note(9, id as u64);
        self.trace.bytes(&wire::encode(&reply));
        if !self.history[id].is_open() {
            return Ok(());
        }
        let outcome = match reply {
            Ok(response) => {
                self.check_answer(id, &response).map_err(|why| self.with_operation(id, &response, &why))?;
                Outcome::Answer(response)
            }
            Err(error) => history::outcome_of_error(error),
        };
        self.judge_lock(&self.history[id], &outcome).map_err(|why| self.with_outcome(id, &outcome, &why))?;
        self.stats.views_asked += u64::from(from_view);
        self.finish(id, outcome);
        Ok(())
    }

    fn check_answer(&mut self, id: OpId, response: &Response) -> Verdict {
        let op = &self.history[id];
        self.reads.answered(op, response, &self.model)?;
        if watch::answered(op, self.now, response, &self.model)? {
            self.stats.wakes += 1;
        }
        Ok(())
    }

    fn with_operation(&self, id: OpId, response: &Response, why: &str) -> String {
        self.with_outcome(id, &Outcome::Answer(response.clone()), why)
    }

    fn with_outcome(&self, id: OpId, outcome: &Outcome, why: &str) -> String {
        let op = &self.history[id];
        format!(
            "{why}\n    #{id} client {} at server {}, since {}: {} -> {}",
            op.client,
            op.host,
            op.invoked,
            history::describe(&op.request),
            history::describe_outcome(outcome)
        )
    }

    /// An operation is over for its client, who goes on to the next.
    pub(super) fn finish(&mut self, id: OpId, outcome: Outcome) {
        let now = self.now;
        let op = &mut self.history[id];
        let (number, broken) = (op.client, matches!(outcome, Outcome::Unknown(_)));
        self.stats.count(op, &outcome);
        if let Some(story) = &mut self.story {
            story.push(format!("{now} client {number} has #{id}: {}", history::describe_outcome(&outcome)));
        }
        op.end = Some((now, outcome));
        if number >= self.clients.len() + self.hosts.len() {
            return self.locker_told(id);
        }
        if number >= self.clients.len() {
            return self.probe_over(id);
        }
        let client = &mut self.clients[number];
        if let Some((_, outcome)) = &op.end {
            client.learn(&op.request, outcome);
        }
        client.current = None;
        client.maybe_move(self.hosts.len(), broken && self.hosts[op.host].agent.is_none());
        self.think(number);
    }

    fn think(&mut self, client: usize) {
        let think = self.clients[client].think();
        self.after(think, Event::Ask { client });
    }

    pub(super) fn on_impatient(&mut self, id: OpId) {
        if !self.history[id].is_open() {
            return;
        }
        let number = self.history[id].client;
        let hangs_up = self.clients.get_mut(number).is_none_or(crate::workload::Client::hangs_up);
        self.give_up(id, hangs_up);
    }

    /// The client stops waiting.
    pub(super) fn give_up(&mut self, id: OpId, hangs_up: bool) {
        let (host, life) = (self.history[id].host, self.history[id].life);
        if hangs_up && self.hosts[host].agent.is_some() && self.hosts[host].life == life {
            self.feed(host, Input::Hangup { id: call_id(id) });
        }
        self.finish(id, Outcome::Unknown("no patience"));
    }

    /// All connections to a host break.
    pub(super) fn break_connections(&mut self, host: usize) {
        self.blocked[host].clear();
        if let Some(registrar) = &mut self.registrar {
            registrar.disconnected(host);
        }
        self.break_lock_calls(host);
        self.break_exec_calls(host);
        self.break_holders_calls(host);
        let open: Vec<OpId> = self
            .clients
            .iter()
            .filter_map(|client| client.current)
            .filter(|op| self.history[*op].host == host && self.history[*op].is_open())
            .collect();
        for op in open.into_iter().chain(self.open_on_locks(Some(host))) {
            self.finish(op, Outcome::Unknown("connection lost"));
        }
    }

    /// How long the slowest election should take, troubles apart.
    pub(super) fn election_time(&self) -> Duration {
        lictor_core::raft::Options::with_multiplier(self.plan.raft_multiplier).election_timeout
    }
}
