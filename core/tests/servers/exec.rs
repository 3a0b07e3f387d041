//! Commands that are run for others in a cluster, with the commands themselves played by hand.

use bytes::Bytes;
use lictor_core::api::event::Event as UserEvent;
use lictor_core::api::session::{self, Ttl, Wanted};
use lictor_core::api::{ReadOptions, Response, agent, event, kv};
use lictor_core::config::{Config, Exec};
use lictor_core::exec::child::{Action, Ended, Event, Signal};
use lictor_core::exec::layout::{self, CHUNK_BYTES, Order, Place, Spec};
use lictor_core::exec::{Loss, News};
use lictor_core::id::RunId;
use lictor_core::io::Input;
use lictor_core::time::Duration;

use super::world::{SECOND, World, client, done};

const ME: u64 = 9;
const OTHER: u64 = 8;
const RUN: RunId = RunId(1);

fn runner(n: u64) -> Config {
    Config { exec: Exec { enabled: true, ..Exec::default() }, ..client(n) }
}

/// Three servers, which run nothing for others, and an agent that does.
fn with_runner(seed: u64) -> World {
    let mut world = World::of_three(seed);
    world.start(runner(ME));
    world.join(ME, 1);
    world.run(SECOND * 5);
    world
}

fn line() -> Order {
    Order::Command("uptime".to_owned())
}

/// What the initiator does, up to the event.
fn prepare(world: &mut World, at: u64, wait: Duration) -> Place {
    let ttl = Ttl { text: "15s".to_owned(), nanos: 15_000_000_000 };
    let wanted = Wanted { ttl, behavior: "delete".to_owned(), node: Some("n1".to_owned()), ..Wanted::default() };
    let Ok(Response::SessionCreated(id)) = world.ask(at, session::Request::Create(wanted)) else {
        panic!("no session")
    };
    let place = Place::new(layout::DEFAULT_PREFIX, id);
    let (value, mode) = (Spec { order: line(), wait, inbox: None }.encode(), kv::PutMode::Acquire(id.to_string()));
    assert_eq!(world.ask(at, kv::Request::Put { key: place.job(), value, flags: 0, mode }), done());
    place
}

fn fire(world: &mut World, at: u64, place: &Place, node: &str) {
    let (name, payload) = (layout::EVENT.to_owned(), place.summons());
    let event = UserEvent { name, payload, node_filter: node.to_owned(), ..UserEvent::default() };
    assert!(matches!(world.ask(at, event::Request::Fire(event)), Ok(Response::Fired(_))));
}

/// As above, and until the command is to be started.
fn started(world: &mut World, wait: Duration) -> Place {
    let place = prepare(world, 1, wait);
    fire(world, 1, &place, "");
    assert!(
        world.run_until(SECOND * 5, |world| !world.children.is_empty()),
        "nothing is started: {:?}",
        world.exec_news
    );
    let actions = std::mem::take(&mut world.children);
    assert!(matches!(&actions[..], [(ME, Action::Start { id: RUN, order, .. })] if *order == line()), "{actions:?}");
    place
}

fn child(world: &mut World, event: Event) {
    world.input(ME, Input::Child { id: RUN, event });
}

fn exit(world: &mut World, code: i32) {
    child(world, Event::Ended(Ended::Exited { code: Some(code) }));
}

/// What lies below the place, without what it begins with.
fn found(world: &mut World, place: &Place) -> Vec<(String, Bytes)> {
    let prefix = Bytes::from(place.root());
    let at = world.leader().expect("there is a leader");
    match world.ask(at, kv::Request::List { prefix, read: ReadOptions::default() }) {
        Ok(Response::KvEntries(read)) => {
            let short = |key: &[u8]| String::from_utf8(key[place.root().len()..].to_vec()).unwrap();
            read.value
                .iter()
                .inspect(|entry| assert_eq!(entry.session, Some(place.session()), "all is locked"))
                .map(|entry| (short(&entry.key), entry.value.clone()))
                .collect()
        }
        other => panic!("{other:?}"),
    }
}

fn names(found: &[(String, Bytes)]) -> Vec<&str> {
    found.iter().map(|(key, _)| key.as_str()).collect()
}

fn is_over(world: &World) -> bool {
    world.hosts[&ME].agent.exec().is_empty()
}

fn destroy(world: &mut World, place: &Place) {
    assert_eq!(world.ask(2, session::Request::Destroy { id: place.session().to_string() }), done());
}

fn signalled(world: &World, signal: Signal) -> bool {
    world.children.contains(&(ME, Action::Signal { id: RUN, signal }))
}

#[test]
fn a_job_is_run_where_that_is_enabled_and_all_of_it_is_told() {
    let mut world = with_runner(1);
    let place = started(&mut world, SECOND * 2);
    let acknowledged = found(&mut world, &place);
    assert_eq!(names(&acknowledged), ["job", "n9/ack"]);
    let written: Vec<u8> = (0..10_000_u32).map(|n| (n % 251) as u8).collect();
    child(&mut world, Event::Wrote(written.clone().into()));
    exit(&mut world, 3);
    assert!(world.run_until(SECOND * 5, is_over));
    let all = found(&mut world, &place);
    assert_eq!(names(&all), ["job", "n9/ack", "n9/exit", "n9/out/00000", "n9/out/00001", "n9/out/00002"]);
    assert_eq!((&all[2].1[..], all[3].1.len()), (&b"3"[..], CHUNK_BYTES));
    let told: Vec<u8> = all[3..].iter().flat_map(|(_, value)| value.to_vec()).collect();
    assert_eq!(told, written);
    world.run(SECOND * 2);
    assert_eq!(world.hosts[&ME].agent.open_calls(), (0, 0), "nothing is asked any more");
    let refused = world.exec_news.iter().filter(|(_, news)| *news == News::Disabled);
    assert_eq!(
        refused.map(|(n, _)| *n).collect::<Vec<_>>().len(),
        3,
        "servers were told not to: {:?}",
        world.exec_news
    );
    destroy(&mut world, &place);
    assert_eq!(found(&mut world, &place), []);
}

#[test]
fn an_event_for_others_starts_nothing() {
    let mut world = with_runner(2);
    let place = prepare(&mut world, 1, SECOND);
    fire(&mut world, ME, &place, "^n8$");
    world.run(SECOND * 5);
    assert_eq!((world.children.len(), names(&found(&mut world, &place))), (0, vec!["job"]));
}

/// The pool tells who comes back of all recent events, this one too; and somebody may fire one for the same job again.
#[test]
fn nothing_is_run_twice_not_even_in_two_lives() {
    let mut world = with_runner(3);
    world.start(runner(OTHER));
    world.join(OTHER, 1);
    world.run(SECOND * 2);
    let place = prepare(&mut world, 1, SECOND * 2);
    fire(&mut world, 1, &place, "n9");
    assert!(world.run_until(SECOND * 5, |world| !world.children.is_empty()));
    world.children.clear();
    world.restart(ME);
    world.join(ME, OTHER);
    world.run(SECOND * 10);
    assert_eq!(world.children, []);
    fire(&mut world, OTHER, &place, "n9");
    world.run(SECOND * 5);
    assert_eq!((&world.children[..], is_over(&world)), (&[][..], true));
    assert_eq!(world.exec_news.last(), Some(&(ME, News::Known { place: place.clone() })));
    // A job of another session is another job.
    let other = prepare(&mut world, 1, SECOND * 2);
    fire(&mut world, OTHER, &other, "n9");
    assert!(world.run_until(SECOND * 5, |world| !world.children.is_empty()));
}

#[test]
fn the_end_of_the_session_is_the_end_of_the_command() {
    let mut world = with_runner(4);
    let place = started(&mut world, SECOND * 3600);
    world.run(SECOND * 2);
    destroy(&mut world, &place);
    assert!(world.run_until(SECOND, |world| signalled(world, Signal::Terminate)), "it goes on: {:?}", world.exec_news);
    assert!(!signalled(&world, Signal::Kill));
    assert!(world.run_until(SECOND * 6, |world| signalled(world, Signal::Kill)), "it may ignore that for ever");
    child(&mut world, Event::Wrote("too late".into()));
    exit(&mut world, 0);
    world.run(SECOND * 2);
    assert!(is_over(&world) && found(&mut world, &place).is_empty(), "nothing is written any more");
    assert_eq!(world.exec_news.last(), Some(&(ME, News::Lost { place, why: Loss::SessionEnded })));
    assert_eq!(world.hosts[&ME].agent.open_calls(), (0, 0));
}

/// Its initiator is gone, and nobody renews the session.
#[test]
fn a_session_that_expires_ends_the_command_too() {
    let mut world = with_runner(5);
    let place = started(&mut world, SECOND * 3600);
    assert!(world.run_until(SECOND * 40, |world| signalled(world, Signal::Terminate)));
    exit(&mut world, 0);
    world.run(SECOND);
    assert!(is_over(&world) && found(&mut world, &place).is_empty());
}

#[test]
fn output_survives_the_loss_of_the_leader_whole_and_in_order() {
    let mut world = with_runner(6);
    let place = started(&mut world, SECOND * 2);
    let leader = world.leader().unwrap();
    let mut written = Vec::new();
    for n in 0..8_u8 {
        if n == 3 {
            // The initiator's agent must not be lost with its session.
            if leader == 1 {
                world.cut_off(1);
            } else {
                world.kill(leader);
            }
        }
        let piece = vec![n; 3000];
        written.extend_from_slice(&piece);
        child(&mut world, Event::Wrote(piece.into()));
        world.run(Duration::from_millis(300));
    }
    exit(&mut world, 0);
    assert!(world.run_until(SECOND * 20, is_over), "{:?}", world.exec_news);
    let all = found(&mut world, &place);
    let told: Vec<u8> =
        all.iter().filter(|(key, _)| key.contains("/out/")).flat_map(|(_, value)| value.to_vec()).collect();
    assert_eq!(told, written);
    assert_eq!(all.iter().find(|(key, _)| key == "n9/exit").map(|(_, value)| &value[..]), Some(&b"0"[..]));
}

#[test]
fn an_agent_that_leaves_ends_what_it_runs() {
    let mut world = with_runner(7);
    let place = started(&mut world, SECOND * 3600);
    world.call(ME, agent::Request::Leave);
    assert!(signalled(&world, Signal::Terminate), "at once");
    child(&mut world, Event::Ended(Ended::Exited { code: None }));
    world.run(SECOND * 20);
    assert!(!world.hosts.contains_key(&ME), "it has left");
    let all = found(&mut world, &place);
    let exit = all.iter().find(|(key, _)| key == "n9/exit");
    assert!(exit.is_none_or(|(_, value)| &value[..] == b"-1"), "as long as there is time, it is told");
}
