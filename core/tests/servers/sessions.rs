//! Sessions on the nodes of a cluster whose leaders change: renewed, expired, delayed.

use bytes::Bytes;
use lictor_core::api::catalog::{Check, Node, Registration};
use lictor_core::api::session::{Request, Session, Ttl, Wanted};
use lictor_core::api::{Error, ReadOptions, Reply, Response, catalog, kv};
use lictor_core::id::{Index, SessionId};
use lictor_core::time::Duration;

use super::world::{SECOND, World, client, done, put};

/// With a TTL of ten seconds, so much of a lock delay, and no check that could end it.
fn wanted(lock_delay: Duration) -> Wanted {
    let ttl = Ttl { text: "10s".to_owned(), nanos: 10_000_000_000 };
    Wanted { ttl, lock_delay, checks: Some(Vec::new()), ..Wanted::default() }
}

fn begin(world: &mut World, at: u64, wanted: Wanted) -> SessionId {
    match world.ask(at, Request::Create(wanted)) {
        Ok(Response::SessionCreated(id)) => id,
        other => panic!("no session: {other:?}"),
    }
}

fn info(world: &mut World, at: u64, id: SessionId) -> Option<Session> {
    match world.ask(at, Request::Info { id: id.to_string(), read: ReadOptions::default() }) {
        Ok(Response::Sessions(read)) => read.value.first().map(|session| Session::clone(session)),
        other => panic!("no answer: {other:?}"),
    }
}

fn renew(world: &mut World, at: u64, id: SessionId) -> Reply {
    world.ask(at, Request::Renew { id: id.to_string() })
}

fn acquire(world: &mut World, at: u64, key: &'static str, id: SessionId) -> Reply {
    let mode = kv::PutMode::Acquire(id.to_string());
    world.ask(at, kv::Request::Put { key: Bytes::from_static(key.as_bytes()), value: Bytes::new(), flags: 0, mode })
}

/// Kills the leader and waits for the next one.
fn depose(world: &mut World) -> u64 {
    let before = world.leader().unwrap();
    world.kill(before);
    assert!(world.run_until(SECOND * 10, |world| world.leader().is_some()), "nobody leads");
    world.leader().unwrap()
}

#[test]
fn a_session_lives_on_the_agent_that_is_asked_and_says_what_it_was_given() {
    let mut world = World::of_three(1);
    world.start(client(4));
    world.join(4, 1);
    world.run(SECOND * 5);
    let id = begin(&mut world, 4, Wanted { name: "x".to_owned(), checks: None, ..wanted(SECOND * 100) });
    let session = info(&mut world, 1, id).unwrap();
    assert_eq!((session.name.as_str(), session.node.as_str(), session.ttl.text.as_str()), ("x", "n4", "10s"));
    assert_eq!((session.checks, session.lock_delay), (vec!["serfHealth".to_owned()], SECOND * 60));
    assert_eq!(world.ask(2, Request::Destroy { id: id.to_string() }), done());
    assert_eq!(info(&mut world, 3, id), None);
    assert_eq!(renew(&mut world, 4, id), Err(Error::NoSuchSession(id.to_string())));
}

#[test]
fn what_is_wrong_with_a_session_is_said() {
    let mut world = World::of_three(2);
    let mut refused = |wanted| world.ask(2, Request::Create(wanted)).unwrap_err().to_string();
    let ttl = |nanos| Ttl { text: "x".to_owned(), nanos };
    assert_eq!(
        refused(Wanted { ttl: ttl(9_000_000_000), ..Wanted::default() }),
        "Invalid Session TTL '9000000000', must be between [10s=24h0m0s]"
    );
    assert_eq!(
        refused(Wanted { ttl: ttl(-1), ..Wanted::default() }),
        "Invalid Session TTL '-1', must be between [10s=24h0m0s]"
    );
    assert_eq!(refused(Wanted { node: Some(String::new()), ..Wanted::default() }), "Must provide Node");
    assert_eq!(
        refused(Wanted { behavior: "bogus".to_owned(), ..Wanted::default() }),
        "Invalid Behavior setting 'bogus'"
    );
    assert_eq!(refused(Wanted { node: Some("nosuch".to_owned()), ..Wanted::default() }), "Missing node registration");
    assert_eq!(
        refused(Wanted { checks: Some(vec!["nosuch".to_owned()]), ..Wanted::default() }),
        "Missing check 'nosuch' registration"
    );
    assert_eq!(world.ask(2, Request::Renew { id: "x".to_owned() }), Err(Error::MalformedSession));
}

#[test]
fn a_session_that_is_not_renewed_ends_after_twice_its_ttl_and_one_that_is_lives_on() {
    let mut world = World::of_three(3);
    let (kept, left) = (begin(&mut world, 1, wanted(Duration::ZERO)), begin(&mut world, 2, wanted(Duration::ZERO)));
    let started = world.now;
    while world.now.since(started) < SECOND * 19 {
        world.run(SECOND * 4);
        assert!(renew(&mut world, 3, kept).is_ok());
        assert!(world.now.since(started) >= SECOND * 20 || info(&mut world, 1, left).is_some(), "too early");
    }
    world.run(SECOND * 2);
    assert_eq!(info(&mut world, 1, left), None, "nobody renewed it");
    assert!(info(&mut world, 1, kept).is_some());
}

#[test]
fn a_new_leader_gives_sessions_their_full_time() {
    let mut world = World::of_three(4);
    let id = begin(&mut world, 1, wanted(Duration::ZERO));
    world.run(SECOND * 15);
    let leader = depose(&mut world);
    let since = world.now;
    world.run(SECOND * 19);
    assert!(info(&mut world, leader, id).is_some(), "its time began anew with the leader");
    assert!(world.run_until(SECOND * 3, |world| world.session_is_gone(id)), "and it is over then");
    assert!(world.now.since(since) >= SECOND * 19);
}

#[test]
fn who_does_not_lead_any_more_renews_nothing() {
    let mut world = World::of_three(5);
    let id = begin(&mut world, 1, wanted(Duration::ZERO));
    let deposed = world.leader().unwrap();
    world.cut_off(deposed);
    // Beyond the old leader's lease; it may take some time until it knows that it does not lead any more.
    world.run(SECOND);
    let call = world.call(deposed, Request::Renew { id: id.to_string() });
    assert!(!world.run_until(SECOND * 5, |world| world.has_reply(call)), "it promised what it does not know");
}

#[test]
fn a_key_stays_delayed_although_leaders_change() {
    let mut world = World::of_three(6);
    let (first, second) = (begin(&mut world, 1, wanted(SECOND * 15)), begin(&mut world, 2, wanted(Duration::ZERO)));
    assert_eq!(acquire(&mut world, 1, "l", first), done());
    assert_eq!(world.ask(1, Request::Destroy { id: first.to_string() }), done());
    let ended = world.now;
    assert_eq!(acquire(&mut world, 2, "l", second), Ok(Response::Done(false)));
    assert_eq!(world.ask(2, put("l", "locks are advisory")), done());
    let leader = depose(&mut world);
    loop {
        assert!(renew(&mut world, leader, second).is_ok());
        let tried = world.now;
        match acquire(&mut world, leader, "l", second) {
            Ok(Response::Done(true)) => break,
            Ok(Response::Done(false)) => assert!(tried.since(ended) < SECOND * 17, "it is delayed for too long"),
            other => panic!("{other:?}"),
        }
        world.run(SECOND / 4);
    }
    assert!(world.now.since(ended) >= SECOND * 15, "it was delayed for {:?} only", world.now.since(ended));
    assert_eq!(world.lock_delays(), 0, "a lock that is taken again is not delayed any more");
}

#[test]
fn delays_that_are_over_are_forgotten() {
    let mut world = World::of_three(7);
    let id = begin(&mut world, 1, wanted(SECOND * 2));
    for key in ["a", "b", "c"] {
        assert_eq!(acquire(&mut world, 1, key, id), done());
    }
    assert_eq!(world.ask(1, Request::Destroy { id: id.to_string() }), done());
    assert_eq!(world.lock_delays(), 3);
    let behind = world.last_index();
    world.run(SECOND * 3);
    assert_eq!(world.lock_delays(), 0);
    assert_eq!(world.log_behind(behind), ["end-lock-delays keys=3"]);
}

#[test]
fn a_critical_check_ends_the_sessions_that_rely_on_it_and_wakes_who_waits_for_their_keys() {
    let mut world = World::of_three(8);
    let check = |status: &str| {
        let check = Check { id: "up".to_owned(), name: "up".to_owned(), status: status.to_owned(), ..Check::default() };
        let node = Node { name: "far".to_owned(), address: "10.9.9.9".to_owned(), ..Node::default() };
        catalog::Request::Register(Box::new(Registration { node, checks: vec![check], ..Registration::default() }))
    };
    assert_eq!(world.ask(1, check("passing")), done());
    let on_far = |behavior: &str, checks: &[&str]| Wanted {
        node: Some("far".to_owned()),
        checks: Some(checks.iter().map(|&id| id.to_owned()).collect()),
        behavior: behavior.to_owned(),
        lock_delay: Duration::ZERO,
        ..Wanted::default()
    };
    let ephemeral = begin(&mut world, 1, on_far("delete", &["Up"]));
    let other = begin(&mut world, 1, on_far("delete", &[]));
    assert_eq!(acquire(&mut world, 1, "ephemeral", ephemeral), done());
    assert_eq!(acquire(&mut world, 1, "other", other), done());
    let read = ReadOptions { index: world.last_index(), ..ReadOptions::default() };
    let waiting = world.call(2, kv::Request::Get { key: Bytes::from_static(b"ephemeral"), read });
    assert_eq!(world.ask(1, check("warning")), done());
    assert!(info(&mut world, 1, ephemeral).is_some() && !world.has_reply(waiting));
    assert_eq!(world.ask(1, check("critical")), done());
    assert!(world.run_until(SECOND, |world| world.has_reply(waiting)), "nobody told that the key is gone");
    assert!(matches!(world.reply(waiting), Some((_, Ok(Response::KvEntries(read)))) if read.value.is_empty()));
    assert_eq!(info(&mut world, 1, ephemeral), None);
    assert!(info(&mut world, 1, other).is_some());
    let what = catalog::Deregistration { node: "FAR".to_owned(), ..catalog::Deregistration::default() };
    assert_eq!(world.ask(1, catalog::Request::Deregister(what)), done());
    assert_eq!(info(&mut world, 1, other), None, "sessions go with their node");
    assert!(world.last_index() > Index(0));
}
