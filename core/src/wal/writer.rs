//! Turns what raft wants to keep into writes to files, and sees that there is room for them.

use bytes::Bytes;

use super::format::{self, FrameHeader, HEADER_BYTES, Preface, SegmentHeader};
use super::room::{Options, Policy};
use super::{LogEnd, OldSegment, Recovered, Segment, Standing};
use crate::file::{FileName, FileOp, Write};
use crate::id::{Index, WriteSeq};
use crate::raft::{Entry, HardState, Position};
use crate::time::Instant;

/// What a frame takes beside its entries, at most: header, hard state, base, end, padding, and a segment's
/// header.
const OVERHEAD_BYTES: u64 = 192;

/// Reservations end at multiples of this: file systems give space in whole blocks anyway.
const BLOCK_BYTES: u64 = 4096;

/// Writes the log.
///
/// Invariants:
/// - `stable <= last_seq`, and neither goes back.
/// - A file for a segment after the current one exists, or was asked for, only if `stable` has reached
///   `current.first_seq`: recovery relies on it.
/// - The first frame of every segment says how the log stands, so that those before it can go.
/// - Space in the next segment is asked for only when the current one is reserved to its end.
#[derive(Debug)]
pub struct Writer {
    options: Options,
    last_seq: WriteSeq,
    /// The highest write known to be durable.
    stable: WriteSeq,
    current: Segment,
    /// How much of the next segment's file is reserved.
    next_reserved: u64,
    old: Vec<OldSegment>,
    /// How the log stands with all that was written.
    standing: Standing,
    /// The next write must name the base.
    owes_base: bool,
    policy: Policy,
    /// The reservation that was asked for and not yet answered.
    asked: Option<Asked>,
}

#[derive(Debug)]
struct Asked {
    file: FileName,
    size: u64,
    /// It is all that is wanted, and not only what fits into the segment.
    whole: bool,
}

impl Writer {
    /// A writer that goes on where recovery ended, once the repairs are durable.
    #[must_use]
    pub fn new(recovered: &Recovered) -> Self {
        Self::with_options(recovered, Options::default())
    }

    /// As [`new`](Self::new), with other sizes than usual.
    #[must_use]
    pub fn with_options(recovered: &Recovered, options: Options) -> Self {
        let LogEnd { last_seq, current, next_reserved, old, standing } = recovered.end.clone();
        let owes_base = recovered.needs_base;
        let policy = Policy::new(&options);
        let stable = last_seq;
        Self { options, last_seq, stable, current, next_reserved, old, standing, owes_base, policy, asked: None }
    }

    /// The write that was made last; after recovery, the last one that is durable.
    #[must_use]
    pub fn last_seq(&self) -> WriteSeq {
        self.last_seq
    }

    /// The segments that are full, the oldest first.
    #[must_use]
    pub fn old_segments(&self) -> &[OldSegment] {
        &self.old
    }

    /// The next write: a new hard state, a snapshot that was put in place of the log up to `base`, entries that
    /// replace all from the index of the first of them on, or several of these, in this order. `stable` is the highest
    /// write that is known to be durable.
    ///
    /// `base` is for snapshots that came from elsewhere: what the log holds up to there, or all of it if it does not
    /// hold just that entry, counts no more from then on. The snapshot must be durable. A snapshot that was cut from
    /// this very log needs no word in it: [`discard`](Self::discard) is enough, and what is left of the log still
    /// fits an older snapshot if the newer one turns out to be damaged.
    ///
    /// # Panics
    /// If `stable` was never written.
    #[must_use]
    pub fn write(
        &mut self,
        stable: WriteSeq,
        hard_state: Option<HardState>,
        base: Option<Position>,
        entries: &[Entry],
    ) -> Write {
        assert!(stable <= self.last_seq, "write {stable} cannot be durable: the last one was {}", self.last_seq);
        self.stable = self.stable.max(stable);
        self.last_seq = self.last_seq.next();
        let (first, later) = self.note(hard_state, base, entries);

        let mut bytes = encode(&later, entries);
        self.maybe_roll((format::aligned(bytes.len()) - HEADER_BYTES) as u64);
        if self.current.used == 0 {
            bytes = encode(&first, entries);
        }
        let frame = FrameHeader::new(self.last_seq, self.stable, &bytes[2 * HEADER_BYTES..]);
        bytes.resize(format::aligned(bytes.len()), 0);

        let segment = &mut self.current;
        let offset = segment.used;
        let skip = if offset == 0 {
            SegmentHeader::new(segment.number, segment.first_seq).encode(&mut bytes[..HEADER_BYTES]);
            0
        } else {
            HEADER_BYTES
        };
        let frame_offset = offset.max(HEADER_BYTES as u64);
        frame.encode(segment.number, frame_offset, &mut bytes[HEADER_BYTES..2 * HEADER_BYTES]);
        let bytes = Bytes::from(bytes).slice(skip..);

        segment.used = offset + bytes.len() as u64;
        segment.reserved = segment.reserved.max(segment.used);
        segment.last_index = segment.last_index.max(entries.last().map_or(Index(0), |entry| entry.index));
        Write { seq: self.last_seq, ops: vec![FileOp::Write { file: segment.name(), offset, bytes }] }
    }

    /// Notes how the log stands with a write. Gives what the write says beside its entries: as the first one of a
    /// segment, and else.
    fn note(&mut self, hard_state: Option<HardState>, base: Option<Position>, entries: &[Entry]) -> (Preface, Preface) {
        let standing = &mut self.standing;
        standing.hard_state = hard_state.unwrap_or(standing.hard_state);
        let owed = std::mem::take(&mut self.owes_base).then_some(standing.base);
        if let Some(base) = base {
            standing.cover(base);
        }
        let Standing { hard_state: latest, base: current, end } = *standing;
        standing.end = entries.last().map_or(end, Entry::position);
        let first = Preface { hard_state: Some(latest), base: Some(current), end: Some(end) };
        // What is owed may come with a term that the log does not know.
        let hard_state = hard_state.or(owed.map(|_| latest));
        (first, Preface { hard_state, base: base.or(owed), end: None })
    }

    /// Forgets the old segments whose entries all lie at or before `up_to`, where a durable snapshot ends, and gives
    /// their removal, the oldest first: no removal may overtake the one before it. Asked again later it may give more, as a segment stays until the first write of the next one is known
    /// to be durable.
    #[must_use]
    pub fn discard(&mut self, up_to: Index) -> Vec<FileOp> {
        let is_next_durable = self.current.used > 0 && self.stable >= self.current.first_seq;
        let removable = self.old.len() - usize::from(!is_next_durable && !self.old.is_empty());
        let count = self.old[..removable].iter().take_while(|segment| segment.last_index <= up_to).count();
        self.old.drain(..count).map(|segment| FileOp::Remove { file: format::segment_name(segment.number) }).collect()
    }

    /// Begins a new segment if the frame does not fit into the current one.
    fn maybe_roll(&mut self, frame_bytes: u64) {
        let fits = self.current.used + frame_bytes <= self.options.segment_bytes;
        if fits || !self.may_have_next() {
            return;
        }
        let next = Segment::new(self.current.number + 1, self.last_seq, self.next_reserved);
        let full = std::mem::replace(&mut self.current, next);
        self.next_reserved = 0;
        self.old.push(OldSegment { number: full.number, last_index: full.last_index });
    }

    /// Whether a file may exist for the segment after the current one: only when a write in this one is
    /// known to be durable. Else its file might be lost in a crash and the next one's not.
    fn may_have_next(&self) -> bool {
        self.current.used > 0 && self.stable >= self.current.first_seq
    }

    /// Whether a write with entries of this size can be made without fear that the disk is full. As long as the
    /// disk has refused nothing, it has room; once it has, only what is reserved counts, less what is kept
    /// back for the writes that raft must make in any case. Those need not ask.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        let needed = (bytes as u64).saturating_add(OVERHEAD_BYTES + self.options.emergency_bytes);
        !self.policy.is_cautious() || needed <= self.ahead_in_current() || needed <= self.ahead_in_next()
    }

    /// Whether the disk refused even the smallest reservation. A write that needs more than the little that is
    /// left may be without [room](Self::has_room) before that.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.policy.is_full()
    }

    /// What lies beyond the size of a segment is of no use, for the log goes on in the next one.
    fn ahead_in_current(&self) -> u64 {
        self.current.reserved.min(self.options.segment_bytes).saturating_sub(self.current.used)
    }

    fn ahead_in_next(&self) -> u64 {
        self.next_reserved.min(self.options.segment_bytes).saturating_sub(HEADER_BYTES as u64)
    }

    fn ahead(&self) -> u64 {
        self.ahead_in_current() + self.ahead_in_next()
    }

    /// A file and the size up to which space is to be reserved for it now. At most one is on its way. To be
    /// asked after every write, every answer, and when [`poll_timeout`](Self::poll_timeout) says.
    pub fn poll_reserve(&mut self, now: Instant) -> Option<(FileName, u64)> {
        if !self.may_ask() {
            return None;
        }
        let in_next = self.is_current_reserved();
        let wanted = self.policy.wanted(now, self.ahead())?;
        let (file, reserved, size) = if in_next {
            let size = HEADER_BYTES as u64 + wanted.saturating_sub(self.ahead_in_current());
            (format::segment_name(self.current.number + 1), self.next_reserved, size)
        } else {
            (self.current.name(), self.current.reserved, self.current.used + wanted)
        };
        let size = size.next_multiple_of(BLOCK_BYTES);
        let whole = in_next || size <= self.options.segment_bytes;
        let size = size.min(self.options.segment_bytes);
        if size <= reserved {
            // More than two segments are never reserved: that has to do.
            self.policy.granted(now, true);
            return None;
        }
        self.asked = Some(Asked { file: file.clone(), size, whole });
        Some((file, size))
    }

    /// The answer to what [`poll_reserve`](Self::poll_reserve) gave. Anything else is ignored.
    pub fn handle_reserved(&mut self, now: Instant, file: &str, size: u64, granted: bool) {
        let Some(asked) = self.asked.take_if(|asked| asked.file == file && asked.size == size) else { return };
        if !granted {
            return self.policy.refused(now, self.ahead());
        }
        // The log may have gone on to the next segment in the meantime, even past it.
        if file == self.current.name() {
            self.current.reserved = self.current.reserved.max(size);
        } else if file == format::segment_name(self.current.number + 1) {
            self.next_reserved = self.next_reserved.max(size);
        }
        self.policy.granted(now, asked.whole);
    }

    /// When to ask [`poll_reserve`](Self::poll_reserve) again though nothing else happened.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        // When nothing may be asked, an answer or a write that became durable comes first.
        if self.may_ask() { self.policy.retry_at() } else { None }
    }

    /// Whether a reservation may be asked for: none is on its way, and there is a segment to ask for.
    fn may_ask(&self) -> bool {
        self.asked.is_none() && (!self.is_current_reserved() || self.may_have_next())
    }

    fn is_current_reserved(&self) -> bool {
        self.current.reserved >= self.options.segment_bytes
    }
}

/// A frame with its body, behind room for the headers. Room for a segment's header comes first; it is left out if the
/// segment has one. Header and frame go out as one piece, so that they share the fate of their sector.
fn encode(preface: &Preface, entries: &[Entry]) -> Vec<u8> {
    let size: usize = entries.iter().map(Entry::size).sum();
    let mut bytes = Vec::with_capacity(size + OVERHEAD_BYTES as usize);
    bytes.resize(2 * HEADER_BYTES, 0);
    format::encode_body(preface, entries, &mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Term;
    use crate::raft::{Configuration, Payload};
    use crate::time::Duration;

    const MIB: u64 = 1 << 20;

    fn writer() -> Writer {
        Writer::new(&Recovered::default())
    }

    fn entries(from: u64, count: u64, bytes: usize) -> Vec<Entry> {
        let payload = Payload::Command(vec![1; bytes].into());
        (from..from + count).map(|i| Entry { index: Index(i), term: Term(1), payload: payload.clone() }).collect()
    }

    fn size(entries: &[Entry]) -> usize {
        entries.iter().map(Entry::size).sum()
    }

    /// Answers all reservations until there is no more to ask.
    fn answer(writer: &mut Writer, now: Instant, mut disk: impl FnMut(&str, u64) -> bool) {
        while let Some((file, size)) = writer.poll_reserve(now) {
            let granted = disk(&file, size);
            writer.handle_reserved(now, &file, size, granted);
        }
    }

    #[test]
    fn at_most_one_reservation_is_on_its_way() {
        let (mut writer, now) = (writer(), Instant::ZERO);
        assert!(writer.has_room(600 << 10), "nothing was refused");
        let (file, size) = writer.poll_reserve(now).unwrap();
        assert_eq!((file.as_str(), size), ("raft/wal-00000000000000000001", 2 * MIB));
        assert_eq!(writer.poll_reserve(now), None);
        writer.handle_reserved(now, "raft/other", size, true);
        assert_eq!(writer.poll_reserve(now), None, "an answer to something else");
        writer.handle_reserved(now, &file, size, true);
        assert_eq!(writer.poll_reserve(now), None, "there is enough");
        assert_eq!(writer.poll_timeout(), None);
    }

    #[test]
    fn a_full_disk_leaves_room_for_emergencies_only() {
        let (mut writer, mut now) = (writer(), Instant::ZERO);
        let mut disk_bytes = 2 * MIB;
        answer(&mut writer, now, |_, size| size <= disk_bytes);
        // Written until the writer says stop, 10 KiB at a time.
        let mut next = 1;
        loop {
            let batch = entries(next, 1, 10 << 10);
            if !writer.has_room(size(&batch)) {
                break;
            }
            next += 1;
            let stable = writer.last_seq();
            let _ = writer.write(stable, None, None, &batch);
            assert!(writer.current.used + writer.options.emergency_bytes <= disk_bytes, "beyond the disk's end");
            now = now + Duration::from_millis(1);
            answer(&mut writer, now, |_, size| size <= disk_bytes);
        }
        assert!(next > 150, "only {next} entries fitted");
        // Then terms and votes still fit, hundreds of them.
        for term in 1..300 {
            let state = HardState { term: Term(term), ..HardState::default() };
            let stable = writer.last_seq();
            let _ = writer.write(stable, Some(state), None, &[]);
        }
        assert!(writer.current.used <= disk_bytes);
        // Asked again every second until there is room.
        for _ in 0..3 {
            now = writer.poll_timeout().expect("it asks again");
            answer(&mut writer, now, |_, size| size <= disk_bytes);
            assert!(writer.is_full() && !writer.has_room(0));
            assert_eq!(writer.poll_timeout(), Some(now + Duration::from_secs(1)));
        }
        disk_bytes = 100 * MIB;
        now = now + Duration::from_secs(1);
        answer(&mut writer, now, |_, size| size <= disk_bytes);
        assert!(!writer.is_full() && writer.has_room(1 << 20));
    }

    #[test]
    fn the_next_segment_is_reserved_before_this_one_is_full() {
        let options = Options { segment_bytes: 4 * MIB, ..Options::default() };
        let (mut writer, now) = (Writer::with_options(&Recovered::default(), options), Instant::ZERO);
        let mut files = std::collections::BTreeMap::new();
        for n in 1..60 {
            answer(&mut writer, now, |file, size| files.insert(file.to_owned(), size).is_none_or(|old| old < size));
            let stable = writer.last_seq();
            let write = writer.write(stable, None, None, &entries(n, 1, 300 << 10));
            let [FileOp::Write { file, offset, bytes }] = &write.ops[..] else { panic!("one operation") };
            let end = offset + bytes.len() as u64;
            assert!(end <= 4 * MIB && end <= files[file], "write {n} ends at {end} of {file}: {files:?}");
        }
        assert_eq!(writer.old_segments().len(), 4);
        assert_eq!(writer.old_segments()[1], OldSegment { number: 2, last_index: Index(26) });
    }

    #[test]
    fn no_segment_is_begun_before_this_one_is_known_to_be_on_disk() {
        let options = Options { segment_bytes: 8192, ..Options::default() };
        let (mut writer, now) = (Writer::with_options(&Recovered::default(), options), Instant::ZERO);
        for n in 1..10 {
            answer(&mut writer, now, |file, _| file == "raft/wal-00000000000000000001");
            let write = writer.write(WriteSeq(0), None, None, &entries(n, 1, 2000));
            assert_eq!(write.ops[0].file(), "raft/wal-00000000000000000001");
        }
        let write = writer.write(WriteSeq(1), None, None, &entries(10, 1, 2000));
        assert_eq!(write.ops[0].file(), "raft/wal-00000000000000000002");
    }

    #[test]
    fn a_segment_goes_only_when_a_snapshot_covers_it_and_the_next_one_is_on_disk() {
        let options = Options { segment_bytes: 8192, ..Options::default() };
        let mut writer = Writer::with_options(&Recovered::default(), options);
        for n in 1..=9 {
            let stable = writer.last_seq();
            let _ = writer.write(stable, None, None, &entries(n, 1, 2000));
        }
        let last: Vec<_> = writer.old_segments().iter().map(|segment| segment.last_index.0).collect();
        assert_eq!(last, [3, 6]);
        assert_eq!(writer.discard(Index(2)), []);
        let remove = |number| FileOp::Remove { file: format::segment_name(number) };
        assert_eq!(writer.discard(Index(5)), [remove(1)]);
        assert_eq!(writer.old_segments().len(), 1);
        // The third segment's first write, the seventh, is on disk; so the second goes.
        assert_eq!(writer.discard(Index(9)), [remove(2)]);
        let stable = writer.last_seq();
        let _ = writer.write(stable, None, None, &entries(10, 1, 2000));
        assert_eq!(writer.discard(Index(10)), [], "the fourth segment's first write may not be on disk yet");
        let _ = writer.write(stable.next(), None, None, &entries(11, 1, 10));
        assert_eq!(writer.discard(Index(10)), [remove(3)]);
        assert_eq!(writer.discard(Index(11)), [], "the current one stays");
    }

    #[test]
    fn large_batches_and_larger_than_a_segment_are_written() {
        let options = Options { segment_bytes: MIB, ..Options::default() };
        let mut writer = Writer::with_options(&Recovered::default(), options);
        for (n, count) in [(1, 1), (2, 20), (22, 1)] {
            let stable = writer.last_seq();
            let write = writer.write(stable, None, None, &entries(n, count, 512 << 10));
            let FileOp::Write { offset, .. } = &write.ops[0] else { panic!("a write") };
            assert_eq!(*offset, 0, "each in its own segment");
        }
        assert_eq!(writer.old_segments().len(), 2);
    }

    #[test]
    fn entry_sizes_cover_their_encoding() {
        let voters =
            (0..7).map(|n| (crate::id::PeerId(uuid::Uuid::from_u128(u128::MAX - n)), "[::1]:8300".parse().unwrap()));
        let payloads = [
            Payload::Noop,
            Payload::Configuration(Configuration::new(voters)),
            Payload::Command(vec![0; 70_000].into()),
        ];
        let state =
            HardState { term: Term(u64::MAX), vote: Some(crate::id::PeerId::numbered(1)), commit: Index(u64::MAX) };
        for payload in payloads {
            let entry = Entry { index: Index(u64::MAX), term: Term(u64::MAX), payload };
            let mut bytes = Vec::new();
            format::encode_body(&Preface::default(), std::slice::from_ref(&entry), &mut bytes);
            assert!(bytes.len() <= 4 + entry.size(), "{} bytes for {entry:?}", bytes.len());
            let write = writer().write(WriteSeq(0), Some(state), None, std::slice::from_ref(&entry));
            let FileOp::Write { bytes, .. } = &write.ops[0] else { panic!("a write") };
            assert!(bytes.len() as u64 <= entry.size() as u64 + OVERHEAD_BYTES);
        }
    }
}
