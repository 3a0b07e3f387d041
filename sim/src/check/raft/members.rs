//! Who takes part, and which majorities that allows. A configuration holds for a server as soon as it is in its log; so
//! any two that can hold at the same time must not allow majorities without a server in common:
//!
//! - one that follows another in a log differs from it by one vote at most;
//! - a leader makes one only when the one before is committed, as well as an entry of its own term;
//! - what a server acts on is the latest in its log, its snapshot included.

use lictor_core::id::Index;
use lictor_core::raft::{Configuration, Entry, Payload, Status};

use super::{ReadLog, Watcher};
use crate::check::{Verdict, ensure};
use crate::host::server_of;

/// How many of so many are a majority.
pub(super) fn majority(of: usize) -> usize {
    of / 2 + 1
}

/// The voters by their numbers.
pub(crate) fn voters(configuration: &Configuration) -> impl Iterator<Item = usize> + '_ {
    configuration.voters().map(server_of)
}

/// How many votes two configurations differ by.
pub(super) fn votes_apart(one: &Configuration, other: &Configuration) -> usize {
    let lacks = |one: &Configuration, other: &Configuration| one.voters().filter(|id| !other.is_voter(*id)).count();
    lacks(one, other) + lacks(other, one)
}

impl Watcher {
    /// An entry joins a log: if it names members, it must fit those before.
    pub(super) fn check_members(&self, number: usize, status: &Status, entry: &Entry) -> Verdict {
        let Payload::Configuration(new) = &entry.payload else { return Ok(()) };
        let server = &self.servers[number];
        ensure!(new.voter_count() > 0, "server {number} takes entry {}, by which nobody has a vote", entry.index);
        let Some((before, old)) = server.in_force() else {
            ensure!(
                entry.index == Index(1),
                "server {number} takes entry {}, which names members, and knows of none before",
                entry.index
            );
            return Ok(());
        };
        let apart = votes_apart(old, new);
        ensure!(
            apart <= 1,
            "entry {} in the log of server {number} changes {apart} votes at once: {old} becomes {new}",
            entry.index
        );
        let made_it = status.role == "leader" && entry.term == status.term;
        if made_it {
            ensure!(
                *before <= status.commit,
                "server {number} leads term {} and changes members by entry {} before the change of entry {before} is \
                 committed",
                status.term,
                entry.index
            );
            let committed = status.commit.0.checked_sub(1).and_then(|at| server.log.get(at as usize));
            ensure!(
                committed.is_some_and(|mark| mark.term == status.term),
                "server {number} leads term {} and changes members by entry {} before anything of its term is committed",
                status.term,
                entry.index
            );
        }
        Ok(())
    }

    /// A server must act on the latest configuration in its log.
    pub(super) fn check_in_force(&self, number: usize, log: &(impl ReadLog + ?Sized)) -> Verdict {
        let Some((at, members)) = log.members() else { return Ok(()) };
        let (expected_at, expected) = match self.servers[number].in_force() {
            Some((at, configuration)) => (*at, Some(&**configuration)),
            None => (Index(0), None),
        };
        ensure!(
            at == expected_at && expected.is_none_or(|expected| expected == members),
            "server {number} acts on the members of entry {at}, {members}, while its log and its snapshot say those of \
             entry {expected_at}, {}",
            expected.map_or_else(|| "nobody".to_owned(), ToString::to_string)
        );
        Ok(())
    }

    /// The last committed entry is on so many disks that it is in every majority that may yet elect a leader: those that
    /// lack it are none. Servers whose disks are lost elect nobody.
    pub(super) fn last_committed_is_kept(&self) -> Verdict {
        let (Some(last), Some((_, members))) = (self.committed.last(), self.committed_configurations.last()) else {
            return Ok(());
        };
        let at = self.committed.len() - 1;
        let lacks = |number: &usize| !self.servers[*number].lost && !self.servers[*number].keeps(at, *last);
        let lacking = voters(members).filter(lacks).count();
        ensure!(
            lacking < majority(members.voter_count()),
            "durability: committed entry {} of term {} is lacking on the disks of {lacking} of {}",
            at + 1,
            last.term,
            members
        );
        Ok(())
    }

    /// What this server has just committed, as the first one, is on the disks of a majority. The configuration that counts
    /// is the latest in its log or, if that one came in the same step, the one before.
    pub(super) fn freshly_committed_is_kept(&self, number: usize, length_before: usize) -> Verdict {
        let Some(last) = self.committed.last() else { return Ok(()) };
        let at = self.committed.len() - 1;
        let keeps = |number: &usize| self.servers[*number].keeps(at, *last);
        let enough = |members: &Configuration| voters(members).filter(keeps).count() >= majority(members.voter_count());
        let mut latest = self.servers[number].configurations.iter().rev();
        let Some((named_at, members)) = latest.next() else {
            return Err(format!("server {number} committed entry {} and knows of no members", at + 1));
        };
        let came_just_now = named_at.0 as usize > length_before;
        ensure!(
            enough(members) || came_just_now && latest.next().is_some_and(|(_, before)| enough(before)),
            "durability: server {number} committed entry {} of term {}, which is on the disks of {} of {members}",
            at + 1,
            last.term,
            voters(members).filter(keeps).count()
        );
        Ok(())
    }

    /// Members that this server's log names become agreed, behind the first `known` entries and up to `to`.
    pub(super) fn members_committed(&mut self, number: usize, known: usize, to: Index) {
        let mut before = self.committed_configurations.last().map(|(_, members)| std::sync::Arc::clone(members));
        let named = self.servers[number].configurations.iter();
        for (at, members) in named.filter(|(at, _)| at.0 > known as u64 && *at <= to) {
            if let Some(before) = before {
                let changes = &mut self.changes;
                for (id, server) in &members.servers {
                    let old = before.servers.get(id);
                    changes.joined += u64::from(old.is_none());
                    changes.promoted += u64::from(server.voter && !before.is_voter(*id));
                    changes.moved += u64::from(old.is_some_and(|old| old.address != server.address));
                }
                changes.removed += before.servers.keys().filter(|id| !members.is_member(**id)).count() as u64;
            }
            self.committed_configurations.push((*at, std::sync::Arc::clone(members)));
            before = Some(std::sync::Arc::clone(members));
        }
    }

    /// The latest members that the cluster has agreed on.
    pub(crate) fn members(&self) -> Option<&Configuration> {
        self.committed_configurations.last().map(|(_, members)| &**members)
    }

    /// The entry that named them.
    pub(crate) fn members_index(&self) -> Index {
        self.committed_configurations.last().map_or(Index(0), |(at, _)| *at)
    }

    /// All configurations that may be in force somewhere: the latest that is agreed on, and those of all servers that may
    /// come back.
    pub(crate) fn all_in_force(&self) -> impl Iterator<Item = &Configuration> + '_ {
        let mine = self.servers.iter().filter(|server| !server.lost).filter_map(super::mirror::Server::in_force);
        let recent = mine.filter(|(at, _)| *at >= self.members_index()).map(|(_, members)| &**members);
        self.members().into_iter().chain(recent)
    }

    /// Whether a server's disk is lost.
    pub(crate) fn is_lost(&self, number: usize) -> bool {
        self.servers[number].lost
    }
}
