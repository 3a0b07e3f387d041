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
        Self { leader, term, position, since, decoder, next: 0, durable: 0, bytes: 0, complete: false }
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

    /// All pieces before this one are durable.
    pub(super) const fn durable(&self) -> u32 {
        self.durable
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
        ops.push(FileOp::Write { file: file.clone(), offset, bytes: piece.bytes });
        if piece.last {
            ops.push(FileOp::Rename { file, to: snapshot::file_name(self.position) });
        }
        Ok(Taken::Write(ops))
    }

    /// All pieces before `next` are durable. Returns whether that is the whole snapshot.
    pub(super) fn written(&mut self, next: u32) -> bool {
        self.durable = next;
        self.complete && next == self.next
    }

    /// The snapshot, once it is whole.
    pub(super) fn finish(self) -> Result<Snapshot, Damaged> {
        self.decoder.finish()
    }
}
