//! Whole jobs, on a cluster that is a map of keys and a list of things that will happen.

use std::collections::BTreeMap;

use bytes::Bytes;
use uuid::Uuid;

use super::*;
use crate::api::agent::{Itself, Member, MemberStatus, Settings};
use crate::api::exec::{Inbox, Piece, Progress, Request as Exec};
use crate::api::kv::{Entry, Request as Kv};
use crate::api::session::{Request as Session, Session as Row};
use crate::api::{Call, Read, ReadMeta, agent, catalog, event, health};
use crate::event::{Audience, Target};
use crate::exec::layout::encode_exit;

/// What a node does once it hears of the job: each step so many milliseconds after that.
#[derive(Clone)]
enum Does {
    Acknowledge,
    Write(u32, &'static str),
    /// The same, past the store.
    Send(u32, &'static str),
    Exit(i32),
}

struct World {
    now: Instant,
    initiator: Initiator,
    members: Vec<&'static str>,
    /// How many the agent counts.
    counted: usize,
    keys: BTreeMap<Bytes, Bytes>,
    index: u64,
    sessions: usize,
    parked: Vec<(AskId, u64)>,
    agents: BTreeMap<&'static str, Vec<(u64, Does)>>,
    to_come: Vec<(Instant, &'static str, Does)>,
    events: Vec<(Instant, String)>,
    news: Vec<News>,
    renewed: usize,
    /// Requests that fail, by what their debug form contains.
    failing: Option<(&'static str, bool)>,
    ended: Option<Instant>,
    /// Whether the asked agent collects.
    collects: bool,
    /// What it has, by node.
    collected: BTreeMap<&'static str, Vec<(u32, Bytes)>>,
    asking: Option<(AskId, BTreeMap<String, Progress>)>,
    /// How far the initiator was each time.
    progress: Vec<(Instant, BTreeMap<String, Progress>)>,
    /// The user takes his time.
    slow: bool,
    untold: usize,
    /// Listings come without their index.
    no_index: bool,
    listings: usize,
}

const SESSION: SessionId = SessionId(Uuid::from_u128(77));
const INBOX: Inbox = Inbox {
    id: Uuid::from_u128(5),
    peer: crate::id::PeerId::numbered(1),
    address: std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8300),
};

impl World {
    fn new(order: &str, options: Options) -> Self {
        let initiator = Initiator::new(Order::Command(order.to_owned()), options).unwrap();
        Self {
            now: Instant::ZERO,
            initiator,
            members: vec!["a", "b"],
            counted: 2,
            keys: BTreeMap::new(),
            index: 10,
            sessions: 0,
            parked: Vec::new(),
            agents: BTreeMap::new(),
            to_come: Vec::new(),
            events: Vec::new(),
            news: Vec::new(),
            renewed: 0,
            failing: None,
            ended: None,
            collects: false,
            collected: BTreeMap::new(),
            asking: None,
            progress: Vec::new(),
            slow: false,
            untold: 0,
            no_index: false,
            listings: 0,
        }
    }

    /// Lets a node do this after it has heard of the job.
    fn node(mut self, name: &'static str, does: &[(u64, Does)]) -> Self {
        self.agents.insert(name, does.to_vec());
        self
    }

    /// A node that acknowledges at once, writes a line, and ends after so many milliseconds.
    fn plain(self, name: &'static str, after: u64, code: i32) -> Self {
        self.node(name, &[(10, Does::Acknowledge), (after, Does::Write(0, "out\n")), (after, Does::Exit(code))])
    }

    /// Lets things happen until it is over or it is `until`.
    fn run_until(&mut self, until: Instant) {
        loop {
            while let Some(output) = self.initiator.poll_output() {
                match output {
                    Output::Ask { id, call } => self.answer(id, &call),
                    Output::Forget(id) => self.parked.retain(|(parked, _)| *parked != id),
                    Output::Tell(news) => {
                        self.news.push(news);
                        match self.slow {
                            true => self.untold += 1,
                            false => self.initiator.told(self.now),
                        }
                    }
                }
            }
            if self.initiator.outcome().is_some() {
                self.ended.get_or_insert(self.now);
                return;
            }
            let to_come = self.to_come.iter().map(|(at, ..)| *at).min().unwrap_or(Instant::NEVER);
            let next = to_come.min(self.initiator.poll_timeout());
            if next > until {
                self.now = until;
                return;
            }
            assert!(self.now <= until, "time stands still");
            if next <= self.now && to_come > self.now {
                // It wants to be woken at once: it must not want that again and again.
                self.now = self.now + Duration::from_nanos(1);
            }
            self.now = self.now.max(next);
            let now = self.now;
            let due: Vec<_> = self.to_come.extract_if(.., |(at, ..)| *at <= now).collect();
            for (_, name, does) in due {
                self.happen(name, &does);
            }
            self.initiator.handle_timeout(self.now);
        }
    }

    fn run(mut self) -> Self {
        self.run_until(Instant::from_millis(600_000));
        assert!(self.ended.is_some(), "it never ends: {:?}", self.news);
        assert!(self.keys.is_empty(), "left behind: {:?}", self.keys);
        assert_eq!(self.sessions, 0);
        self
    }

    fn happen(&mut self, name: &'static str, does: &Does) {
        if self.sessions == 0 {
            return;
        }
        let place = Place::new("_rexec", SESSION);
        let (key, value) = match does {
            Does::Send(number, text) => {
                let pieces = self.collected.entry(name).or_default();
                pieces.push((*number, Bytes::from_static(text.as_bytes())));
                return self.answer_collecting();
            }
            Does::Acknowledge => (place.ack(name), Bytes::new()),
            Does::Write(number, text) => (place.output(name, *number), Bytes::from_static(text.as_bytes())),
            Does::Exit(code) => (place.exit(name), encode_exit(*code)),
        };
        self.write(key, value);
    }

    fn write(&mut self, key: Bytes, value: Bytes) {
        self.keys.insert(key, value);
        self.wake();
    }

    fn wake(&mut self) {
        self.index += 1;
        for (id, _) in std::mem::take(&mut self.parked) {
            let listing = self.listing();
            self.initiator.handle_answer(self.now, id, Ok(listing));
        }
    }

    fn listing(&self) -> Response {
        let mut read = self.read(self.keys.keys().cloned().collect());
        if self.no_index {
            read.meta.index = Index(0);
        }
        Response::KvKeys(read)
    }

    fn read<T>(&self, value: T) -> Read<T> {
        Read { meta: ReadMeta { index: Index(self.index), known_leader: true, ..ReadMeta::default() }, value }
    }

    fn answer(&mut self, id: AskId, call: &Call) {
        let text = format!("{:?}", call.request);
        if let Some((failing, may_pass)) = self.failing
            && text.contains(failing)
        {
            let trouble = Trouble { text: "it is broken".to_owned(), may_pass };
            return self.initiator.handle_answer(self.now, id, Err(trouble));
        }
        let response = match &call.request {
            Request::Agent(agent::Request::Itself) => self.itself(),
            Request::Agent(agent::Request::Members { .. }) => {
                Response::Members(self.members.iter().map(|name| member(name)).collect())
            }
            Request::Catalog(catalog::Request::Node { name, .. }) => {
                let node = catalog::Node { name: name.clone(), ..Default::default() };
                let service = catalog::Service { id: format!("web-{name}"), ..Default::default() };
                let services = vec![std::sync::Arc::new(service)];
                Response::NodeServices(self.read(Some(catalog::NodeServices { node: node.into(), services })))
            }
            Request::Session(Session::Create(wanted)) => {
                assert_eq!((&*wanted.behavior, &*wanted.ttl.text), ("delete", "15s"));
                self.sessions += 1;
                Response::SessionCreated(SESSION)
            }
            Request::Session(Session::Renew { .. }) => {
                self.renewed += 1;
                Response::Renewed(Row { id: SESSION, ..Row::plain() }.into())
            }
            Request::Session(Session::Destroy { id }) => {
                assert_eq!(*id, SESSION.to_string());
                self.sessions = 0;
                self.keys.clear();
                self.wake();
                Response::Done(true)
            }
            Request::Kv(Kv::Put { key, value, mode, .. }) => {
                assert_eq!(*mode, PutMode::Acquire(SESSION.to_string()));
                self.write(key.clone(), value.clone());
                Response::Done(true)
            }
            Request::Kv(Kv::Keys { read, .. }) if read.index.0 == self.index && !self.no_index => {
                return self.parked.push((id, read.index.0));
            }
            Request::Kv(Kv::Keys { .. }) => {
                self.listings += 1;
                self.listing()
            }
            Request::Kv(Kv::Get { key, .. }) => {
                let entry = |value: &Bytes| Entry {
                    key: key.clone(),
                    value: value.clone(),
                    flags: 0,
                    create_index: Index(1),
                    modify_index: Index(1),
                    lock_index: 1,
                    session: Some(SESSION),
                };
                Response::KvEntries(
                    self.read(self.keys.get(key).map(|value| entry(value).into()).into_iter().collect()),
                )
            }
            Request::Kv(Kv::DeleteTree { prefix }) => {
                assert!(prefix.starts_with(format!("_rexec/{SESSION}/").as_bytes()));
                Response::Done(true)
            }
            Request::Event(event::Request::Fire(event)) => self.fire(event),
            Request::Exec(Exec::Open { .. }) => Response::Inbox(INBOX),
            Request::Exec(Exec::Close { .. }) => {
                self.collects = false;
                Response::Done(true)
            }
            Request::Exec(Exec::Collect { progress, wait, .. }) => {
                self.progress.push((self.now, progress.clone()));
                if wait.is_some_and(|wait| wait < Duration::from_secs(1)) {
                    return self.initiator.handle_answer(self.now, id, Ok(Response::Collected(Vec::new())));
                }
                self.asking = Some((id, progress.clone()));
                return self.answer_collecting();
            }
            Request::Health(health::Request::Service { name, passing: true, .. }) if name == "consul" => {
                let node = catalog::Node { name: "far".to_owned(), ..Default::default() }.into();
                let instance = health::Instance { node, service: Default::default(), checks: Vec::new() };
                Response::HealthOf(self.read(vec![instance]))
            }
            Request::Health(health::Request::State { .. }) => {
                let check =
                    |node: &str, id: &str| catalog::Check { node: node.into(), id: id.into(), ..Default::default() };
                let checks = [check("a", "serfHealth"), check("a", "other"), check("x", "other")];
                Response::Checks(self.read(checks.into_iter().map(Into::into).collect()))
            }
            other => panic!("nobody asks that: {other:?}"),
        };
        self.initiator.handle_answer(self.now, id, Ok(response));
    }

    fn answer_collecting(&mut self) {
        let Some((id, progress)) = self.asking.take() else { return };
        let all = self.collected.iter().flat_map(|(node, pieces)| pieces.iter().map(move |piece| (node, piece)));
        let new = all.filter(|(node, (number, _))| progress.get(**node).is_none_or(|known| *number >= known.have));
        let pieces: Vec<Piece> = new
            .map(|(node, (number, output))| Piece { node: (*node).to_owned(), number: *number, output: output.clone() })
            .collect();
        if pieces.is_empty() {
            self.asking = Some((id, progress));
        } else {
            self.initiator.handle_answer(self.now, id, Ok(Response::Collected(pieces)));
        }
    }

    fn itself(&self) -> Response {
        let members = [("members".to_owned(), self.counted.to_string())].into();
        let exec = [("collects".to_owned(), self.collects.to_string())].into();
        Response::Itself(Box::new(Itself {
            config: Settings { node_name: "a".into(), datacenter: "dc1".into(), ..Settings::default() },
            member: member("a"),
            coordinate: Default::default(),
            stats: [("serf_lan".to_owned(), members), ("exec".to_owned(), exec)].into(),
        }))
    }

    fn fire(&mut self, event: &event::Event) -> Response {
        assert_eq!(Place::summoned(&event.payload), Ok(Place::new("_rexec", SESSION)));
        assert!(self.keys.contains_key(&Place::new("_rexec", SESSION).job()), "the job comes first");
        self.events.push((self.now, event.node_filter.clone()));
        let audience = Audience::of(event).unwrap();
        for (name, does) in &self.agents {
            let services = [("web", &[] as &[String])];
            if audience.has(&Target { node: name, services: &services }) {
                self.to_come.extend(
                    does.iter().map(|(after, does)| (self.now + Duration::from_millis(*after), *name, does.clone())),
                );
            }
        }
        Response::Fired(event::Event { id: Uuid::from_u128(9), ..event.clone() })
    }

    fn summary(&self) -> Summary {
        let told =
            self.news.iter().find_map(|news| if let News::Finished(summary) = news { Some(summary) } else { None });
        told.unwrap_or_else(|| panic!("not finished: {:?}", self.news)).clone()
    }

    fn failure(&self) -> &str {
        let told = self.news.iter().find_map(|news| if let News::Failed(why) = news { Some(why) } else { None });
        told.unwrap_or_else(|| panic!("not failed: {:?}", self.news))
    }

    fn has_told(&self, news: &News) -> bool {
        self.news.contains(news)
    }
}

fn member(name: &str) -> Member {
    let status = if name == "dead" { MemberStatus::Failed } else { MemberStatus::Alive };
    Member { name: name.to_owned(), address: [127, 0, 0, 1].into(), port: 1, tags: BTreeMap::new(), status }
}

fn ms(time: Option<Instant>) -> u64 {
    time.unwrap().as_nanos() / 1_000_000
}

#[test]
fn it_is_over_when_all_who_are_expected_have_ended() {
    let mut world = World::new("uptime", Options::default()).plain("a", 50, 0).plain("b", 300, 0);
    world.members.push("dead");
    world.counted = 3;
    let world = world.run();
    let expected = News::Expected { nodes: vec!["a".into(), "b".into()], certain: true };
    assert!(world.has_told(&expected), "{:?}", world.news);
    assert_eq!(ms(world.ended), 200 + 300 + 100, "replication, the slower node, and a moment");
    assert_eq!(world.initiator.outcome(), Some(Outcome::Success));
    let Summary { completed, acknowledged, failed, unfinished, silent, .. } = world.summary();
    assert_eq!((completed, acknowledged, failed, unfinished.len() + silent.len()), (2, 2, 0, 0));
    assert!(world.has_told(&News::Wrote { node: "b".into(), output: "out\n".into() }));
    let order: Vec<_> =
        world.news.iter().map(|news| format!("{news:?}").split([' ', '(']).next().unwrap().to_owned()).collect();
    assert_eq!(order[..4], ["Expected", "Session", "JobWritten", "Fired"]);
    assert_eq!(order.last().unwrap(), "Finished");
}

#[test]
fn silence_decides_if_others_may_come() {
    let mut world = World::new("uptime", Options::default()).plain("a", 50, 3);
    world.counted = 7;
    let world = world.run();
    assert_eq!(ms(world.ended), 250 + 2000);
    assert_eq!(world.initiator.outcome(), Some(Outcome::Unsuccessful), "it failed on one");
    assert_eq!(world.summary().failed, 1);
}

#[test]
fn silence_lasts_twice_as_long_while_somebody_is_at_work() {
    let world = World::new("uptime", Options::default())
        .node("a", &[(10, Does::Acknowledge), (3500, Does::Write(0, "")), (4000, Does::Write(1, "x"))])
        .run();
    assert_eq!(ms(world.ended), 200 + 4000 + 4000);
    assert!(world.has_told(&News::Heartbeat("a".into())));
    let summary = world.summary();
    assert_eq!((&summary.unfinished[..], &summary.silent[..]), (&["a".to_owned()][..], &["b".to_owned()][..]));
    assert_eq!(world.initiator.outcome(), Some(Outcome::Unsuccessful));
}

#[test]
fn a_node_that_nobody_expected_is_heard_to_its_end() {
    let mut world = World::new("uptime", Options::default()).plain("a", 50, 0).plain("late", 900, 0);
    world.members = vec!["a"];
    world.counted = 1;
    let world = world.run();
    assert_eq!(ms(world.ended), 200 + 900 + 100);
    assert_eq!(world.summary().completed, 2);
}

#[test]
fn nobody_at_all_is_waited_for_in_vain() {
    let world = World::new("uptime", Options { node: "nosuch".into(), ..Options::default() }).run();
    assert_eq!(ms(world.ended), 2200);
    assert_eq!((world.summary().acknowledged, world.initiator.outcome()), (0, Some(Outcome::Success)));
}

#[test]
fn services_are_looked_up_in_the_catalog() {
    let options = Options { service: "^web-b$".into(), ..Options::default() };
    let world = World::new("uptime", options).run();
    assert!(world.has_told(&News::Expected { nodes: vec!["b".into()], certain: true }), "{:?}", world.news);
}

#[test]
fn the_session_is_renewed_while_somebody_is_at_work() {
    let world = World::new("sleep 20", Options { wait: Duration::from_secs(30), ..Options::default() })
        .plain("a", 20_000, 0)
        .plain("b", 10, 0)
        .run();
    assert_eq!(world.renewed, 2);
}

#[test]
fn an_interruption_tidies_up() {
    let mut world = World::new("sleep 9", Options::default()).plain("a", 9000, 0);
    world.run_until(Instant::from_millis(1000));
    assert!(world.sessions == 1 && !world.keys.is_empty());
    world.initiator.interrupt(world.now);
    world.initiator.interrupt(world.now);
    let world = world.run();
    assert_eq!(world.initiator.outcome(), Some(Outcome::Interrupted));
    assert_eq!(ms(world.ended), 1000);
}

#[test]
fn a_session_that_is_just_being_created_is_destroyed_too() {
    let mut world = World::new("uptime", Options::default());
    // The answer to who is asked, and to who is there, come at once; the session's is held back.
    let id = loop {
        match world.initiator.poll_output().unwrap() {
            Output::Ask { id, call } if matches!(call.request, Request::Session(Session::Create(_))) => break id,
            Output::Ask { id, call } => world.answer(id, &call),
            _ => {}
        }
    };
    world.initiator.interrupt(world.now);
    assert_eq!(world.initiator.outcome(), None);
    world.sessions = 1;
    world.initiator.handle_answer(world.now, id, Ok(Response::SessionCreated(SESSION)));
    let world = world.run();
    assert_eq!(world.initiator.outcome(), Some(Outcome::Interrupted));
}

#[test]
fn what_fails_is_told_in_consuls_words_and_tidied_up() {
    for (what, text) in [
        ("Itself", "Error querying Consul agent: it is broken"),
        ("Create", "Failed to create session: it is broken"),
        ("Put", "Failed to create job file: it is broken"),
        ("Fire", "Failed to fire event: it is broken"),
        ("Keys", "Failed to list results: it is broken"),
    ] {
        let mut world = World::new("uptime", Options::default());
        world.failing = Some((what, false));
        let world = world.run();
        assert_eq!(world.failure(), text);
        assert_eq!(world.initiator.outcome(), Some(Outcome::Failed));
    }
}

#[test]
fn who_may_not_write_keys_hears_that_and_nothing_of_removing_any() {
    let mut world = World::new("uptime", Options::default());
    world.failing = Some(("Kv(", false));
    let world = world.run();
    assert_eq!(world.failure(), "Failed to create job file: it is broken");
    assert!(!world.news.iter().any(|news| matches!(news, News::LeftBehind(_))), "{:?}", world.news);
}

#[test]
fn who_will_answer_need_not_be_known() {
    let mut world = World::new("uptime", Options::default()).plain("a", 50, 0);
    world.failing = Some(("Members", false));
    let world = world.run();
    assert!(!world.news.iter().any(|news| matches!(news, News::Expected { .. })));
    assert_eq!((ms(world.ended), world.summary().completed), (2250, 1));
    let mut world = World::new("uptime", Options { max_parallel: Some(1), ..Options::default() });
    world.failing = Some(("Members", false));
    assert!(world.run().failure().starts_with("cannot find out which nodes"));
}

#[test]
fn trouble_that_passes_is_waited_out() {
    let mut world = World::new("uptime", Options::default()).plain("a", 50, 0).plain("b", 50, 0);
    world.run_until(Instant::from_millis(205));
    world.failing = Some(("Kv(", true));
    world.run_until(Instant::from_millis(9000));
    assert!(world.ended.is_none(), "nobody could be heard: {:?}", world.news);
    world.failing = None;
    let world = world.run();
    assert_eq!((world.summary().completed, world.initiator.outcome()), (2, Some(Outcome::Success)));
}

#[test]
fn trouble_that_lasts_ends_it() {
    let mut world = World::new("uptime", Options::default()).plain("a", 9000, 0);
    world.run_until(Instant::from_millis(300));
    world.failing = Some(("Keys", true));
    world.wake();
    let world = world.run();
    assert_eq!(world.failure(), "Failed to list results: it is broken");
}

#[test]
fn a_lost_session_ends_it() {
    let mut world = World::new("uptime", Options::default()).plain("a", 9000, 0);
    world.run_until(Instant::from_millis(300));
    world.keys.clear();
    world.wake();
    let world = world.run();
    assert!(world.failure().contains("session has ended"), "{}", world.failure());
}

#[test]
fn tidying_up_gives_up_in_the_end_and_says_so() {
    let mut world = World::new("uptime", Options::default()).plain("a", 10, 0).plain("b", 10, 0);
    world.failing = Some(("Destroy", true));
    world.run_until(Instant::from_millis(60_000));
    assert!(world.has_told(&News::LeftBehind("it is broken".into())), "{:?}", world.news);
    assert_eq!(ms(world.ended), 310 + 5000);
    assert_eq!(world.initiator.outcome(), Some(Outcome::Success));
}

#[test]
fn in_another_datacenter_the_session_lives_on_a_server() {
    let options = Options { datacenter: Some("dc2".into()), ..Options::default() };
    let world = World::new("uptime", options).plain("a", 10, 0).run();
    assert!(world.has_told(&News::Bound { node: "far".into(), datacenter: "dc2".into() }));
    assert!(world.has_told(&News::Expected { nodes: vec!["a".into()], certain: false }));
    assert_eq!(ms(world.ended), 210 + 2000);
}

#[test]
fn one_after_another() {
    let options = Options { max_parallel: Some(1), ..Options::default() };
    let world = World::new("uptime", options).plain("a", 500, 0).plain("b", 300, 0).run();
    assert_eq!(
        world.events,
        [(Instant::from_millis(200), "^a$".to_owned()), (Instant::from_millis(700), "^b$".to_owned())]
    );
    assert_eq!(ms(world.ended), 200 + 500 + 300 + 100);
    assert_eq!(world.initiator.outcome(), Some(Outcome::Success));
}

#[test]
fn a_canary_that_dies_saves_the_others() {
    for silent in [false, true] {
        let options = Options { canary: Some(Canary::Nodes(1)), ..Options::default() };
        let world = World::new("uptime", options).plain("b", 300, 0);
        let world = if silent { world.node("a", &[(10, Does::Acknowledge)]) } else { world.plain("a", 50, 2) };
        let world = world.run();
        assert_eq!(world.events.len(), 1);
        assert!(world.has_told(&News::Stopped { node: "a".into() }));
        assert_eq!(world.summary().not_started, ["b"]);
        assert_eq!(world.initiator.outcome(), Some(Outcome::Unsuccessful));
        assert_eq!(ms(world.ended), if silent { 210 + 4000 + 100 } else { 250 + 100 });
    }
}

/// The last one that is told may say nothing, or say it late.
#[test]
fn whoever_is_told_by_name_and_says_nothing_has_failed() {
    let options = || Options { max_parallel: Some(2), ..Options::default() };
    let world = World::new("uptime", options()).plain("a", 50, 0).run();
    assert_eq!((world.summary().silent, world.summary().not_started), (vec!["b".to_owned()], Vec::new()));
    assert_eq!(world.initiator.outcome(), Some(Outcome::Unsuccessful));
    assert_eq!(ms(world.ended), 200 + 2000 + 100);

    let late = [(2500, Does::Acknowledge), (2600, Does::Exit(0))];
    let world = World::new("uptime", options()).plain("a", 3000, 0).node("b", &late).run();
    assert_eq!((world.summary().completed, world.summary().silent), (2, Vec::<String>::new()));
    assert_eq!(world.initiator.outcome(), Some(Outcome::Success));
}

/// A node that writes two pieces into the store, and the others past it.
fn collecting() -> World {
    let mut world = World::new("yes", Options::default());
    world.members = vec!["a"];
    world.counted = 1;
    world.collects = true;
    world.node(
        "a",
        &[
            (10, Does::Acknowledge),
            (20, Does::Write(0, "0")),
            (30, Does::Send(2, "2")),
            (40, Does::Write(1, "1")),
            (50, Does::Send(3, "")),
            (60, Does::Send(4, "4")),
            (70, Does::Write(4, "4")),
            (80, Does::Write(5, "5")),
            (90, Does::Exit(0)),
        ],
    )
}

fn told(world: &World) -> String {
    let output = world.news.iter().filter_map(|news| match news {
        News::Wrote { output, .. } => Some(String::from_utf8_lossy(output).into_owned()),
        News::Heartbeat(_) => Some("-".to_owned()),
        _ => None,
    });
    output.collect()
}

#[test]
fn output_comes_both_ways_and_is_told_once_and_in_order() {
    let mut world = collecting();
    world.run_until(Instant::from_millis(255));
    let job = Spec::decode(&world.keys[&Place::new("_rexec", SESSION).job()]).unwrap();
    assert_eq!(job.inbox, Some(INBOX));
    let world = world.run();
    assert_eq!((told(&world).as_str(), world.initiator.outcome()), ("012-45", Some(Outcome::Success)));
    let of = |taken, have| BTreeMap::from([("a".to_owned(), Progress { taken, have })]);
    let progress: Vec<_> = world.progress.iter().map(|(_, progress)| progress.clone()).collect();
    let (nothing, gap) = (BTreeMap::new(), of(1, 3));
    assert_eq!(progress[..4], [nothing, gap, of(4, 4), of(5, 5)], "what waits for others is not taken");
    assert!(!world.collects, "the agent was told that it is over");
}

#[test]
fn who_cannot_collect_is_not_asked_to() {
    let mut world = collecting();
    world.collects = false;
    world.collected.clear();
    world.run_until(Instant::from_millis(255));
    let job = Spec::decode(&world.keys[&Place::new("_rexec", SESSION).job()]).unwrap();
    assert_eq!((job.inbox, world.progress.len()), (None, 0));
    let mut world = collecting();
    world.failing = Some(("Open", true));
    world.run_until(Instant::from_millis(255));
    let job = Spec::decode(&world.keys[&Place::new("_rexec", SESSION).job()]).unwrap();
    assert_eq!((job.inbox, world.progress.len()), (None, 0), "it goes without");
}

#[test]
fn nothing_more_is_asked_while_the_user_is_being_told() {
    let mut world = collecting();
    world.run_until(Instant::from_millis(225));
    world.slow = true;
    world.run_until(Instant::from_millis(60_000));
    assert!(world.ended.is_none() && world.untold > 0);
    let later: Vec<_> = world.progress.iter().filter(|(at, _)| *at > Instant::from_millis(300)).collect();
    assert!((2..=3).contains(&later.len()), "that it is still wanted is said now and then: {later:?}");
    assert!(later.iter().all(|(_, progress)| progress.values().all(|known| known.have == u32::MAX)), "{later:?}");
    assert_eq!(world.renewed, 8, "and its session lives on");
    world.slow = false;
    (0..world.untold).for_each(|_| world.initiator.told(world.now));
    let world = world.run();
    assert_eq!((told(&world).as_str(), world.initiator.outcome()), ("012-45", Some(Outcome::Success)));
}

#[test]
fn trouble_with_collecting_is_waited_out_or_done_without() {
    for may_pass in [true, false] {
        let mut world = World::new("yes", Options::default()).plain("a", 40_000, 0);
        (world.members, world.counted, world.collects) = (vec!["a"], 1, true);
        world.run_until(Instant::from_millis(205));
        world.failing = Some(("Collect", may_pass));
        let (id, _) = world.asking.take().unwrap();
        let trouble = Trouble { text: "it is broken".to_owned(), may_pass };
        world.initiator.handle_answer(world.now, id, Err(trouble));
        world.run_until(Instant::from_millis(30_000));
        // A node that acknowledged it and was silent for 4 s has been given up, but not while it could not be heard.
        let ended = ms(world.ended);
        assert_eq!(ended, if may_pass { 205 + 15_000 + 4000 } else { 210 + 4000 }, "{:?}", world.news);
        assert!(!world.collects, "the agent was not told");
    }
}

#[test]
fn a_listing_that_has_lost_its_index_is_not_asked_for_all_the_time() {
    let mut world = World::new("uptime", Options::default()).plain("a", 3_000, 0);
    world.no_index = true;
    world.run_until(Instant::from_millis(2_900));
    assert!((5..8).contains(&world.listings), "{} listings in 2.7 s", world.listings);
}
