//! Who takes part. The configuration is part of the log, and a server uses the latest one that its log
//! holds, committed or not (thesis 4.1).

use std::sync::Arc;

use super::configuration::Configuration;
use super::log::{Entry, Log, Payload};
use super::snapshot::SnapshotMeta;
use crate::id::{Index, Term};

/// The configurations in the log, so that a cut brings the one before back.
///
/// Invariants: `history` is ordered by index, all at or before `seen`; after any configuration it holds the one that was
/// in force before, back to what is applied.
#[derive(Clone, Debug, Default)]
pub struct Membership {
    history: Vec<Named>,
    /// Entries up to here were looked at.
    seen: Index,
    nobody: Arc<Configuration>,
    /// By order of the operator, instead of all that was named in this term or before (`raft/peers.json`).
    forced: Option<(Term, Arc<Configuration>)>,
}

/// A configuration, and the entry that named it.
#[derive(Clone, Debug)]
struct Named {
    at: Index,
    by: Term,
    configuration: Arc<Configuration>,
}

impl Membership {
    /// The configuration in force: the latest in the log.
    #[must_use]
    pub fn latest(&self) -> &Arc<Configuration> {
        match (self.history.last(), &self.forced) {
            (Some(named), Some((term, _))) if named.by > *term => &named.configuration,
            (_, Some((_, forced))) => forced,
            (Some(named), None) => &named.configuration,
            (None, None) => &self.nobody,
        }
    }

    /// The configuration in the log at `index`, with the entry that named it; index 0 if none did.
    #[must_use]
    pub fn at(&self, index: Index) -> (Index, &Arc<Configuration>) {
        let known = self.history.iter().rev().find(|named| named.at <= index);
        known.map_or((Index(0), &self.nobody), |named| (named.at, &named.configuration))
    }

    /// The entry that named the latest configuration; 0 if none did.
    #[must_use]
    pub fn latest_index(&self) -> Index {
        self.history.last().map_or(Index(0), |named| named.at)
    }

    /// Whether the operator's order is in force, and not yet the log's.
    #[must_use]
    pub fn forced(&self) -> Option<&Arc<Configuration>> {
        self.forced.as_ref().map(|(_, forced)| forced).filter(|forced| Arc::ptr_eq(forced, self.latest()))
    }

    /// The operator orders that these be the members, whatever entries of this or earlier terms say.
    pub fn force(&mut self, configuration: Configuration, term: Term) {
        self.forced = Some((term, Arc::new(configuration)));
    }

    /// Whether `id` has a vote, or had one that nothing committed took. Such a server must be ready to lead: if only its log
    /// holds the entry that removes it, nobody else can be elected (thesis 4.2.2).
    #[must_use]
    pub fn may_lead(&self, id: crate::id::PeerId, commit: Index) -> bool {
        if self.latest().is_voter(id) || self.forced().is_some() {
            return self.latest().is_voter(id);
        }
        let in_force = self.history.iter().rposition(|named| named.at <= commit).unwrap_or(0);
        self.history.iter().skip(in_force).any(|named| named.configuration.is_voter(id))
    }

    /// Where `id` is, or was when it last was a member.
    #[must_use]
    pub fn address(&self, id: crate::id::PeerId) -> Option<std::net::SocketAddr> {
        let earlier = self.history.iter().rev().map(|named| &named.configuration);
        std::iter::once(self.latest()).chain(earlier).find_map(|configuration| configuration.address(id))
    }

    /// An entry joined the log.
    pub fn appended(&mut self, entry: &Entry) {
        self.seen = entry.index;
        if let Payload::Configuration(configuration) = &entry.payload {
            let configuration = Arc::new(configuration.clone());
            self.history.push(Named { at: entry.index, by: entry.term, configuration });
        }
    }

    /// Looks at the entries that joined the log since the last time.
    pub fn catch_up(&mut self, log: &Log) {
        for entry in log.from(self.seen.next()) {
            self.appended(entry);
        }
    }

    /// The entries from `index` on were cut off.
    pub fn truncated(&mut self, index: Index) {
        self.history.retain(|named| named.at < index);
        self.seen = self.seen.min(index.prev());
    }

    /// Everything up to `index` is committed and applied: what was in force before cannot come back, and nobody asks for it.
    pub fn committed(&mut self, index: Index) {
        let in_force = self.history.iter().rposition(|named| named.at <= index).unwrap_or(0);
        self.history.drain(..in_force);
    }

    /// A snapshot took the place of the log up to its position; the entries behind it stayed only if `follows`.
    pub fn installed(&mut self, meta: &SnapshotMeta, follows: bool) {
        let position = meta.position;
        self.history.retain(|named| follows && named.at > position.index);
        // Nobody asks for the term of a configuration that is committed, but whether it is newer than an order.
        let configuration = Arc::new(meta.configuration.clone());
        self.history.insert(0, Named { at: meta.configuration_index, by: position.term, configuration });
        if !follows {
            self.seen = position.index;
        }
        self.seen = self.seen.max(position.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::PeerId;
    use crate::raft::Position;

    fn members(ids: &[u64]) -> Configuration {
        Configuration::new(ids.iter().map(|id| (PeerId::numbered(*id), "127.0.0.1:8300".parse().unwrap())))
    }

    fn entry(index: u64, term: u64, ids: &[u64]) -> Entry {
        Entry { index: Index(index), term: Term(term), payload: Payload::Configuration(members(ids)) }
    }

    #[test]
    fn a_cut_brings_the_configuration_before_back_and_a_commit_forgets_it() {
        let mut membership = Membership::default();
        membership.appended(&entry(1, 1, &[1, 2, 3]));
        membership.appended(&entry(5, 2, &[1, 2, 3, 4]));
        assert_eq!(**membership.latest(), members(&[1, 2, 3, 4]));
        membership.committed(Index(4));
        membership.truncated(Index(5));
        assert_eq!((membership.latest_index(), &**membership.latest()), (Index(1), &members(&[1, 2, 3])));
        membership.appended(&entry(5, 3, &[1, 2]));
        membership.committed(Index(5));
        assert_eq!(membership.at(Index(4)), (Index(0), &Arc::default()));
        assert_eq!(membership.at(Index(7)).0, Index(5));
    }

    #[test]
    fn an_order_holds_until_a_later_term_names_members() {
        let mut membership = Membership::default();
        membership.appended(&entry(1, 1, &[1, 2, 3]));
        membership.force(members(&[1]), Term(4));
        assert_eq!(**membership.latest(), members(&[1]));
        membership.appended(&entry(9, 4, &[1, 2, 3, 4]));
        assert_eq!(**membership.latest(), members(&[1]), "what another server had from before");
        assert!(membership.forced().is_some());
        membership.appended(&entry(10, 5, &[1]));
        assert_eq!(membership.forced(), None);
        membership.truncated(Index(10));
        assert!(membership.forced().is_some());
    }

    #[test]
    fn a_snapshot_brings_its_configuration_along() {
        let meta = SnapshotMeta {
            position: Position { index: Index(8), term: Term(3) },
            configuration: members(&[2, 3, 4]),
            configuration_index: Index(6),
        };
        for (follows, latest) in [(false, members(&[2, 3, 4])), (true, members(&[3, 4]))] {
            let mut membership = Membership::default();
            membership.appended(&entry(1, 1, &[1, 2, 3]));
            membership.appended(&entry(9, 3, &[3, 4]));
            membership.installed(&meta, follows);
            assert_eq!(**membership.latest(), latest);
            assert_eq!(membership.at(Index(8)), (Index(6), &Arc::new(members(&[2, 3, 4]))));
        }
    }
}
