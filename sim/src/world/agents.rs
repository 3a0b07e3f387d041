//! Agents at work: what reaches them, when they run, and what becomes of what they want done.

use bytes::Bytes;
use lictor_core::exec;
use lictor_core::id::Index;
use lictor_core::io::{Input, Notice, Output, PoolNews, SnapshotNews};
use lictor_core::peer::{Body, Envelope};
use lictor_core::raft::News;
use lictor_core::time::Instant;
use lictor_core::wire::{self, Frame, HEADER_BYTES, Malformed};

use super::{Event, Packet, World, executors, lockers, operator, registrar, tell, tokens};
use crate::check::{Verdict, snapshot, watch};
use crate::history::op_of;
use crate::host::{Host, host_at, host_named, peer};

/// Reading a whole disk takes its time: not for each snapshot.
const DISK_CHECKED_EVERY: u64 = 4;

impl World {
    /// An agent has something to do: it gets to it after a moment, or when its host moves again.
    pub(super) fn feed(&mut self, host: usize, input: Input) {
        self.hosts[host].inbox.push(input);
        self.schedule_run(host);
    }

    pub(super) fn schedule_run(&mut self, host: usize) {
        let target = &mut self.hosts[host];
        if target.is_scheduled || target.agent.is_none() {
            return;
        }
        target.is_scheduled = true;
        let delay = target.step_delay();
        let (at, life) = (target.runs_at(self.now + delay), target.life);
        self.at(at, Event::Run { host, life });
    }

    pub(super) fn on_run(&mut self, host: usize, life: u64) -> Verdict {
        if self.hosts[host].life != life || self.hosts[host].agent.is_none() {
            return Ok(());
        }
        let at = self.hosts[host].runs_at(self.now);
        if at > self.now {
            self.at(at, Event::Run { host, life });
            return Ok(());
        }
        self.hosts[host].is_scheduled = false;
        self.run_agent(host)
    }

    pub(super) fn on_wake(&mut self, host: usize, life: u64) -> Verdict {
        let target = &mut self.hosts[host];
        if target.life != life || target.agent.is_none() {
            return Ok(());
        }
        if target.armed == self.now {
            target.armed = Instant::NEVER;
        }
        let at = target.runs_at(self.now);
        if at > self.now {
            self.arm(host, at);
            return Ok(());
        }
        let local = target.clock.local(self.now);
        let due = target.agent.as_ref().and_then(lictor_core::agent::Agent::poll_timeout);
        match due {
            Some(due) if due <= local => self.run_agent(host),
            _ => {
                self.arm_timer(host);
                Ok(())
            }
        }
    }

    /// Makes sure that the agent is woken when it wants to be.
    pub(super) fn arm_timer(&mut self, host: usize) {
        let target = &self.hosts[host];
        let due = target.agent.as_ref().and_then(lictor_core::agent::Agent::poll_timeout);
        let Some(due) = due else { return };
        let at = target.clock.world(due).max(self.now);
        self.arm(host, at);
    }

    fn arm(&mut self, host: usize, at: Instant) {
        let target = &mut self.hosts[host];
        if at < target.armed {
            target.armed = at;
            let life = target.life;
            self.at(at, Event::Wake { host, life });
        }
    }

    /// The agent takes what is in its inbox, sometimes only part of it, and does all that follows.
    fn run_agent(&mut self, host: usize) -> Verdict {
        self.note(1, host as u64);
        let target = &mut self.hosts[host];
        let mut inputs = std::mem::take(&mut target.inbox);
        if inputs.len() > 1 && target.dice.one_in(4) {
            let first = 1 + target.dice.below(inputs.len() as u64 - 1) as usize;
            target.inbox = inputs.split_off(first);
        }
        let local = target.clock.local(self.now);
        let rest = !target.inbox.is_empty();
        let agent = target.agent.as_mut().expect("only agents that are alive run");
        for input in inputs {
            if let Input::Call { id, .. } = &input
                && lockers::is_lock_call(*id)
            {
                self.lockers.fed(*id);
            } else if let Input::Call { id, .. } = &input
                && !operator::is_order(*id)
                && !registrar::is_errand(*id)
            {
                self.history[op_of(*id)].fed = Some(self.now);
            }
            agent.handle_input(local, input);
        }
        if agent.poll_timeout().is_some_and(|due| due <= local) {
            agent.handle_input(local, Input::Timeout);
        }
        // The first output closes the batch; the checkers look before anything of it gets out.
        let mut output = agent.poll_output();
        self.observe(host)?;
        while let Some(next) = output {
            self.carry_out(host, next)?;
            output = self.hosts[host].agent.as_mut().and_then(lictor_core::agent::Agent::poll_output);
            // What comes of one batch may have led to another.
            if output.is_some() {
                self.observe(host)?;
            }
        }
        if self.hosts[host].has_left {
            return self.farewell(host);
        }
        self.check_blocked(host)?;
        self.check_collected(host)?;
        self.arm_timer(host);
        if rest {
            self.schedule_run(host);
        }
        Ok(())
    }

    /// The checkers look at an agent.
    pub(super) fn observe(&mut self, host: usize) -> Verdict {
        let Host { agent: Some(agent), server, .. } = &self.hosts[host] else { return Ok(()) };
        let (status, raft) = (agent.raft_status(), agent.raft());
        let (installs, compactions) = (self.watcher.installs, self.watcher.compactions);
        for index in self.watcher.stepped(*server, &status, raft)? {
            self.committed_at.push(self.now);
            let entry = raft.log().get(Index(index)).expect("the watcher saw it a moment ago");
            self.model.apply(entry)?;
        }
        self.look_at_news()?;
        if self.watcher.installs != installs {
            self.check_store(host)?;
            self.check_disk(host)
        } else if self.watcher.compactions != compactions && self.watcher.compactions.is_multiple_of(DISK_CHECKED_EVERY)
        {
            self.check_disk(host)
        } else {
            Ok(())
        }
    }

    /// The beginning of a log has gone: whatever happens to the disk now, nothing is lost.
    fn check_disk(&self, host: usize) -> Verdict {
        let target = &self.hosts[host];
        let left = crate::host::recover(&mut target.disk.durable());
        let left =
            left.map_err(|why| format!("after a power loss now, server {} would refuse: {why}", target.server))?;
        self.watcher.would_keep(target.server, &crate::host::kept(&left))
    }

    /// What an agent took from a snapshot is what the log says.
    pub(super) fn check_store(&self, host: usize) -> Verdict {
        let Host { agent: Some(agent), server, .. } = &self.hosts[host] else { return Ok(()) };
        snapshot::is_as_the_log_says(agent.store(), &self.model)
            .map_err(|why| format!("the store of server {server} at {}: {why}", agent.store().index()))
    }

    fn check_blocked(&mut self, host: usize) -> Verdict {
        self.nobody_sleeps(host)?;
        if self.blocked[host].is_empty() {
            return Ok(());
        }
        let history = &self.history;
        self.blocked[host].retain(|op| history[*op].is_open());
        let applied = self.hosts[host].agent.as_ref().map_or_else(Default::default, |agent| agent.store().index());
        for op in &self.blocked[host] {
            let op = &self.history[*op];
            if op.fed.is_some() {
                watch::still_open(op, applied, &self.model)?;
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, host: usize, output: Output) -> Verdict {
        match output {
            Output::Reply { id, reply } if tokens::is_token_call(id) => self.holder_answered(id, &reply)?,
            Output::Reply { id, reply } if executors::is_exec_call(id) => self.exec_answered(id, Ok(reply))?,
            Output::Reply { id, reply } if lockers::is_lock_call(id) => self.lock_call_answered(id, reply)?,
            Output::Reply { id, reply } if registrar::is_errand(id) => self.errand_answered(id, &reply)?,
            Output::Reply { id, reply } if operator::is_order(id) => self.order_answered(id, &reply)?,
            Output::Reply { id, reply } => self.answer(op_of(id), reply, false)?,
            Output::Message { to, envelope } => self.send(host, to, &envelope)?,
            Output::Persist(write) => self.write(host, write),
            Output::Job(job) => self.job(host, job),
            Output::Reserve { file, size } => self.reserve(host, file, size),
            Output::Publish(view) => self.hosts[host].view = Some(view),
            Output::Discard(store) => drop(store),
            Output::Datagram { to, bytes } => self.send_packet(host, to, Packet { is_stream: false, bytes }),
            Output::Stream { to, bytes } => self.send_packet(host, to, Packet { is_stream: true, bytes }),
            Output::Resolve { name } => {
                let named = host_named(&name).and_then(|host| self.hosts.get(host));
                let addresses = named.map(|host| host.address().ip()).into_iter().collect();
                self.feed(host, Input::Resolved { name, addresses });
            }
            // Nothing in this world is checked.
            Output::Probe(_) | Output::CancelProbe(_) => {}
            Output::Child(action) => self.child_action(host, action)?,
            Output::Notice(notice) => self.hear(host, &notice)?,
        }
        Ok(())
    }

    fn send(&mut self, from: usize, to: std::net::SocketAddr, envelope: &Envelope) -> Verdict {
        let server = self.hosts[from].server;
        assert_eq!(envelope.from, peer(server), "an agent says who it is");
        self.watcher.sent(server, envelope)?;
        self.check_outsider(server, envelope)?;
        let frame = wire::encode_frame(envelope);
        let there = host_at(to).filter(|host| self.hosts.get(*host).is_some_and(|host| host.address() == to));
        let Some(to) = there else {
            // Nobody is there any more.
            tell!(self, "{from} -> {to} (nobody is there)");
            self.note(17, from as u64);
            self.stats.messages += 1;
            self.stats.messages_lost += 1;
            return Ok(());
        };
        self.note(2, (from * 8 + to) as u64);
        self.trace.word(u64::from(checksum(&frame)) << 32 | frame.len() as u64);
        self.stats.messages += 1;
        let fate = self.net.send(self.now, from, to, frame.len());
        if let Body::Raft(message) = &envelope.body {
            self.stats.count_message(&message.kind);
            tell!(self, "{from} -> {to} {message}{}", if fate.arrivals[0].is_none() { " (lost)" } else { "" });
        } else {
            tell!(
                self,
                "{from} -> {to} {:?}{}",
                envelope.body,
                if fate.arrivals[0].is_none() { " (lost)" } else { "" }
            );
        }
        match fate.arrivals {
            [None, _] => self.stats.messages_lost += 1,
            [_, Some(_)] => self.stats.messages_doubled += 1,
            _ => {}
        }
        let frame = if fate.damaged { self.net.damage(&frame) } else { frame };
        self.stats.messages_damaged += u64::from(fate.damaged);
        for at in fate.arrivals.into_iter().flatten() {
            self.at(at, Event::Deliver { from, to, frame: frame.clone() });
        }
        Ok(())
    }

    pub(super) fn on_frame(&mut self, from: usize, to: usize, frame: &Bytes) {
        if self.hosts[to].agent.is_none() || !self.net.is_open(from, to) {
            self.stats.messages_lost += 1;
            return;
        }
        self.note(3, (from * 8 + to) as u64);
        self.trace.word(u64::from(checksum(frame)));
        let input = match decode(frame) {
            Ok(Frame::Envelope(envelope)) => Input::Message(envelope),
            Ok(Frame::Gossip(bytes)) => Input::Stream { from: self.hosts[from].address(), bytes },
            Err(reason) => Input::Garbage { from: Some(self.hosts[from].address()), reason },
        };
        self.feed(to, input);
    }

    fn hear(&mut self, host: usize, notice: &Notice) -> Verdict {
        tell!(self, "{host} {notice:?}");
        match notice {
            Notice::Raft(News::Campaigning { .. }) => self.stats.campaigns += 1,
            Notice::Raft(News::SteppedDown { .. }) => self.stats.step_downs += 1,
            Notice::Snapshot(SnapshotNews::Cut { .. }) => self.stats.snapshots.cut += 1,
            Notice::Snapshot(SnapshotNews::Sending { .. }) => self.stats.snapshots.begun += 1,
            Notice::Snapshot(SnapshotNews::Installed { .. }) => self.stats.snapshots.installed += 1,
            Notice::Snapshot(SnapshotNews::NoRoom) => self.stats.snapshots.no_room += 1,
            // What is damaged on its way is no message; and all servers are of one version.
            Notice::Snapshot(SnapshotNews::Refused { from, reason }) => {
                return Err(format!("server {} refuses the snapshot of {from}: {reason}", self.hosts[host].server));
            }
            // One agent moves, and another is called otherwise: no two ever have one name.
            Notice::Pool(PoolNews::Conflict { name, known, claimed }) => {
                return Err(format!("agent {host} sees two agents of the name {name}, at {known} and at {claimed}"));
            }
            Notice::Left if self.hosts[host].leaving.is_some() => self.hosts[host].has_left = true,
            ending if ending.ends_the_agent() => return Err(format!("agent {host} ends: {ending:?}")),
            Notice::DiskFull => self.stats.disks_full += 1,
            Notice::Dropped { .. } => self.stats.messages_dropped += 1,
            Notice::Exec(exec::News::Uncollected { .. }) => self.stats.exec.turned_back += 1,
            Notice::Raft(News::BecameLeader { .. } | News::LeaderChanged { .. })
            | Notice::DiskHasRoom { .. }
            | Notice::Pool(_)
            | Notice::Left
            | Notice::Local(_)
            | Notice::Exec(_)
            | Notice::Servers(_)
            | Notice::OrderObeyed => {}
        }
        Ok(())
    }
}

/// The checksum that a frame carries of its own body.
fn checksum(frame: &[u8]) -> u32 {
    u32::from_le_bytes([frame[12], frame[13], frame[14], frame[15]])
}

/// What a reader of a stream makes of a frame.
fn decode(frame: &Bytes) -> Result<Frame, Malformed> {
    let (header, body) = frame.split_first_chunk::<HEADER_BYTES>().ok_or(Malformed::Magic)?;
    if wire::body_length(header)? != body.len() {
        return Err(Malformed::Body);
    }
    wire::decode_body(header, body)
}
