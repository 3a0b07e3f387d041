//! Raft's safety properties (thesis, figure 3.2), and the rules that they rest on. Checked after every step of
//! every agent, at a cost that follows what changed:
//!
//! - *Election safety*: a term has at most one leader; a server votes once in a term, across crashes; a
//!   leader was voted for by a majority of those who have a vote by its own log.
//! - *Leader append-only*: a leader never cuts or rewrites its own log.
//! - *Log matching*: an entry's index and term tell its content and the entry before it.
//! - *Leader completeness*: a new leader has every committed entry.
//! - *State machine safety*: what one server has committed, no other contradicts, whatever crashes.
//! - *Snapshots*: what a server does not hold as entries any more was committed, and its snapshot is of that history.
//! - *Durability*: a committed entry is on the disks of a majority at all times, in a log or in a snapshot, a crash
//!   included; nobody confirms what is not on its disk.
//! - *Membership*: see [`members`].
//! - *Commitment*: a leader commits only by an entry of its own term (thesis 3.6.2).
//! - Terms and commit indexes never go back.
//!
//! The watcher mirrors each log as terms and checksums, and never asks one agent about another. It knows servers by the
//! numbers of their IDs: a host that lost its disk comes back as another server.

pub(crate) mod members;
pub(crate) mod mirror;

use std::collections::BTreeMap;

use lictor_core::id::{Index, Term, WriteSeq};
use lictor_core::peer::{Body, Envelope};
use lictor_core::raft::{Kind, Position, Status};

use super::{Verdict, ensure};
use crate::host::server_of;
use crate::stats::Members;
use members::majority;
use mirror::{Kept, Mark, ReadLog};
use mirror::{Named, Server};

/// All servers, and what the cluster has agreed on.
#[derive(Debug)]
pub(crate) struct Watcher {
    servers: Vec<Server>,
    /// For each index, the entries that were ever seen there, with the term of the entry before.
    seen: Vec<Vec<(Mark, Term)>>,
    committed: Vec<Mark>,
    committed_configurations: Vec<Named>,
    leaders: BTreeMap<Term, usize>,
    /// For each term, who voted for whom.
    votes: BTreeMap<Term, BTreeMap<usize, usize>>,
    /// Changes of who takes part.
    pub(crate) changes: Members,
    /// Logs that were cut off behind a snapshot of the server's own.
    pub(crate) compactions: u64,
    /// Logs that a snapshot from elsewhere took the place of.
    pub(crate) installs: u64,
    /// How many leaders there were.
    pub(crate) elections: u64,
    /// A leader with a log longer than what is committed took over.
    pub(crate) inherited: u64,
    /// Entries that were cut off a log.
    pub(crate) cut_off: u64,
}

impl Watcher {
    pub(crate) fn new(servers: usize) -> Self {
        Self {
            servers: vec![Server::default(); servers],
            seen: Vec::new(),
            committed: Vec::new(),
            committed_configurations: Vec::new(),
            leaders: BTreeMap::new(),
            votes: BTreeMap::new(),
            changes: Members::default(),
            compactions: 0,
            installs: 0,
            elections: 0,
            inherited: 0,
            cut_off: 0,
        }
    }

    /// One more server, on an empty disk. Its number.
    pub(crate) fn join(&mut self) -> usize {
        self.servers.push(Server::default());
        self.servers.len() - 1
    }

    /// A server's disk is lost, and the server with it.
    pub(crate) fn lose(&mut self, number: usize) -> Verdict {
        let server = &mut self.servers[number];
        (server.alive, server.leads, server.lost) = (false, false, true);
        self.last_committed_is_kept()
    }

    /// How much is committed, as far as anyone knows.
    pub(crate) fn commit(&self) -> Index {
        Index(self.committed.len() as u64)
    }

    /// A server has started on what its disk held. Returns what became committed by it, as indexes.
    pub(crate) fn started(
        &mut self,
        number: usize,
        status: &Status,
        log: &(impl ReadLog + ?Sized),
    ) -> Result<std::ops::Range<u64>, String> {
        let server = &mut self.servers[number];
        assert!(!server.lost, "a server whose disk is lost does not come back");
        ensure!(
            status.term >= server.promised,
            "server {number} forgot a promise: it had voted or confirmed in term {}, and comes back in term {}",
            server.promised,
            status.term
        );
        let kept = std::mem::take(server);
        *server = Server {
            alive: true,
            promised: kept.promised,
            durable: Index(kept.log.len() as u64),
            log: kept.log,
            configurations: kept.configurations,
            base: kept.base.min(log.base().index),
            ..Server::default()
        };
        let counts = (self.compactions, self.installs);
        let fresh = self.stepped(number, status, log)?;
        (self.compactions, self.installs) = counts;
        self.check_in_force(number, log)?;
        self.last_committed_is_kept()?;
        Ok(fresh)
    }

    /// A server has stopped, and this is what its disk holds now.
    pub(crate) fn stopped(&mut self, number: usize, kept: &Kept) -> Verdict {
        self.remember(number, kept)?;
        self.last_committed_is_kept()
    }

    /// All servers have stopped at once, and this is what their disks hold now.
    pub(crate) fn all_stopped(&mut self, kept: &[(usize, Kept)]) -> Verdict {
        for (number, kept) in kept {
            self.remember(*number, kept)?;
        }
        self.last_committed_is_kept()
    }

    fn remember(&mut self, number: usize, kept: &Kept) -> Verdict {
        let server = &mut self.servers[number];
        server.alive = false;
        server.leads = false;
        server.writes.clear();
        ensure!(
            kept.term >= server.promised,
            "server {number} lost a promise in a crash: it had voted or confirmed in term {}, its disk knows term {}",
            server.promised,
            kept.term
        );
        self.check_base(number, kept.base)?;
        let server = &mut self.servers[number];
        server.base = kept.base.index;
        server.replace(&self.committed[..kept.base.index.0 as usize], &self.committed_configurations);
        for entry in &kept.entries {
            server.push(entry, Mark::of(entry));
        }
        server.durable = Index(server.log.len() as u64);
        Ok(())
    }

    /// This is what would be left on a server's disk if the power failed now: all that it may count on must be there.
    pub(crate) fn would_keep(&self, number: usize, kept: &Kept) -> Verdict {
        self.check_base(number, kept.base)?;
        let server = &self.servers[number];
        let (durable, base) = (server.durable.0, kept.base.index.0);
        let there = match durable.checked_sub(base + 1) {
            Some(place) => {
                kept.entries.get(place as usize).map(Mark::of) == server.log.get(durable as usize - 1).copied()
            }
            None => true,
        };
        ensure!(
            there && kept.term >= server.promised,
            "server {number} counts on its log up to {durable} and its promises up to term {}; a power loss would leave \
             it with a snapshot up to {}, {} entries and term {}",
            server.promised,
            kept.base,
            kept.entries.len(),
            kept.term
        );
        Ok(())
    }

    /// An agent has taken a step. Returns what became committed by it, as indexes.
    pub(crate) fn stepped(
        &mut self,
        number: usize,
        status: &Status,
        log: &(impl ReadLog + ?Sized),
    ) -> Result<std::ops::Range<u64>, String> {
        let leads = status.role == "leader";
        let before = &self.servers[number];
        ensure!(
            status.term >= before.term,
            "the term of server {number} went back from {} to {}",
            before.term,
            status.term
        );
        ensure!(
            status.commit >= before.commit,
            "the commit index of server {number} went back from {} to {}",
            before.commit,
            status.commit
        );
        let led_before = before.leads && before.term == status.term;
        let length_before = before.log.len();
        let members_before = before.in_force().map(|(at, _)| *at);
        if log.base().index != before.base {
            self.follow_base(number, log.base(), led_before)?;
            self.follow_log(number, status, log, led_before)?;
            self.check_in_force(number, log)?;
        } else {
            self.follow_log(number, status, log, led_before)?;
        }
        if self.servers[number].in_force().map(|(at, _)| *at) != members_before
            || log.members().is_some_and(|(at, _)| at != members_before.unwrap_or_default())
        {
            self.check_in_force(number, log)?;
        }
        if leads {
            self.check_leader(number, status.term, led_before)?;
        }
        let server = &mut self.servers[number];
        let (old_commit, commit) = (server.commit, status.commit);
        (server.term, server.leads, server.commit) = (status.term, leads, commit);
        ensure!(
            commit <= status.last.index && status.applied <= commit,
            "server {number} has applied {} and committed {commit} of a log that ends at {}",
            status.applied,
            status.last.index
        );
        if commit == old_commit {
            return Ok(0..0);
        }
        if led_before {
            let by = self.servers[number].log[commit.0 as usize - 1].term;
            ensure!(
                by == status.term,
                "server {number}, leader of term {}, committed up to entry {commit} of term {by} by counting",
                status.term
            );
        }
        self.check_commit(number, old_commit, commit, length_before)
    }

    /// What a snapshot stands for was committed, and it is of that history.
    fn check_base(&self, number: usize, base: Position) -> Verdict {
        let Some(at) = base.index.0.checked_sub(1) else { return Ok(()) };
        let agreed = self.committed.get(at as usize);
        ensure!(
            agreed.is_some_and(|mark| mark.term == base.term),
            "server {number} has a snapshot up to {base}, {}",
            match agreed {
                Some(mark) => format!("while the entry that was committed there is of term {}", mark.term),
                None => format!("while no more than {} entries are committed", self.committed.len()),
            }
        );
        Ok(())
    }

    /// The beginning of a log gives way to a snapshot: its own, or one that came from elsewhere.
    fn follow_base(&mut self, number: usize, base: Position, led_before: bool) -> Verdict {
        self.check_base(number, base)?;
        let server = &mut self.servers[number];
        let length = base.index.0 as usize;
        ensure!(
            base.index > server.base,
            "the log of server {number} began behind {} and now begins behind {base}",
            server.base
        );
        server.base = base.index;
        if server.log.get(length - 1) == self.committed.get(length - 1) {
            self.compactions += 1;
            server.durable = server.durable.max(base.index);
            return Ok(());
        }
        ensure!(!led_before, "server {number} leads and puts a snapshot up to {base} in the place of its log");
        ensure!(
            server.commit < base.index,
            "server {number}, which has committed {} entries, puts a snapshot up to {base} in their place",
            server.commit
        );
        self.installs += 1;
        self.cut_off += server.log.len().saturating_sub(length) as u64;
        server.replace(&self.committed[..length], &self.committed_configurations);
        Ok(())
    }

    /// Mirrors what changed in a log.
    fn follow_log(
        &mut self,
        number: usize,
        status: &Status,
        log: &(impl ReadLog + ?Sized),
        led_before: bool,
    ) -> Verdict {
        let server = &mut self.servers[number];
        let (length, base) = (status.last.index.0 as usize, server.base.0 as usize);
        // Where terms agree, log matching says that all before agrees too; that is checked when entries come.
        let mut agreed = server.log.len().min(length);
        while agreed > base && log.entry(Index(agreed as u64)).is_none_or(|e| e.term != server.log[agreed - 1].term) {
            agreed -= 1;
        }
        if agreed < server.log.len() {
            ensure!(!led_before, "server {number} leads and cut its own log from {} to {agreed}", server.log.len());
            self.cut_off += (server.log.len() - agreed) as u64;
            server.cut(agreed);
        }
        for at in agreed..length {
            let Some(entry) = log.entry(Index(at as u64 + 1)) else {
                return Err(format!("the log of server {number} has no entry {} and ends at {length}", at + 1));
            };
            let mark = Mark::of(entry);
            let before = at.checked_sub(1).map_or(Term(0), |before| self.servers[number].log[before].term);
            ensure!(
                before <= mark.term,
                "the terms in the log of server {number} go back from {before} to {} at {}",
                mark.term,
                at + 1
            );
            self.check_members(number, status, entry)?;
            self.servers[number].push(entry, mark);
            if self.seen.len() <= at {
                self.seen.resize(at + 1, Vec::new());
            }
            match self.seen[at].iter().find(|(other, _)| other.term == mark.term) {
                Some((other, other_before)) => ensure!(
                    *other == mark && *other_before == before,
                    "log matching: entry {} of term {} is not the same on server {number} as it was elsewhere",
                    at + 1,
                    mark.term
                ),
                None => self.seen[at].push((mark, before)),
            }
        }
        Ok(())
    }

    fn check_leader(&mut self, number: usize, term: Term, led_before: bool) -> Verdict {
        if led_before {
            return Ok(());
        }
        match self.leaders.insert(term, number) {
            Some(other) if other != number => {
                return Err(format!("servers {other} and {number} both lead term {term}"));
            }
            Some(_) => return Err(format!("server {number} became leader of term {term} a second time")),
            None => self.elections += 1,
        }
        let Some((_, members)) = self.servers[number].in_force() else {
            return Err(format!("server {number} leads term {term} and knows of no members"));
        };
        let given = self.votes.get(&term);
        let voted = |voter: &usize| given.is_some_and(|votes| votes.get(voter) == Some(&number));
        let votes = members::voters(members).filter(voted).count();
        let needed = majority(members.voter_count());
        // Alone, it need not ask.
        ensure!(
            votes >= needed || members.voter_count() == 1 && members::voters(members).all(|voter| voter == number),
            "server {number} leads term {term} with {votes} votes where {needed} of {members} are a majority"
        );
        let log = &self.servers[number].log;
        self.inherited += u64::from(log.len() > self.committed.len() + 1);
        if let Some(last) = self.committed.last() {
            ensure!(
                log.get(self.committed.len() - 1) == Some(last),
                "leader completeness: server {number} leads term {term} without committed entry {} of term {}",
                self.committed.len(),
                last.term
            );
        }
        Ok(())
    }

    fn check_commit(
        &mut self,
        number: usize,
        from: Index,
        to: Index,
        length_before: usize,
    ) -> Result<std::ops::Range<u64>, String> {
        let log = &self.servers[number].log;
        let (from, until) = (from.0 as usize, to.0 as usize);
        let same = log[from..until].iter().zip(self.committed.get(from..).unwrap_or_default());
        for (at, (mark, elsewhere)) in (from + 1..).zip(same) {
            ensure!(
                mark == elsewhere,
                "state machine safety: server {number} committed entry {at} of term {}, elsewhere it is of term {}",
                mark.term,
                elsewhere.term
            );
        }
        let known = self.committed.len();
        let fresh = known as u64 + 1..to.0 + 1;
        if until > known {
            let fresh = log[known..until].to_vec();
            self.committed.extend(fresh);
            self.members_committed(number, known, to);
            self.freshly_committed_is_kept(number, length_before)?;
        }
        Ok(fresh)
    }

    /// A server hands a write to its disk: its log as it is now.
    pub(crate) fn writing(&mut self, number: usize, seq: WriteSeq) {
        let server = &mut self.servers[number];
        server.writes.push_back((seq, Index(server.log.len() as u64)));
    }

    /// A server's disk has everything up to this write.
    pub(crate) fn wrote(&mut self, number: usize, seq: WriteSeq) {
        let server = &mut self.servers[number];
        while let Some((_, covers)) = server.writes.pop_front_if(|(write, _)| *write <= seq) {
            server.durable = server.durable.max(covers);
        }
    }

    /// A server says something to another. It has taken its step before.
    pub(crate) fn sent(&mut self, number: usize, envelope: &Envelope) -> Verdict {
        let Body::Raft(message) = &envelope.body else { return Ok(()) };
        match message.kind {
            Kind::VoteReply { granted: true } => self.voted(number, server_of(envelope.to), message.term),
            Kind::Vote { .. } => self.voted(number, number, message.term),
            Kind::Appended { matched } => {
                let server = &mut self.servers[number];
                server.promised = server.promised.max(message.term);
                // What it says to a leader of the past was true when its disk had it, and may be cut off since.
                ensure!(
                    matched <= server.durable || message.term < server.term,
                    "server {number} confirms entries up to {matched}, its disk has them up to {}",
                    server.durable
                );
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn voted(&mut self, voter: usize, candidate: usize, term: Term) -> Verdict {
        let server = &mut self.servers[voter];
        server.promised = server.promised.max(term);
        match self.votes.entry(term).or_default().insert(voter, candidate) {
            Some(other) if other != candidate => {
                Err(format!("server {voter} voted for both {other} and {candidate} in term {term}"))
            }
            _ => Ok(()),
        }
    }

    /// At the end, when nothing happens any more: the logs of all members are the same.
    pub(crate) fn all_agree(&self) -> Verdict {
        let Some(members) = self.members() else { return Err("nobody is a member".to_owned()) };
        let mut all = members.servers.keys().map(|id| server_of(*id));
        let Some(first) = all.next() else { return Err("nobody is a member".to_owned()) };
        let (one, whole) = (&self.servers[first], self.servers[first].log.len());
        for number in std::iter::once(first).chain(all) {
            let server = &self.servers[number];
            ensure!(server.alive, "server {number} is down");
            ensure!(
                server.log == one.log && server.commit == one.commit,
                "the logs of servers {first} and {number} differ: {whole} and {} entries, committed up to {} and {}",
                server.log.len(),
                one.commit,
                server.commit
            );
        }
        Ok(())
    }

    /// Who leads the highest term, of those that are alive.
    pub(crate) fn leader(&self) -> Option<usize> {
        let leading = self.servers.iter().enumerate().filter(|(_, server)| server.alive && server.leads);
        leading.max_by_key(|(_, server)| server.term).map(|(number, _)| number)
    }
}

#[cfg(test)]
mod tests;
