//! Those who wait for a service sleep while others are written.

use super::Lone;
use crate::api::catalog::{Check, Filter, Node, Registration, Request as Catalog, Service};
use crate::api::coordinate::{self, Place};
use crate::api::{Call, Error, Read, ReadOptions, Response, health};
use crate::id::{CallId, Index};
use crate::time::Duration;

fn register(node: &str, service: &str, status: &str) -> Catalog {
    let node = Node { name: node.to_owned(), address: "10.0.0.1".to_owned(), ..Node::default() };
    let id = format!("check:{service}");
    let (service_id, status) = (service.to_owned(), status.to_owned());
    let checks = vec![Check { id, service_id, status, ..Check::default() }];
    let service = Some(Service { name: service.to_owned(), ..Service::default() });
    Catalog::Register(Box::new(Registration { node, service, checks }))
}

fn health_of(service: &str, index: Index, near: Option<&str>) -> health::Request {
    let filter = Filter { near: near.map(str::to_owned), ..Filter::default() };
    let read = ReadOptions { index, ..ReadOptions::default() };
    health::Request::Service { name: service.to_owned(), tag: None, passing: false, filter, read }
}

fn found(lone: &mut Lone, id: CallId) -> Read<Vec<health::Instance>> {
    match lone.reply(id) {
        Some(Ok(Response::HealthOf(read))) => read,
        other => panic!("{other:?}"),
    }
}

fn done(lone: &mut Lone, request: impl Into<crate::api::Request>) {
    let id = lone.call(request);
    assert_eq!(lone.reply(id), Some(Ok(Response::Done(true))));
}

#[test]
fn a_query_for_a_service_sleeps_until_its_own_check_turns() {
    let mut lone = Lone::new();
    done(&mut lone, register("a", "web", health::PASSING));
    let first = lone.call(health_of("web", Index(0), None));
    let index = found(&mut lone, first).meta.index;
    let waiting = lone.call(health_of("WEB", index, None));
    for n in 0..20 {
        done(&mut lone, register("a", &format!("other-{n}"), health::CRITICAL));
    }
    done(&mut lone, register("a", "web", health::PASSING));
    assert_eq!(lone.reply(waiting), None, "nothing that it asked for has changed");
    let again = lone.call(health_of("web", Index(0), None));
    assert_eq!(found(&mut lone, again).meta.index, index);
    done(&mut lone, register("a", "web", health::CRITICAL));
    let news = found(&mut lone, waiting);
    assert!(news.meta.index > index);
    assert_eq!(news.value[0].checks[0].status, health::CRITICAL);
}

#[test]
fn places_go_into_the_log_together_and_order_what_is_near_this_agent() {
    let mut lone = Lone::new();
    let own = lone.agent.config.name.clone();
    for node in ["a", "b", "c", own.as_str()] {
        done(&mut lone, register(node, "web", health::PASSING));
    }
    let before = lone.agent.store().index();
    for (node, x) in [("a", 3.0), ("b", 1.0), (own.as_str(), 0.0), ("nobody", 1.0)] {
        let mut place = Place { node: node.to_owned(), coordinate: Default::default() };
        place.coordinate.vector[0] = x;
        done(&mut lone, coordinate::Request::Update(place));
    }
    assert_eq!(lone.agent.store().index(), before);
    lone.wait_until(lone.now + Duration::from_secs(5));
    assert_eq!(lone.agent.store().index(), before.next(), "one entry for all");
    let nodes = |read: Read<Vec<health::Instance>>| -> Vec<String> {
        read.value.iter().map(|instance| instance.node.name.clone()).collect()
    };
    let expected = [own.as_str(), "b", "a", "c"];
    let id = lone.call(health_of("web", Index(0), Some("_agent")));
    assert_eq!(nodes(found(&mut lone, id)), expected);
    let call = Call::new(health_of("web", Index(0), Some("_agent")));
    match lone.agent.view().answer(lone.now, &call) {
        Some(Ok(Response::HealthOf(read))) => assert_eq!(nodes(read), expected),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_registration_has_a_limit() {
    let mut lone = Lone::new();
    let id = lone.call(register("a", &"x".repeat(512 << 10), health::PASSING));
    assert_eq!(lone.reply(id), Some(Err(Error::RegistrationTooLarge { limit: 512 << 10 })));
}
