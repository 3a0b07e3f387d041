//! After the troubles: everything heals, and within bounded time the cluster must be whole again. There is a
//! leader, each server takes a write, all logs and all stores are equal, and nobody waits in vain.

use bytes::Bytes;
use lictor_core::api::kv::{PutMode, Request};
use lictor_core::api::{Call, Consistency, ReadOptions, Response};
use lictor_core::id::Index;
use lictor_core::time::{Duration, Instant};

use super::{Event, Over, Phase, World, tell};
use crate::check::{Verdict, catalog, ensure, gossip, watch};
use crate::history::{self, OpId, Outcome, entries_of};
use crate::host::peer;

/// How often all is looked at in calm times.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long a calm cluster may take for what needs no election.
const CALM_BOUND: Duration = Duration::from_secs(3);

/// How long it may take until an agent asks a leader again that has not answered for long: it doubles its patience each time, up to
/// this.
const LONG_PATIENCE: Duration = Duration::from_secs(4);

impl World {
    pub(super) fn on_heal(&mut self) -> Verdict {
        self.note(14, 0);
        tell!(self, "--- all heals");
        self.net.heal();
        self.phase = Phase::Calm { since: self.now };
        self.lockers.calm_since = Some(self.now);
        if let Some(operator) = &mut self.operator {
            operator.calm_down();
        }
        for host in 0..self.hosts.len() {
            let target = &mut self.hosts[host];
            target.disk.limit(None);
            target.disk_factor = 1;
            target.job_factor = 1;
            let stands_still = target.runs_at(self.now) > self.now;
            target.stalled_until = self.now;
            target.paused_until = self.now;
            self.resume(host)?;
            if stands_still {
                // Whatever was put off until then happens now.
                self.hosts[host].is_scheduled = false;
                self.schedule_run(host);
                let life = self.hosts[host].life;
                self.at(self.now, Event::Synced { host, life });
                self.at(self.now, Event::JobDone { host, life });
            }
            if self.hosts[host].leaving.is_some() {
                self.stop_host(host, false)?;
            }
            if self.hosts[host].refuses {
                self.replace_soon(host);
            } else if self.hosts[host].agent.is_none() {
                let wait = self.fault_dice.below(100);
                self.after(Duration::from_millis(wait), Event::Over(Over::Down { host }));
            }
        }
        self.after(LOOK_EVERY, Event::Look);
        for host in 0..self.hosts.len() {
            if self.is_wanted(host) {
                self.after(Duration::from_millis(self.plan.calm_ms), Event::Probe { host });
            }
        }
        Ok(())
    }

    /// By then a calm cluster has a leader again, whatever was before.
    pub(super) fn settling_time(&self) -> Duration {
        Duration::from_secs(2) + self.election_time() * 15
    }

    /// By then all agents see each other again, and nobody is suspected any more: the longest suspicion, what it takes to try
    /// a failed member again, and a few exchanges of full states.
    pub(super) fn time_to_meet(&self) -> Duration {
        let Some(pool) = &self.plan.pool else { return Duration::ZERO };
        let options = &self.hosts[0].config.gossip.options;
        let (_, suspicion) = options.suspicion_bounds(self.hosts.len());
        let again = Duration::from_millis(pool.reconnect_ms * 4 + pool.push_pull_ms * 4 + pool.retry_ms * 2);
        suspicion * 2 + again + Duration::from_secs(20)
    }

    /// All agents see each other.
    fn all_meet(&self) -> Verdict {
        if self.plan.pool.is_none() {
            return Ok(());
        }
        let here = self.hosts.iter().filter(|host| !host.departed);
        let world = here.map(|host| (host.config.name.clone(), host.gossip_address())).collect();
        let views = self.hosts.iter().filter_map(|host| host.agent.as_ref()).map(lictor_core::agent::Agent::gossip);
        gossip::agree(views, &world)
    }

    /// By then the catalog says of everybody what gossip and the agents say: after two comparisons, one of which failed, and as
    /// many of a leader's looks at all members as it takes to find that one is missing for good.
    fn time_to_register(&self) -> Duration {
        let Some(pool) = self.plan.pool.as_ref().filter(|pool| pool.sync_ms > 0) else { return Duration::ZERO };
        self.time_to_meet() + Duration::from_millis(pool.sync_ms * 4) + Duration::from_secs(60 + 4 * 60)
    }

    /// The catalog says what gossip and the agents say.
    fn catalog_agrees(&self) -> Verdict {
        if self.plan.pool.as_ref().is_none_or(|pool| pool.sync_ms == 0) {
            return Ok(());
        }
        let agents: Vec<_> =
            self.hosts.iter().filter_map(|host| host.agent.as_ref().map(|agent| (&host.config, agent))).collect();
        self.members_are_the_servers()?;
        agents.first().map_or(Ok(()), |(_, first)| catalog::agrees(first.store(), &agents))
    }

    /// Raft's members are the servers that are there, each where it is and with a vote.
    fn members_are_the_servers(&self) -> Verdict {
        let Some(members) = self.watcher.members() else { return Err("nobody is a member".to_owned()) };
        for (host, target) in self.servers() {
            let id = peer(target.server);
            ensure!(
                members.is_voter(id) && members.address(id) == Some(target.address()),
                "server {} on host {host}, at {}, is no voter there among {members}",
                target.server,
                target.address()
            );
        }
        let count = self.servers().count();
        ensure!(members.servers.len() == count, "there are {count} servers, and the members are {members}");
        Ok(())
    }

    /// By then all members are as wanted and all have the same log: those that lost their disks are sent a snapshot and
    /// prove themselves, one after the other.
    fn time_to_agree(&self) -> Duration {
        // As long as the catalog changes, so do the logs.
        // Small pieces of a snapshot get out of order on their way, and are sent again after a while.
        let pieces = if self.plan.snapshots.is_some() { self.election_time() * 60 } else { Duration::ZERO };
        let Some(operator) = &self.plan.operator else {
            return self.settling_time() + pieces + self.time_to_register() + self.time_to_unlock();
        };
        let (_, pause) = operator.pause_ms;
        let (_, patience) = operator.patience_ms;
        let each = Duration::from_millis(operator.stabilization_ms + patience + 10 * pause) + Duration::from_secs(2);
        self.settling_time() + each * (2 * self.hosts.len() as u32)
    }

    pub(super) fn on_probe(&mut self, host: usize) -> Verdict {
        if let Phase::Calm { .. } = self.phase {
            self.stop_clients();
            let left = (0..self.hosts.len()).filter(|host| self.is_wanted(*host)).count();
            self.phase = Phase::Probing { since: self.now, left };
        }
        if self.hosts[host].agent.is_none() {
            return Err(format!("server {host} is down in a calm cluster"));
        }
        let op = self.history.len();
        let (key, value) = (Bytes::from_static(b"probe"), history::value_of(op, 8));
        let request = Request::Put { key, value, flags: 0, mode: PutMode::Set };
        let id = self.invoke(self.clients.len() + host, host, request);
        self.after(Duration::from_secs(20), Event::Impatient(id));
        self.serve(id)
    }

    /// Whether there are agents that must find servers before they can do anything, or servers that must be found.
    fn has_client_agents(&self) -> bool {
        self.registrar.is_some() || self.plan.servers() < self.hosts.len()
    }

    fn stop_clients(&mut self) {
        let open: Vec<OpId> = self.clients.iter().filter_map(|client| client.current).collect();
        for op in open {
            self.give_up(op, true);
        }
        self.stop_lockers();
        self.stop_holders();
        self.calm_executors();
    }

    /// A server has answered its probe, or not. If the write took place, that is all it had to do.
    pub(super) fn probe_over(&mut self, id: OpId) {
        let op = &self.history[id];
        let host = op.host;
        let taken = matches!(&op.end, Some((_, Outcome::Answer(Response::Done(true)))));
        let Phase::Probing { since, left } = self.phase else { return };
        if !taken {
            self.after(Duration::from_millis(200), Event::Probe { host });
            return;
        }
        self.phase = match left {
            1 => Phase::Settling { since: self.now },
            _ => Phase::Probing { since, left: left - 1 },
        };
    }

    pub(super) fn on_look(&mut self) -> Verdict {
        self.after(LOOK_EVERY, Event::Look);
        self.sessions_end_in_time()?;
        match self.phase {
            Phase::Trouble | Phase::Over => Ok(()),
            Phase::Calm { since } => self.look_at_clients(since + self.settling_time()),
            Phase::Probing { since, .. } => {
                // Who has come back as another server is told of nothing before it has been found and added.
                let meet = if self.has_client_agents() { self.time_to_meet() } else { Duration::ZERO };
                ensure!(
                    self.now.since(since) <= self.settling_time() + meet,
                    "liveness: {:?} after all troubles ended, not every server takes a write (leader: {:?})",
                    self.now.since(since) + Duration::from_millis(self.plan.calm_ms),
                    self.watcher.leader()
                );
                Ok(())
            }
            Phase::Settling { since } => self.look_whether_settled(self.now.since(since)),
        }
    }

    fn look_whether_settled(&mut self, after: Duration) -> Verdict {
        type Check = (fn(&mut World) -> Verdict, Duration);
        let sync = Duration::from_millis(self.plan.pool.as_ref().map_or(0, |pool| pool.sync_ms));
        let checks: [Check; 8] = [
            (|world| world.all_meet(), self.time_to_meet()),
            (|world| world.locks_are_over(), self.time_to_unlock()),
            (|world| world.all_equal(), self.time_to_agree()),
            (|world| world.tokens_are_provided(), self.time_to_agree()),
            (|world| world.catalog_agrees(), self.time_to_register()),
            (Self::everybody_hears, self.time_to_register() + self.time_to_meet()),
            (Self::nothing_is_left_of_jobs, self.time_to_register() + self.time_to_finish_jobs()),
            (Self::tags_stay, self.time_to_register() + self.time_to_meet() + sync * 8),
        ];
        for (check, bound) in checks {
            if let Err(why) = check(self) {
                ensure!(after <= bound, "liveness: {after:?} after the last write, {why}");
                return Ok(());
            }
        }
        self.registrations_are_kept()?;
        self.phase = Phase::Over;
        Ok(())
    }

    fn look_at_clients(&self, since: Instant) -> Verdict {
        let of_clients = self.clients.iter().filter_map(|client| client.current);
        for op in of_clients.chain(self.open_on_locks(None)) {
            let op = &self.history[op];
            // Who is no member hears of no change.
            if op.is_open() && self.operator.is_none() && !self.has_client_agents() {
                let committed = |index: Index| self.committed_at[index.0 as usize - 1];
                let cuts_are_long = self.plan.lockers.is_some();
                let bound = if cuts_are_long { CALM_BOUND + LONG_PATIENCE } else { CALM_BOUND };
                watch::still_open_in_calm(op, self.now, since, bound, &self.model, committed)?;
            }
        }
        Ok(())
    }

    /// All servers hold the same log and the same store, and the store is the model's.
    fn all_equal(&self) -> Verdict {
        self.members_are_as_wanted()?;
        self.watcher.all_agree()?;
        let read = ReadOptions { consistency: Consistency::Stale, index: Index(0), wait: None };
        let call = Call { token: self.usual_token(), ..Call::new(Request::List { prefix: Bytes::new(), read }) };
        let mut wanted = self.servers().filter(|(host, _)| self.is_wanted(*host)).peekable();
        let first = wanted.peek().and_then(|(_, first)| first.agent.as_ref()).map(lictor_core::agent::Agent::store);
        if let Some((host, _)) = wanted.peek() {
            self.check_store(*host)?;
        }
        for (host, target) in wanted {
            ensure!(
                target.agent.as_ref().map(lictor_core::agent::Agent::store) == first,
                "the store of host {host} is not that of the others"
            );
            let local = target.clock.local(self.now);
            let Some(Ok(response)) = target.view.as_ref().and_then(|view| view.answer(local, &call)) else {
                return Err(format!("server {host} does not answer a stale read at once"));
            };
            let (entries, applied) = (entries_of(&response).map_or(&[][..], Vec::as_slice), self.model.applied());
            ensure!(
                self.model.find(|_| true, entries, applied, applied).is_some(),
                "the store of server {host} is not what the log says: {}",
                history::describe_outcome(&Outcome::Answer(response.clone()))
            );
        }
        Ok(())
    }

    /// At the very end: what was refused never took place.
    pub(crate) fn check_refused(&self) -> Verdict {
        self.failed_moves_left_nothing()?;
        self.refusals_left_nothing()?;
        for (id, op) in self.history.iter().enumerate() {
            if let Some((_, Outcome::Refused(error))) = &op.end {
                ensure!(
                    !op.is_write() || !self.model.has_written(id),
                    "#{id} was refused ({error}), which says that nothing was done, and took place all the same"
                );
            }
        }
        Ok(())
    }
}
