//! One agent, alone with its events.

use bytes::Bytes;
use uuid::Uuid;

use super::*;
use crate::api::event::{Listed, index_of};
use crate::api::{Call, event as asked};
use crate::config::{self, Config, Limits};
use crate::gossip::UserEvent;
use crate::id::{CallId, PeerId};
use crate::io::{Input, JobOutcome, Output};
use crate::recovery::Recovered;
use crate::time::{Duration, Instant};

struct Lone {
    agent: Agent,
    now: Instant,
    calls: u64,
    replies: Vec<(CallId, Reply)>,
}

impl Lone {
    fn new(blocked_queries: usize) -> Self {
        let (id, address) = (PeerId::numbered(1), "127.0.0.1:8300".parse().unwrap());
        let limits = Limits { blocked_queries, max_wait: Duration::from_secs(60), ..Limits::default() };
        let local = config::Local { sync_interval: Duration::ZERO, ..config::Local::default() };
        let mut config = Config { limits, local, ..Config::new(id, "foobar", address) };
        config.gossip.send_coordinates = false;
        let agent = Agent::new(config, 7, Recovered::default(), Instant::ZERO);
        Self { agent, now: Instant::ZERO, calls: 0, replies: Vec::new() }
    }

    fn input(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            self.agent.handle_input(self.now, input);
            while let Some(output) = self.agent.poll_output() {
                match output {
                    Output::Reply { id, reply } => self.replies.push((id, reply)),
                    Output::Job(job) => inputs.push(Input::JobDone { id: job.id, outcome: JobOutcome::Done }),
                    _ => {}
                }
            }
        }
    }

    fn call(&mut self, request: asked::Request) -> CallId {
        self.calls += 1;
        let id = CallId(self.calls);
        self.input(Input::Call { id, call: Call::new(request) });
        id
    }

    fn reply(&mut self, id: CallId) -> Option<Reply> {
        let at = self.replies.iter().position(|(other, _)| *other == id)?;
        Some(self.replies.remove(at).1)
    }

    fn fire(&mut self, event: Event) -> Result<Event, Error> {
        let id = self.call(asked::Request::Fire(event));
        match self.reply(id).expect("firing is answered at once")? {
            Response::Fired(event) => Ok(event),
            other => panic!("{other:?}"),
        }
    }

    fn fire_named(&mut self, name: &str) -> Uuid {
        self.fire(named(name)).unwrap().id
    }

    fn ask(&mut self, name: &str, index: u64, wait: Option<Duration>) -> CallId {
        let none = String::new;
        let (node_filter, service_filter, tag_filter) = (none(), none(), none());
        let name = name.to_owned();
        self.call(asked::Request::List { name, node_filter, service_filter, tag_filter, index, wait })
    }

    fn listed(&mut self, id: CallId) -> Option<Listed> {
        match self.reply(id)? {
            Ok(Response::Events(listed)) => Some(listed),
            other => panic!("{other:?}"),
        }
    }

    fn list(&mut self, name: &str) -> Listed {
        let id = self.ask(name, 0, None);
        self.listed(id).expect("without an index nothing blocks")
    }

    fn wait_until(&mut self, now: Instant) {
        while let Some(due) = self.agent.poll_timeout().filter(|due| *due <= now) {
            self.now = self.now.max(due);
            self.input(Input::Timeout);
        }
        self.now = now;
    }
}

fn named(name: &str) -> Event {
    Event { name: name.to_owned(), ..Event::default() }
}

#[test]
fn what_is_fired_is_heard_and_listed() {
    let mut lone = Lone::new(9);
    let forged = Event { id: Uuid::from_u128(1), time: LamportTime(9), payload: "p".into(), ..named("a") };
    let fired = lone.fire(forged.clone()).unwrap();
    assert_eq!(fired.id.get_version_num(), 4, "the agent draws the ID");
    assert_eq!(fired, Event { id: fired.id, time: LamportTime(0), ..forged });
    let second = lone.fire_named("a");
    lone.fire_named("b");
    let listed = lone.list("a");
    assert_eq!(listed.index, index_of(second));
    assert_eq!(
        listed.events,
        [Event { time: LamportTime(2), ..fired }, { Event { id: second, time: LamportTime(3), ..named("a") } }]
    );
    assert_eq!(lone.list("").events.len(), 3);
    assert_eq!(lone.list("nosuch"), Listed { index: 1, events: Vec::new() });
}

#[test]
fn only_what_is_meant_for_us_is_kept_and_remote_execution_is_no_news() {
    let mut lone = Lone::new(9);
    let with = |node: &str, service: &str, tag: &str| {
        let (node_filter, service_filter, tag_filter) = (node.to_owned(), service.to_owned(), tag.to_owned());
        Event { node_filter, service_filter, tag_filter, ..named("a") }
    };
    for (event, kept) in [
        (with("nosuch", "", ""), 0),
        (with("^fo+b", "", ""), 1),
        (with("", "consul", ""), 1),
        (with("", "consul", "x"), 0),
        (named(REMOTE_EXECUTION), 0),
        (named("_other"), 1),
    ] {
        let before = lone.list("").events.len();
        lone.fire(event.clone()).unwrap();
        assert_eq!(lone.list("").events.len() - before, kept, "{event:?}");
    }
}

#[test]
fn what_cannot_be_fired_is_refused_and_not_heard() {
    let mut lone = Lone::new(9);
    let limit = 512;
    for (event, expected) in [
        (Event { node_filter: "(".to_owned(), ..named("a") }, None),
        (Event { tag_filter: "x".to_owned(), ..named("a") }, Some(Error::TagFilterAlone)),
        (Event { payload: Bytes::from(vec![0; 512]), ..named("a") }, Some(Error::EventTooLarge { limit })),
        (Event { node_filter: "(".repeat(513), ..named("a") }, Some(Error::EventTooLarge { limit })),
        (named(&"n".repeat(500)), Some(Error::EventTooLarge { limit })),
    ] {
        let refused = lone.fire(event).unwrap_err();
        assert!(expected.is_none_or(|expected| expected == refused), "{refused}");
    }
    assert!(lone.fire(Event { payload: Bytes::from(vec![0; 480]), ..named("a") }).is_ok());
    assert_eq!(lone.list("").events.len(), 1);
    let text = Error::EventTooLarge { limit }.to_string();
    assert_eq!(text, "user event exceeds limit of 512 bytes");
}

#[test]
fn what_others_fire_wrongly_is_ignored() {
    let mut lone = Lone::new(9);
    let good = event::encode(&named("a"));
    let wrong = event::encode(&Event { node_filter: "(".to_owned(), ..named("a") });
    let foreign = UserEvent { name: "elsewhere:a".to_owned(), ..good.clone() };
    for (time, event) in [wrong, foreign, good].into_iter().enumerate() {
        lone.agent.deliver_event(TimedEvent { time: LamportTime(time as u64), event });
    }
    let heard = lone.list("").events;
    assert_eq!(heard.iter().map(|event| event.time).collect::<Vec<_>>(), [LamportTime(2)]);
}

#[test]
fn a_listing_blocks_until_there_is_a_newer_event_of_its_own() {
    let mut lone = Lone::new(9);
    let first = index_of(lone.fire_named("a"));
    let (waiting, unborn) = (lone.ask("a", first, None), lone.ask("none", 1, None));
    assert_eq!(lone.agent.open_calls(), (2, 0));
    lone.fire_named("b");
    assert_eq!((lone.listed(waiting), lone.listed(unborn)), (None, None), "another's event wakes nobody");
    let second = index_of(lone.fire_named("a"));
    let listed = lone.listed(waiting).expect("its own event wakes it");
    assert_eq!((listed.index, listed.events.len()), (second, 2));
    let stale = lone.ask("a", first, None);
    assert!(lone.listed(stale).is_some(), "an older index does not block");
    lone.fire_named("none");
    assert_eq!(lone.listed(unborn).expect("the first of its name").events.len(), 1);
    assert_eq!(lone.agent.open_calls(), (0, 0));
}

#[test]
fn a_listing_wakes_when_its_newest_event_is_forgotten() {
    let mut lone = Lone::new(9);
    let index = index_of(lone.fire_named("a"));
    let waiting = lone.ask("a", index, None);
    for _ in 1..event::buffer::KEPT {
        lone.fire_named("b");
    }
    assert_eq!(lone.listed(waiting), None);
    lone.fire_named("b");
    assert_eq!(lone.listed(waiting), Some(Listed { index: 1, events: Vec::new() }));
}

#[test]
fn a_listing_ends_with_its_wait_and_a_sixteenth() {
    let mut lone = Lone::new(9);
    let waiting = lone.ask("a", 1, Some(Duration::from_secs(16)));
    let longest = lone.ask("a", 1, Some(Duration::from_secs(3600)));
    lone.wait_until(Instant::from_millis(15_999));
    assert_eq!(lone.listed(waiting), None);
    lone.wait_until(Instant::from_millis(17_001));
    assert_eq!(lone.listed(waiting), Some(Listed { index: 1, events: Vec::new() }));
    assert_eq!(lone.listed(longest), None);
    lone.wait_until(Instant::from_millis(64_000));
    assert!(lone.listed(longest).is_some(), "no longer than any query may block");
    assert_eq!(lone.agent.open_calls(), (0, 0));
}

#[test]
fn blocked_listings_count_and_hang_ups_are_forgotten() {
    let mut lone = Lone::new(2);
    let (first, second) = (lone.ask("a", 1, None), lone.ask("a", 1, None));
    let refused = lone.ask("a", 1, None);
    let busy = Error::Busy { what: Busy::BlockedQueries, limit: 2 };
    assert_eq!(lone.reply(refused), Some(Err(busy)));
    lone.input(Input::Hangup { id: first });
    assert_eq!(lone.agent.open_calls(), (1, 0));
    let third = lone.ask("a", 1, None);
    lone.fire_named("a");
    assert_eq!(lone.listed(first), None);
    assert!(lone.listed(second).is_some() && lone.listed(third).is_some());
}
