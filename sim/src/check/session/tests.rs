//! Sessions that live too long, or not long enough.

use std::sync::Arc;

use lictor_core::api::catalog;
use lictor_core::api::health::PASSING;
use lictor_core::api::session::{Behavior, Ttl};
use lictor_core::id::PeerId;

use super::*;

fn id(n: u64) -> SessionId {
    SessionId(PeerId::numbered(n).0)
}

/// A session on the node `n`, with a TTL of ten seconds.
fn session(n: u64, checks: &[&str]) -> Session {
    Session {
        id: id(n),
        name: String::new(),
        node: "n".to_owned(),
        checks: checks.iter().map(|check| (*check).to_owned()).collect(),
        lock_delay: Duration::ZERO,
        behavior: Behavior::Release,
        ttl: Ttl { text: "10s".to_owned(), nanos: 10_000_000_000 },
        create_index: Index(0),
    }
}

fn registration(checks: &[(&str, &str)]) -> Registration {
    let check = |(id, status): &(&str, &str)| catalog::Check {
        id: (*id).to_owned(),
        status: (*status).to_owned(),
        ..catalog::Check::default()
    };
    let node = catalog::Node { name: "N".to_owned(), address: "x".to_owned(), ..catalog::Node::default() };
    Registration { node, service: None, checks: checks.iter().map(check).collect() }
}

fn seconds(seconds: u64) -> Instant {
    Instant::from_millis(seconds * 1_000)
}

#[test]
fn a_session_is_borne_by_its_node_and_its_checks() {
    let mut sessions = Sessions::default();
    assert!(!sessions.create(Index(1), &session(1, &[])), "there is no such node");
    sessions.register(&registration(&[("up", PASSING)]));
    assert!(sessions.create(Index(2), &session(1, &[])));
    assert!(sessions.create(Index(3), &session(2, &["UP"])));
    assert!(!sessions.create(Index(4), &session(3, &["down"])), "there is no such check");
    assert_eq!(sessions.unsound(), []);
    sessions.register(&registration(&[("up", "")]));
    assert_eq!(sessions.unsound(), [id(2)], "a check without a state is critical");
    assert!(sessions.end(Index(5), id(2), End::Unsound).is_some() && !sessions.is_alive(id(2)));
    assert!(sessions.end(Index(6), id(2), End::Expired).is_none(), "it has ended");
    sessions.deregister(&Deregistration { node: "n".to_owned(), ..Deregistration::default() });
    assert_eq!(sessions.unsound(), [id(1)]);
}

#[test]
fn a_registration_is_taken_as_a_whole_or_not_at_all() {
    let mut sessions = Sessions::default();
    let mut wrong = registration(&[("up", PASSING), ("of a service", PASSING)]);
    wrong.checks[1].service_id = "web".to_owned();
    sessions.register(&wrong);
    assert!(!sessions.create(Index(1), &session(1, &[])));
    wrong.service = Some(catalog::Service { id: "web".into(), name: "web".into(), ..catalog::Service::default() });
    sessions.register(&wrong);
    assert!(sessions.create(Index(2), &session(1, &["up", "of a service"])));
    let service_id = "web".to_owned();
    sessions.deregister(&Deregistration { node: "n".to_owned(), service_id, ..Deregistration::default() });
    assert_eq!(sessions.unsound(), [id(1)], "a service goes with its checks");
}

#[test]
fn a_list_is_of_one_index() {
    let mut sessions = Sessions::default();
    sessions.register(&registration(&[]));
    sessions.create(Index(2), &session(1, &[]));
    sessions.create(Index(4), &session(2, &[]));
    sessions.end(Index(6), id(1), End::Destroyed);
    let created = |n, at| Arc::new(Session { create_index: Index(at), ..session(n, &[]) });
    let (first, second) = (created(1, 2), created(2, 4));
    assert_eq!(sessions.find(std::slice::from_ref(&first), Index(0), Index(9)), Some(Index(2)));
    assert_eq!(sessions.find(&[first.clone(), second.clone()], Index(5), Index(9)), Some(Index(5)));
    assert_eq!(sessions.find(&[first], Index(4), Index(9)), None, "it is no more alone");
    assert_eq!(sessions.find(&[second], Index(0), Index(9)), Some(Index(6)));
}

#[test]
fn who_waits_for_a_session_wakes_when_it_ends() {
    let mut sessions = Sessions::default();
    sessions.register(&registration(&[]));
    sessions.create(Index(2), &session(1, &[]));
    sessions.create(Index(4), &session(2, &[]));
    sessions.end(Index(6), id(1), End::Destroyed);
    let (one, other) = (Some(id(1)), Some(id(2)));
    assert_eq!(sessions.must_wake(one, Index(2), Index(5)), None, "another one has come");
    assert_eq!(sessions.must_wake(one, Index(2), Index(6)), Some(Index(6)));
    assert_eq!(
        (sessions.must_wake(other, Index(4), Index(9)), sessions.may_wake(other, Index(4), Index(9))),
        (None, None)
    );
    assert_eq!(sessions.must_wake(other, Index(3), Index(9)), None, "it was not there");
    assert_eq!(sessions.may_wake(other, Index(3), Index(9)), Some(Index(4)));
    assert_eq!(sessions.must_wake(None, Index(2), Index(9)), Some(Index(4)));
    assert_eq!(sessions.must_wake(None, Index(6), Index(9)), None);
}

#[test]
fn one_session_is_there_or_not() {
    let mut sessions = Sessions::default();
    sessions.register(&registration(&[]));
    sessions.create(Index(2), &session(1, &[]));
    sessions.end(Index(6), id(1), End::Destroyed);
    let found = [Arc::new(Session { create_index: Index(2), ..session(1, &[]) })];
    assert!(sessions.find_one(id(1), &found, Index(5), Index(9)) && sessions.find_one(id(1), &[], Index(5), Index(9)));
    assert!(!sessions.find_one(id(1), &found, Index(6), Index(9)), "it has ended by then");
    assert!(!sessions.find_one(id(1), &[], Index(2), Index(5)), "it is there all the time");
    assert!(sessions.find_one(id(2), &[], Index(2), Index(5)));
}

#[test]
fn a_session_lives_as_long_as_was_promised() {
    let mut promises = Promises::default();
    promises.created(&session(1, &[]), seconds(1));
    assert!(
        promises
            .clone_for_test()
            .ended(id(1), seconds(20), End::Expired, seconds(0))
            .unwrap_err()
            .contains("had to live")
    );
    assert_eq!(promises.clone_for_test().ended(id(1), seconds(21), End::Expired, seconds(0)), Ok(()));
    assert_eq!(promises.clone_for_test().ended(id(1), seconds(2), End::Destroyed, seconds(0)), Ok(()));
    assert_eq!(promises.renewed(id(1), seconds(10)), Ok(()));
    assert!(promises.clone_for_test().ended(id(1), seconds(29), End::Expired, seconds(0)).is_err());
    assert_eq!(promises.ended(id(1), seconds(30), End::Expired, seconds(0)), Ok(()));
    assert!(promises.renewed(id(1), seconds(11)).is_err(), "the answer came late, and was a promise");
    assert!(promises.renewed(id(1), seconds(31)).unwrap_err().contains("had ended"));
}

#[test]
fn a_new_leader_gives_every_session_its_full_time() {
    let mut promises = Promises::default();
    promises.created(&session(1, &[]), seconds(1));
    assert_eq!(promises.clone_for_test().ended(id(1), seconds(30), End::Expired, seconds(10)), Ok(()));
    assert!(promises.ended(id(1), seconds(29), End::Expired, seconds(10)).is_err());
}

#[test]
fn a_session_ends_at_last() {
    let mut promises = Promises::default();
    promises.created(&session(1, &[]), seconds(1));
    promises.renewal_begins(id(1), 7);
    let slack = Duration::from_secs(1);
    assert_eq!(promises.none_outlives(seconds(100), seconds(0), slack), Ok(()), "it may be renewed any time");
    promises.renewal_ends(id(1), 7, seconds(50));
    assert_eq!(promises.none_outlives(seconds(71), seconds(0), slack), Ok(()));
    assert!(promises.none_outlives(seconds(72), seconds(0), slack).unwrap_err().contains("still there"));
    assert_eq!((promises.none_outlives(seconds(72), seconds(60), slack), promises.left()), (Ok(()), 1));
}

impl Promises {
    fn clone_for_test(&self) -> Self {
        Self { by_id: self.by_id.clone() }
    }
}
