//! One file: what is durable of it, and the changes since.

use std::collections::BTreeMap;

use bytes::Bytes;
use lictor_core::rng::Rng;

const SECTOR: u64 = 512;

/// A change of a file that may not have reached the platter.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { offset: u64, bytes: Bytes },
    Truncate { size: u64 },
    Extend { size: u64 },
}

/// How the power takes what was not synced.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Survival {
    /// Nothing reached the platter.
    Nothing,
    /// Everything did, just in time.
    Everything,
    /// The first changes did, the next is torn, the rest is lost.
    Prefix,
    /// Each sector for itself.
    Sectors,
}

impl Survival {
    pub(super) fn draw(dice: &mut Rng) -> Self {
        match dice.below(8) {
            0 => Self::Nothing,
            1 => Self::Everything,
            2..5 => Self::Prefix,
            _ => Self::Sectors,
        }
    }
}

/// Bytes, with zeros behind them up to the length.
#[derive(Clone, Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    length: u64,
}

impl Content {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { offset, bytes } => {
                self.write(*offset, bytes);
                self.length = self.length.max(offset + bytes.len() as u64);
            }
            Change::Truncate { size } => {
                self.length = self.length.min(*size);
                self.bytes.truncate(usize::try_from(*size).expect("simulated files are small"));
            }
            Change::Extend { size } => self.length = self.length.max(*size),
        }
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let start = usize::try_from(offset).expect("simulated files are small");
        let end = start + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[start..end].copy_from_slice(bytes);
    }
}

/// A file. It exists for programs unless `removed`; it exists on the platter if `linked`.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    durable: Content,
    /// In the order in which they were made.
    pending: Vec<Change>,
    /// What was read last, if nothing changed since: most of a log does not change.
    cached: Option<Bytes>,
    length: u64,
    linked: bool,
    removed: bool,
}

impl File {
    pub(super) fn change(&mut self, change: Change) {
        self.cached = None;
        if self.removed {
            self.removed = false;
            self.pending.push(Change::Truncate { size: 0 });
            self.length = 0;
        }
        self.length = length_after(self.length, &change);
        self.pending.push(change);
    }

    pub(super) fn remove(&mut self) {
        self.removed = true;
    }

    pub(super) fn is_removed(&self) -> bool {
        self.removed
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// What a program reads.
    pub(super) fn read(&mut self) -> Bytes {
        if let Some(cached) = &self.cached {
            return cached.clone();
        }
        let mut content = self.durable.clone();
        self.pending.iter().for_each(|change| content.apply(change));
        content.bytes.resize(usize::try_from(content.length).expect("simulated files are small"), 0);
        let bytes = Bytes::from(content.bytes);
        self.cached = Some(bytes.clone());
        bytes
    }

    /// Everything becomes durable. False if that means that the file is no more.
    pub(super) fn sync(&mut self) -> bool {
        for change in self.pending.drain(..) {
            self.durable.apply(&change);
        }
        self.linked = true;
        !self.removed
    }

    /// One durable bit turns. Where it was; mostly where something was written.
    pub(super) fn rot(&mut self, dice: &mut Rng) -> Option<u64> {
        let written = self.durable.bytes.len() as u64;
        let range = if written > 0 && !dice.one_in(16) { written } else { self.durable.length };
        if range == 0 {
            return None;
        }
        let at = dice.below(range);
        let end = usize::try_from(at + 1).expect("simulated files are small");
        if self.durable.bytes.len() < end {
            self.durable.bytes.resize(end, 0);
        }
        self.durable.bytes[end - 1] ^= 1 << dice.below(8);
        self.cached = None;
        Some(at)
    }

    /// The power fails. False if the file is no more.
    pub(super) fn survive(&mut self, survival: Survival, dice: &mut Rng) -> bool {
        let pending = std::mem::take(&mut self.pending);
        if !pending.is_empty() {
            self.cached = None;
        }
        let all = pending.len();
        let cut = match survival {
            Survival::Nothing => 0,
            Survival::Everything => all,
            Survival::Prefix | Survival::Sectors => dice.below(all as u64 + 1) as usize,
        };
        let kept_directory = match survival {
            Survival::Nothing => false,
            Survival::Everything => true,
            Survival::Prefix | Survival::Sectors => dice.one_in(2),
        };
        if !self.linked && !kept_directory || self.removed && self.linked && kept_directory {
            return false;
        }
        self.removed = false;
        self.linked = true;
        // What a sector holds is decided sector by sector; how long the file is, by the same cut for all.
        let length = pending[..cut].iter().fold(self.durable.length, length_after);
        let mut seen = BTreeMap::new();
        for (n, change) in pending.iter().enumerate() {
            let Change::Write { offset, bytes } = change else { continue };
            for sector in offset / SECTOR..(offset + bytes.len() as u64).div_ceil(SECTOR) {
                seen.entry(sector).or_insert_with(|| match survival {
                    Survival::Nothing => 0,
                    Survival::Everything => all,
                    Survival::Prefix if n == cut => cut + dice.below(2) as usize,
                    Survival::Prefix => cut,
                    Survival::Sectors => dice.below(all as u64 + 1) as usize,
                });
            }
        }
        let longest = pending.iter().fold((length, length), |(now, longest), change| {
            let now = length_after(now, change);
            (now, longest.max(now))
        });
        let torn = matches!(survival, Survival::Prefix | Survival::Sectors) && dice.one_in(2);
        let sectors = surviving_sectors(&self.durable, &pending, &seen);
        pending[..cut].iter().filter(|change| !matches!(change, Change::Write { .. })).for_each(|change| {
            self.durable.apply(change);
        });
        for (offset, bytes) in sectors {
            self.durable.write(offset, &bytes);
        }
        // The length may have been written before or after the data that made the file grow.
        self.durable.length = if torn { longest.1.min(length.max(self.durable.bytes.len() as u64)) } else { length };
        self.durable.bytes.truncate(usize::try_from(self.durable.length).expect("simulated files are small"));
        self.length = self.durable.length;
        true
    }
}

/// The content of each sector that was touched, after as many changes as it has seen.
fn surviving_sectors(durable: &Content, pending: &[Change], seen: &BTreeMap<u64, usize>) -> Vec<(u64, Vec<u8>)> {
    let one = |(sector, seen): (&u64, &usize)| {
        let start = sector * SECTOR;
        let mut bytes = vec![0; SECTOR as usize];
        overlay(&mut bytes, start, 0, &durable.bytes);
        for change in &pending[..*seen] {
            match change {
                Change::Write { offset, bytes: written } => overlay(&mut bytes, start, *offset, written),
                Change::Truncate { size } => {
                    let kept = size.saturating_sub(start).min(SECTOR) as usize;
                    bytes[kept..].fill(0);
                }
                Change::Extend { .. } => {}
            }
        }
        (start, bytes)
    };
    seen.iter().map(one).collect()
}

/// Lays what `written` at `offset` has in common with the sector at `start` over it.
fn overlay(sector: &mut [u8], start: u64, offset: u64, written: &[u8]) {
    let end = start + sector.len() as u64;
    let (from, to) = (offset.max(start), (offset + written.len() as u64).min(end));
    if from < to {
        let source = &written[(from - offset) as usize..(to - offset) as usize];
        sector[(from - start) as usize..(to - start) as usize].copy_from_slice(source);
    }
}

fn length_after(length: u64, change: &Change) -> u64 {
    match change {
        Change::Write { offset, bytes } => length.max(offset + bytes.len() as u64),
        Change::Truncate { size } => length.min(*size),
        Change::Extend { size } => length.max(*size),
    }
}
