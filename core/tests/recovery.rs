//! What a server starts from: whatever files it finds, the state is the one that it had, or it refuses and says why.

use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::Bytes;
use lictor_core::file::{FileName, FileOp};
use lictor_core::id::{Index, PeerId, Term};
use lictor_core::raft::{Configuration, Entry, HardState, Payload, Position, SnapshotMeta};
use lictor_core::recovery::{self, Failure, Files, PEERS, PEERS_INFO, Recovered};
use lictor_core::snapshot::{self, Encoder};
use lictor_core::store::kv::{Command as Kv, Mode};
use lictor_core::store::{Command, Store};
use lictor_core::wal::{self, Options, Problem, Writer, segment_name};
use lictor_core::wire;
use proptest::prelude::*;

type Failed = Failure<Infallible>;

#[derive(Clone, Debug, Default, PartialEq)]
struct Disk(BTreeMap<FileName, Vec<u8>>);

impl Files for Disk {
    type Error = Infallible;

    fn names(&mut self) -> Result<Vec<FileName>, Infallible> {
        Ok(self.0.keys().rev().cloned().collect())
    }

    fn read(&mut self, name: &str, take: &mut dyn FnMut(&[u8])) -> Result<(), Infallible> {
        self.0[name].chunks(777).for_each(take);
        Ok(())
    }
}

impl Disk {
    fn apply(&mut self, ops: &[FileOp]) {
        for op in ops {
            match op {
                FileOp::Write { file, offset, bytes } => {
                    let (file, at) = (self.0.entry(file.clone()).or_default(), usize::try_from(*offset).unwrap());
                    file.resize(file.len().max(at + bytes.len()), 0);
                    file[at..at + bytes.len()].copy_from_slice(bytes);
                }
                FileOp::Truncate { file, size } => {
                    self.0.get_mut(file).unwrap().truncate(usize::try_from(*size).unwrap());
                }
                FileOp::Remove { file } => drop(self.0.remove(file)),
                FileOp::Rename { .. } => panic!("recovery renames nothing"),
            }
        }
    }

    fn put(&mut self, name: &str, text: &str) {
        self.0.insert(name.to_owned(), text.as_bytes().to_vec());
    }

    fn recover(&mut self) -> Result<Recovered, Failed> {
        recovery::recover(self)
    }

    fn refusal(&mut self) -> String {
        let before = self.clone();
        let refusal = self.recover().expect_err("it must be refused").to_string();
        assert_eq!(self, &before);
        refusal
    }

    fn flip(&mut self, name: &str) {
        let content = self.0.get_mut(name).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 1;
    }
}

/// A server as it writes its files.
struct Server {
    disk: Disk,
    writer: Writer,
    store: Store,
    last: Position,
    members: Configuration,
    snapshots: Vec<Position>,
}

impl Server {
    fn new() -> Self {
        let members = cluster(3);
        let writer = Writer::with_options(&wal::Recovered::default(), options());
        let mut server = Self {
            disk: Disk::default(),
            writer,
            store: Store::default(),
            last: Position::START,
            members: members.clone(),
            snapshots: Vec::new(),
        };
        server.append(Payload::Configuration(members));
        server
    }

    fn append(&mut self, payload: Payload) {
        let index = self.last.index.next();
        match &payload {
            Payload::Command(bytes) => drop(self.store.apply(index, wire::decode(bytes).unwrap())),
            _ => self.store.note_applied(index),
        }
        self.last = Position { index, term: Term(1) };
        let entry = Entry { index, term: Term(1), payload };
        let hard_state = HardState { term: Term(1), vote: None, commit: index };
        let write = self.writer.write(self.writer.last_seq(), Some(hard_state), None, &[entry]);
        self.disk.apply(&write.ops);
    }

    fn puts(&mut self, count: usize) {
        for n in 0..count {
            let index = self.last.index.next();
            let (key, value) = (Bytes::from(format!("key {}", index.0 % 7)), Bytes::from(vec![n as u8 + 1; 150]));
            let command = Command::Kv(Kv::Put { key, value, flags: index.0, mode: Mode::Set });
            self.append(Payload::Command(wire::encode(&command).into()));
        }
    }

    /// A snapshot of what is there now. The log is kept from the one before on.
    fn snapshot(&mut self) -> Position {
        let position = self.last;
        self.disk.0.insert(snapshot::file_name(position), file_of(&self.store, position, &self.members));
        if let Some(older) = self.snapshots.last() {
            let removals = self.writer.discard(older.index);
            self.disk.apply(&removals);
        }
        self.snapshots.push(position);
        position
    }

    /// A snapshot comes from a leader, far ahead. Whether the log says so before the power fails.
    fn install(&mut self, is_noted: bool) -> Position {
        let position = Position { index: Index(self.last.index.0 + 100), term: Term(2) };
        self.store.note_applied(position.index);
        self.disk.0.insert(snapshot::file_name(position), file_of(&self.store, position, &self.members));
        self.last = position;
        if is_noted {
            let hard_state = HardState { term: Term(2), vote: None, commit: position.index };
            let write = self.writer.write(self.writer.last_seq(), Some(hard_state), Some(position), &[]);
            self.disk.apply(&write.ops);
        }
        position
    }

    fn check(&self, recovered: &Recovered) {
        assert_eq!(state_of(recovered), (self.store.clone(), self.last));
    }
}

fn options() -> Options {
    Options { segment_bytes: 1200, ..Options::default() }
}

fn cluster(servers: u64) -> Configuration {
    Configuration::new((1..=servers).map(|n| (PeerId::numbered(n), format!("10.1.0.{n}:8300").parse().unwrap())))
}

fn file_of(store: &Store, position: Position, members: &Configuration) -> Vec<u8> {
    let meta = SnapshotMeta { position, configuration: members.clone(), configuration_index: Index(1) };
    Encoder::new(&meta, store.clone(), 300).flat_map(|piece| piece.to_vec()).collect()
}

/// The store once the log is applied, and where the log ends.
fn state_of(recovered: &Recovered) -> (Store, Position) {
    let mut store = recovered.snapshot.as_ref().map(|snapshot| snapshot.store.clone()).unwrap_or_default();
    let mut last = recovered.snapshot.as_ref().map_or(Position::START, |snapshot| snapshot.meta.position);
    assert_eq!(recovered.log.base, last, "the log goes on behind the snapshot");
    for entry in &recovered.log.entries {
        assert_eq!(entry.index, last.index.next());
        match &entry.payload {
            Payload::Command(bytes) => drop(store.apply(entry.index, wire::decode(bytes).unwrap())),
            _ => store.note_applied(entry.index),
        }
        last = entry.position();
    }
    (store, last)
}

/// A server with three snapshots, and a log that goes back to the one before the last.
fn long_lived() -> Server {
    let mut server = Server::new();
    for _ in 0..3 {
        server.puts(17);
        server.snapshot();
    }
    server.puts(9);
    server
}

#[test]
fn nothing_is_a_new_server() {
    let recovered = Disk::default().recover().unwrap();
    assert!(recovered.snapshot.is_none() && recovered.repairs.is_empty() && recovered.warnings.is_empty());
    assert_eq!(recovered.log.base, Position::START);
}

#[test]
fn a_server_goes_on_from_its_newest_snapshot_and_the_log_behind_it() {
    let mut server = long_lived();
    server.disk.put(snapshot::DRAFT, "half");
    server.disk.put(snapshot::RECEIVED, "half");
    server.disk.put("raft/notes.txt", "mine");
    server.disk.put(PEERS_INFO, "read me");
    assert!(!server.disk.0.contains_key(&segment_name(1)), "the log was cut off at its beginning");
    let recovered = server.disk.recover().unwrap();
    server.check(&recovered);
    assert_eq!(recovered.log.hard_state.commit, server.last.index);
    let [first, second, third] = server.snapshots[..] else { panic!("three") };
    let sizes = [third, second].map(|position| (position, server.disk.0[&snapshot::file_name(position)].len() as u64));
    assert_eq!(recovered.kept, sizes);
    assert_eq!(recovered.warnings, ["raft/notes.txt is none of this server's files and is left alone"]);
    let removed: Vec<_> = recovered.repairs.iter().skip(recovered.log.repairs.len()).map(FileOp::file).collect();
    assert_eq!(removed, [snapshot::DRAFT, snapshot::RECEIVED, &snapshot::file_name(first)]);
    assert_eq!(recovered.repairs[..recovered.log.repairs.len()], recovered.log.repairs);

    server.disk.apply(&recovered.repairs);
    let again = server.disk.recover().unwrap();
    server.check(&again);
    assert_eq!(again.repairs, again.log.repairs, "all else is done");
    assert!(server.disk.0.contains_key("raft/notes.txt") && server.disk.0.contains_key(PEERS_INFO));
}

#[test]
fn a_damaged_snapshot_is_survived_if_the_log_goes_back_to_the_older_one() {
    let mut server = long_lived();
    let [first, second, third] = server.snapshots[..] else { panic!("three") };
    server.disk.flip(&snapshot::file_name(third));
    let recovered = server.disk.recover().unwrap();
    server.check(&recovered);
    assert_eq!(recovered.kept.iter().map(|(position, _)| *position).collect::<Vec<_>>(), [second, first]);
    let warning = &recovered.warnings[0];
    for part in [&snapshot::file_name(third), "is damaged", &snapshot::file_name(second), "nothing is lost"] {
        assert!(warning.contains(part), "{part:?} is not in {warning:?}");
    }
    server.disk.apply(&recovered.repairs);
    let again = server.disk.recover().unwrap();
    server.check(&again);
    assert!(again.warnings.is_empty(), "{:?}", again.warnings);

    server.disk.flip(&snapshot::file_name(second));
    let refusal = server.disk.refusal();
    for part in
        [&snapshot::file_name(second), "is damaged", "Nothing was changed", "move the whole data directory away"]
    {
        assert!(refusal.contains(part), "{part:?} is not in {refusal:?}");
    }
}

#[test]
fn without_any_whole_snapshot_the_whole_log_will_do() {
    let mut server = Server::new();
    server.puts(20);
    let position = server.snapshot();
    server.puts(5);
    server.disk.flip(&snapshot::file_name(position));
    let recovered = server.disk.recover().unwrap();
    server.check(&recovered);
    assert!(recovered.warnings[0].contains("The log alone is used") && recovered.kept.is_empty());

    server.disk.0.remove(&snapshot::file_name(position));
    server.check(&server.disk.clone().recover().unwrap());
}

#[test]
fn what_came_from_a_leader_must_be_whole() {
    for is_noted in [true, false] {
        let mut server = long_lived();
        let installed = server.install(is_noted);
        let recovered = server.disk.recover().unwrap();
        server.check(&recovered);
        assert_eq!(recovered.log.needs_base, !is_noted);
        assert_eq!(recovered.log.hard_state.term, Term(2));

        let mut damaged = server.disk.clone();
        damaged.flip(&snapshot::file_name(installed));
        let refused = damaged.recover().expect_err("what was acknowledged is gone");
        assert!(matches!(&refused, Failure::SnapshotDamaged { file, .. } if *file == snapshot::file_name(installed)));
    }
    let mut server = long_lived();
    let installed = server.install(true);
    server.disk.0.remove(&snapshot::file_name(installed));
    let refusal = server.disk.refusal();
    let name = snapshot::file_name(installed);
    assert!(refusal.starts_with(&format!("snapshot {name}, which the log builds on, is missing")), "{refusal}");
}

#[test]
fn a_snapshot_that_took_the_logs_place_is_noted_with_the_next_write() {
    let mut server = long_lived();
    let installed = server.install(false);
    let recovered = server.disk.recover().unwrap();
    server.disk.apply(&recovered.repairs);
    server.writer = Writer::with_options(&recovered.log, options());
    let entry = Entry { index: installed.index.next(), term: Term(2), payload: Payload::Noop };
    let write = server.writer.write(server.writer.last_seq(), Some(recovered.log.hard_state), None, &[entry]);
    server.disk.apply(&write.ops);
    let again = server.disk.recover().unwrap();
    assert!(!again.log.needs_base);
    assert_eq!(state_of(&again).1, Position { index: installed.index.next(), term: Term(2) });
}

#[test]
fn snapshots_that_are_all_gone_are_missed() {
    let mut server = long_lived();
    server.disk.0.retain(|name, _| snapshot::position_of(name).is_none());
    let refused = server.disk.recover().expect_err("the log's beginning is gone");
    assert!(matches!(&refused, Failure::Corrupt(corrupt) if matches!(corrupt.problem, Problem::Missing(_))));

    let mut server = long_lived();
    server.disk.0.retain(|name, _| wal::segment_number(name).is_none());
    assert!(matches!(server.disk.recover(), Err(Failure::NoLog)));
}

#[test]
fn a_renamed_snapshot_does_not_count() {
    let mut server = long_lived();
    let [_, second, third] = server.snapshots[..] else { panic!("three") };
    let content = server.disk.0[&snapshot::file_name(second)].clone();
    server.disk.0.insert(snapshot::file_name(third), content);
    let recovered = server.disk.recover().unwrap();
    server.check(&recovered);
    assert!(recovered.warnings[0].contains("under another name"), "{:?}", recovered.warnings);
}

#[test]
fn segments_before_a_gap_are_stale_or_one_is_missing() {
    let mut server = long_lived();
    server.disk.0.insert(segment_name(1), vec![1; 100]);
    let recovered = server.disk.recover().unwrap();
    server.check(&recovered);
    assert!(recovered.repairs.contains(&FileOp::Remove { file: segment_name(1) }));

    let segments: Vec<_> = server.disk.0.keys().filter(|name| wal::segment_number(name).is_some()).cloned().collect();
    let lost = &segments[segments.len() - 2];
    server.disk.0.remove(lost);
    match server.disk.recover() {
        Err(Failure::Corrupt(corrupt)) => assert_eq!(corrupt.problem, Problem::Missing(lost.clone())),
        other => panic!("a lost segment: {other:?}"),
    }
}

#[test]
fn no_lost_file_changes_the_state_in_silence() {
    let server = long_lived();
    let last = server.disk.0.keys().rfind(|name| wal::segment_number(name).is_some()).unwrap();
    for lost in server.disk.0.keys().filter(|name| *name != last) {
        let mut disk = server.disk.clone();
        disk.0.remove(lost);
        if let Ok(recovered) = disk.recover() {
            server.check(&recovered);
        }
    }
}

/// The server with this text in `raft/peers.json`.
fn with_peers(text: &str) -> Result<Recovered, Failed> {
    let mut server = long_lived();
    server.disk.put(PEERS, text);
    server.disk.recover()
}

#[test]
fn the_operator_says_who_the_members_are() {
    let one = with_peers(r#"["10.1.0.2:8300"]"#).unwrap();
    let second = (PeerId::numbered(2), "10.1.0.2:8300".parse().unwrap());
    assert_eq!(one.forced, Some(Configuration::new([second])));
    assert_eq!(
        one.warnings,
        ["raft/peers.json: the cluster's members are now 1 server (10.1.0.2:8300), instead of 3 servers \
          (10.1.0.1:8300, 10.1.0.2:8300, 10.1.0.3:8300). The file is removed once that is committed"]
    );
    assert!(one.repairs.iter().all(|op| op.file() != PEERS), "not before it is committed");

    let ids = with_peers(
        r#"[{"id": "adf4238a-882b-9ddc-4a9d-5b6758e4159e", "address": "10.9.0.1:8300", "non_voter": false, "x": 1},
            {"id": "00000000-0000-0000-0000-000000000002", "address": "10.9.0.2:8300", "non_voter": true}]"#,
    )
    .unwrap();
    let forced = ids.forced.unwrap();
    assert_eq!((forced.servers.len(), forced.voter_count()), (2, 1));
    assert_eq!(forced.address(PeerId::numbered(2)), Some("10.9.0.2:8300".parse().unwrap()));
    assert!(ids.warnings[0].contains("10.9.0.2:8300 without a vote"), "{:?}", ids.warnings);
}

#[test]
fn an_order_that_is_fulfilled_is_removed() {
    let done = with_peers(r#"["10.1.0.3:8300", "10.1.0.1:8300", "10.1.0.2:8300"]"#).unwrap();
    assert_eq!(done.forced, None);
    assert_eq!(done.repairs.last(), Some(&FileOp::Remove { file: PEERS.to_owned() }));

    // What the log says is newer than what the snapshot says.
    let mut server = long_lived();
    server.append(Payload::Configuration(cluster(1)));
    server.disk.put(PEERS, r#"["10.1.0.1:8300"]"#);
    let done = server.disk.recover().unwrap();
    assert_eq!((done.forced.as_ref(), done.configuration()), (None, Some(&cluster(1))));
    server.disk.put(PEERS, r#"["10.1.0.2:8300"]"#);
    assert!(server.disk.refusal().contains("knows of no server at 10.1.0.2:8300"));
}

#[test]
fn an_order_that_cannot_be_meant_is_refused() {
    let id = "adf4238a-882b-9ddc-4a9d-5b6758e4159e";
    let cases = [
        ("", "not JSON"),
        ("{\"a\": 1}", "not a list"),
        ("[1]", "server 1 of 1: neither an address"),
        ("[]", "names no server that has a vote"),
        (r#"["10.1.0.1:8300", "10.1.0.1"]"#, "server 2 of 2: \"10.1.0.1\" is not an address with a port"),
        (r#"["10.1.0.1:0"]"#, "is not an address with a port"),
        (r#"["10.7.0.1:8300"]"#, "knows of no server at 10.7.0.1:8300, but of 10.1.0.1:8300, 10.1.0.2:8300"),
        (r#"["10.7.0.1:8300"]"#, "use the form with ids"),
        (r#"["10.1.0.1:8300", "10.1.0.1:8300"]"#, "the address 10.1.0.1:8300 is named twice"),
        (r#"[{"address": "10.1.0.1:8300"}]"#, "has no \"id\""),
        (r#"[{"id": 7, "address": "10.1.0.1:8300"}]"#, "\"id\" is not a text"),
        (r#"[{"id": "n1", "address": "10.1.0.1:8300"}]"#, "\"n1\" is not a server's id"),
        (r#"[{"id": "ID"}]"#, "has no \"address\""),
        (r#"[{"id": "ID", "address": "here"}]"#, "\"here\" is not an address"),
        (r#"[{"id": "ID", "address": "10.1.0.1:8300", "non_voter": 1}]"#, "\"non_voter\" is neither"),
        (r#"[{"id": "ID", "address": "10.1.0.1:8300", "non_voter": true}]"#, "names no server that has a vote"),
        (r#"[{"id": "ID", "address": "10.1.0.1:8300"}, {"id": "ID", "address": "10.1.0.2:8300"}]"#, "is named twice"),
    ];
    for (text, expected) in cases {
        let refused = with_peers(&text.replace("ID", id)).expect_err(text).to_string();
        assert!(refused.starts_with("raft/peers.json: "), "{refused}");
        assert!(refused.contains(expected), "{text}: {expected:?} is not in {refused:?}");
        assert!(refused.contains("Nothing was changed"), "{refused}");
    }
    let long = format!("[{}\"10.1.0.1:8300\"]", " ".repeat(2 << 20));
    assert!(with_peers(&long).expect_err("too long").to_string().contains("longer than"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// A flipped bit in any byte of any file is found, or changes nothing.
    #[test]
    fn a_flipped_bit_never_changes_the_state(
        steps in prop::collection::vec((1..14_usize, 0..5_u8), 2..6),
        bit in 0..8_u32,
    ) {
        let mut server = Server::new();
        for (puts, then) in steps {
            match then {
                0 => drop(server.install(true)),
                1..=3 => drop(server.snapshot()),
                _ => {}
            }
            if server.last.term == Term(1) {
                server.puts(puts);
            }
        }
        server.check(&server.disk.clone().recover().unwrap());
        let names: Vec<_> = server.disk.0.keys().cloned().collect();
        for name in names {
            for at in 0..server.disk.0[&name].len() {
                let mut disk = server.disk.clone();
                disk.0.get_mut(&name).unwrap()[at] ^= 1 << bit;
                if let Ok(recovered) = disk.recover() {
                    prop_assert_eq!(state_of(&recovered), (server.store.clone(), server.last), "{}:{}", &name, at);
                }
            }
        }
    }
}
