//! Snapshots on a disk that has no room, and from leaders that fall silent or tell nonsense.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::{Agent, Lone, heartbeat};
use crate::config::{Config, Snapshots};
use crate::id::{Index, PeerId, Term};
use crate::io::{FileOp, Input, Job, JobOutcome, Output};
use crate::peer::{Body, Envelope};
use crate::raft::{Configuration, Entry, Kind, Message, Payload, Piece, Position, SnapshotMeta};
use crate::recovery::Recovered;
use crate::snapshot::{self, Decoder, Encoder};
use crate::store::{self, Command, Store};
use crate::time::{Duration, Instant};
use crate::wire;

/// A server whose log is durable at once, and whose jobs are done when the test says so.
struct Server {
    agent: Agent,
    now: Instant,
    jobs: VecDeque<Job>,
    files: BTreeMap<String, Vec<u8>>,
    sent: Vec<Kind>,
}

impl Server {
    fn of(servers: u64) -> Self {
        let members = (1..=servers).map(|n| (PeerId::numbered(n), format!("127.0.0.{n}:8300").parse().unwrap()));
        let snapshots = Snapshots { entries: 10, trailing_entries: 0, piece_bytes: 100, ..Snapshots::default() };
        let lone = Config::clone(&Lone::new().agent.config);
        let config = Config { bootstrap: Some(Configuration::new(members)), snapshots, ..lone };
        let agent = Agent::new(config, 7, Recovered::default(), Instant::ZERO);
        let (jobs, files) = (VecDeque::new(), BTreeMap::new());
        let mut server = Self { agent, now: Instant::ZERO, jobs, files, sent: Vec::new() };
        server.input(Input::Timeout);
        server
    }

    fn input(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            self.agent.handle_input(self.now, input);
            while let Some(output) = self.agent.poll_output() {
                match output {
                    Output::Persist(write) => inputs.push(Input::Persisted(write.seq)),
                    Output::Job(job) => self.jobs.push_back(job),
                    Output::Message { envelope: Envelope { body: Body::Raft(message), .. }, .. } => {
                        self.sent.push(message.kind);
                    }
                    _ => {}
                }
            }
        }
    }

    fn hear(&mut self, term: u64, kind: Kind) {
        self.hear_from(2, term, kind);
    }

    fn hear_from(&mut self, from: u64, term: u64, kind: Kind) {
        let body = Body::Raft(Message { term: Term(term), kind });
        let (from, to) = (PeerId::numbered(from), PeerId::numbered(1));
        let address = self.agent.raft().address(from).unwrap();
        self.input(Input::Message(Envelope { from, to, address, cluster: wire::cluster_tag("dc1"), body }));
    }

    fn hear_pieces(&mut self, at: Position, pieces: &[Bytes]) {
        self.hear_some(2, at, pieces, pieces.len());
    }

    /// The first pieces come, in this term.
    fn hear_some(&mut self, term: u64, at: Position, pieces: &[Bytes], count: usize) {
        for (number, bytes) in (0..).zip(&pieces[..count]) {
            let last = usize::try_from(number).unwrap() + 1 == pieces.len();
            self.hear(term, Kind::Piece(Piece { snapshot: at, number, last, bytes: bytes.clone() }));
        }
    }

    fn put(&mut self, key: u64) {
        let request = crate::api::kv::Request::Put {
            key: key.to_string().into(),
            value: vec![7; 60].into(),
            flags: 0,
            mode: crate::api::kv::PutMode::Set,
        };
        self.input(Input::Call { id: crate::id::CallId(key), call: crate::api::Call::new(request) });
    }

    /// The next job is done, or finds no room. Whatever has the name of a snapshot then is one.
    fn finish_job(&mut self, outcome: JobOutcome) {
        let job = self.jobs.pop_front().expect("there is a job");
        if outcome == JobOutcome::Done {
            job.ops.iter().for_each(|op| self.carry_out(op));
        }
        for (name, bytes) in &self.files {
            if let Some(position) = snapshot::position_of(name) {
                let mut decoder = Decoder::new();
                decoder.feed(bytes).unwrap_or_else(|damaged| panic!("{name}: {damaged}"));
                assert_eq!(decoder.finish().unwrap().meta.position, position);
            }
        }
        self.input(Input::JobDone { id: job.id, outcome });
    }

    fn finish_all_jobs(&mut self) {
        while !self.jobs.is_empty() {
            self.finish_job(JobOutcome::Done);
        }
    }

    fn carry_out(&mut self, op: &FileOp) {
        match op {
            FileOp::Write { file, offset, bytes } => {
                let (content, at) = (self.files.entry(file.clone()).or_default(), usize::try_from(*offset).unwrap());
                content.resize(content.len().max(at + bytes.len()), 0);
                content[at..at + bytes.len()].copy_from_slice(bytes);
            }
            FileOp::Rename { file, to } => {
                let content = self.files.remove(file).unwrap();
                self.files.insert(to.clone(), content);
            }
            FileOp::Remove { file } => drop(self.files.remove(file)),
            FileOp::Truncate { .. } => panic!("nobody cuts a file: {op:?}"),
        }
    }

    /// Is elected, and goes on for so long with the answers of the second server alone.
    fn lead(&mut self, seconds: u64) {
        if !self.agent.raft().is_leader() {
            self.now = super::next_but_pool(&self.agent).unwrap();
            self.input(Input::Timeout);
            self.hear(2, Kind::PreVoteReply { granted: true });
            self.hear(2, Kind::VoteReply { granted: true });
        }
        for _ in 0..seconds * 10 {
            self.now = self.now + Duration::from_millis(100);
            let matched = self.agent.raft().log().last().index;
            self.hear(2, Kind::Appended { matched });
            self.finish_all_jobs();
        }
        assert!(self.agent.raft().is_leader());
    }

    fn is_writing(&self, file: &str) -> bool {
        self.jobs.iter().flat_map(|job| &job.ops).any(|op| matches!(op, FileOp::Write { file: at, .. } if at == file))
    }

    fn snapshots(&self) -> Vec<Position> {
        self.files.keys().filter_map(|name| snapshot::position_of(name)).collect()
    }

    /// Writes until a snapshot is due. Gives the last key.
    fn begin_cut(&mut self, mut key: u64) -> u64 {
        while !self.is_writing(snapshot::DRAFT) {
            key += 1;
            assert!(key < 1000, "no snapshot is cut");
            self.put(key);
        }
        key
    }
}

fn position(index: u64) -> Position {
    Position { index: Index(index), term: Term(1) }
}

/// The pieces of a snapshot of another server at this place of its log.
fn pieces(at: Position) -> Vec<Bytes> {
    let mut store = Store::default();
    for index in 2..=at.index.0 {
        store.apply(Index(index), put(index));
    }
    let members = (1..=3).map(|n| (PeerId::numbered(n), format!("127.0.0.{n}:8300").parse().unwrap()));
    let meta = SnapshotMeta { position: at, configuration: Configuration::new(members), configuration_index: Index(1) };
    Encoder::new(&meta, store, 100).collect()
}

fn put(index: u64) -> Command {
    let (key, value) = (index.to_string().into(), vec![7; 60].into());
    store::kv::Command::Put { key, value, flags: 0, mode: store::kv::Mode::Set }.into()
}

fn follower() -> Server {
    let mut server = Server::of(3);
    server.hear(2, heartbeat());
    server
}

#[test]
fn a_received_snapshot_gets_its_name_only_when_all_of_it_is_on_the_disk() {
    let (at, mut server) = (position(20), follower());
    let pieces = pieces(at);
    server.hear_pieces(at, &pieces);
    for _ in 0..pieces.len() - 2 {
        server.finish_job(JobOutcome::Done);
    }
    server.finish_job(JobOutcome::NoRoom);
    // The last piece is small: it finds room where the one before did not.
    server.finish_all_jobs();
    assert_eq!((server.snapshots(), server.agent.store().index()), (vec![], Index(0)));
    assert_eq!(server.files.len(), 0, "what is of no use is removed");
    // Then there is room again.
    server.now = server.now + Duration::from_secs(6);
    server.hear(2, heartbeat());
    server.hear_pieces(at, &pieces);
    server.finish_all_jobs();
    assert_eq!((server.snapshots(), server.agent.store().index()), (vec![at], Index(20)));
}

#[test]
fn what_is_not_the_announced_snapshot_never_gets_its_name() {
    let (at, mut server) = (position(20), follower());
    let stranger: Vec<Bytes> = store::image::Encoder::new("no meta".into(), Store::default(), 100).collect();
    for pieces in [pieces(position(19)), stranger] {
        server.hear_pieces(at, &pieces);
        server.finish_all_jobs();
        assert_eq!((server.snapshots(), server.agent.store().index()), (vec![], Index(0)));
        server.now = server.now + Duration::from_secs(6);
        server.hear(2, heartbeat());
    }
    server.hear_pieces(at, &pieces(at));
    server.finish_all_jobs();
    assert_eq!(server.snapshots(), [at]);
}

/// A leader that was told of the last piece sends nothing more; and what tells it of the rest may get lost.
#[test]
fn a_leader_that_does_not_hear_of_the_installation_asks_again() {
    let (at, mut server) = (position(20), follower());
    let pieces = pieces(at);
    server.hear_pieces(at, &pieces);
    server.finish_all_jobs();
    let all = u32::try_from(pieces.len()).unwrap();
    let acknowledged = server.sent.iter().filter_map(|kind| match kind {
        Kind::PieceReply { next, .. } => Some(*next),
        _ => None,
    });
    assert_eq!(acknowledged.max(), Some(all - 1));
    server.sent.clear();
    server.hear_pieces(at, &pieces);
    assert_eq!(server.sent.last(), Some(&Kind::Appended { matched: Index(20) }));
    assert!(server.jobs.is_empty());
}

#[test]
fn a_file_of_an_attempt_that_was_given_up_is_removed() {
    let (at, mut server) = (position(20), follower());
    let pieces = pieces(at);
    server.hear_pieces(at, &pieces);
    for _ in 0..pieces.len() {
        server.finish_job(JobOutcome::Done);
    }
    assert!(server.jobs[0].ops.iter().any(|op| matches!(op, FileOp::Rename { .. })), "{:?}", server.jobs);
    // Another leader sends the same one while the first copy gets its name.
    let body = Kind::Heartbeat { commit: Index(0), round: crate::id::Round(1) };
    server.hear(3, body);
    server.hear_some(3, at, &pieces, pieces.len());
    server.finish_all_jobs();
    assert_eq!((server.snapshots(), server.agent.store().index()), (vec![at], Index(20)));
}

#[test]
fn a_transfer_that_is_not_needed_any_more_does_not_stop_our_own_snapshots() {
    let mut server = follower();
    server.hear_some(2, position(20), &pieces(position(20)), 1);
    assert!(server.is_writing(snapshot::RECEIVED));
    // What was on its way for long brings all of it, and more.
    let entries = (2..=40).map(|index| Entry {
        index: Index(index),
        term: Term(1),
        payload: Payload::Command(wire::encode(&put(index)).into()),
    });
    let prev = Position { index: Index(1), term: Term(1) };
    server.hear(2, Kind::Append { prev, entries: entries.collect(), commit: Index(40) });
    server.finish_all_jobs();
    assert_eq!(server.snapshots(), [position(40)]);
}

#[test]
fn our_own_snapshot_gets_its_name_only_when_all_of_it_is_on_the_disk_and_is_tried_again() {
    let mut server = Server::of(1);
    let key = server.begin_cut(0);
    while !server.jobs.is_empty() {
        // One finds no room; the last one, which is small, does.
        let outcome = if server.jobs.len() == 2 && server.jobs[1].ops.iter().any(is_small) {
            JobOutcome::NoRoom
        } else {
            JobOutcome::Done
        };
        server.finish_job(outcome);
    }
    assert_eq!(server.snapshots(), []);
    server.put(key + 1);
    assert!(server.jobs.is_empty(), "the disk gets time to find room");
    server.now = server.now + Duration::from_secs(6);
    server.put(key + 2);
    server.finish_all_jobs();
    assert_eq!(server.snapshots().len(), 1);
}

fn is_small(op: &FileOp) -> bool {
    matches!(op, FileOp::Write { bytes, .. } if bytes.len() < 60)
}

#[test]
fn what_is_sent_to_a_follower_that_falls_silent_is_forgotten() {
    let mut server = Server::of(3);
    server.lead(11);
    for key in 1..40 {
        server.put(key);
        server.lead(1);
    }
    assert!(server.agent.raft().log().base().index > Index(1), "the log is cut off");
    let rejected = |server: &mut Server| {
        let prev = server.agent.raft().log().last().index;
        server.hear_from(3, 2, Kind::Rejected { prev, hint: Position::START });
    };
    rejected(&mut server);
    server.lead(1);
    rejected(&mut server);
    assert_eq!(server.agent.snapshots.sending(), 1);
    server.lead(8);
    assert_eq!(server.agent.snapshots.sending(), 1);
    server.lead(3);
    assert_eq!(server.agent.snapshots.sending(), 0);
    // It is back.
    server.hear_from(3, 2, Kind::HeartbeatReply { round: crate::id::Round(1) });
    assert_eq!(server.agent.snapshots.sending(), 1);
}

/// What is committed in a batch, but not applied yet, may have named other members.
#[test]
fn a_copy_that_is_asked_for_while_members_change_names_them() {
    let mut server = Server::of(3);
    let read = crate::api::ReadOptions { consistency: crate::api::Consistency::Stale, ..Default::default() };
    let save = crate::api::Call::new(crate::api::snapshot::Request::Save { read });
    server.hear(2, heartbeat());
    let body =
        Body::Raft(Message { term: Term(2), kind: Kind::Heartbeat { commit: Index(1), round: crate::id::Round(2) } });
    let (from, to) = (PeerId::numbered(2), PeerId::numbered(1));
    let address = "127.0.0.2:8300".parse().unwrap();
    let commit = Input::Message(Envelope { from, to, address, cluster: wire::cluster_tag("dc1"), body });
    server.agent.handle_input(server.now, commit);
    server.agent.handle_input(server.now, Input::Call { id: crate::id::CallId(1), call: save });
    let image = std::iter::from_fn(|| server.agent.poll_output()).find_map(|output| match output {
        Output::Reply { reply: Ok(crate::api::Response::Snapshot(read)), .. } => Some(read.value),
        _ => None,
    });
    let mut decoder = Decoder::new();
    image.expect("a copy").pieces().for_each(|piece| decoder.feed(&piece).unwrap());
    let meta = decoder.finish().unwrap().meta;
    assert_eq!((meta.position.index, meta.configuration.voter_count()), (Index(1), 3));
}
