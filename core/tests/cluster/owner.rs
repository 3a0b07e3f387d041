//! What raft's owner does about snapshots: it cuts them, sends them in pieces and receives them.

use std::collections::BTreeMap;

use bytes::Bytes;
use lictor_core::id::{PeerId, Term};
use lictor_core::raft::{Due, Piece, Position, Raft};

use super::disk::{Disk, Snapshot};

/// Into how many pieces a snapshot is cut.
const PIECES: usize = 4;
/// How many of them are on their way at once.
const WINDOW: u32 = 2;

/// Snapshots on their way from and to a node.
#[derive(Default)]
pub(crate) struct Transfers {
    sending: BTreeMap<PeerId, Vec<Bytes>>,
    receiving: Option<Receiving>,
}

struct Receiving {
    what: (PeerId, Term, Position),
    pieces: Vec<Bytes>,
}

pub(crate) fn cut(raft: &Raft, applied: &[Position]) -> Snapshot {
    Snapshot { meta: raft.snapshot_meta(), applied: applied.to_vec() }
}

impl Transfers {
    /// Takes what came. Returns what should be told, and the snapshot that took the place of the log, if one did.
    pub(crate) fn receive(&mut self, raft: &mut Raft, disk: &mut Disk) -> (Vec<String>, Option<Snapshot>) {
        let (mut lines, mut installed) = (Vec::new(), None);
        for (leader, piece) in raft.take_pieces() {
            let what = (leader, raft.status().term, piece.snapshot);
            if self.receiving.as_ref().is_none_or(|receiving| receiving.what != what) {
                self.receiving = Some(Receiving { what, pieces: Vec::new() });
            }
            let Some(is_last) = self.take(piece) else {
                raft.acknowledge_pieces(leader, what.2, self.have());
                continue;
            };
            raft.acknowledge_pieces(leader, what.2, self.have());
            if is_last {
                let whole = self.receiving.take().unwrap().pieces.concat();
                let snapshot: Snapshot = serde_json::from_slice(&whole).unwrap();
                // On the disk first, as the owner promises.
                disk.snapshot = Some(snapshot.clone());
                let done = raft.install(&snapshot.meta);
                let says = if done { "installs" } else { "has no use for" };
                lines.push(format!("{says} the snapshot at {}", snapshot.meta.position));
                installed = done.then_some(snapshot).or(installed);
            }
        }
        (lines, installed)
    }

    fn have(&self) -> u32 {
        self.receiving.as_ref().map_or(0, |receiving| u32::try_from(receiving.pieces.len()).unwrap())
    }

    /// Whether it was the last piece; nothing if it was not the next one.
    fn take(&mut self, piece: Piece) -> Option<bool> {
        if piece.number != self.have() {
            return None;
        }
        self.receiving.as_mut()?.pieces.push(piece.bytes);
        Some(piece.last)
    }

    /// Gives raft the pieces that followers are due.
    pub(crate) fn send(&mut self, raft: &mut Raft, applied: &[Position]) {
        while let Some(due) = raft.poll_snapshot(WINDOW) {
            match due {
                Due::Begin(peer) => {
                    let snapshot = cut(raft, applied);
                    let whole = serde_json::to_vec(&snapshot).unwrap();
                    let pieces = whole.chunks(whole.len().div_ceil(PIECES)).map(Bytes::copy_from_slice).collect();
                    self.sending.insert(peer, pieces);
                    raft.begin_transfer(peer, Some(snapshot.meta.position));
                }
                Due::Piece { peer, number, .. } => {
                    let pieces = &self.sending[&peer];
                    let number = usize::try_from(number).unwrap();
                    raft.send_piece(peer, pieces[number].clone(), number + 1 == pieces.len());
                }
            }
        }
    }
}
