//! Bytes of the log: names, headers, bodies, checksums. The [module's page](super) has the tables.

use serde::{Deserialize, Serialize};

use crate::file::FileName;
use crate::id::WriteSeq;
use crate::raft::{Entry, HardState, Position};
use crate::wire;

/// The directory of the segments, below the data directory.
pub const DIRECTORY: &str = "raft";

/// The number of a log's first segment.
pub(super) const FIRST_SEGMENT: u64 = 1;

/// The length of both headers. Frames begin at multiples of it, so that no header crosses a sector.
pub(super) const HEADER_BYTES: usize = 32;

/// What disks write whole or not at all. Larger real sectors are multiples of it.
const SECTOR_BYTES: usize = 512;

const SEGMENT_MAGIC: [u8; 8] = *b"LICTORWL";
const FRAME_MAGIC: [u8; 4] = *b"LWRT";
const VERSION: u32 = 2;

/// The last byte of every body. As it is not zero, a missing last sector always shows.
const BODY_END: u8 = 0xff;

const PREFIX: &str = "raft/wal-";
const DIGITS: usize = 20;

/// The file of the segment with this number.
#[must_use]
pub fn segment_name(number: u64) -> FileName {
    format!("{PREFIX}{number:0DIGITS$}")
}

/// The number of the segment that has this file name; `None` if it is no segment.
#[must_use]
pub fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?;
    (digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

/// What stands at a place where a header should be.
pub(super) enum Slot<T> {
    /// Nothing: zeros, or the end of the file.
    Blank,
    /// Something that is no header.
    Bad,
    /// A header.
    Good(T),
}

/// The header of a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct SegmentHeader {
    pub(super) version: u32,
    pub(super) number: u64,
    pub(super) first_seq: WriteSeq,
}

impl SegmentHeader {
    pub(super) const fn new(number: u64, first_seq: WriteSeq) -> Self {
        Self { version: VERSION, number, first_seq }
    }

    pub(super) const fn is_readable(&self) -> bool {
        self.version == VERSION
    }

    pub(super) fn encode(&self, header: &mut [u8]) {
        header[0..8].copy_from_slice(&SEGMENT_MAGIC);
        header[8..12].copy_from_slice(&self.version.to_le_bytes());
        header[12..20].copy_from_slice(&self.number.to_le_bytes());
        header[20..28].copy_from_slice(&self.first_seq.0.to_le_bytes());
        let checksum = crc32c::crc32c(&header[..28]);
        header[28..32].copy_from_slice(&checksum.to_le_bytes());
    }

    /// The header at the beginning of a segment.
    pub(super) fn read(segment: &[u8]) -> Slot<Self> {
        let Some(header) = header_at(segment, 0).filter(|header| !is_zero(*header)) else { return Slot::Blank };
        if header[0..8] != SEGMENT_MAGIC || u32_at(header, 28) != crc32c::crc32c(&header[..28]) {
            return Slot::Bad;
        }
        Slot::Good(Self {
            version: u32_at(header, 8),
            number: u64_at(header, 12),
            first_seq: WriteSeq(u64_at(header, 20)),
        })
    }
}

/// The header of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameHeader {
    pub(super) body_bytes: u32,
    pub(super) seq: WriteSeq,
    /// The highest write that was known to be durable when this one was made.
    pub(super) stable: WriteSeq,
    pub(super) body_checksum: u32,
}

impl FrameHeader {
    /// The header of a frame with this body.
    ///
    /// # Panics
    /// If the body is 4 GiB long, which the limit on uncommitted bytes keeps far away.
    pub(super) fn new(seq: WriteSeq, stable: WriteSeq, body: &[u8]) -> Self {
        let body_bytes = u32::try_from(body.len()).expect("a write is far below 4 GiB");
        Self { body_bytes, seq, stable, body_checksum: crc32c::crc32c(body) }
    }

    pub(super) fn encode(&self, segment: u64, offset: u64, header: &mut [u8]) {
        header[0..4].copy_from_slice(&FRAME_MAGIC);
        header[4..8].copy_from_slice(&self.body_bytes.to_le_bytes());
        header[8..16].copy_from_slice(&self.seq.0.to_le_bytes());
        header[16..24].copy_from_slice(&self.stable.0.to_le_bytes());
        header[24..28].copy_from_slice(&self.body_checksum.to_le_bytes());
        let checksum = frame_checksum(header, segment, offset);
        header[28..32].copy_from_slice(&checksum.to_le_bytes());
    }

    /// The header at `offset` of a segment.
    pub(super) fn read(segment: u64, bytes: &[u8], offset: usize) -> Slot<Self> {
        let Some(header) = header_at(bytes, offset) else { return Slot::Blank };
        if header[0..4] != FRAME_MAGIC || u32_at(header, 28) != frame_checksum(header, segment, offset as u64) {
            return if is_zero(header) { Slot::Blank } else { Slot::Bad };
        }
        Slot::Good(Self {
            body_bytes: u32_at(header, 4),
            seq: WriteSeq(u64_at(header, 8)),
            stable: WriteSeq(u64_at(header, 16)),
            body_checksum: u32_at(header, 24),
        })
    }

    /// Where the body of a frame at `offset` ends.
    pub(super) const fn body_end(&self, offset: usize) -> usize {
        offset.saturating_add(HEADER_BYTES).saturating_add(self.body_bytes as usize)
    }
}

fn frame_checksum(header: &[u8], segment: u64, offset: u64) -> u32 {
    let mut place = [0; 16];
    place[..8].copy_from_slice(&segment.to_le_bytes());
    place[8..].copy_from_slice(&offset.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&header[..28]), &place)
}

/// What a frame's body says beside its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Preface {
    pub(super) hard_state: Option<HardState>,
    /// Everything up to here is in a snapshot.
    pub(super) base: Option<Position>,
    /// Where the log ended before the frame's entries. The first frame of a segment says so.
    pub(super) end: Option<Position>,
}

/// Appends a frame's body to `bytes`.
pub(super) fn encode_body(preface: &Preface, entries: &[Entry], bytes: &mut Vec<u8>) {
    wire::encode_into(preface, bytes);
    for entry in entries {
        wire::encode_into(entry, bytes);
    }
    bytes.push(BODY_END);
}

/// What a frame's body says; `None` if it is no record. Entries are decoded one by one, as a batch may be
/// larger than anything else that is ever decoded.
pub(super) fn decode_body(body: &[u8]) -> Option<(Preface, Vec<Entry>)> {
    let (&BODY_END, body) = body.split_last()? else { return None };
    let (preface, used) = wire::decode_prefix(body).ok()?;
    let mut rest = &body[used..];
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let (entry, used) = wire::decode_prefix(rest).ok()?;
        entries.push(entry);
        rest = &rest[used..];
    }
    Some((preface, entries))
}

/// Whether a body that ends at `body_end` and whose checksum is wrong may be the work of a crash: a whole
/// sector of it, apart from the one that it shares with its header, is zero.
pub(super) fn is_torn(segment: &[u8], offset: usize, body_end: usize) -> bool {
    let second = (offset / SECTOR_BYTES + 1) * SECTOR_BYTES;
    (second..body_end).step_by(SECTOR_BYTES).any(|at| is_zero(&segment[at..body_end.min(at + SECTOR_BYTES)]))
}

/// Whether there is nothing but zeros. Compared by blocks: a reserved tail may be tens of megabytes.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|block| *block == ZEROS[..block.len()])
}

/// The next place for a frame, at or after `offset`.
pub(super) const fn aligned(offset: usize) -> usize {
    offset.next_multiple_of(HEADER_BYTES)
}

fn header_at(bytes: &[u8], offset: usize) -> Option<&[u8; HEADER_BYTES]> {
    bytes.get(offset..)?.first_chunk()
}

fn u32_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("within the header"))
}

fn u64_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("within the header"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_belong_together() {
        assert_eq!(segment_name(7), "raft/wal-00000000000000000007");
        for number in [1, 10, u64::MAX] {
            assert_eq!(segment_number(&segment_name(number)), Some(number));
        }
        for name in
            ["wal-00000000000000000007", "raft/wal-7", "raft/wal-0000000000000000000x", "raft/wal-+0000000000000000007"]
        {
            assert_eq!(segment_number(name), None, "{name}");
        }
        assert_eq!(segment_number("raft/wal-99999999999999999999"), None, "beyond u64");
    }

    #[test]
    fn a_frame_is_valid_only_where_it_was_written() {
        let mut bytes = vec![0; 96];
        FrameHeader::new(WriteSeq(5), WriteSeq(4), b"body").encode(3, 32, &mut bytes[32..64]);
        assert!(matches!(FrameHeader::read(3, &bytes, 32), Slot::Good(header) if header.seq == WriteSeq(5)));
        assert!(matches!(FrameHeader::read(4, &bytes, 32), Slot::Bad), "another segment");
        bytes.copy_within(32..64, 64);
        assert!(matches!(FrameHeader::read(3, &bytes, 64), Slot::Bad), "another offset");
        assert!(matches!(FrameHeader::read(3, &bytes, 0), Slot::Blank), "zeros");
        assert!(matches!(FrameHeader::read(3, &bytes, 96), Slot::Blank), "the end");
    }

    #[test]
    fn only_whole_sectors_behind_the_header_count_as_torn() {
        let mut bytes = vec![1; 2048];
        bytes[64..512].fill(0);
        assert!(!is_torn(&bytes, 32, 1500), "the header's own sector cannot be missing");
        bytes[600..1100].fill(0);
        assert!(!is_torn(&bytes, 32, 1500), "parts of two sectors");
        bytes[1024..1536].fill(0);
        assert!(is_torn(&bytes, 32, 2000));
        assert!(is_torn(&bytes, 32, 1030), "the body's part of its last sector");
        assert!(!is_torn(&bytes, 32, 1024));
    }
}
