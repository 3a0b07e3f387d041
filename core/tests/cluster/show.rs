//! What scripts are shown, and what must hold whatever they do.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use lictor_core::id::{Index, PeerId};
use lictor_core::raft::{Entry, News, Payload, Position, Raft, Role};
use lictor_core::time::Instant;

use super::Cluster;

impl Cluster {
    pub(crate) fn show_status(&mut self) {
        let lines: Vec<String> = self
            .nodes
            .iter()
            .map(|(id, node)| match &node.raft {
                Some(raft) => format!("{id} {}", raft.status()),
                None => format!("{id} down"),
            })
            .collect();
        lines.iter().for_each(|line| self.say(line));
    }

    pub(crate) fn show_log(&mut self, id: PeerId) {
        let mut line = format!("{id}");
        let Some(raft) = self.raft(id) else { return };
        if raft.log().base() != Position::START {
            let _ = write!(line, " {}:snapshot", raft.log().base());
        }
        for entry in raft.log().from(Index(1)) {
            let text = match &entry.payload {
                Payload::Noop => "noop".into(),
                Payload::Configuration(_) => "members".into(),
                Payload::Command(value) => String::from_utf8_lossy(value),
            };
            let _ = write!(line, " {}:{text}", entry.position());
        }
        self.say(&line);
    }

    pub(crate) fn show_members(&mut self, id: PeerId) {
        let Some(raft) = self.raft(id) else { return };
        let (at, forced) = (raft.membership().latest_index(), raft.forced_members().is_some());
        let named = if forced { "by order".to_owned() } else { format!("index={at}") };
        let line = format!("{id} {named} {}", raft.members());
        self.say(&line);
    }

    pub(crate) fn show_address(&mut self, id: PeerId, of: PeerId) {
        let address = self.raft(id).and_then(|raft| raft.address(of));
        self.say(&format!("{id} finds {of} at {}", address.map_or("no address".to_owned(), |at| at.to_string())));
    }

    pub(crate) fn show_progress(&mut self, id: PeerId) {
        let Some(Role::Leader(leader)) = self.raft(id).map(|raft| raft.role().clone()) else {
            return self.say(&format!("{id} does not lead"));
        };
        for (peer, progress) in &leader.progress {
            self.say(&format!("{id} sees {peer} {progress}"));
        }
    }

    pub(crate) fn show_lease(&mut self, id: PeerId) {
        let now = self.now;
        let Some(raft) = self.raft(id) else { return };
        let (until, round) = (raft.lease_until(), raft.confirmed_round());
        let lease = match until {
            Instant::NEVER => "for ever".to_owned(),
            until if until <= now => "none".to_owned(),
            until => format!("{:?} more", until.since(now)),
        };
        let round = round.map_or("unknown".to_owned(), |round| round.to_string());
        self.say(&format!("{id} lease: {lease}, confirmed round: {round}"));
    }

    pub(super) fn tell(&mut self, id: PeerId, news: News) -> Option<String> {
        match news {
            News::BecameLeader { term } => {
                let first = *self.leaders.entry(term).or_insert(id);
                assert_eq!(first, id, "two leaders in term {term}");
                Some(format!("{id} leads term {term}"))
            }
            News::SteppedDown { term, reason } => Some(format!("{id} resigns from term {term}: {reason:?}")),
            News::Campaigning { term } => Some(format!("{id} campaigns for term {term}")),
            News::LeaderChanged { .. } => None,
        }
    }

    /// What must hold after every command, beside what `flush` asserts.
    pub(crate) fn check(&self) {
        let up: Vec<(&PeerId, &Raft)> =
            self.nodes.iter().filter_map(|(id, node)| Some((id, node.raft.as_ref()?))).collect();
        self.check_logs(&up);
        for (id, raft) in &up {
            let (status, disk) = (raft.status(), &self.nodes[id].disk);
            assert!(status.durable <= status.last.index, "{id} {status}");
            for entry in raft.log().from(Index(1)).take_while(|entry| entry.index <= status.durable) {
                assert!(disk.holds(entry.position()), "{id} takes {} for durable", entry.position());
            }
            if raft.lease_until() > self.now {
                let rival = up.iter().find(|(_, other)| other.is_leader() && other.status().term > status.term);
                assert!(rival.is_none(), "{id} holds a lease, and {rival:?} leads");
            }
        }
    }

    /// Log matching (thesis 3.5).
    fn check_logs(&self, up: &[(&PeerId, &Raft)]) {
        let positions = |raft: &Raft| -> BTreeMap<Index, Position> {
            let base = raft.log().base();
            let entries = raft.log().from(Index(1)).map(Entry::position);
            std::iter::once(base).chain(entries).map(|position| (position.index, position)).collect()
        };
        let logs: Vec<_> = up.iter().map(|(id, raft)| (id, positions(raft))).collect();
        for (a, ours) in &logs {
            for (b, theirs) in &logs {
                let both = ours.iter().filter_map(|(index, position)| Some((position, theirs.get(index)?)));
                let agree: Vec<bool> = both.map(|(x, y)| x == y).collect();
                let shared = agree.iter().rposition(|agree| *agree).map_or(0, |n| n + 1);
                assert!(agree[..shared].iter().all(|agree| *agree), "{a} and {b} share an entry but not all before");
            }
        }
    }
}
