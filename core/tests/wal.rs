//! The log on disk against a model: what was written comes back; what a crash tears is cut, and never more;
//! what is damaged otherwise is refused.

use std::collections::BTreeMap;

use bytes::Bytes;
use lictor_core::file::{FileName, FileOp};
use lictor_core::id::{Index, PeerId, Term, WriteSeq};
use lictor_core::raft::{Entry, HardState, Payload, Position};
use lictor_core::time::Instant;
use lictor_core::wal::{Corrupt, Options, Recovered, Recovery, Writer};
use proptest::prelude::*;

const SECTOR: usize = 512;

/// Small segments, so that many are begun.
fn options(segment_bytes: u64) -> Options {
    Options { segment_bytes, first_quantum: 4096, min_quantum: 4096, max_quantum: 16_384, ..Options::default() }
}

/// Files as their owner keeps them.
#[derive(Clone, Debug, Default, PartialEq)]
struct Disk(BTreeMap<FileName, Vec<u8>>);

impl Disk {
    fn apply(&mut self, op: &FileOp) {
        match op {
            FileOp::Write { file, offset, bytes } => {
                let start = usize::try_from(*offset).unwrap();
                self.reserve(file, start + bytes.len());
                self.0.get_mut(file).unwrap()[start..start + bytes.len()].copy_from_slice(bytes);
            }
            FileOp::Truncate { file, size } => self.0.get_mut(file).unwrap().truncate(usize::try_from(*size).unwrap()),
            FileOp::Remove { file } => drop(self.0.remove(file)),
            FileOp::Rename { .. } => panic!("the log renames nothing"),
        }
    }

    fn reserve(&mut self, file: &str, size: usize) {
        let content = self.0.entry(file.to_owned()).or_default();
        content.resize(content.len().max(size), 0);
    }

    fn recover(&self, snapshot: Option<Position>) -> Result<Recovered, Corrupt> {
        let mut recovery = Recovery::new();
        for (name, bytes) in &self.0 {
            recovery.segment(name, bytes)?;
        }
        recovery.finish(snapshot)
    }

    fn last(&mut self) -> &mut Vec<u8> {
        self.0.values_mut().next_back().unwrap()
    }
}

/// What a log holds, kept the plain way: all entries behind a base.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    hard_state: HardState,
    base: Position,
    entries: Vec<Entry>,
}

impl Model {
    fn apply(&mut self, hard_state: Option<HardState>, entries: &[Entry]) {
        self.hard_state = hard_state.unwrap_or(self.hard_state);
        if let Some(first) = entries.first() {
            self.entries.retain(|entry| entry.index < first.index);
            self.entries.extend_from_slice(entries);
        }
    }

    fn last(&self) -> Position {
        self.entries.last().map_or(self.base, Entry::position)
    }

    /// A snapshot takes the place of what it covers, and of all if the log is not of its history.
    fn install(&mut self, snapshot: Position) {
        let holds = self.base == snapshot || self.entries.iter().any(|entry| entry.position() == snapshot);
        self.entries.retain(|entry| holds && entry.index > snapshot.index);
        self.base = snapshot;
        if self.hard_state.term < snapshot.term {
            self.hard_state = HardState { term: snapshot.term, vote: None, commit: Index(0) };
        }
        self.hard_state.commit = snapshot.index;
    }

    /// What a server has that starts from this log and a snapshot.
    fn joined(&self, snapshot: Option<Position>) -> Self {
        let mut model = self.clone();
        if let Some(snapshot) = snapshot {
            model.install(snapshot);
        }
        model
    }

    fn of(recovered: &Recovered) -> Self {
        Self { hard_state: recovered.hard_state, base: recovered.base, entries: recovered.entries.clone() }
    }
}

/// A writer, its disk, and what the disk must give back after each write.
struct Bench {
    writer: Writer,
    disk: Disk,
    /// The newest snapshot, and the one before it if the log still goes back that far. They are always durable.
    snapshot: Option<Position>,
    older: Option<Position>,
    /// Removals that were not carried out yet.
    removals: Vec<FileOp>,
    /// The state after each write, from "nothing" on.
    states: Vec<Model>,
    /// The writes' places: file, begin, end.
    places: Vec<(FileName, usize, usize)>,
}

impl Bench {
    fn new(segment_bytes: u64) -> Self {
        Self::going_on(Disk::default(), &Recovered::default(), None, segment_bytes)
    }

    fn going_on(disk: Disk, recovered: &Recovered, snapshot: Option<Position>, segment_bytes: u64) -> Self {
        let writer = Writer::with_options(recovered, options(segment_bytes));
        let states = vec![Model::of(recovered); usize::try_from(writer.last_seq().0).unwrap() + 1];
        Self { writer, disk, snapshot, older: None, removals: Vec::new(), states, places: Vec::new() }
    }

    fn of(steps: &[Step], segment_bytes: u64) -> Self {
        let mut bench = Self::new(segment_bytes);
        for step in steps {
            bench.step(step);
        }
        bench
    }

    fn recover(&self) -> Result<Recovered, Corrupt> {
        self.disk.recover(self.snapshot)
    }

    /// What recovery must give if it finds all writes up to this one.
    fn expected(&self, seq: usize) -> Model {
        self.states[seq].joined(self.snapshot)
    }

    fn expected_now(&self) -> Model {
        self.expected(self.states.len() - 1)
    }

    /// A write while everything before it is known to be durable.
    fn step(&mut self, step: &Step) {
        self.step_with(self.states.len() as u64 - 1, step);
    }

    fn step_with(&mut self, stable: u64, step: &Step) {
        let mut model = self.states.last().unwrap().clone();
        let (hard_state, base, entries) = step.after(&model, self.snapshot.unwrap_or_default());
        if let Some(base) = base {
            model.install(base);
            (self.snapshot, self.older) = (Some(base), None);
        }
        model.apply(hard_state, &entries);
        let write = self.writer.write(WriteSeq(stable), hard_state, base, &entries);
        self.states.push(model);
        assert_eq!(write.seq, WriteSeq(self.states.len() as u64 - 1));
        for op in &write.ops {
            self.disk.apply(op);
            let FileOp::Write { file, offset, bytes } = op else { panic!("a write only writes") };
            let offset = usize::try_from(*offset).unwrap();
            self.places.push((file.clone(), offset, offset + bytes.len()));
        }
        if let Some(back) = step.cut_snapshot {
            self.cut_snapshot(back);
        }
        while let Some((file, size)) = self.writer.poll_reserve(Instant::ZERO) {
            self.disk.reserve(&file, usize::try_from(size).unwrap());
            self.writer.handle_reserved(Instant::ZERO, &file, size, true);
        }
    }

    /// A snapshot of what is there now; the log is kept from the one before on.
    fn cut_snapshot(&mut self, back: usize) {
        let model = self.states.last().unwrap();
        let place = model.entries.len().checked_sub(back + 1);
        let Some(position) = place.map(|at| model.entries[at].position()) else { return };
        if self.snapshot.is_some_and(|newest| newest.index >= position.index) {
            return;
        }
        self.older = self.snapshot.replace(position);
        let up_to = self.older.map_or(Index(0), |older| older.index);
        self.removals.extend(self.writer.discard(up_to));
        // The last one is on its way for long.
        for op in self.removals.drain(..self.removals.len().saturating_sub(1)) {
            self.disk.apply(&op);
        }
    }

    fn finish_removals(&mut self) {
        for op in self.removals.drain(..) {
            self.disk.apply(&op);
        }
    }

    /// The places that are still there.
    fn live_places(&self) -> Vec<(FileName, usize, usize)> {
        self.places.iter().filter(|(file, _, _)| self.disk.0.contains_key(file)).cloned().collect()
    }

    /// Flips one bit in every byte of a write. Each flip must be found, or lie in the padding behind it.
    fn check_flips(&self, place: &(FileName, usize, usize), bit: u32) -> Result<(), TestCaseError> {
        let (file, begin, end) = place;
        for offset in *begin..*end {
            let mut disk = self.disk.clone();
            disk.0.get_mut(file).unwrap()[offset] ^= 1 << bit;
            if let Ok(recovered) = disk.recover(self.snapshot) {
                prop_assert!(end - offset < 32, "a bit flipped at {file}:{offset} of {begin}..{end} went unnoticed");
                prop_assert_eq!(Model::of(&recovered), self.expected_now());
            }
        }
        Ok(())
    }
}

/// One write of a server, relative to what it already has.
#[derive(Clone, Debug, Default)]
struct Step {
    new_term: bool,
    cut: usize,
    values: Vec<Vec<u8>>,
    /// A snapshot comes from a leader: of an entry so far behind the end, which the server has or has another of.
    install: Option<(i64, bool)>,
    /// After the write a snapshot is made of the state before so many of the last entries.
    cut_snapshot: Option<usize>,
}

impl Step {
    /// The write. Nothing that `snapshot` covers is replaced, as it was committed; nothing else is without a new term.
    fn after(&self, model: &Model, snapshot: Position) -> (Option<HardState>, Option<Position>, Vec<Entry>) {
        let conflicts = matches!(self.install, Some((_, true)));
        let is_new = self.new_term || self.cut > 0 || conflicts || model.hard_state.term.0 == 0;
        let term = Term(model.hard_state.term.0 + u64::from(is_new));
        let base = self.base(model, snapshot, term);
        let mut after = model.clone();
        if let Some(base) = base {
            after.install(base);
        }
        let floor = snapshot.index.max(after.base.index).0;
        let keep = floor.max(after.last().index.0.saturating_sub(self.cut as u64));
        let entries: Vec<_> = (keep + 1..)
            .map(Index)
            .zip(&self.values)
            .map(|(index, value)| Entry { index, term, payload: Payload::Command(Bytes::from(value.clone())) })
            .collect();
        let hard_state = HardState { term, vote: Some(PeerId::numbered(term.0 % 5)), commit: Index(0) };
        ((term != model.hard_state.term).then_some(hard_state), base, entries)
    }

    fn base(&self, model: &Model, snapshot: Position, term: Term) -> Option<Position> {
        let (ahead, conflicts) = self.install?;
        let index = Index(model.last().index.0.checked_add_signed(ahead)?);
        let own = model.entries.iter().find(|entry| entry.index == index).map(Entry::position);
        let position = own.filter(|_| !conflicts).unwrap_or(Position { index, term });
        (index > snapshot.index.max(model.base.index)).then_some(position)
    }
}

fn steps(count: std::ops::Range<usize>, value: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<Step>> {
    let cut = prop_oneof![4 => Just(0_usize), 1 => 0..6_usize];
    let step = (prop::bool::weighted(0.2), cut, prop::collection::vec(value, 0..4))
        .prop_map(|(new_term, cut, values)| Step { new_term, cut, values, ..Step::default() });
    prop::collection::vec(step, count)
}

/// As [`steps`], with snapshots.
fn compacted(count: std::ops::Range<usize>, value: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<Step>> {
    let install = prop_oneof![8 => Just(None), 1 => (-4..6_i64, any::<bool>()).prop_map(Some)];
    let cut_snapshot = prop_oneof![2 => Just(None), 1 => (0..3_usize).prop_map(Some)];
    steps(count, value).prop_flat_map(move |steps| {
        let more = prop::collection::vec((install.clone(), cut_snapshot.clone()), steps.len());
        more.prop_map(move |more| {
            let join = |(step, (install, cut_snapshot)): (&Step, _)| Step { install, cut_snapshot, ..step.clone() };
            steps.iter().zip(more).map(join).collect()
        })
    })
}

/// Values without zeros, up to a few sectors.
fn dense() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => prop::collection::vec(1..=255_u8, 0..80),
        1 => (1..=255_u8, 400..1800_usize).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

/// Values of any kind, some with whole sectors of zeros.
fn any_value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![3 => dense(), 1 => (400..2500_usize).prop_map(|length| vec![0; length])]
}

/// After the repairs the same is read again, only the last writes are repaired once more, and the log goes on.
fn check_goes_on(
    mut disk: Disk,
    snapshot: Option<Position>,
    recovered: &Recovered,
    segment_bytes: u64,
) -> Result<(), TestCaseError> {
    for op in &recovered.repairs {
        disk.apply(op);
    }
    let again = disk.recover(snapshot).map_err(|corrupt| TestCaseError::fail(corrupt.to_string()))?;
    prop_assert_eq!(Model::of(&again), Model::of(recovered));
    prop_assert!(again.repairs.iter().all(|op| matches!(op, FileOp::Write { .. })), "{:?}", again.repairs);
    let mut bench = Bench::going_on(disk, &again, snapshot, segment_bytes);
    for byte in 1..4 {
        bench.step(&Step { new_term: byte == 2, values: vec![vec![byte; 700]], ..Step::default() });
        let now = bench.recover().map_err(|corrupt| TestCaseError::fail(corrupt.to_string()))?;
        prop_assert!(!now.needs_base, "the first write has said it");
    }
    let end = bench.recover().map_err(|corrupt| TestCaseError::fail(corrupt.to_string()))?;
    prop_assert_eq!(Model::of(&end), bench.expected_now());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// What was written comes back, through restarts, over many segments.
    #[test]
    fn the_log_comes_back(
        steps in compacted(1..60, any_value()),
        segment_bytes in 1024..16_384_u64,
        restart_every in 1..20_usize,
    ) {
        let mut bench = Bench::new(segment_bytes);
        for (n, step) in steps.iter().enumerate() {
            bench.step(step);
            if n % restart_every == 0 {
                let recovered = bench.recover().unwrap();
                prop_assert_eq!(Model::of(&recovered), bench.expected_now());
                prop_assert!(!recovered.needs_base, "nothing was torn");
                bench.finish_removals();
                let recovered = bench.recover().unwrap();
                prop_assert_eq!(Model::of(&recovered), bench.expected_now());
                if let Some(older) = bench.older {
                    let older = bench.disk.recover(Some(older)).unwrap();
                    let mut expected = bench.states.last().unwrap().joined(bench.older);
                    expected.hard_state.commit = older.hard_state.commit;
                    prop_assert_eq!(Model::of(&older), expected, "from the older snapshot");
                }
                let before = bench.disk.clone();
                for op in &recovered.repairs {
                    bench.disk.apply(op);
                }
                prop_assert_eq!(&bench.disk, &before, "nothing was torn");
                let old = bench.writer.old_segments().to_vec();
                bench.writer = Writer::with_options(&recovered, options(segment_bytes));
                prop_assert_eq!(bench.writer.last_seq().0, n as u64 + 1);
                prop_assert_eq!(bench.writer.old_segments(), &old);
            }
        }
        prop_assert_eq!(Model::of(&bench.recover().unwrap()), bench.expected_now());
    }

    /// The last file cut anywhere: all writes before the cut are there, and the log goes on from there.
    #[test]
    fn a_cut_file_gives_a_prefix(steps in steps(2..8, any_value()), segment_bytes in 1024..4096_u64) {
        let mut bench = Bench::of(&steps, segment_bytes);
        // The segment after the last one may be reserved; it proves that the last one holds a durable write.
        let last_file = bench.places.last().unwrap().0.clone();
        bench.disk.0.retain(|name, _| *name <= last_file);
        for length in 0..=bench.disk.last().len() {
            let mut disk = bench.disk.clone();
            disk.last().truncate(length);
            let recovered = disk.recover(None).map_err(|c| TestCaseError::fail(format!("cut to {length}: {c}")))?;
            let whole = bench.places.iter().filter(|(file, _, end)| *file < last_file || *end <= length).count();
            let found = Writer::new(&recovered).last_seq().0 as usize;
            prop_assert!(found == whole || found == whole + 1, "cut to {length}: {found} of {whole} writes");
            prop_assert_eq!(Model::of(&recovered), bench.expected(found));
            if length % 16 == 1 {
                check_goes_on(disk, None, &recovered, segment_bytes)?;
            }
        }
    }

    /// A flipped bit is found wherever it matters.
    #[test]
    fn a_flipped_bit_is_found(
        steps in compacted(2..16, dense()),
        segment_bytes in 1024..8192_u64,
        at in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        let bench = Bench::of(&steps, segment_bytes);
        bench.check_flips(at.get(&bench.live_places()), bit)?;
    }

    /// With whole sectors of zeros in the values, too, a flipped bit before the last write is found.
    #[test]
    fn a_flipped_bit_before_the_last_write_is_found_among_zeros(
        steps in compacted(3..16, any_value()),
        segment_bytes in 1024..8192_u64,
        at in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        let bench = Bench::of(&steps, segment_bytes);
        let places = bench.live_places();
        prop_assume!(places.len() > 1);
        bench.check_flips(at.get(&places[..places.len() - 1]), bit)?;
    }

    /// Whatever happens to acknowledged data, zeros or rubbish in any part of it, is noticed.
    #[test]
    fn overwritten_acknowledged_data_is_found(
        steps in compacted(3..20, any_value()),
        segment_bytes in 1024..8192_u64,
        at in any::<prop::sample::Index>(),
        range in any::<(prop::sample::Index, prop::sample::Index)>(),
        rubbish in prop_oneof![Just(vec![0_u8]), prop::collection::vec(any::<u8>(), 1..600)],
    ) {
        let bench = Bench::of(&steps, segment_bytes);
        let places = bench.live_places();
        prop_assume!(places.len() > 1);
        let (file, begin, end) = at.get(&places[..places.len() - 1]);
        let (one, other) = (begin + range.0.index(end - begin), begin + range.1.index(end - begin));
        let mut disk = bench.disk.clone();
        let damaged = &mut disk.0.get_mut(file).unwrap()[one.min(other)..=one.max(other)];
        for (byte, rubbish) in damaged.iter_mut().zip(rubbish.iter().cycle()) {
            *byte = *rubbish;
        }
        if let Ok(recovered) = disk.recover(bench.snapshot) {
            prop_assert_eq!(Model::of(&recovered), bench.expected_now());
            prop_assert!(disk == bench.disk || end - one.min(other) < 32, "only padding may change");
        }
    }

    /// Power fails while a group of writes is on its way: any of their sectors may be missing, any of their
    /// files may be shorter. What was durable is there, and what is there is a prefix.
    #[test]
    fn a_torn_group_of_writes_loses_nothing_durable(
        durable in compacted(0..16, any_value()),
        group in compacted(1..10, any_value()),
        segment_bytes in 1024..16_384_u64,
        lost in prop::collection::vec(any::<bool>(), 256),
        shorten in any::<bool>(),
    ) {
        let mut bench = Bench::of(&durable, segment_bytes);
        let synced = bench.disk.clone();
        for step in &group {
            bench.step_with(durable.len() as u64, step);
        }
        let mut disk = bench.disk.clone();
        let mut lost = lost.into_iter().cycle();
        for (name, bytes) in &mut disk.0 {
            let old = synced.0.get(name).cloned().unwrap_or_default();
            for (n, sector) in bytes.chunks_mut(SECTOR).enumerate() {
                let mut before = old.get(n * SECTOR..).unwrap_or_default().to_vec();
                before.resize(sector.len(), 0);
                if sector != before && lost.next().unwrap() {
                    sector.copy_from_slice(&before);
                }
            }
            if shorten {
                let content = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
                bytes.truncate(content.max(old.len()));
            }
        }
        disk.0.retain(|name, bytes| !bytes.is_empty() || synced.0.contains_key(name));
        let recovered = disk.recover(bench.snapshot).map_err(|corrupt| TestCaseError::fail(corrupt.to_string()))?;
        let found = Writer::new(&recovered).last_seq().0 as usize;
        prop_assert!(found >= durable.len(), "{found} of {} durable writes", durable.len());
        prop_assert_eq!(Model::of(&recovered), bench.expected(found));
        check_goes_on(disk, bench.snapshot, &recovered, segment_bytes)?;
    }
}
