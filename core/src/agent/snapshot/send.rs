//! Snapshots on their way to followers.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::id::PeerId;
use crate::raft::{Position, Raft, Role, SnapshotMeta};
use crate::snapshot::Encoder;
use crate::store::Store;
use crate::time::Duration;

/// One snapshot for one follower. It is a clone of the store, read piece by piece: nothing of it is on our disk.
#[derive(Debug)]
struct Sender {
    position: Position,
    /// Where each piece that may be wanted (again) begins: its number, and the encoder that will write it next.
    places: VecDeque<(u32, Encoder)>,
}

/// All snapshots on their way.
#[derive(Debug, Default)]
pub(super) struct Senders {
    by_peer: BTreeMap<PeerId, Sender>,
}

impl Senders {
    /// Begins a snapshot for a follower.
    pub(super) fn begin(&mut self, peer: PeerId, meta: &SnapshotMeta, store: Store, piece_bytes: usize) {
        let places = VecDeque::from([(0, Encoder::new(meta, store, piece_bytes))]);
        self.by_peer.insert(peer, Sender { position: meta.position, places });
    }

    /// A piece, and whether it is the last; `None` if the follower must begin with another snapshot. Those before `acked`
    /// will not be asked for again.
    pub(super) fn piece(&mut self, peer: PeerId, number: u32, acked: u32) -> Option<(Bytes, bool)> {
        let sender = self.by_peer.get_mut(&peer)?;
        while sender.places.pop_front_if(|(place, _)| *place < acked.min(number)).is_some() {}
        let at = sender.places.iter().position(|(place, _)| *place == number)?;
        let mut encoder = sender.places[at].1.clone();
        let bytes = encoder.next_piece()?;
        let is_last = encoder.is_finished();
        if !is_last && at + 1 == sender.places.len() {
            sender.places.push_back((number + 1, encoder));
        }
        Some((bytes, is_last))
    }

    /// Forgets the snapshots that are not wanted any more, and those for followers that were not heard for `patience`:
    /// each keeps alive what the store was when it began. A follower that comes back is sent another.
    /// Gives the clones of the store that are not needed any more.
    pub(super) fn retain_wanted(&mut self, raft: &Raft, patience: Duration) -> Vec<Store> {
        if self.by_peer.is_empty() {
            return Vec::new();
        }
        let heard = |peer: &PeerId| {
            let Role::Leader(leader) = raft.role() else { return false };
            leader.progress.get(peer).is_some_and(|progress| raft.now().since(progress.heard) < patience)
        };
        let wanted = |peer: &PeerId, sender: &mut Sender| {
            heard(peer) && raft.snapshot_on_its_way(*peer) == Some(sender.position)
        };
        let gone = self.by_peer.extract_if(.., |peer, sender| !wanted(peer, sender));
        gone.filter_map(|(_, mut sender)| Some(sender.places.pop_front()?.1.into_store())).collect()
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_peer.len()
    }
}
