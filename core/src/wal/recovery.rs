//! Reads the log. The [module's page](super) says what a crash may leave behind and what it may not.

use std::collections::VecDeque;

use bytes::Bytes;

use super::format::{self, FrameHeader, HEADER_BYTES, SegmentHeader, Slot};
use super::replay::{Fit, Replay};
use super::{Corrupt, LogEnd, OldSegment, Problem, Recovered, Segment, Standing};
use crate::file::{FileName, FileOp};
use crate::id::{Index, WriteSeq};
use crate::raft::Position;

/// Reads segments one after the other, so that no more than one need be in memory, and changes nothing.
#[derive(Debug, Default)]
pub struct Recovery {
    /// What the log says so far.
    replay: Replay,
    /// Where it ends so far. `current` is the last segment that holds a valid write, or the first one.
    end: LogEnd,
    /// The segment that was read first; 0 if none was.
    first_read: u64,
    /// The segment that was read last.
    last_read: u64,
    /// How the current segment ends.
    tail: Tail,
    /// A segment was read that does not go on with the log: none may follow.
    past_end: bool,
    /// Segments that hold only the rest of an unfinished group of writes.
    leftovers: Vec<FileName>,
    /// The highest write that some later one proves to have been durable.
    proven: WriteSeq,
    /// The valid writes after that, with their offsets in the segment at hand.
    unproven: VecDeque<(WriteSeq, usize)>,
    /// The ends of segments with such writes, each with the last write in it.
    rewrites: Vec<(WriteSeq, FileOp)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tail {
    /// There is a frame behind the last valid one, but not all of its body.
    torn: bool,
    /// There is anything but zeros behind the last valid frame.
    dirty: bool,
}

/// What stands at a place where a frame should begin.
enum Found<'a> {
    End,
    Torn { end: usize },
    Frame { header: FrameHeader, body: &'a [u8], end: usize },
}

impl Recovery {
    /// Nothing read yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads one segment, a file for whose name [`segment_number`](super::segment_number) gives a number. They
    /// must be given in the order of their names.
    ///
    /// # Errors
    /// If there is damage that no crash explains.
    pub fn segment(&mut self, name: &str, bytes: &[u8]) -> Result<(), Corrupt> {
        let number = format::segment_number(name).ok_or_else(|| corrupt(name, 0, Problem::Name))?;
        if self.last_read == 0 {
            self.first_read = number;
            self.end.current.number = number;
        } else if number != self.last_read + 1 {
            return Err(corrupt(name, 0, Problem::Missing(format::segment_name(self.last_read + 1))));
        }
        // The writer makes a segment only when the first write of the one before it is durable.
        if self.past_end || (self.last_read != 0 && self.end.current.used == 0) {
            return Err(self.at_end(Problem::EndsEarly { missing: self.due(), later: name.to_owned() }));
        }
        let is_first = self.last_read == 0;
        self.last_read = number;
        match SegmentHeader::read(bytes) {
            Slot::Good(header) if !header.is_readable() => Err(corrupt(name, 8, Problem::Version(header.version))),
            Slot::Good(header) if header.number != number => Err(corrupt(name, 12, Problem::Renamed(header.number))),
            Slot::Good(header) if is_first && number != format::FIRST_SEGMENT => {
                self.end.current.first_seq = header.first_seq;
                self.end.last_seq = header.first_seq.prev();
                self.read(number, name, bytes)
            }
            Slot::Blank if is_first && number != format::FIRST_SEGMENT => Err(corrupt(name, 0, Problem::FirstWrite)),
            Slot::Good(header) if header.first_seq == self.due() && !self.tail.torn => self.read(number, name, bytes),
            Slot::Good(header) if header.first_seq <= self.due() || number == format::FIRST_SEGMENT => {
                Err(corrupt(name, 20, Problem::Sequence { expected: self.due(), found: header.first_seq }))
            }
            Slot::Bad if !self.tail.torn => Err(corrupt(name, 0, Problem::SegmentHeader)),
            _ => {
                self.look_for_proof(number, name, bytes, HEADER_BYTES)?;
                self.leave_out(number, name, bytes);
                Ok(())
            }
        }
    }

    /// Reads the frames of a segment whose header is good.
    fn read(&mut self, number: u64, name: &str, bytes: &[u8]) -> Result<(), Corrupt> {
        self.unproven.clear();
        let mut offset = HEADER_BYTES;
        let (behind, torn) = loop {
            match self.frame(number, name, bytes, offset)? {
                Found::End => break (offset, false),
                Found::Torn { end } => break (format::aligned(end), true),
                Found::Frame { header, body, end } => {
                    let last_index = self.apply(name, offset, &header, body)?;
                    self.proven = self.proven.max(header.stable);
                    self.unproven.push_back((header.seq, offset));
                    while self.unproven.front().is_some_and(|(seq, _)| *seq <= self.proven) {
                        self.unproven.pop_front();
                    }
                    offset = format::aligned(end);
                    self.advance(number, &header, offset, last_index);
                }
            }
        };
        self.look_for_proof(number, name, bytes, behind)?;
        if offset == HEADER_BYTES {
            // Those before a segment are removed only once its first write is durable.
            if number == self.first_read && number != format::FIRST_SEGMENT {
                return Err(corrupt(name, offset, Problem::FirstWrite));
            }
            self.leave_out(number, name, bytes);
            return Ok(());
        }
        self.tail = Tail { torn, dirty: bytes.get(offset..).is_some_and(|rest| !format::is_zero(rest)) };
        self.end.current.reserved = bytes.len().max(offset) as u64;
        self.keep_unproven(name, &bytes[..bytes.len().min(offset)]);
        Ok(())
    }

    /// Looks at the place where the next frame should begin.
    fn frame<'a>(&self, number: u64, name: &str, bytes: &'a [u8], offset: usize) -> Result<Found<'a>, Corrupt> {
        let header = match FrameHeader::read(number, bytes, offset) {
            Slot::Blank => return Ok(Found::End),
            Slot::Bad => return Err(corrupt(name, offset, Problem::FrameHeader)),
            Slot::Good(header) => header,
        };
        if header.seq != self.due() {
            return Err(corrupt(name, offset, Problem::Sequence { expected: self.due(), found: header.seq }));
        }
        let end = header.body_end(offset);
        let Some(body) = bytes.get(offset + HEADER_BYTES..end) else { return Ok(Found::Torn { end }) };
        if crc32c::crc32c(body) == header.body_checksum {
            Ok(Found::Frame { header, body, end })
        } else if format::is_torn(bytes, offset, end) {
            Ok(Found::Torn { end })
        } else {
            Err(corrupt(name, offset, Problem::Checksum(header.seq)))
        }
    }

    /// Replays a frame. Gives the highest index of its entries.
    fn apply(&mut self, name: &str, offset: usize, header: &FrameHeader, body: &[u8]) -> Result<Index, Corrupt> {
        let (preface, entries) =
            format::decode_body(body).ok_or_else(|| corrupt(name, offset, Problem::Record(header.seq)))?;
        let is_beginning = offset == HEADER_BYTES && self.last_read == self.first_read;
        if is_beginning && self.first_read != format::FIRST_SEGMENT && !self.replay.begin(&preface) {
            return Err(corrupt(name, offset, Problem::Record(header.seq)));
        }
        let last_index = entries.last().map_or(Index(0), |entry| entry.index);
        self.replay.apply(&preface, entries).map_err(|problem| corrupt(name, offset, problem))?;
        Ok(last_index)
    }

    /// Notes that a valid frame ends at `used`.
    fn advance(&mut self, number: u64, header: &FrameHeader, used: usize, last_index: Index) {
        let end = &mut self.end;
        if end.current.number != number {
            let next = Segment::new(number, header.seq, 0);
            let full = std::mem::replace(&mut end.current, next);
            end.old.push(OldSegment { number: full.number, last_index: full.last_index });
        }
        end.last_seq = header.seq;
        end.current.used = used as u64;
        end.current.last_index = end.current.last_index.max(last_index);
    }

    /// Looks behind the place where the log seems to end for a frame which proves that it went on.
    fn look_for_proof(&self, number: u64, name: &str, bytes: &[u8], from: usize) -> Result<(), Corrupt> {
        let missing = self.due();
        if bytes.get(from..).is_none_or(format::is_zero) {
            return Ok(());
        }
        for offset in (from..bytes.len()).step_by(HEADER_BYTES) {
            if let Slot::Good(header) = FrameHeader::read(number, bytes, offset)
                && header.seq > missing
                && header.stable >= missing
            {
                let proof = Problem::Lost { missing, file: name.to_owned(), offset: offset as u64 };
                return Err(self.at_end(proof));
            }
        }
        Ok(())
    }

    /// Notes a segment without a single valid write.
    fn leave_out(&mut self, number: u64, name: &str, bytes: &[u8]) {
        let blank = format::is_zero(bytes);
        if number == format::FIRST_SEGMENT {
            self.tail.dirty = !blank;
            self.end.current.reserved = bytes.len() as u64;
            return;
        }
        self.past_end = true;
        if blank {
            self.end.next_reserved = bytes.len() as u64;
        } else {
            self.leftovers.push(name.to_owned());
        }
    }

    /// Keeps the end of a segment from the first write on that is not proven to be durable.
    fn keep_unproven(&mut self, name: &str, valid: &[u8]) {
        self.rewrites.retain(|(last, _)| *last > self.proven);
        let Some((_, first)) = self.unproven.front().copied() else { return };
        // The header of a segment came with its first frame.
        let from = if first == HEADER_BYTES { 0 } else { first };
        let bytes = Bytes::copy_from_slice(&valid[from..]);
        let op = FileOp::Write { file: name.to_owned(), offset: from as u64, bytes };
        self.rewrites.push((self.end.last_seq, op));
    }

    /// What the segments held, once all have been read. `snapshot` is where the newest one that is whole ends: what is
    /// left of the log goes on there.
    ///
    /// # Errors
    /// If what they held cannot be a server's log, or something is missing between the snapshot and the log.
    pub fn finish(mut self, snapshot: Option<Position>) -> Result<Recovered, Corrupt> {
        if let Some(last) = self.replay.last().filter(|last| last.term > self.replay.hard_state.term) {
            let (index, found, other) = (last.index, last.term, self.replay.hard_state.term);
            return Err(self.at_end(Problem::EntryTerm { index, found, other }));
        }
        let needs_base = self.join(snapshot)?;
        let Replay { mut hard_state, base: named, entries, .. } = self.replay;
        let base = snapshot.unwrap_or_default();
        let last = entries.last().map_or(base, |entry| entry.position());
        hard_state.commit = hard_state.commit.clamp(base.index, last.index);

        let mut end = self.end;
        end.standing = Standing { hard_state, base: if needs_base { base } else { named }, end: last };
        let mut repairs = Vec::new();
        if self.tail.dirty {
            repairs.push(FileOp::Truncate { file: end.current.name(), size: end.current.used });
            end.current.reserved = end.current.used;
        }
        repairs.extend(self.leftovers.into_iter().map(|file| FileOp::Remove { file }));
        repairs.extend(self.rewrites.into_iter().map(|(_, op)| op));
        Ok(Recovered { hard_state, base, entries, needs_base, repairs, end })
    }

    /// Leaves the entries behind the snapshot. Whether it was put in place of the log.
    fn join(&mut self, snapshot: Option<Position>) -> Result<bool, Corrupt> {
        let Some(snapshot) = snapshot else {
            if self.first_read > format::FIRST_SEGMENT && self.replay.base == Position::START {
                let (name, before) = (format::segment_name(self.first_read), self.first_read - 1);
                return Err(corrupt(&name, 0, Problem::Missing(format::segment_name(before))));
            }
            return self.replay.stand_alone().map(|()| false).map_err(|problem| self.at_begin(problem));
        };
        let fit = self.replay.join(snapshot).map_err(|problem| self.at_begin(problem))?;
        Ok(fit == Fit::Replaced)
    }

    /// The write that should come next.
    fn due(&self) -> WriteSeq {
        self.end.last_seq.next()
    }

    fn at_end(&self, problem: Problem) -> Corrupt {
        let current = &self.end.current;
        Corrupt { file: current.name(), offset: current.used, problem }
    }

    fn at_begin(&self, problem: Problem) -> Corrupt {
        corrupt(&format::segment_name(self.first_read.max(format::FIRST_SEGMENT)), 0, problem)
    }
}

fn corrupt(name: &str, offset: usize, problem: Problem) -> Corrupt {
    Corrupt { file: name.to_owned(), offset: offset as u64, problem }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::id::Term;
    use crate::raft::{Entry, HardState, Payload};
    use crate::wal::{Options, Writer, segment_name};

    type Files = BTreeMap<FileName, Vec<u8>>;

    fn recover(files: &Files) -> Result<Recovered, Corrupt> {
        let mut recovery = Recovery::new();
        for (name, bytes) in files {
            recovery.segment(name, bytes)?;
        }
        recovery.finish(None)
    }

    fn problem(files: &Files) -> Corrupt {
        recover(files).expect_err("the damage must be found")
    }

    fn apply(files: &mut Files, ops: &[FileOp]) {
        for op in ops {
            match op {
                FileOp::Write { file, offset, bytes } => {
                    let (file, at) = (files.entry(file.clone()).or_default(), *offset as usize);
                    file.resize(file.len().max(at + bytes.len()), 0);
                    file[at..at + bytes.len()].copy_from_slice(bytes);
                }
                FileOp::Truncate { file, size } => files.get_mut(file).unwrap().truncate(*size as usize),
                FileOp::Remove { file } => drop(files.remove(file)),
                FileOp::Rename { .. } => panic!("the log renames nothing"),
            }
        }
    }

    fn hard_state(term: u64, commit: u64) -> Option<HardState> {
        Some(HardState { term: Term(term), vote: None, commit: Index(commit) })
    }

    fn entry(index: u64, term: u64, bytes: usize) -> Entry {
        Entry { index: Index(index), term: Term(term), payload: Payload::Command(vec![7; bytes].into()) }
    }

    /// A log of writes with one entry of 300 bytes each, and the number of the last durable write that each
    /// of them knew. Three fit into a segment.
    fn log(stable: &[u64]) -> (Files, Vec<(FileName, usize)>) {
        let (mut files, mut places) = (Files::new(), Vec::new());
        let mut writer =
            Writer::with_options(&Recovered::default(), Options { segment_bytes: 1200, ..Options::default() });
        for (index, stable) in (1..).zip(stable) {
            let write = writer.write(WriteSeq(*stable), hard_state(1, 0), None, &[entry(index, 1, 300)]);
            apply(&mut files, &write.ops);
            let Some(FileOp::Write { file, offset, .. }) = write.ops.first() else { panic!("nothing is written") };
            places.push((file.clone(), (*offset as usize).max(HEADER_BYTES)));
        }
        (files, places)
    }

    /// Makes a frame look as if its header had not reached the disk.
    fn drop_header(files: &mut Files, (file, offset): &(FileName, usize)) {
        files.get_mut(file).unwrap()[*offset..offset + HEADER_BYTES].fill(0);
    }

    #[test]
    fn nothing_recovers_to_a_new_server() {
        for files in [Files::new(), Files::from([(segment_name(1), Vec::new())])] {
            let recovered = recover(&files).unwrap();
            assert!(recovered.entries.is_empty() && recovered.repairs.is_empty());
            assert_eq!(Writer::new(&recovered).last_seq(), WriteSeq(0));
        }
        let reserved = Files::from([(segment_name(1), vec![0; 4096])]);
        assert_eq!(recover(&reserved).unwrap().end.current.reserved, 4096);
    }

    #[test]
    fn a_gap_before_what_was_acknowledged_is_a_loss() {
        let (mut files, places) = log(&[0, 1, 2]);
        drop_header(&mut files, &places[1]);
        let corrupt = problem(&files);
        assert_eq!((corrupt.file.as_str(), corrupt.offset), (places[1].0.as_str(), places[1].1 as u64));
        let lost = Problem::Lost { missing: WriteSeq(2), file: places[2].0.clone(), offset: places[2].1 as u64 };
        assert_eq!(corrupt.problem, lost);
    }

    #[test]
    fn the_rest_of_an_unfinished_group_is_cut() {
        let (mut files, places) = log(&[0, 1, 1]);
        drop_header(&mut files, &places[1]);
        let recovered = recover(&files).unwrap();
        assert_eq!(recovered.entries, [entry(1, 1, 300)]);
        let (file, end) = (places[1].0.clone(), places[1].1 as u64);
        assert_eq!(recovered.repairs[0], FileOp::Truncate { file, size: end });
        apply(&mut files, &recovered.repairs);
        assert_eq!(files[&segment_name(1)].len() as u64, end);
    }

    #[test]
    fn a_proof_in_the_next_segment_counts() {
        let (mut files, places) = log(&[0, 1, 1, 3]);
        assert_eq!(places[3].0, segment_name(2));
        drop_header(&mut files, &places[2]);
        assert!(matches!(problem(&files).problem, Problem::Lost { missing: WriteSeq(3), .. }));

        let (mut files, places) = log(&[0, 1, 1, 1, 1]);
        drop_header(&mut files, &places[2]);
        let recovered = recover(&files).unwrap();
        assert_eq!(recovered.entries.len(), 2);
        assert!(recovered.repairs.contains(&FileOp::Remove { file: segment_name(2) }));
    }

    #[test]
    fn what_nothing_proves_durable_is_written_again() {
        let (files, places) = log(&[0, 1, 1, 2, 3]);
        let repairs = recover(&files).unwrap().repairs;
        let from = places[3].1 - HEADER_BYTES;
        let bytes = Bytes::copy_from_slice(&files[&segment_name(2)][from..]);
        assert_eq!(repairs, [FileOp::Write { file: segment_name(2), offset: 0, bytes }], "writes 4 and 5");

        let (files, places) = log(&[0, 1, 1, 2]);
        let repairs = recover(&files).unwrap().repairs;
        let offsets: Vec<_> = repairs.iter().map(|op| (op.file().as_str(), offset_of(op))).collect();
        // Write 2 goes along: that it was durable turned out only when its segment had been read.
        assert_eq!(offsets, [(segment_name(1).as_str(), places[1].1 as u64), (segment_name(2).as_str(), 0)]);
    }

    fn offset_of(op: &FileOp) -> u64 {
        let FileOp::Write { offset, .. } = op else { panic!("not a write: {op:?}") };
        *offset
    }

    #[test]
    fn missing_segments_are_named() {
        let (files, _) = log(&[0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(files.len(), 3);
        for missing in [1, 2] {
            let mut files = files.clone();
            files.remove(&segment_name(missing));
            let corrupt = problem(&files);
            assert_eq!(corrupt.file, segment_name(missing + 1));
            assert_eq!(corrupt.problem, Problem::Missing(segment_name(missing)));
        }
        for blank in [1, 2] {
            let mut files = files.clone();
            files.get_mut(&segment_name(blank)).unwrap().fill(0);
            assert!(matches!(problem(&files).problem, Problem::EndsEarly { .. }), "segment {blank}");
        }
    }

    #[test]
    fn foreign_and_newer_files_are_refused() {
        let (files, _) = log(&[0, 1, 2, 3]);
        let renamed = Files::from([(segment_name(1), files[&segment_name(2)].clone())]);
        assert_eq!(problem(&renamed).problem, Problem::Renamed(2));
        let mut newer = files;
        SegmentHeader { version: 9, number: 1, first_seq: WriteSeq(1) }
            .encode(&mut newer.get_mut(&segment_name(1)).unwrap()[..HEADER_BYTES]);
        assert_eq!(problem(&newer).problem, Problem::Version(9));
        assert_eq!(Recovery::new().segment("raft/notes", b"").unwrap_err().problem, Problem::Name);
    }

    #[test]
    fn a_damage_report_says_where_and_what_to_do() {
        let (mut files, places) = log(&[0, 1, 2]);
        files.get_mut(&segment_name(1)).unwrap()[places[1].1 + 100] ^= 4;
        let text = problem(&files).to_string();
        let place = format!("raft/wal-00000000000000000001, byte {}", places[1].1);
        for part in [place.as_str(), "checksum of write 2", "Nothing was changed", "move the whole data directory away"]
        {
            assert!(text.contains(part), "{part:?} is not in {text:?}");
        }
    }

    #[test]
    fn a_log_that_no_server_writes_is_refused() {
        let refused = |writes: &[(Option<HardState>, Vec<Entry>)]| {
            let (mut files, mut writer) = (Files::new(), Writer::new(&Recovered::default()));
            for (hard_state, entries) in writes {
                let stable = writer.last_seq();
                apply(&mut files, &writer.write(stable, *hard_state, None, entries).ops);
            }
            problem(&files).problem
        };
        let gap = refused(&[(hard_state(1, 0), vec![entry(1, 1, 3)]), (None, vec![entry(3, 1, 3)])]);
        assert_eq!(gap, Problem::EntryIndex { last: Index(1), found: Index(3) });
        let zero = refused(&[(hard_state(1, 0), vec![entry(0, 1, 3)])]);
        assert_eq!(zero, Problem::EntryIndex { last: Index(0), found: Index(0) });
        let falling = refused(&[(hard_state(2, 0), vec![entry(1, 2, 3), entry(2, 1, 3)])]);
        assert_eq!(falling, Problem::EntryTerm { index: Index(2), found: Term(1), other: Term(2) });
        let unseen = refused(&[(hard_state(1, 0), vec![entry(1, 2, 3)])]);
        assert_eq!(unseen, Problem::EntryTerm { index: Index(1), found: Term(2), other: Term(1) });
    }

    #[test]
    fn commit_does_not_exceed_the_log() {
        let (mut files, mut writer) = (Files::new(), Writer::new(&Recovered::default()));
        apply(&mut files, &writer.write(WriteSeq(0), hard_state(1, 9), None, &[entry(1, 1, 3)]).ops);
        assert_eq!(recover(&files).unwrap().hard_state.commit, Index(1));
    }
}
