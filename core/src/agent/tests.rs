//! One agent alone, driven by hand.

mod asking;
mod snapshots;
mod watching;

use bytes::Bytes;

use super::Agent;
use crate::api::{self, Call, Consistency, Error, ReadOptions, Reply, Response, kv, status};
use crate::config::{self, Config, Limits};
use crate::id::{CallId, Index, PeerId, Round, Term};
use crate::io::{FileOp, Input, JobOutcome, Output};
use crate::peer::{Body, Envelope, Forward};
use crate::raft::{Configuration, Kind, Message};
use crate::recovery::Recovered;
use crate::time::{Duration, Instant};
use crate::wal;

/// When something other than the gossip pool and what goes on beside it wants to be woken.
fn next_but_pool(agent: &Agent) -> Option<Instant> {
    let duties = agent.duties.as_ref().and_then(|duties| duties.poll_timeout(&agent.raft));
    let due = [agent.raft.poll_timeout(), agent.calls.next_deadline(), agent.writer.poll_timeout(), duties];
    due.into_iter().flatten().min()
}

/// A lone server with an obedient disk.
struct Lone {
    agent: Agent,
    now: Instant,
    calls: u64,
    replies: Vec<(CallId, Reply)>,
    /// Whether the disk has room for reservations.
    room: bool,
    written: usize,
}

impl Lone {
    fn new() -> Self {
        // What it sends and writes is what the test asks for.
        Self::with(config::Local { sync_interval: Duration::ZERO, ..config::Local::default() })
    }

    fn with(local: config::Local) -> Self {
        let (id, address) = (PeerId::numbered(1), "127.0.0.1:8300".parse().unwrap());
        let config = Config {
            bootstrap: Some(Configuration::new([(id, address)])),
            limits: Limits { max_wait: Duration::from_secs(60), ..Limits::default() },
            local,
            ..Config::new(id, "n1", address)
        };
        let agent = Agent::new(config, 7, Recovered::default(), Instant::ZERO);
        let mut lone = Self { agent, now: Instant::ZERO, calls: 0, replies: Vec::new(), room: true, written: 0 };
        lone.input(Input::Timeout);
        lone
    }

    fn input(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            self.agent.handle_input(self.now, input);
            while let Some(output) = self.agent.poll_output() {
                match output {
                    Output::Reply { id, reply } => self.replies.push((id, reply)),
                    Output::Persist(write) => {
                        self.written += write.ops.iter().filter(|op| matches!(op, FileOp::Write { .. })).count();
                        inputs.push(Input::Persisted(write.seq));
                    }
                    Output::Reserve { file, size } => {
                        inputs.push(Input::Reserved { file, size, granted: self.room });
                    }
                    Output::Job(job) => inputs.push(Input::JobDone { id: job.id, outcome: JobOutcome::Done }),
                    Output::Message { envelope, .. } => {
                        assert!(matches!(envelope.body, Body::Answer { .. }), "a lone server has nobody to talk to");
                    }
                    _ => {}
                }
            }
            assert!(!self.agent.open_batch, "something is left that nobody would ask for");
        }
    }

    fn call(&mut self, request: impl Into<crate::api::Request>) -> CallId {
        self.calls += 1;
        let id = CallId(self.calls);
        self.input(Input::Call { id, call: Call::new(request) });
        id
    }

    fn wait_until(&mut self, now: Instant) {
        while let Some(due) = self.agent.poll_timeout().filter(|due| *due <= now) {
            self.now = self.now.max(due);
            self.input(Input::Timeout);
        }
        self.now = now;
    }

    fn reply(&mut self, id: CallId) -> Option<Reply> {
        let at = self.replies.iter().position(|(other, _)| *other == id)?;
        Some(self.replies.remove(at).1)
    }

    fn put(&mut self, key: &'static str, value: &'static str) -> Option<Reply> {
        let id = self.call(put(key, value));
        self.reply(id)
    }
}

fn put(key: &'static str, value: &'static str) -> kv::Request {
    kv::Request::Put { key: key.into(), value: value.into(), flags: 0, mode: kv::PutMode::Set }
}

fn get(key: &'static str, index: Index, consistency: Consistency) -> kv::Request {
    kv::Request::Get { key: key.into(), read: ReadOptions { consistency, index, wait: None } }
}

fn value(reply: Option<Reply>) -> (Option<Bytes>, Index) {
    match reply {
        Some(Ok(Response::KvEntries(read))) => (read.value.first().map(|e| e.value.clone()), read.meta.index),
        other => panic!("no entries: {other:?}"),
    }
}

#[test]
fn a_lone_server_elects_itself_at_once_and_serves() {
    let mut lone = Lone::new();
    assert_eq!(lone.put("a", "1"), Some(Ok(Response::Done(true))));
    for consistency in [Consistency::Default, Consistency::Consistent, Consistency::Stale] {
        let id = lone.call(get("a", Index(0), consistency));
        assert_eq!(value(lone.reply(id)).0, Some("1".into()));
        let from_view = lone.agent.view().answer(lone.now, &Call::new(get("a", Index(0), consistency)));
        assert_eq!(value(from_view).0, Some("1".into()));
    }
    let id = lone.call(status::Request::Leader);
    assert_eq!(lone.reply(id), Some(Ok(Response::Leader(Some("127.0.0.1:8300".parse().unwrap())))));
}

/// What a comparison has read leads to writes, though nothing else has come of the batch in which it was read.
#[test]
fn what_the_agent_asks_itself_is_gone_on_with_at_once() {
    let mut lone = Lone::with(config::Local::default());
    let service = api::agent::ServiceDefinition { name: "web".into(), ..Default::default() };
    lone.call(api::agent::Request::RegisterService(Box::new(service)));
    for _ in 0..10 {
        lone.wait_until(lone.now + Duration::from_secs(30));
    }
    assert!(lone.agent.store().services_of("n1").any(|service| service.name == "web"));
}

#[test]
fn a_blocked_query_wakes_for_its_own_key_only() {
    let mut lone = Lone::new();
    lone.put("a", "1");
    let first = lone.call(get("a", Index(0), Consistency::Default));
    let (_, index) = value(lone.reply(first));
    let id = lone.call(get("a", index, Consistency::Default));
    lone.put("b", "1");
    assert_eq!(lone.reply(id), None);
    assert_eq!(lone.agent.open_calls(), (1, 0));
    lone.put("a", "2");
    assert_eq!(value(lone.reply(id)).0, Some("2".into()));
    assert_eq!(lone.agent.open_calls(), (0, 0));
}

#[test]
fn a_blocked_query_is_answered_as_it_is_when_its_time_is_over() {
    let mut lone = Lone::new();
    lone.put("a", "1");
    let first = lone.call(get("a", Index(0), Consistency::Default));
    let (_, index) = value(lone.reply(first));
    let wait = Some(Duration::from_secs(16));
    let id = lone.call(kv::Request::Get {
        key: "a".into(),
        read: ReadOptions { consistency: Consistency::Default, index, wait },
    });
    lone.wait_until(lone.now + Duration::from_secs(16) - Duration::from_nanos(1));
    assert_eq!(lone.reply(id), None);
    // Consul's jitter: up to a sixteenth more.
    lone.wait_until(lone.now + Duration::from_secs(1) + Duration::from_nanos(1));
    assert_eq!(value(lone.reply(id)), (Some("1".into()), index));
}

#[test]
fn a_hang_up_leaves_nothing_behind() {
    let mut lone = Lone::new();
    let id = lone.call(get("a", Index(1), Consistency::Default));
    assert_eq!(lone.agent.open_calls(), (1, 0));
    lone.input(Input::Hangup { id });
    assert_eq!(lone.agent.open_calls(), (0, 0));
    lone.put("a", "1");
    assert_eq!(lone.reply(id), None);
    assert_eq!(next_but_pool(&lone.agent), Some(Instant::from_millis(60_000)), "the look at all members, and no more");
}

#[test]
fn what_is_too_large_or_elsewhere_is_refused() {
    let mut lone = Lone::new();
    let limit = 512 << 10;
    let write = |size: usize| kv::Request::Put {
        key: "big".into(),
        value: vec![0; size].into(),
        flags: 0,
        mode: kv::PutMode::Set,
    };
    let id = lone.call(write(limit + 1));
    assert_eq!(lone.reply(id), Some(Err(Error::ValueTooLarge { limit })));
    let id = lone.call(write(limit));
    assert_eq!(lone.reply(id), Some(Ok(Response::Done(true))));
    let elsewhere = Call { datacenter: Some("dc2".into()), ..Call::new(put("a", "1")) };
    lone.input(Input::Call { id: CallId(99), call: elsewhere });
    assert_eq!(lone.reply(CallId(99)), Some(Err(Error::NoPathToDatacenter)));
}

#[test]
fn a_full_disk_refuses_writes_and_still_reads() {
    let mut lone = Lone::new();
    lone.put("a", "1");
    lone.room = false;
    let before = lone.written;
    let refused = (0..100).any(|_| {
        let id = lone.call(kv::Request::Put {
            key: "fill".into(),
            value: vec![1; 500 << 10].into(),
            flags: 0,
            mode: kv::PutMode::Set,
        });
        lone.reply(id) == Some(Err(Error::DiskFull))
    });
    assert!(refused, "written {} times without room", lone.written - before);
    let id = lone.call(get("a", Index(0), Consistency::Default));
    assert_eq!(value(lone.reply(id)).0, Some("1".into()));
    lone.room = true;
    lone.wait_until(lone.now + Duration::from_secs(5));
    assert_eq!(lone.put("a", "2"), Some(Ok(Response::Done(true))));
}

#[test]
fn deletions_are_forgotten_when_nobody_can_wait_for_them_any_more() {
    let mut lone = Lone::new();
    lone.put("a", "1");
    let id = lone.call(kv::Request::Delete { key: "a".into(), cas: None });
    assert_eq!(lone.reply(id), Some(Ok(Response::Done(true))));
    let gone = lone.call(get("a", Index(0), Consistency::Default));
    let (_, deleted_at) = value(lone.reply(gone));
    lone.wait_until(lone.now + Duration::from_secs(899));
    assert_eq!(lone.agent.store().tombstone_len(), 1);
    lone.wait_until(lone.now + Duration::from_secs(60));
    assert_eq!(lone.agent.store().tombstone_len(), 0);
    // The index does not run backwards for it.
    let gone = lone.call(get("a", Index(0), Consistency::Default));
    assert!(value(lone.reply(gone)).1 >= deleted_at);
    assert_eq!(next_but_pool(&lone.agent), Some(Instant::from_millis(960_000)), "the look at all members, and no more");
}

/// What a peer's forwarded query may block for was drawn by that peer, which gives up soon after.
#[test]
fn a_peers_query_blocks_for_what_is_left_of_its_time_and_no_longer() {
    for (wait, least, most) in [(Duration::from_secs(40), 40_000, 40_000), (Duration::ZERO, 0, 0)] {
        let mut lone = Lone::new();
        lone.put("a", "1");
        let index = lone.agent.store().index();
        let read = ReadOptions { consistency: Consistency::Default, index, wait: Some(wait) };
        let forward = Forward {
            id: CallId(1),
            origin: 1,
            term: lone.agent.raft_status().term,
            call: Call::new(kv::Request::Get { key: "a".into(), read }),
        };
        let (from, to) = (PeerId::numbered(2), PeerId::numbered(1));
        let cluster = crate::wire::cluster_tag("dc1");
        lone.input(Input::Message(Envelope {
            from,
            to,
            address: "127.0.0.1:8300".parse().unwrap(),
            cluster,
            body: Body::Forward(forward),
        }));
        lone.wait_until(Instant::from_millis(least) - Duration::from_nanos(1));
        assert_eq!(lone.agent.open_calls().0, usize::from(most > 0), "{wait:?}");
        lone.wait_until(Instant::from_millis(most));
        assert_eq!(lone.agent.open_calls(), (0, 0), "{wait:?}");
    }
}

/// One of three servers: the others are what the test says they are.
struct OneOfThree {
    agent: Agent,
    now: Instant,
}

impl OneOfThree {
    fn new() -> Self {
        let lone = Lone::new();
        let members = (1..=3).map(|n| (PeerId::numbered(n), "127.0.0.1:8300".parse().unwrap()));
        let config = Config { bootstrap: Some(Configuration::new(members)), ..(*lone.agent.config).clone() };
        let mut server = Self { agent: Agent::new(config, 7, Recovered::default(), Instant::ZERO), now: Instant::ZERO };
        server.drain();
        server
    }

    /// What happens in one batch.
    fn hear(&mut self, from: u64, term: u64, kind: Kind) {
        let message = Message { term: Term(term), kind };
        let (from, to) = (PeerId::numbered(from), PeerId::numbered(1));
        let cluster = crate::wire::cluster_tag("dc1");
        self.agent.handle_input(
            self.now,
            Input::Message(Envelope {
                from,
                to,
                address: "127.0.0.1:8300".parse().unwrap(),
                cluster,
                body: Body::Raft(message),
            }),
        );
    }

    fn read(&mut self) {
        let call = Call::new(get("a", Index(0), Consistency::Consistent));
        self.agent.handle_input(self.now, Input::Call { id: CallId(1), call });
    }

    fn elapse_to_next(&mut self) {
        self.now = next_but_pool(&self.agent).unwrap();
        self.agent.handle_input(self.now, Input::Timeout);
    }

    /// Closes the batch; writes are durable at once. Returns to whom reads of keys are forwarded.
    fn drain(&mut self) -> Vec<PeerId> {
        let mut forwarded = Vec::new();
        while let Some(output) = self.agent.poll_output() {
            match output {
                Output::Persist(write) => self.agent.handle_input(self.now, Input::Persisted(write.seq)),
                Output::Message { envelope, .. } if is_forwarded_read(&envelope.body) => forwarded.push(envelope.to),
                _ => {}
            }
        }
        forwarded
    }
}

/// Whether a client's read of a key is handed on. The agent asks for things of its own, too.
fn is_forwarded_read(body: &Body) -> bool {
    matches!(body, Body::Forward(forward) if matches!(forward.call.request, api::Request::Kv(_)))
}

fn heartbeat() -> Kind {
    Kind::Heartbeat { commit: Index(0), round: Round(1) }
}

#[test]
fn a_call_outlives_an_office_that_is_won_and_lost_in_one_batch() {
    let mut server = OneOfThree::new();
    server.elapse_to_next();
    server.drain();
    server.hear(2, 2, Kind::PreVoteReply { granted: true });
    server.drain();
    server.hear(2, 2, Kind::VoteReply { granted: true });
    assert!(server.agent.raft().is_leader());
    server.read();
    server.hear(3, 3, heartbeat());
    assert_eq!(server.drain(), [PeerId::numbered(3)]);
}

#[test]
fn a_call_is_not_held_while_the_leader_is_heard_again() {
    let mut server = OneOfThree::new();
    server.hear(2, 2, heartbeat());
    server.drain();
    server.elapse_to_next();
    assert_eq!(server.agent.raft().leader(), None);
    server.read();
    server.hear(2, 2, heartbeat());
    assert_eq!(server.drain(), []);
    server.elapse_to_next();
    assert_eq!(server.drain(), [PeerId::numbered(2)]);
}

#[test]
fn a_query_that_nobody_answers_is_asked_again_every_few_seconds_however_long_that_lasts() {
    let mut server = OneOfThree::new();
    server.hear(2, 2, heartbeat());
    let call = Call::new(get("a", Index(9), Consistency::Default));
    server.agent.handle_input(server.now, Input::Call { id: CallId(1), call });
    let mut asked = Vec::new();
    while server.now < Instant::ZERO + Duration::from_secs(30) {
        if !server.drain().is_empty() {
            asked.push(server.now);
        }
        server.now = server.now + Duration::from_millis(100);
        server.hear(2, 2, heartbeat());
        server.agent.handle_input(server.now, Input::Timeout);
    }
    let pauses: Vec<u64> = asked.windows(2).map(|two| two[1].since(two[0]).as_millis() as u64).collect();
    assert_eq!(pauses, [500, 1000, 2000, 4000, 4000, 4000, 4000, 4000, 4000]);
}

/// Found by simulation: what an earlier life had acknowledged was missing from a read that arrived together with
/// the confirmation that the new term's first entry is on disk.
#[test]
fn a_read_in_the_batch_that_opens_a_term_sees_what_earlier_terms_committed() {
    let mut lone = Lone::new();
    assert_eq!(lone.put("a", "1"), Some(Ok(Response::Done(true))));
    let entries: Vec<_> = lone.agent.raft().log().from(Index(1)).cloned().collect();
    let hard_state = crate::raft::HardState { term: lone.agent.raft_status().term, ..Default::default() };
    let log = wal::Recovered { hard_state, entries, ..wal::Recovered::default() };
    let recovered = Recovered { log, ..Recovered::default() };
    let config = Config::clone(&lone.agent.config);
    lone.agent = Agent::new(config, 8, recovered, lone.now);

    // Its vote becomes durable at once; the first entry of its term only together with a call.
    let mut due = vec![Input::Timeout];
    while !lone.agent.raft().is_leader() {
        for input in std::mem::take(&mut due) {
            lone.agent.handle_input(lone.now, input);
        }
        while let Some(output) = lone.agent.poll_output() {
            due.extend(if let Output::Persist(write) = output { Some(Input::Persisted(write.seq)) } else { None });
        }
    }
    for input in due {
        lone.agent.handle_input(lone.now, input);
    }
    let id = lone.call(get("a", Index(0), Consistency::Default));
    assert_eq!(value(lone.reply(id)).0, Some("1".into()));
}
