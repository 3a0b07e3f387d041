//! Raft's safety properties (thesis, figure 3.2), and the rules that they rest on. Checked after every step of
//! every agent, at a cost that follows what changed:
//!
//! - *Election safety*: a term has at most one leader; a server votes once in a term, across crashes; a
//!   leader was voted for by a majority.
//! - *Leader append-only*: a leader never cuts or rewrites its own log.
//! - *Log matching*: an entry's index and term tell its content and the entry before it.
//! - *Leader completeness*: a new leader has every committed entry.
//! - *State machine safety*: what one server has committed, no other contradicts, whatever crashes.
//! - *Durability*: a committed entry is in the logs of a majority at all times, a crash included; nobody
//!   confirms what is not on its disk.
//! - *Commitment*: a leader commits only by an entry of its own term (thesis 3.6.2).
//! - Terms and commit indexes never go back.
//!
//! The watcher mirrors each log as terms and checksums, and never asks one agent about another.

use std::collections::{BTreeMap, VecDeque};

use lictor_core::id::{Index, Term, WriteSeq};
use lictor_core::peer::{Body, Envelope};
use lictor_core::raft::{Entry, Kind, Payload, Status};

use super::{Verdict, ensure};
use crate::host::host_of;

/// An entry as the watcher remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) term: Term,
    /// Of its content.
    pub(crate) sum: u64,
}

impl Mark {
    pub(crate) fn of(entry: &Entry) -> Self {
        let sum = match &entry.payload {
            Payload::Noop => 1,
            Payload::Configuration(configuration) => {
                2 << 32 | u64::from(crc32c::crc32c(configuration.to_string().as_bytes()))
            }
            Payload::Command(bytes) => 3 << 32 ^ (bytes.len() as u64) << 34 ^ u64::from(crc32c::crc32c(bytes)),
        };
        Self { term: entry.term, sum }
    }
}

/// What was last seen of one server.
#[derive(Clone, Debug, Default)]
struct Server {
    alive: bool,
    term: Term,
    leads: bool,
    commit: Index,
    log: Vec<Mark>,
    /// Its log up to here is on its disk.
    durable: Index,
    /// Writes on their way to its disk, with how far the log is durable with each.
    writes: VecDeque<(WriteSeq, Index)>,
    /// The highest term in which it promised something that must survive a crash.
    promised: Term,
}

/// All servers, and what the cluster has agreed on.
#[derive(Debug)]
pub(crate) struct Watcher {
    servers: Vec<Server>,
    /// For each index, the entries that were ever seen there, with the term of the entry before.
    seen: Vec<Vec<(Mark, Term)>>,
    committed: Vec<Mark>,
    leaders: BTreeMap<Term, usize>,
    /// For each term, who voted for whom.
    votes: BTreeMap<Term, Vec<Option<usize>>>,
    /// How many leaders there were.
    pub(crate) elections: u64,
    /// A leader with a log longer than what is committed took over.
    pub(crate) inherited: u64,
    /// Entries that were cut off a log.
    pub(crate) cut_off: u64,
}

/// What can be read of an agent's log.
pub(crate) trait ReadLog {
    /// The entry at an index.
    fn entry(&self, index: Index) -> Option<&Entry>;
}

impl ReadLog for lictor_core::raft::Log {
    fn entry(&self, index: Index) -> Option<&Entry> {
        self.get(index)
    }
}

impl ReadLog for [Entry] {
    fn entry(&self, index: Index) -> Option<&Entry> {
        self.get(usize::try_from(index.0.checked_sub(1)?).ok()?)
    }
}

impl Watcher {
    pub(crate) fn new(servers: usize) -> Self {
        Self {
            servers: vec![Server::default(); servers],
            seen: Vec::new(),
            committed: Vec::new(),
            leaders: BTreeMap::new(),
            votes: BTreeMap::new(),
            elections: 0,
            inherited: 0,
            cut_off: 0,
        }
    }

    /// How much is committed, as far as anyone knows.
    pub(crate) fn commit(&self) -> Index {
        Index(self.committed.len() as u64)
    }

    /// A server has started on what its disk held. Returns what became committed by it, as indexes.
    pub(crate) fn started(
        &mut self,
        host: usize,
        status: &Status,
        log: &(impl ReadLog + ?Sized),
    ) -> Result<std::ops::Range<u64>, String> {
        let server = &mut self.servers[host];
        ensure!(
            status.term >= server.promised,
            "server {host} forgot a promise: it had voted or confirmed in term {}, and comes back in term {}",
            server.promised,
            status.term
        );
        let (promised, log_before) = (server.promised, std::mem::take(&mut server.log));
        *server = Server { alive: true, promised, log: log_before, ..Server::default() };
        let fresh = self.stepped(host, status, log)?;
        self.servers[host].durable = status.durable;
        self.last_committed_is_kept()?;
        Ok(fresh)
    }

    /// A server has stopped, and this is what its disk holds now.
    pub(crate) fn stopped(&mut self, host: usize, term: Term, entries: &[Entry]) -> Verdict {
        self.remember(host, term, entries)?;
        self.last_committed_is_kept()
    }

    /// All servers have stopped at once, and this is what their disks hold now.
    pub(crate) fn all_stopped(&mut self, kept: &[(Term, Vec<Entry>)]) -> Verdict {
        for (host, (term, entries)) in kept.iter().enumerate() {
            self.remember(host, *term, entries)?;
        }
        self.last_committed_is_kept()
    }

    fn remember(&mut self, host: usize, term: Term, entries: &[Entry]) -> Verdict {
        let server = &mut self.servers[host];
        server.alive = false;
        server.leads = false;
        server.writes.clear();
        server.log = entries.iter().map(Mark::of).collect();
        ensure!(
            term >= server.promised,
            "server {host} lost a promise in a crash: it had voted or confirmed in term {}, its disk knows term {term}",
            server.promised
        );
        Ok(())
    }

    /// An agent has taken a step. Returns what became committed by it, as indexes.
    pub(crate) fn stepped(
        &mut self,
        host: usize,
        status: &Status,
        log: &(impl ReadLog + ?Sized),
    ) -> Result<std::ops::Range<u64>, String> {
        let leads = status.role == "leader";
        let before = &self.servers[host];
        ensure!(
            status.term >= before.term,
            "the term of server {host} went back from {} to {}",
            before.term,
            status.term
        );
        ensure!(
            status.commit >= before.commit,
            "the commit index of server {host} went back from {} to {}",
            before.commit,
            status.commit
        );
        let led_before = before.leads && before.term == status.term;
        self.follow_log(host, status, log, led_before)?;
        if leads {
            self.check_leader(host, status.term, led_before)?;
        }
        let server = &mut self.servers[host];
        let (old_commit, commit) = (server.commit, status.commit);
        (server.term, server.leads, server.commit) = (status.term, leads, commit);
        ensure!(
            commit <= status.last.index && status.applied <= commit,
            "server {host} has applied {} and committed {commit} of a log that ends at {}",
            status.applied,
            status.last.index
        );
        if commit == old_commit {
            return Ok(0..0);
        }
        if led_before {
            let by = self.servers[host].log[commit.0 as usize - 1].term;
            ensure!(
                by == status.term,
                "server {host}, leader of term {}, committed up to entry {commit} of term {by} by counting",
                status.term
            );
        }
        self.check_commit(host, old_commit, commit)
    }

    /// Mirrors what changed in a log.
    fn follow_log(&mut self, host: usize, status: &Status, log: &(impl ReadLog + ?Sized), led_before: bool) -> Verdict {
        let server = &mut self.servers[host];
        let length = status.last.index.0 as usize;
        let mark = |at: usize| log.entry(Index(at as u64 + 1)).map(Mark::of);
        // Where terms agree, log matching says that all before agrees too; that is checked when entries come.
        let mut agreed = server.log.len().min(length);
        while agreed > 0 && log.entry(Index(agreed as u64)).is_none_or(|e| e.term != server.log[agreed - 1].term) {
            agreed -= 1;
        }
        if agreed < server.log.len() {
            ensure!(!led_before, "server {host} leads and cut its own log from {} to {agreed}", server.log.len());
            self.cut_off += (server.log.len() - agreed) as u64;
            server.log.truncate(agreed);
            server.durable = server.durable.min(Index(agreed as u64));
            for (_, covers) in &mut server.writes {
                *covers = (*covers).min(Index(agreed as u64));
            }
        }
        for at in agreed..length {
            let Some(mark) = mark(at) else {
                return Err(format!("the log of server {host} has no entry {} and ends at {length}", at + 1));
            };
            let before = at.checked_sub(1).map_or(Term(0), |before| server.log[before].term);
            ensure!(
                before <= mark.term,
                "the terms in the log of server {host} go back from {before} to {} at {}",
                mark.term,
                at + 1
            );
            server.log.push(mark);
            if self.seen.len() <= at {
                self.seen.resize(at + 1, Vec::new());
            }
            match self.seen[at].iter().find(|(other, _)| other.term == mark.term) {
                Some((other, other_before)) => ensure!(
                    *other == mark && *other_before == before,
                    "log matching: entry {} of term {} is not the same on server {host} as it was elsewhere",
                    at + 1,
                    mark.term
                ),
                None => self.seen[at].push((mark, before)),
            }
        }
        Ok(())
    }

    fn check_leader(&mut self, host: usize, term: Term, led_before: bool) -> Verdict {
        if led_before {
            return Ok(());
        }
        match self.leaders.insert(term, host) {
            Some(other) if other != host => return Err(format!("servers {other} and {host} both lead term {term}")),
            Some(_) => return Err(format!("server {host} became leader of term {term} a second time")),
            None => self.elections += 1,
        }
        let votes = self.votes.get(&term).map_or(0, |votes| votes.iter().filter(|vote| **vote == Some(host)).count());
        // Alone, it need not ask.
        let majority = self.majority();
        ensure!(
            votes >= majority || self.servers.len() == 1,
            "server {host} leads term {term} with {votes} votes where {majority} are a majority"
        );
        let log = &self.servers[host].log;
        self.inherited += u64::from(log.len() > self.committed.len() + 1);
        if let Some(last) = self.committed.last() {
            ensure!(
                log.get(self.committed.len() - 1) == Some(last),
                "leader completeness: server {host} leads term {term} without committed entry {} of term {}",
                self.committed.len(),
                last.term
            );
        }
        Ok(())
    }

    fn check_commit(&mut self, host: usize, from: Index, to: Index) -> Result<std::ops::Range<u64>, String> {
        let log = &self.servers[host].log;
        let (from, until) = (from.0 as usize, to.0 as usize);
        let same = log[from..until].iter().zip(self.committed.get(from..).unwrap_or_default());
        for (at, (mark, elsewhere)) in (from + 1..).zip(same) {
            ensure!(
                mark == elsewhere,
                "state machine safety: server {host} committed entry {at} of term {}, elsewhere it is of term {}",
                mark.term,
                elsewhere.term
            );
        }
        let known = self.committed.len();
        let fresh = known as u64 + 1..to.0 + 1;
        if until > known {
            let fresh = log[known..until].to_vec();
            self.committed.extend(fresh);
            self.last_committed_is_kept()?;
        }
        Ok(fresh)
    }

    /// The last committed entry is in the logs of a majority, those that are down included.
    fn last_committed_is_kept(&self) -> Verdict {
        let Some(last) = self.committed.last() else { return Ok(()) };
        let at = self.committed.len() - 1;
        let kept = self.servers.iter().filter(|server| server.log.get(at) == Some(last)).count();
        ensure!(
            kept >= self.majority(),
            "durability: committed entry {} of term {} is left in {kept} of {} logs",
            at + 1,
            last.term,
            self.servers.len()
        );
        Ok(())
    }

    fn majority(&self) -> usize {
        self.servers.len() / 2 + 1
    }

    /// A server hands a write to its disk: its log as it is now.
    pub(crate) fn writing(&mut self, host: usize, seq: WriteSeq) {
        let server = &mut self.servers[host];
        server.writes.push_back((seq, Index(server.log.len() as u64)));
    }

    /// A server's disk has everything up to this write.
    pub(crate) fn wrote(&mut self, host: usize, seq: WriteSeq) {
        let server = &mut self.servers[host];
        while let Some((_, covers)) = server.writes.pop_front_if(|(write, _)| *write <= seq) {
            server.durable = server.durable.max(covers);
        }
    }

    /// A server says something to another. It has taken its step before.
    pub(crate) fn sent(&mut self, host: usize, envelope: &Envelope) -> Verdict {
        let Body::Raft(message) = &envelope.body else { return Ok(()) };
        match message.kind {
            Kind::VoteReply { granted: true } => self.voted(host, host_of(envelope.to), message.term),
            Kind::Vote { .. } => self.voted(host, host, message.term),
            Kind::Appended { matched } => {
                let server = &mut self.servers[host];
                server.promised = server.promised.max(message.term);
                ensure!(
                    matched <= server.durable,
                    "server {host} confirms entries up to {matched}, its disk has them up to {}",
                    server.durable
                );
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn voted(&mut self, voter: usize, candidate: usize, term: Term) -> Verdict {
        let servers = self.servers.len();
        let server = &mut self.servers[voter];
        server.promised = server.promised.max(term);
        let vote = &mut self.votes.entry(term).or_insert_with(|| vec![None; servers])[voter];
        match vote.replace(candidate) {
            Some(other) if other != candidate => {
                Err(format!("server {voter} voted for both {other} and {candidate} in term {term}"))
            }
            _ => Ok(()),
        }
    }

    /// At the end, when nothing happens any more: all logs are the same.
    pub(crate) fn all_agree(&self) -> Verdict {
        let first = &self.servers[0];
        for (host, server) in self.servers.iter().enumerate() {
            ensure!(server.alive, "server {host} is down");
            ensure!(
                server.log == first.log && server.commit == first.commit,
                "the logs of servers 0 and {host} differ: {} and {} entries, committed up to {} and {}",
                first.log.len(),
                server.log.len(),
                first.commit,
                server.commit
            );
        }
        Ok(())
    }

    /// Who leads the highest term, of those that are alive.
    pub(crate) fn leader(&self) -> Option<usize> {
        let leading = self.servers.iter().enumerate().filter(|(_, server)| server.alive && server.leads);
        leading.max_by_key(|(_, server)| server.term).map(|(host, _)| host)
    }
}

#[cfg(test)]
mod tests;
