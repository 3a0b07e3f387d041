//! Damage that lasts: disks that are wiped or rot, and machines that come back elsewhere. None of it is done where it
//! could take a quorum's disks, or hide a quorum at addresses that nobody knows: no cluster survives that.

use lictor_core::id::{PeerId, Term};
use lictor_core::raft::{Configuration, Entry, Position};
use lictor_core::recovery::Recovered;
use lictor_core::time::Duration;
use lictor_core::{snapshot, wal};

use super::{Event, Over, World, tell};
use crate::check::raft::members::voters;
use crate::check::{Verdict, ensure};
use crate::faults::{Return, Rotten, Target};
use crate::host::{peer, recover, server_of};

/// How often a bit is turned until one matters.
const ROT_TRIES: usize = 12;

impl World {
    /// A machine gets an empty disk.
    pub(super) fn wipe(&mut self, target: Target, down_ms: u64, moves: bool) -> Verdict {
        let host = self.resolve(target);
        if self.hosts[host].refuses || !self.can_do_without(host) {
            self.stats.damage.spared += 1;
            return Ok(());
        }
        self.stats.damage.wiped += 1;
        self.stop_for_good(host)?;
        self.replace(host, moves);
        self.over_in(down_ms, Over::Down { host });
        Ok(())
    }

    /// The process dies, and what it had on its disk is gone, or cannot be used any more.
    fn stop_for_good(&mut self, host: usize) -> Verdict {
        let was_up = self.hosts[host].agent.is_some();
        self.hosts[host].stop();
        if was_up {
            self.break_connections(host);
        }
        let server = self.hosts[host].server;
        self.watcher.lose(server)
    }

    /// An empty disk: the host will be another server.
    fn replace(&mut self, host: usize, moves: bool) {
        let server = self.watcher.join();
        self.host_of.push(host);
        debug_assert_eq!(self.host_of.len(), server + 1, "each server is on one host");
        self.hosts[host].wipe(server);
        if let Some(registrar) = &mut self.registrar {
            registrar.wiped(host);
        }
        if moves {
            self.hosts[host].change_address(host);
        }
        self.note(20, (host * 1024 + server) as u64);
        tell!(self, "{host} has an empty disk and is server {server} now, at {}", self.hosts[host].address());
    }

    /// The operator has come to a host whose disk is damaged.
    pub(super) fn replace_damaged(&mut self, host: usize, moves: bool) -> Verdict {
        if !self.hosts[host].refuses {
            return Ok(());
        }
        self.replace(host, moves);
        self.start_host(host)
    }

    /// A machine loses power, and a bit of its disk turns. Whatever it then starts with must be what it had; where that
    /// cannot be, it must refuse. Only the end of a log is out of bounds: no one can tell a rotten one from a torn one.
    pub(super) fn rot(&mut self, target: Target, file: Rotten, wipe_ms: u64, moves: bool) -> Verdict {
        let host = self.resolve(target);
        if self.hosts[host].refuses || !self.can_do_without(host) {
            self.stats.damage.spared += 1;
            return Ok(());
        }
        self.stop_host(host, true)?;
        let server = self.hosts[host].server;
        let mut sound = self.hosts[host].disk.clone();
        let before = recover(&mut sound).map_err(|why| format!("server {server} will refuse to start: {why}"))?;
        for _ in 0..ROT_TRIES {
            let target = &mut self.hosts[host];
            let concerns = |name: &str| match file {
                Rotten::Log => wal::segment_number(name).is_some(),
                Rotten::Snapshot => snapshot::position_of(name).is_some(),
            };
            let Some(place) = target.disk.rot(concerns, &mut target.disk_dice) else { break };
            match recover(&mut target.disk) {
                Err(why) => {
                    tell!(self, "{host} has rotted: {place}: {why}");
                    self.note(22, host as u64);
                    self.stats.damage.rotted += 1;
                    self.hosts[host].forget_kept();
                    self.hosts[host].refuses = true;
                    self.stop_for_good(host)?;
                    self.over_in(wipe_ms / 2, Over::Down { host });
                    self.over_in(wipe_ms, Over::Replace { host, moves });
                    return Ok(());
                }
                Ok(after) if said(&after) == said(&before) => {
                    tell!(self, "{host} has rotted where it does not matter: {place}");
                    self.stats.damage.harmless_rot += 1;
                    self.hosts[host].forget_kept();
                    let kept =
                        self.hosts[host].keeps().map_err(|why| format!("server {server} refuses in the end: {why}"))?;
                    self.watcher.stopped(server, &kept)?;
                    break;
                }
                Ok(after) => {
                    let (after, before) = (said(&after), said(&before));
                    ensure!(
                        file == Rotten::Log && after.0 <= before.0 && after.1 <= before.1,
                        "the disk of server {server} has rotted ({place}), and it starts with something else: its log \
                         ends at {} and not {}, its term and vote are {:?} and not {:?}",
                        after.0,
                        before.0,
                        (after.1, after.2),
                        (before.1, before.2)
                    );
                    self.hosts[host].disk = sound.clone();
                }
            }
        }
        self.over_in(wipe_ms / 2, Over::Down { host });
        Ok(())
    }

    /// A machine goes down and comes back elsewhere.
    pub(super) fn move_host(&mut self, target: Target, down_ms: u64) -> Verdict {
        let host = self.resolve(target);
        if self.hosts[host].refuses || !self.can_do_without(host) {
            self.stats.damage.spared += 1;
            return Ok(());
        }
        self.stats.damage.moved += 1;
        self.stop_host(host, false)?;
        self.hosts[host].change_address(host);
        self.note(21, host as u64);
        tell!(self, "{host} has moved to {}", self.hosts[host].address());
        self.over_in(down_ms, Over::Down { host });
        Ok(())
    }

    /// An agent is asked to leave the pool.
    pub(super) fn leave(&mut self, target: Target, down_ms: u64, then: Return) {
        let host = self.resolve(target);
        let leaver = &self.hosts[host];
        if leaver.agent.is_none() || leaver.leaving.is_some() || !self.can_do_without(host) {
            self.stats.damage.spared += 1;
            return;
        }
        self.hosts[host].leaving = Some((down_ms, then));
        self.ask_to_leave(host);
    }

    /// An agent has left, and ends.
    pub(super) fn farewell(&mut self, host: usize) -> Verdict {
        let (down_ms, then) = self.hosts[host].leaving.unwrap_or((0, Return::Same));
        self.stats.local.left += 1;
        tell!(self, "{host} has left: {then:?}");
        self.stop_host(host, false)?;
        match then {
            Return::Never if self.hosts[host].plan.client => {
                self.hosts[host].departed = true;
                return Ok(());
            }
            Return::Wiped if self.can_do_without(host) => {
                self.stop_for_good(host)?;
                self.replace(host, false);
            }
            _ => {}
        }
        self.over_in(down_ms, Over::Down { host });
        Ok(())
    }

    /// Whether a quorum is left if this host is not what or where the others take it for, in each configuration that may
    /// be in force, and in those that it may become.
    fn can_do_without(&self, host: usize) -> bool {
        let server = self.hosts[host].server;
        if self.watcher.members().is_none() && !self.hosts[host].plan.client {
            // Whoever is to found the cluster must be there for that.
            return false;
        }
        let removing = self.operator.as_ref().map(|operator| operator.may_yet_remove(self.now)).unwrap_or_default();
        // The leader may find that one of those whom nobody hears is dead, and remove it.
        let all_fine = !self.net.is_cut() && self.hosts.iter().all(|host| self.is_fine(host));
        self.watcher.all_in_force().all(|members| {
            if !members.is_member(peer(server)) {
                return true;
            }
            // It may be about to get a vote.
            let count = members.voter_count() + usize::from(!members.is_voter(peer(server)));
            let leaving = removing.iter().filter(|server| members.is_voter(peer(**server))).count();
            let slack = leaving + usize::from(!all_fine);
            let gone = voters(members).filter(|number| *number != server && self.is_gone(*number, members)).count();
            gone < count.saturating_sub(slack).saturating_sub(1) / 2
        })
    }

    fn is_fine(&self, host: &crate::host::Host) -> bool {
        host.agent.is_some() && host.leaving.is_none() && !host.is_paused(self.now) && host.stalled_until <= self.now
    }

    /// Whether this voter has lost its disk, or is not where the configuration says.
    pub(super) fn is_gone(&self, server: usize, members: &Configuration) -> bool {
        let host = &self.hosts[self.host_of[server]];
        self.watcher.is_lost(server) || members.address(peer(server)) != Some(host.address())
    }

    /// Whether a member is one that should be: the one that its host is now.
    pub(super) fn is_current(&self, id: PeerId) -> bool {
        let server = server_of(id);
        let host = &self.hosts[self.host_of[server]];
        host.server == server && !host.refuses
    }

    /// When a damaged machine is to be looked after at once.
    pub(super) fn replace_soon(&mut self, host: usize) {
        let wait = Duration::from_millis(self.fault_dice.below(100));
        self.after(wait, Event::Over(Over::Replace { host, moves: false }));
    }
}

/// What binds a server: the end of its log, its term, and its vote.
fn said(recovered: &Recovered) -> (Position, Term, Option<PeerId>) {
    let log = &recovered.log;
    (log.entries.last().map_or(log.base, Entry::position), log.hard_state.term, log.hard_state.vote)
}
