//! Troubles at work.

use std::ops::Not as _;

use lictor_core::id::Index;
use lictor_core::time::{Duration, Instant};

use super::{Event, Over, World, tell};
use crate::check::Verdict;
use crate::faults::{Cut, Fault, Target};
use crate::net::{Narrow, Weather};

impl World {
    pub(super) fn start_host(&mut self, host: usize) -> Verdict {
        if self.hosts[host].agent.is_some() || self.hosts[host].departed {
            return Ok(());
        }
        self.note(10, host as u64);
        let now = self.now;
        let server = self.hosts[host].server;
        match (self.hosts[host].start(now), self.hosts[host].refuses) {
            (Ok(()), false) => {}
            (Err(why), true) => {
                tell!(self, "{host} refuses to start: {why}");
                self.stats.damage.refused_starts += 1;
                return Ok(());
            }
            (Ok(()), true) => return Err(format!("server {server} starts on a disk that is damaged")),
            (Err(why), false) => return Err(format!("server {server} refuses to start: {why}")),
        }
        tell!(self, "{host} starts as server {server}");
        let agent = self.hosts[host].agent.as_ref().expect("it has just started");
        let (status, raft) = (agent.raft_status(), agent.raft());
        for index in self.watcher.started(server, &status, raft)? {
            self.committed_at.push(self.now);
            let entry = raft.log().get(Index(index)).expect("the watcher saw it a moment ago");
            self.model.apply(entry)?;
        }
        self.look_at_news()?;
        self.check_store(host)?;
        // Its first step, without any input.
        self.schedule_run(host);
        self.listen(host, 0);
        Ok(())
    }

    /// A process is gone, and with its machine's power some of what it had not synced.
    pub(super) fn stop_host(&mut self, host: usize, power: bool) -> Verdict {
        let target = &mut self.hosts[host];
        if power {
            target.disk.lose_power(&mut target.disk_dice);
        } else {
            target.disk.crash_process(&mut target.disk_dice);
        }
        let was_up = target.agent.is_some();
        target.stop();
        if target.refuses {
            return Ok(());
        }
        let server = target.server;
        self.note(11, host as u64 | u64::from(power) << 8);
        if was_up || power {
            tell!(self, "{host} goes down{}", if power { ", power lost" } else { "" });
            let kept =
                self.hosts[host].keeps().map_err(|why| format!("server {server} will refuse to start: {why}"))?;
            self.watcher.stopped(server, &kept)?;
        }
        if was_up {
            self.break_connections(host);
        }
        Ok(())
    }

    /// A disk write failed: the process stops. Whoever looks after it starts it again.
    pub(super) fn fail_disk(&mut self, host: usize) -> Verdict {
        self.stop_host(host, false)?;
        self.after(Duration::from_millis(500), Event::Over(Over::Down { host }));
        Ok(())
    }

    pub(super) fn on_trouble(&mut self, number: usize) -> Verdict {
        if self.phase != super::Phase::Trouble {
            return Ok(());
        }
        let fault = self.plan.troubles[number].fault.clone();
        self.stats.faults[fault.number()] += 1;
        self.note(12, number as u64);
        tell!(self, "--- {} {fault:?}", fault.name());
        match fault {
            Fault::Crash { target, down_ms } => self.take_down(target, down_ms, false),
            Fault::PowerCut { target, down_ms } => self.take_down(target, down_ms, true),
            Fault::PowerLoss { down_ms } => self.lose_all_power(down_ms),
            Fault::Wipe { target, down_ms, moves } => self.wipe(target, down_ms, moves),
            Fault::Rot { target, file, wipe_ms, moves } => self.rot(target, file, wipe_ms, moves),
            Fault::Move { target, down_ms } => self.move_host(target, down_ms),
            Fault::Leave { target, down_ms, then } => {
                self.leave(target, down_ms, then);
                Ok(())
            }
            fault => {
                self.disturb(fault);
                Ok(())
            }
        }
    }

    /// What goes wrong without stopping any process.
    fn disturb(&mut self, fault: Fault) {
        match fault {
            Fault::Crash { .. }
            | Fault::PowerCut { .. }
            | Fault::PowerLoss { .. }
            | Fault::Wipe { .. }
            | Fault::Rot { .. }
            | Fault::Leave { .. }
            | Fault::Move { .. } => unreachable!("these stop a process"),
            Fault::NarrowLink { target, above, loss_ppm, byte_us, ms } => {
                let from = self.resolve(target);
                let narrow = Narrow { from, above, loss_ppm, byte: Duration::from_micros(byte_us) };
                self.net.narrow(narrow.clone());
                self.over_in(ms, Over::NarrowLink(narrow));
            }
            Fault::SlowJobs { target, factor, ms } => {
                let host = self.resolve(target);
                self.hosts[host].job_factor = factor;
                self.over_in(ms, Over::SlowJobs { host });
            }
            Fault::Echo { after_ms, ms } => {
                let after = Duration::from_millis(after_ms);
                self.net.begin_echo(after);
                self.over_in(ms, Over::Echo(after));
            }
            Fault::Dismissal { target, ms } => {
                let host = self.resolve(target);
                if let Some(operator) = &mut self.operator {
                    operator.dismissed[host] += 1;
                }
                self.over_in(ms, Over::Dismissal { host });
            }
            Fault::Pause { target, ms } => {
                let (host, until) = (self.resolve(target), self.now + Duration::from_millis(ms));
                self.hosts[host].paused_until = self.hosts[host].paused_until.max(until);
                self.at(until, Event::Over(Over::Pause { host }));
            }
            Fault::Stall { target, ms } => {
                let (host, until) = (self.resolve(target), self.now + Duration::from_millis(ms));
                self.hosts[host].stalled_until = self.hosts[host].stalled_until.max(until);
            }
            Fault::Partition { cut, ms } => {
                let links = self.links_of(&cut);
                self.net.block(&links);
                self.over_in(ms, Over::Partition(links));
            }
            Fault::Weather { loss_ppm, duplicate_ppm, held_ppm, held_ms, ms } => {
                let weather = Weather { loss_ppm, duplicate_ppm, held_ppm, held_ms };
                self.net.worsen(weather.clone());
                self.over_in(ms, Over::Weather(weather));
            }
            Fault::SlowLink { target, extra_ms, ms } => {
                let host = self.resolve(target);
                self.net.slow_down(host, Duration::from_millis(extra_ms));
                self.over_in(ms, Over::SlowLink { host });
            }
            Fault::SlowDisk { target, factor, ms } => {
                let host = self.resolve(target);
                self.hosts[host].disk_factor = factor;
                self.over_in(ms, Over::SlowDisk { host });
            }
            Fault::FullDisk { target, spare, ms } => {
                let host = self.resolve(target);
                self.hosts[host].disk.limit(Some(spare));
                self.over_in(ms, Over::FullDisk { host });
            }
            Fault::Drift { target, ppm } => {
                let (host, now) = (self.resolve(target), self.now);
                self.hosts[host].clock.set_drift(now, ppm);
                // What it waits for comes at another time now.
                self.hosts[host].armed = Instant::NEVER;
                self.arm_timer(host);
            }
        }
    }

    pub(super) fn over_in(&mut self, ms: u64, over: Over) {
        self.after(Duration::from_millis(ms), Event::Over(over));
    }

    pub(super) fn on_over(&mut self, over: Over) -> Verdict {
        self.note(13, 0);
        tell!(self, "--- over: {over:?}");
        match over {
            Over::Down { host } => return self.start_host(host),
            Over::Pause { host } => return self.resume(host),
            Over::Partition(links) => self.net.unblock(&links),
            Over::Weather(weather) => self.net.improve(&weather),
            Over::SlowLink { host } => self.net.slow_down(host, Duration::ZERO),
            Over::SlowDisk { host } => self.hosts[host].disk_factor = 1,
            Over::FullDisk { host } => self.hosts[host].disk.limit(None),
            Over::NarrowLink(narrow) => self.net.widen(&narrow),
            Over::Echo(after) => self.net.end_echo(after),
            Over::SlowJobs { host } => self.hosts[host].job_factor = 1,
            Over::Replace { host, moves } => return self.replace_damaged(host, moves),
            Over::Dismissal { host } => {
                if let Some(operator) = &mut self.operator {
                    operator.dismissed[host] = operator.dismissed[host].saturating_sub(1);
                }
            }
        }
        Ok(())
    }

    fn take_down(&mut self, target: Target, down_ms: u64, power: bool) -> Verdict {
        let host = self.resolve(target);
        self.stop_host(host, power)?;
        self.over_in(down_ms, Over::Down { host });
        Ok(())
    }

    fn lose_all_power(&mut self, down_ms: u64) -> Verdict {
        // First all, then the checks: what the others still have in memory does not count.
        for target in &mut self.hosts {
            target.disk.lose_power(&mut target.disk_dice);
        }
        let up: Vec<bool> = self.hosts.iter().map(|host| host.agent.is_some()).collect();
        let mut kept = Vec::new();
        for target in &mut self.hosts {
            target.stop();
            if !target.refuses {
                let server = target.server;
                let keeps = target.keeps().map_err(|why| format!("server {server} will refuse to start: {why}"))?;
                kept.push((server, keeps));
            }
        }
        self.watcher.all_stopped(&kept)?;
        for (host, was_up) in up.into_iter().enumerate() {
            if was_up {
                self.break_connections(host);
            }
            let wait = self.fault_dice.below(down_ms + 1);
            self.over_in(wait, Over::Down { host });
        }
        Ok(())
    }

    /// A host moves again: first those who wait for it are served.
    pub(super) fn resume(&mut self, host: usize) -> Verdict {
        if self.hosts[host].is_paused(self.now) || self.hosts[host].agent.is_none() {
            return Ok(());
        }
        for op in std::mem::take(&mut self.hosts[host].waiting) {
            self.serve(op)?;
        }
        Ok(())
    }

    pub(super) fn resolve(&mut self, target: Target) -> usize {
        let hosts = self.hosts.len() as u64;
        let leader = self.watcher.leader().map(|server| self.host_of[server]);
        match target {
            Target::Host(host) => host,
            Target::Leader => {
                let any = self.fault_dice.below(hosts) as usize;
                leader.unwrap_or(any)
            }
            Target::Follower => {
                let any = self.fault_dice.below(hosts) as usize;
                if leader == Some(any) { (any + 1) % self.hosts.len() } else { any }
            }
        }
    }

    /// The links that a cut blocks.
    fn links_of(&mut self, cut: &Cut) -> Vec<(usize, usize)> {
        let hosts = self.hosts.len();
        let blocked: Box<dyn Fn(usize, usize) -> bool> = match cut {
            Cut::Halves(side) => Box::new(move |from, to| side.contains(&from) != side.contains(&to)),
            Cut::OneWay(side) => Box::new(move |from, to| side.contains(&from) && side.contains(&to).not()),
            Cut::Alone(target) => {
                let host = self.resolve(*target);
                Box::new(move |from, to| from == host || to == host)
            }
            Cut::Mute(target) => {
                let host = self.resolve(*target);
                Box::new(move |from, _| from == host)
            }
            Cut::Deaf(target) => {
                let host = self.resolve(*target);
                Box::new(move |_, to| to == host)
            }
            Cut::Bridge(bridge) => {
                let bridge = *bridge;
                let low = move |host: usize| (host + hosts - bridge) % hosts <= hosts / 2;
                Box::new(move |from, to| from != bridge && to != bridge && low(from) != low(to))
            }
            Cut::Ring => Box::new(move |from, to| {
                let apart = (from + hosts - to) % hosts;
                apart != 1 && apart != hosts - 1
            }),
        };
        let pairs = (0..hosts).flat_map(|from| (0..hosts).map(move |to| (from, to)));
        pairs.filter(|(from, to)| from != to && blocked(*from, *to)).collect()
    }
}
