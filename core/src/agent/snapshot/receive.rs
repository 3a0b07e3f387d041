//! A leader's snapshot on its way to our disk.

use crate::file::FileOp;
use crate::id::{JobId, PeerId, Term};
use crate::raft::{Piece, Position};
use crate::snapshot::{self, Damaged, Decoder, Snapshot};
use crate::store::image;

/// Takes a snapshot piece by piece: into a draft on the disk, and into a store that will take the place of ours.
#[derive(Debug)]
pub(super) struct Receiver {
    leader: PeerId,
    term: Term,
    position: Position,
    /// Jobs up to this one are not ours, but of an earlier attempt.
    since: JobId,
    decoder: Decoder,
    /// The next piece.
    next: u32,
    /// All pieces before this one are durable.
    durable: u32,
    bytes: u64,
    /// The last piece has come.
    complete: bool,
    /// What was read, once it is whole.
    snapshot: Option<Snapshot>,
}

/// What is to be done with a piece.
pub(super) enum Taken {
    /// It is written; these are the changes.
    Write(Vec<FileOp>),
    /// It is there already, or one before it is missing: the leader is told where we stand.
    OutOfOrder,
}

impl Receiver {
    pub(super) fn new(leader: PeerId, term: Term, position: Position, since: JobId) -> Self {
        let decoder = Decoder::new();
        let next = 0;
        Self { leader, term, position, since, decoder, next, durable: 0, bytes: 0, complete: false, snapshot: None }
    }

    /// Whether this is how the snapshot at `position` comes, from this leader.
    pub(super) fn is_of(&self, leader: PeerId, term: Term, position: Position) -> bool {
        (self.leader, self.term, self.position) == (leader, term, position)
    }

    /// Whether a job was for a piece of this very attempt.
    pub(super) fn asked_for(&self, job: JobId) -> bool {
        job > self.since
    }

    /// The entry that it ends with.
    pub(super) const fn position(&self) -> Position {
        self.position
    }

    /// In which term it comes.
    pub(super) const fn term(&self) -> Term {
        self.term
    }

    /// Who sends it.
    pub(super) const fn leader(&self) -> PeerId {
        self.leader
    }

    /// The leader need not send the pieces before this one again. The last one is never among them: the leader sends it
    /// until it hears that the snapshot is installed, for that word, too, may get lost.
    pub(super) const fn acknowledged(&self) -> u32 {
        if self.complete && self.durable == self.next { self.durable.saturating_sub(1) } else { self.durable }
    }

    /// What it takes on the disk.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes a piece.
    pub(super) fn take(&mut self, piece: Piece) -> Result<Taken, Damaged> {
        if piece.number != self.next || self.complete {
            return Ok(Taken::OutOfOrder);
        }
        self.decoder.feed(&piece.bytes)?;
        if piece.last && !self.decoder.is_complete() {
            return Err(image::Damaged::CutShort { piece: piece.number }.into());
        }
        let file = snapshot::RECEIVED.to_owned();
        let mut ops = Vec::new();
        if piece.number == 0 {
            // Of an earlier attempt that was given up.
            ops.push(FileOp::Remove { file: file.clone() });
        }
        let offset = self.bytes;
        self.bytes += piece.bytes.len() as u64;
        self.next += 1;
        self.complete = piece.last;
        ops.push(FileOp::Write { file, offset, bytes: piece.bytes });
        Ok(Taken::Write(ops))
    }

    /// All pieces before `next` are durable. Once that is all of them, gives what lends the draft its name. That must wait
    /// until then, and until the snapshot is known to be what was announced: recovery trusts the name.
    pub(super) fn written(&mut self, next: u32) -> Result<Option<FileOp>, String> {
        self.durable = next;
        if !self.complete || next != self.next {
            return Ok(None);
        }
        let snapshot = std::mem::take(&mut self.decoder).finish().map_err(|damaged| damaged.to_string())?;
        if snapshot.meta.position != self.position {
            return Err("it is not the snapshot that was announced".to_owned());
        }
        self.snapshot = Some(snapshot);
        let file = snapshot::RECEIVED.to_owned();
        Ok(Some(FileOp::Rename { file, to: snapshot::file_name(self.position) }))
    }

    /// The snapshot, once it was whole and was given its name.
    pub(super) fn into_snapshot(self) -> Option<Snapshot> {
        self.snapshot
    }
}
