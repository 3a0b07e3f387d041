//! The machine alone, with the cluster and the commands played by hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::child::{Action, Ended, Event, Signal};
use super::job::{GRACE, OUT_OF_TOUCH};
use super::layout::{CHUNK_BYTES, Order, Spec};
use super::outlet::CREDIT;
use super::*;
use crate::api::exec::Inbox;
use crate::api::{Consistency, Error, Read, ReadMeta, Response};
use crate::id::{Index, SessionId};
use crate::time::Duration;

mod direct;

const NODE: &str = "n1";

fn session() -> SessionId {
    SessionId::parse("adf4238a-882b-9ddc-4a9d-5b6758e4159e").unwrap()
}

fn place() -> Place {
    Place::new("_rexec", session())
}

fn enabled() -> config::Exec {
    config::Exec { enabled: true, ..config::Exec::default() }
}

/// A runner, and what it ordered.
struct Scene {
    runner: Runner,
    now: Instant,
    /// What is away, in order.
    asked: Vec<(Asked, kv::Request)>,
    actions: Vec<Action>,
    news: Vec<News>,
    /// What was written with success, in order.
    kv: Vec<(String, Bytes)>,
    /// Where the job says that its output is collected.
    inbox: Option<Inbox>,
    /// What was sent there.
    sent: Vec<peer::Exec>,
}

impl Scene {
    fn new(options: config::Exec) -> Self {
        Self {
            inbox: None,
            sent: Vec::new(),
            runner: Runner::new(options, NODE),
            now: Instant::from_millis(1000),
            asked: Vec::new(),
            actions: Vec::new(),
            news: Vec::new(),
            kv: Vec::new(),
        }
    }

    /// One whose job is acknowledged and whose command was started.
    fn running(options: config::Exec, wait: Duration) -> Self {
        Self::new(options).run(wait)
    }

    fn run(self, wait: Duration) -> Self {
        let mut scene = self;
        scene.summon();
        scene.answer_job(Some(wait));
        scene.answer_read(None);
        assert_eq!(scene.actions, [], "nothing runs before it is acknowledged");
        scene.accept();
        assert_eq!(scene.take_actions(), [start()]);
        scene
    }

    fn drain(&mut self) {
        while let Some(step) = self.runner.poll_step() {
            match step {
                Step::Ask { asked, request } => {
                    assert!(!self.asked.iter().any(|(other, _)| *other == asked), "two at a time: {request:?}");
                    self.asked.push((asked, request));
                }
                Step::Send { peer, address, message } => {
                    assert_eq!(Some((peer, address)), self.inbox.map(|inbox| (inbox.peer, inbox.address)));
                    self.sent.push(message);
                }
                Step::HangUp(asked) => self.asked.retain(|(other, _)| *other != asked),
                Step::Child(action) => self.actions.push(action),
                Step::Tell(news) => self.news.push(news),
            }
        }
    }

    fn summon(&mut self) {
        self.runner.summon(self.now, &place().summons());
        self.drain();
    }

    fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    fn asked(&self, matter: Matter) -> Option<&kv::Request> {
        self.asked.iter().find(|(asked, _)| asked.matter == matter).map(|(_, request)| request)
    }

    fn answer(&mut self, matter: Matter, reply: Reply) -> kv::Request {
        let at = self.asked.iter().position(|(asked, _)| asked.matter == matter).expect("something is asked");
        let (asked, request) = self.asked.remove(at);
        self.runner.handle_answer(self.now, asked, reply);
        self.drain();
        request
    }

    fn answer_read(&mut self, value: Option<(Bytes, Option<SessionId>)>) -> kv::Request {
        self.answer(Matter::Work, Ok(entries(value)))
    }

    /// The job is there, or is not.
    fn answer_job(&mut self, wait: Option<Duration>) -> kv::Request {
        let value = wait.map(|wait| (Spec { order: order(), wait, inbox: self.inbox }.encode(), Some(session())));
        self.answer_read(value)
    }

    /// What is being written is; gives what it was.
    fn accept(&mut self) -> (String, Bytes) {
        let request = self.answer(Matter::Work, Ok(Response::Done(true)));
        let kv::Request::Put { key, value, flags: 0, mode: kv::PutMode::Acquire(with) } = request else {
            panic!("{request:?}")
        };
        assert_eq!(with, session().to_string());
        let key = String::from_utf8(key.to_vec()).unwrap().split_off(place().root().len());
        self.kv.push((key.clone(), value.clone()));
        (key, value)
    }

    fn child(&mut self, event: Event) {
        self.runner.handle_child(self.now, RunId(1), event);
        self.drain();
    }

    fn write(&mut self, bytes: &[u8]) {
        self.child(Event::Wrote(Bytes::copy_from_slice(bytes)));
    }

    fn exit(&mut self, code: Option<i32>) {
        self.child(Event::Ended(Ended::Exited { code }));
    }

    /// Time passes.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.runner.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.runner.tick(self.now);
            self.drain();
            assert!(self.runner.poll_timeout().is_none_or(|next| next > self.now), "it would be woken for ever");
        }
        self.now = until;
    }
}

fn order() -> Order {
    Order::Command("uptime".to_owned())
}

fn start() -> Action {
    Action::Start { id: RunId(1), order: order(), credit: CREDIT }
}

fn signal(signal: Signal) -> Action {
    Action::Signal { id: RunId(1), signal }
}

fn read(bytes: usize) -> Action {
    Action::Read { id: RunId(1), bytes }
}

fn entries(value: Option<(Bytes, Option<SessionId>)>) -> Response {
    let index = Index(7);
    let entry = value.map(|(value, session)| {
        let (key, flags, lock_index) = (Bytes::from_static(b"k"), 0, 1);
        Arc::new(kv::Entry { key, value, flags, create_index: index, modify_index: index, lock_index, session })
    });
    Response::KvEntries(Read { meta: ReadMeta { index, ..ReadMeta::default() }, value: entry.into_iter().collect() })
}

fn key(request: &kv::Request) -> (&[u8], Consistency) {
    match request {
        kv::Request::Get { key, read } => (key, read.consistency),
        other => panic!("{other:?}"),
    }
}

fn text(pairs: &[(String, Bytes)]) -> Vec<(&str, &str)> {
    pairs.iter().map(|(key, value)| (key.as_str(), std::str::from_utf8(value).unwrap())).collect()
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_job_is_read_acknowledged_run_and_told() {
    let mut scene = Scene::new(enabled());
    scene.summon();
    assert_eq!(key(&scene.answer_job(Some(SECOND))), (&*place().job(), Consistency::Stale));
    assert_eq!(key(&scene.answer_read(None)), (&*place().ack(NODE), Consistency::Default));
    assert_eq!(scene.actions, []);
    scene.accept();
    assert_eq!(scene.take_actions(), [start()]);
    scene.write(b"out");
    assert!(scene.asked(Matter::Work).is_none(), "more may come");
    scene.write(b"put\n");
    scene.pass(Duration::from_millis(499));
    assert!(scene.asked(Matter::Work).is_none());
    scene.pass(Duration::from_millis(1));
    scene.accept();
    assert_eq!(scene.take_actions(), [read(7)]);
    scene.write(b"last");
    scene.exit(Some(3));
    scene.accept();
    scene.accept();
    assert_eq!(
        text(&scene.kv),
        [("n1/ack", ""), ("n1/out/00000", "output\n"), ("n1/out/00001", "last"), ("n1/exit", "3")]
    );
    assert!(scene.runner.is_empty() && scene.asked.is_empty(), "nothing is left: {:?}", scene.asked);
    assert_eq!((scene.take_actions(), scene.runner.poll_timeout()), (vec![], None));
    assert_eq!(scene.news.last(), Some(&News::Ended { place: place(), code: 3 }));
}

#[test]
fn a_job_that_a_server_does_not_have_yet_is_asked_of_the_leader() {
    let mut scene = Scene::new(enabled());
    scene.summon();
    scene.answer_job(None);
    assert_eq!(key(&scene.answer_job(None)), (&*place().job(), Consistency::Consistent));
    assert_eq!(scene.news, [News::NoJob { place: place() }]);
    assert!(scene.runner.is_empty() && scene.asked.is_empty());

    let mut scene = Scene::new(enabled());
    scene.summon();
    scene.answer(Matter::Work, Err(Error::NoLeader));
    scene.answer_job(Some(SECOND));
    assert_eq!(key(scene.asked(Matter::Work).unwrap()).0, &*place().ack(NODE));
}

#[test]
fn what_cannot_be_read_or_is_no_job_is_not_acknowledged() {
    for (reply, expected) in [
        (Err(Error::NoLeader), News::Unread { place: place(), error: Error::NoLeader }),
        (Ok(entries(Some(("{}".into(), None)))), News::Malformed { place: place(), why: layout::Malformed::NoCommand }),
    ] {
        let mut scene = Scene::new(enabled());
        scene.summon();
        scene.answer_job(None);
        scene.answer(Matter::Work, reply);
        assert_eq!((&scene.news[..], scene.asked.len()), (&[expected][..], 0));
        assert!(scene.runner.is_empty() && scene.actions.is_empty());
    }
}

#[test]
fn a_job_that_was_acknowledged_before_is_not_run() {
    let mut scene = Scene::new(enabled());
    scene.summon();
    scene.answer_job(Some(SECOND));
    scene.answer_read(Some((Bytes::new(), Some(session()))));
    assert_eq!(scene.news, [News::Known { place: place() }]);
    assert!(scene.runner.is_empty() && scene.asked.is_empty() && scene.actions.is_empty());
}

#[test]
fn a_second_event_for_the_same_job_is_no_second_job() {
    let mut scene = Scene::running(enabled(), SECOND);
    scene.summon();
    assert_eq!(scene.runner.len(), 1);
    scene.exit(Some(0));
    scene.accept();
    scene.summon();
    assert!(scene.runner.is_empty(), "not even once it is over");
    assert_eq!(scene.news.iter().filter(|news| matches!(news, News::Known { .. })).count(), 2);
}

#[test]
fn without_the_acknowledgement_nothing_runs() {
    for refusal in [Ok(Response::Done(false)), Err(Error::InvalidSession("s".to_owned()))] {
        let mut scene = Scene::new(enabled());
        scene.summon();
        scene.answer_job(Some(SECOND));
        scene.answer_read(None);
        scene.answer(Matter::Work, refusal);
        assert_eq!(scene.news, [News::TooLate { place: place() }]);
        assert!(scene.runner.is_empty() && scene.actions.is_empty());
    }
}

#[test]
fn writes_of_unknown_fate_are_repeated_and_the_job_is_given_up_in_the_end() {
    let mut scene = Scene::running(enabled(), SECOND);
    scene.write(b"x");
    scene.pass(SECOND);
    let first = scene.asked(Matter::Work).cloned().unwrap();
    scene.answer(Matter::Work, Err(Error::LeadershipLost));
    assert!(scene.asked(Matter::Work).is_none(), "not at once");
    scene.pass(SECOND);
    assert_eq!(scene.asked(Matter::Work), Some(&first), "the very same");
    scene.accept();
    assert_eq!(scene.kv.last(), Some(&("n1/out/00000".to_owned(), "x".into())));
    let begun = scene.now;
    scene.take_actions();
    while scene.take_actions().is_empty() {
        scene.pass(SECOND);
        if scene.asked(Matter::Work).is_some() {
            scene.answer(Matter::Work, Err(Error::NoLeader));
        }
        assert!(scene.now < begun + OUT_OF_TOUCH + SECOND * 10, "it goes on for ever");
    }
    assert!(scene.now >= begun + OUT_OF_TOUCH);
    assert!(matches!(scene.news.last(), Some(News::Lost { why: Loss::OutOfTouch(Error::NoLeader), .. })));
    scene.exit(None);
    assert!(scene.runner.is_empty() && scene.asked.is_empty());
}

#[test]
fn a_job_that_the_agents_token_may_not_answer_is_given_up_at_once() {
    for denial in [Error::PermissionDenied, Error::UnknownToken] {
        let mut scene = Scene::new(enabled());
        scene.summon();
        scene.answer_job(Some(SECOND));
        scene.answer_read(None);
        scene.answer(Matter::Work, Err(denial.clone()));
        assert_eq!(scene.news, [News::Lost { place: place(), why: Loss::Denied(denial.clone()) }]);
        assert!(scene.runner.is_empty() && scene.asked.is_empty() && scene.actions.is_empty(), "it was not run");

        let mut scene = Scene::running(enabled(), SECOND);
        scene.take_actions();
        scene.write(b"x");
        scene.pass(SECOND);
        scene.answer(Matter::Work, Err(denial.clone()));
        assert_eq!(scene.news.last(), Some(&News::Lost { place: place(), why: Loss::Denied(denial) }));
        assert!(!scene.take_actions().is_empty(), "the command is asked to end");
        scene.exit(None);
        assert!(scene.runner.is_empty() && scene.asked.is_empty());
    }
}

#[test]
fn who_is_silent_sends_heartbeats() {
    let mut scene = Scene::running(enabled(), SECOND * 2);
    for _ in 0..4 {
        scene.pass(SECOND * 2 - Duration::from_millis(1));
        assert!(scene.asked(Matter::Work).is_none());
        scene.pass(Duration::from_millis(1));
        assert_eq!(scene.accept().1, "");
    }
    scene.pass(SECOND);
    scene.write(b"done\n");
    scene.exit(Some(0));
    assert_eq!(scene.accept(), ("n1/out/00004".to_owned(), "done\n".into()));
    assert_eq!(scene.take_actions(), [], "heartbeats are no output that was read");
}

#[test]
fn short_and_missing_waits_become_ones_that_harm_nobody() {
    for (wait, heartbeat) in [(0, 2000), (1, 100), (300, 300)] {
        let mut scene = Scene::running(enabled(), Duration::from_millis(wait));
        scene.pass(Duration::from_millis(heartbeat - 1));
        assert!(scene.asked(Matter::Work).is_none(), "{wait}");
        scene.pass(Duration::from_millis(1));
        assert!(scene.asked(Matter::Work).is_some(), "{wait}");
    }
}

#[test]
fn a_flood_waits_for_the_servers() {
    let mut scene = Scene::running(enabled(), SECOND);
    scene.write(&vec![b'x'; CREDIT]);
    let mut allowed = 0;
    for number in 0..CREDIT / CHUNK_BYTES {
        let (key, value) = scene.accept();
        assert_eq!((key, value.len()), (format!("n1/out/{number:05x}"), CHUNK_BYTES));
        for action in scene.take_actions() {
            let Action::Read { bytes, .. } = action else { panic!("{action:?}") };
            allowed += bytes;
        }
    }
    assert_eq!((allowed, scene.asked(Matter::Work)), (CREDIT, None));
}

#[test]
fn a_lasting_flood_is_told_at_the_rate_that_the_servers_can_bear() {
    let rate = 100 * CHUNK_BYTES;
    let mut scene = Scene::running(config::Exec { output_rate: rate as u32, ..enabled() }, SECOND);
    let (begun, mut told, mut credit) = (scene.now, 0, CREDIT);
    while scene.now < begun + SECOND * 100 {
        scene.write(&vec![b'x'; credit]);
        credit = 0;
        while scene.asked(Matter::Work).is_some() {
            told += scene.accept().1.len();
        }
        for action in scene.take_actions() {
            let Action::Read { bytes, .. } = action else { panic!("{action:?}") };
            credit += bytes;
        }
        if credit == 0 {
            scene.pass(Duration::from_millis(1));
        }
    }
    let expected = (1 << 20) + 100 * rate;
    assert!(told.abs_diff(expected) < rate, "{told} instead of {expected}");
    assert!(scene.kv.iter().skip(1).all(|(_, value)| value.len() == CHUNK_BYTES), "in whole pieces");
}

#[test]
fn output_beyond_the_limit_is_thrown_away_and_the_place_is_marked() {
    let mut scene = Scene::running(config::Exec { output_bytes: 10, ..enabled() }, SECOND);
    scene.write(b"0123456");
    scene.write(b"789");
    assert_eq!(scene.take_actions(), [], "so much is allowed");
    scene.write(b"beyond");
    assert_eq!(scene.take_actions(), [Action::Discard { id: RunId(1) }]);
    scene.write(b"and further");
    scene.exit(Some(0));
    let (_, value) = scene.accept();
    assert_eq!(value, "0123456789\n[lictor: the output is cut off here, after 10 bytes]\n");
    assert_eq!(scene.accept(), ("n1/exit".to_owned(), "0".into()));
    assert_eq!(scene.take_actions(), []);
    assert!(scene.news.contains(&News::Cut { place: place(), limit: 10 }));
}

#[test]
fn a_refused_write_ends_the_command_and_nothing_more_is_written() {
    let mut scene = Scene::running(enabled(), SECOND);
    scene.write(b"x");
    scene.pass(SECOND);
    scene.write(b"y");
    scene.answer(Matter::Work, Ok(Response::Done(false)));
    assert_eq!(scene.take_actions(), [Action::Discard { id: RunId(1) }, signal(Signal::Terminate)]);
    scene.pass(GRACE - Duration::from_millis(1));
    assert_eq!(scene.take_actions(), []);
    scene.pass(Duration::from_millis(1));
    assert_eq!(scene.take_actions(), [signal(Signal::Kill)]);
    scene.pass(SECOND * 1000);
    assert_eq!((scene.take_actions(), scene.runner.len()), (vec![], 1), "it counts until it is gone");
    scene.exit(None);
    assert!(scene.runner.is_empty() && scene.asked.is_empty());
    assert_eq!(scene.kv.len(), 1, "{:?}", scene.kv);
}

#[test]
fn a_command_whose_acknowledgement_goes_is_ended_at_once() {
    for gone in [None, Some((Bytes::new(), None))] {
        let mut scene = Scene::running(enabled(), SECOND * 1000);
        let held = || Some((Bytes::new(), Some(session())));
        scene.answer(Matter::Watch, Ok(entries(held())));
        scene.pass(SECOND);
        let kv::Request::Get { key, read } = scene.asked(Matter::Watch).unwrap() else { panic!("no look") };
        assert_eq!((&**key, read.index, read.consistency), (&*place().ack(NODE), Index(7), Consistency::Default));
        assert!(read.wait.is_some());
        scene.answer(Matter::Watch, Err(Error::NoLeader));
        assert_eq!(scene.take_actions(), [], "who cannot be asked has not said no");
        scene.pass(SECOND * 10);
        scene.answer(Matter::Watch, Ok(entries(gone)));
        assert_eq!(scene.take_actions(), [Action::Discard { id: RunId(1) }, signal(Signal::Terminate)]);
        assert!(matches!(scene.news.last(), Some(News::Lost { why: Loss::SessionEnded, .. })));
        scene.exit(None);
        assert!(scene.runner.is_empty() && scene.asked.is_empty());
    }
}

#[test]
fn what_cannot_be_started_is_told_as_such() {
    let mut scene = Scene::running(enabled(), SECOND);
    scene.child(Event::Ended(Ended::Failed { reason: "no such file".to_owned() }));
    assert_eq!(scene.accept(), ("n1/exit".to_owned(), "255".into()));
    let mut scene = Scene::running(enabled(), SECOND);
    scene.exit(None);
    assert_eq!(scene.accept(), ("n1/exit".to_owned(), "-1".into()), "killed by a signal");
}

#[test]
fn an_agent_that_leaves_ends_its_commands_and_takes_none_on() {
    let mut scene = Scene::running(enabled(), SECOND * 100);
    scene.runner.stop(scene.now);
    scene.runner.stop(scene.now);
    scene.drain();
    assert_eq!(scene.take_actions(), [signal(Signal::Terminate)]);
    scene.write(b"bye");
    scene.pass(GRACE);
    assert_eq!(scene.take_actions(), [signal(Signal::Kill)]);
    scene.accept();
    scene.exit(None);
    assert_eq!(scene.accept(), ("n1/exit".to_owned(), "-1".into()), "as long as there is time, it is told");
    let other = Place::new("other", session());
    scene.runner.summon(scene.now, &other.summons());
    scene.drain();
    assert!(scene.runner.is_empty());

    let mut scene = Scene::new(enabled());
    scene.summon();
    scene.runner.stop(scene.now);
    scene.drain();
    assert!(scene.runner.is_empty() && scene.asked.is_empty());
}

#[test]
fn who_is_not_to_run_anything_does_not_even_ask() {
    let mut scene = Scene::new(config::Exec::default());
    scene.summon();
    assert_eq!((&scene.news[..], scene.asked.len()), (&[News::Disabled][..], 0));
    let mut scene = Scene::new(config::Exec { jobs: 0, ..enabled() });
    scene.summon();
    assert_eq!((&scene.news[..], scene.asked.len()), (&[News::TooMany { place: place(), limit: 0 }][..], 0));
    let mut scene = Scene::new(enabled());
    scene.runner.summon(scene.now, b"nonsense");
    scene.drain();
    assert!(matches!(scene.news[..], [News::NoSummons { .. }]) && scene.asked.is_empty());
}

#[test]
fn there_is_a_limit_to_how_many_run_and_to_how_many_are_remembered() {
    let mut runner = Runner::new(config::Exec { jobs: 2, ..enabled() }, NODE);
    let prefixes: Vec<Place> = (0..1000).map(|n| Place::new(&format!("p{n}"), session())).collect();
    for place in &prefixes {
        runner.summon(Instant::ZERO, &place.summons());
    }
    assert_eq!(runner.len(), 2);
    let mut runner = Runner::new(config::Exec { jobs: 1000, ..enabled() }, NODE);
    for place in &prefixes {
        runner.summon(Instant::ZERO, &place.summons());
    }
    assert_eq!((runner.len(), runner.known.len()), (1000, REMEMBERED));
}

/// What may happen to a running job.
#[derive(Clone, Debug)]
enum Happening {
    Writes(u16),
    Accepted,
    Failed,
    Passes(u16),
    Exits(Option<i32>),
    SessionEnds,
    Leaves,
    Watched(bool),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => any::<u16>().prop_map(Happening::Writes),
        6 => Just(Happening::Accepted),
        1 => Just(Happening::Failed),
        3 => any::<u16>().prop_map(Happening::Passes),
        1 => any::<Option<i32>>().prop_map(Happening::Exits),
        1 => Just(Happening::SessionEnds),
        1 => Just(Happening::Leaves),
        2 => any::<bool>().prop_map(Happening::Watched),
    ]
}

proptest! {
    /// Whatever happens, in whatever order: what is told is a beginning of what was written, in order and without gaps; the exit
    /// comes last and only behind all of it; no more waits than was allowed; and the job comes to an end.
    #[test]
    fn what_is_told_is_true(happenings in proptest::collection::vec(happening(), 0..60)) {
        let mut scene = Scene::running(enabled(), SECOND);
        let (mut written, mut credit) = (Vec::new(), CREDIT);
        let (mut ended, mut code, mut refused, mut failed) = (false, None, false, false);
        let finish = [
            Happening::Passes(9000), Happening::Exits(Some(0)), Happening::Accepted, Happening::Passes(5000),
        ];
        for happening in happenings.iter().cloned().chain(finish.iter().cycle().take(200).cloned()) {
            match happening {
                Happening::Writes(count) if !ended => {
                    let count = usize::from(count).min(credit);
                    let bytes: Vec<u8> = (written.len()..written.len() + count).map(|n| (n % 251) as u8).collect();
                    credit -= count;
                    written.extend_from_slice(&bytes);
                    if count > 0 {
                        scene.write(&bytes);
                    }
                }
                Happening::Accepted if refused && scene.asked(Matter::Work).is_some() => {
                    scene.answer(Matter::Work, Ok(Response::Done(false)));
                }
                Happening::Accepted if scene.asked(Matter::Work).is_some() => drop(scene.accept()),
                Happening::Failed if scene.asked(Matter::Work).is_some() => {
                    failed = true;
                    scene.answer(Matter::Work, Err(Error::LeadershipLost));
                }
                Happening::Passes(millis) => scene.pass(Duration::from_millis(u64::from(millis) % 10_000)),
                Happening::Exits(with) if !ended => {
                    ended = true;
                    code = Some(with.unwrap_or(-1));
                    scene.exit(with);
                }
                Happening::SessionEnds => refused = true,
                Happening::Leaves => {
                    scene.runner.stop(scene.now);
                    scene.drain();
                }
                Happening::Watched(there) if scene.asked(Matter::Watch).is_some() => {
                    refused |= !there;
                    let held = there.then(|| (Bytes::new(), Some(session())));
                    scene.answer(Matter::Watch, Ok(entries(held)));
                }
                _ => {}
            }
            for action in scene.take_actions() {
                if let Action::Read { bytes, .. } = action {
                    credit += bytes;
                    prop_assert!(credit <= CREDIT);
                }
            }
        }
        prop_assert!(scene.runner.is_empty() && scene.asked.is_empty(), "it has not ended: {:?}", scene.runner);
        let mut told = BTreeMap::new();
        let mut exit = None;
        for (key, value) in &scene.kv[1..] {
            prop_assert!(exit.is_none(), "{} comes behind the exit", key);
            match key.strip_prefix("n1/out/") {
                Some(number) => drop(told.insert(usize::from_str_radix(number, 16).unwrap(), value.clone())),
                None => exit = Some(value.clone()),
            }
        }
        prop_assert!(told.keys().copied().eq(0..told.len()), "there are gaps");
        let told: Vec<u8> = told.values().flatten().copied().collect();
        prop_assert!(written.starts_with(&told));
        match exit {
            Some(exit) => {
                prop_assert_eq!(Some(layout::decode_exit(&exit).unwrap()), code);
                prop_assert_eq!(told.len(), written.len(), "it has ended before all was told");
            }
            None => {
                let lost = scene.news.iter().any(|news| matches!(news, News::Lost { .. }));
                prop_assert!(lost && (refused || failed), "a job has an exit unless it was given up for a reason");
            }
        }
    }
}
