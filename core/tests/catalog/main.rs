//! The catalog against a plain model: whatever commands come, every question finds what a naive scan would, indexes never
//! run backwards, and whoever waits is woken when what it asked about has changed, and only then.

mod model;

use std::collections::BTreeSet;

use bytes::Bytes;
use lictor_core::api::catalog::{self, Check, Deregistration, Filter, Meta, Node, Registration, Service};
use lictor_core::api::coordinate::{self, Place};
use lictor_core::api::snapshot::Step as Restoring;
use lictor_core::api::{ReadOptions, Request, Response, health};
use lictor_core::coordinate::Coordinate;
use lictor_core::id::{Index, Ticket};
use lictor_core::store::image::{Decoder, Encoder};
use lictor_core::store::{Answer, Body, Command, Question, Store};
use lictor_core::watch::{Interest, Watches};
use lictor_core::wire;
use model::{About, Model};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// An entry of the log.
#[derive(Clone, Debug)]
enum Step {
    Do(Command),
    /// Forgets what was deleted up to so many entries ago.
    Reap(u64),
    /// An entry of raft's own.
    Skip,
}

fn text(of: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(of).prop_map(str::to_owned)
}

/// `A` and `a` are one node.
fn node_name() -> impl Strategy<Value = String> {
    text(&["a", "A", "b", "c"])
}

fn meta() -> impl Strategy<Value = Meta> {
    select(&[0, 0, 1, 2][..]).prop_map(|n| match n {
        0 => Meta::new(),
        n => Meta::from([("rack".to_owned(), n.to_string())]),
    })
}

fn node() -> impl Strategy<Value = Node> {
    let tagged = prop_oneof![4 => Just(None), 1 => meta().prop_map(Some)];
    (node_name(), text(&["x", "x", "x", "y"]), tagged, meta()).prop_map(|(name, address, tagged_addresses, meta)| {
        Node { name, address, tagged_addresses, meta, ..Node::default() }
    })
}

fn service() -> impl Strategy<Value = Service> {
    let tags = prop_oneof![2 => Just(None), 2 => vec(text(&["One", "one", "two", ""]), 0..3).prop_map(Some)];
    let id = text(&["s", "S", "t", "u", "s", "t", ""]);
    (id, text(&["web", "Web", "db", "db", ""]), tags, 0..2i64).prop_map(|(id, name, tags, port)| Service {
        id,
        name,
        tags,
        port,
        ..Service::default()
    })
}

fn check() -> impl Strategy<Value = Check> {
    let node = text(&["", "", "", "", "b", "nowhere"]);
    let id = text(&["k", "K", "l", "m", "l", "m", ""]);
    let of = text(&["", "", "s", "S", "t", "u"]);
    let status = text(&["passing", "passing", "critical", "warning", "", "Odd"]);
    (node, id, of, text(&["", "", "web"]), status, text(&["", "out"])).prop_map(
        |(node, id, service_id, service_name, status, output)| Check {
            node,
            id,
            service_id,
            service_name,
            status,
            output,
            ..Check::default()
        },
    )
}

fn place() -> impl Strategy<Value = Place> {
    (text(&["a", "B", "c", "nowhere"]), select(&[0.0, 1.0, 2.0, f64::NAN][..])).prop_map(|(node, x)| {
        let mut coordinate = Coordinate::default();
        coordinate.vector[0] = x;
        Place { node, coordinate }
    })
}

fn step() -> impl Strategy<Value = Step> {
    let register = (node(), prop::option::of(service()), vec(check(), 0..3)).prop_map(|(node, service, mut checks)| {
        // A check that a registration gives twice may wake for what it was in between.
        let mut seen = BTreeSet::new();
        checks.retain(|check| seen.insert(check.id.to_lowercase()));
        Command::Register(Box::new(Registration { node, service, checks }))
    });
    let deregister = (node_name(), text(&["", "", "s", "t", "u"]), text(&["", "k", "l", "m"]))
        .prop_map(|(node, service_id, check_id)| Command::Deregister(Deregistration { node, service_id, check_id }));
    prop_oneof![
        12 => register.prop_map(Step::Do),
        4 => deregister.prop_map(Step::Do),
        2 => vec(place(), 0..4).prop_map(|mut places| {
            places.sort_by(|a, b| a.node.cmp(&b.node));
            places.dedup_by(|a, b| a.node == b.node);
            Step::Do(Command::UpdateCoordinates(places))
        }),
        1 => (0..12u64).prop_map(Step::Reap),
        1 => Just(Step::Skip),
    ]
}

/// Every question about every name, with and without filters.
fn questions() -> Vec<Request> {
    let read = ReadOptions::default;
    let rack = Meta::from([("rack".to_owned(), "1".to_owned())]);
    let near = |node: &str| Filter { near: Some(node.to_owned()), ..Filter::default() };
    let filters =
        [Filter::default(), Filter { node_meta: rack.clone(), ..Filter::default() }, near("a"), near("nobody")];
    let mut all: Vec<Request> = vec![coordinate::Request::Nodes { read: read() }.into()];
    for name in ["a", "B", "c", "nobody"].map(str::to_owned) {
        all.push(catalog::Request::Node { name: name.clone(), read: read() }.into());
        all.push(health::Request::Node { name, read: read() }.into());
    }
    for node_meta in [Meta::new(), rack] {
        all.push(catalog::Request::Services { node_meta, read: read() }.into());
    }
    for filter in filters {
        all.push(catalog::Request::Nodes { filter: filter.clone(), read: read() }.into());
        for state in ["any", "passing", "critical", "Odd", "odd"].map(str::to_owned) {
            all.push(health::Request::State { state, filter: filter.clone(), read: read() }.into());
        }
        for name in ["web", "DB", "none"].map(str::to_owned) {
            let service = name.clone();
            all.push(health::Request::Checks { service, filter: filter.clone(), read: read() }.into());
            for tag in [None, Some("ONE"), Some("")] {
                let (tag, filter) = (tag.map(str::to_owned), filter.clone());
                let (of, kind) = (name.clone(), tag.clone());
                all.push(
                    catalog::Request::Service { name: of, tag: kind, filter: filter.clone(), read: read() }.into(),
                );
                for passing in [false, true] {
                    let (name, tag, filter) = (name.clone(), tag.clone(), filter.clone());
                    all.push(health::Request::Service { name, tag, passing, filter, read: read() }.into());
                }
            }
        }
    }
    all
}

fn question(request: &Request) -> Question<'_> {
    Question::of(request).expect("a question about the store")
}

fn answer(store: &Store, request: &Request) -> Answer {
    store.query(question(request)).expect("a read is answered")
}

/// Places by the names of their nodes in small letters, as the model has them.
fn in_small_letters(body: Body) -> Body {
    match body {
        Body::Places(places) => {
            let small = |place: Place| Place { node: place.node.to_lowercase(), ..place };
            Body::Places(places.into_iter().map(small).collect())
        }
        other => other,
    }
}

/// A store, its model, and one client for each question who waits for it to change.
struct Trial {
    store: Store,
    model: Model,
    questions: Vec<Request>,
    watches: Watches,
    last: Vec<(Answer, About)>,
}

impl Trial {
    fn new() -> Self {
        let (mut store, model, questions) = (Store::default(), Model::default(), questions());
        store.note_applied(Index(1));
        let mut watches = Watches::default();
        for (n, request) in questions.iter().enumerate() {
            watches.add(Ticket(n as u64), Interest::of(question(request)).expect("a read waits for something"));
        }
        let last = questions.iter().map(|request| (answer(&store, request), model.about(question(request)))).collect();
        Self { store, model, questions, watches, last }
    }

    fn apply(&mut self, step: Step) -> Result<(), TestCaseError> {
        let index = self.store.index().next();
        let (command, reaps) = match step {
            Step::Do(command) => (command, false),
            Step::Reap(ago) => (Command::ReapTombstones { up_to: Index(index.0.saturating_sub(ago)) }, true),
            Step::Skip => {
                self.store.note_applied(index);
                return self.check(index, &BTreeSet::new(), false);
            }
        };
        self.model.apply(index, &command);
        let command: Command = wire::decode(&wire::encode(&command)).expect("a command survives the log");
        let applied = self.store.apply(index, command);
        prop_assert_eq!(applied.response, Ok(Response::Done(true)));
        let mut woken = BTreeSet::new();
        for (at, touch) in applied.touched.iter().enumerate() {
            prop_assert!(!applied.touched[..at].contains(touch), "{:?} twice", touch);
            self.watches.touched(touch, &mut woken);
        }
        self.check(index, &woken, reaps)
    }

    /// Compares all answers with the model's and with those before the entry at `index`.
    fn check(&mut self, index: Index, woken: &BTreeSet<Ticket>, reaps: bool) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.store.catalog_changed(), self.model.changed);
        for (n, request) in self.questions.iter().enumerate() {
            let asked = question(request);
            let now = answer(&self.store, request);
            prop_assert_eq!(in_small_letters(now.body.clone()), self.model.find(asked), "{:?}", request);
            prop_assert_eq!(self.store.changed(asked), Some(now.changed));
            let about = self.model.about(asked);
            let (before, about_before) = &self.last[n];
            prop_assert!(now.index >= before.index && now.changed >= before.changed, "backwards: {:?}", request);
            prop_assert!(now.index.0 >= 1 && now.index >= now.changed && now.changed <= index);
            let differs = about != *about_before;
            prop_assert_eq!(woken.contains(&Ticket(n as u64)), differs, "woken: {:?}", request);
            if differs {
                prop_assert_eq!(now.changed, index, "changed now: {:?}", request);
                prop_assert!(now.changed > before.index, "would sleep on: {:?}", request);
            } else if !reaps {
                prop_assert_eq!(now.changed, before.changed, "did not change: {:?}", request);
            }
            let vacant = self.model.is_vacant(asked);
            let told = if vacant { self.model.changed } else { now.changed };
            prop_assert_eq!(now.index, told.max(Index(1)), "{:?}", request);
            self.last[n] = (now, about);
        }
        Ok(())
    }
}

fn image(store: &Store, piece_bytes: usize) -> Vec<Bytes> {
    Encoder::new(Bytes::from_static(b"meta"), store.clone(), piece_bytes).collect()
}

fn replayed(steps: &[Step]) -> Store {
    let mut store = Store::default();
    store.note_applied(Index(1));
    for step in steps {
        let index = store.index().next();
        match step.clone() {
            Step::Do(command) => drop(store.apply(index, command)),
            Step::Reap(ago) => {
                drop(store.apply(index, Command::ReapTombstones { up_to: Index(index.0.saturating_sub(ago)) }));
            }
            Step::Skip => store.note_applied(index),
        }
    }
    store
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn every_question_finds_what_a_naive_scan_would_and_wakes_when_that_changes(steps in vec(step(), 1..60)) {
        let mut trial = Trial::new();
        for step in steps {
            trial.apply(step)?;
        }
    }

    #[test]
    fn an_image_holds_the_whole_catalog(steps in vec(step(), 0..40), piece_bytes in 0..600usize) {
        let store = replayed(&steps);
        let mut decoder = Decoder::new();
        for piece in image(&store, piece_bytes) {
            decoder.feed(&piece).unwrap();
        }
        let (_, read) = decoder.finish().unwrap();
        prop_assert!(read == store, "{:?} and {:?} differ", read, store);
    }

    #[test]
    fn a_restoration_brings_the_catalog_back_and_answers_all_who_wait(
        before in vec(step(), 0..30),
        other in vec(step(), 0..30),
        after in vec(step(), 0..10),
    ) {
        let (mut store, source) = (replayed(&before), replayed(&other));
        let then: Vec<Answer> = questions().iter().map(|request| answer(&store, request)).collect();
        let pieces = image(&source, 200);
        let (id, count) = (uuid::Uuid::from_u128(1), u32::try_from(pieces.len()).unwrap());
        let steps = (0..).zip(pieces).map(|(number, bytes)| Restoring::Piece { number, bytes });
        for step in steps.chain([Restoring::Finish { pieces: count }]) {
            let applied = store.apply(store.index().next(), Command::Restore { id, step });
            prop_assert_eq!(applied.response, Ok(Response::Done(true)));
        }
        let at = store.restored_at();
        for (request, then) in questions().iter().zip(then) {
            let now = answer(&store, request);
            prop_assert_eq!(&now.body, &answer(&source, request).body);
            prop_assert!(now.changed == at && now.index == at && at > then.index, "{:?}", request);
        }
        prop_assert_eq!(store.tombstone_len(), 0);
        // Life goes on from there.
        for step in after {
            let index = store.index().next();
            let Step::Do(command) = step else { continue };
            let last: Vec<Answer> = questions().iter().map(|request| answer(&store, request)).collect();
            store.apply(index, command);
            for (request, last) in questions().iter().zip(last) {
                let now = answer(&store, request);
                prop_assert!(now.index >= last.index && now.changed >= last.changed, "backwards: {:?}", request);
            }
        }
    }
}

/// A registration of a service of its own name on a node, with a check of it.
fn registration(node: &str, service: &str, output: String) -> Command {
    let node = Node { name: node.to_owned(), address: "10.0.0.1".to_owned(), ..Node::default() };
    let check = Check { id: format!("check:{service}"), service_id: service.to_owned(), output, ..Check::default() };
    let service = Service { id: service.to_owned(), name: service.to_owned(), ..Service::default() };
    Command::Register(Box::new(Registration { node, service: Some(service), checks: vec![check] }))
}

#[test]
fn a_thousand_who_wait_for_a_thousand_services_sleep_through_ten_thousand_writes_to_others() {
    const WAITING: u64 = 1000;
    const WRITES: u64 = 10_000;
    let (mut store, mut watches) = (Store::default(), Watches::default());
    let node = |n: u64| format!("node-{}", n % 50);
    let mut waiting = Vec::new();
    for n in 0..WAITING {
        let name = format!("watched-{n}");
        store.apply(store.index().next(), registration(&node(n), &name, String::new()));
        let (read, filter) = (ReadOptions::default(), Filter::default());
        let request = match n % 3 {
            0 => catalog::Request::Service { name, tag: None, filter, read }.into(),
            1 => health::Request::Checks { service: name, filter, read }.into(),
            _ => Request::from(health::Request::Service { name, tag: None, passing: true, filter, read }),
        };
        watches.add(Ticket(n), Interest::of(question(&request)).unwrap());
        waiting.push(request);
    }
    let before: Vec<Index> = waiting.iter().map(|request| answer(&store, request).index).collect();
    let mut woken = BTreeSet::new();
    for n in 0..WRITES {
        // They come, change, and go, on the very nodes of those that are waited for.
        let name = format!("other-{}", n % 700);
        let command = match n % 10 {
            9 => Command::Deregister(Deregistration { node: node(n), service_id: name, check_id: String::new() }),
            _ => registration(&node(n), &name, n.to_string()),
        };
        let applied = store.apply(store.index().next(), command);
        applied.touched.iter().for_each(|touch| watches.touched(touch, &mut woken));
    }
    assert_eq!(woken, BTreeSet::new());
    let after: Vec<Index> = waiting.iter().map(|request| answer(&store, request).index).collect();
    assert_eq!(after, before, "X-Consul-Index stays where it was");
    let applied = store.apply(store.index().next(), registration(&node(2), "watched-2", "news".to_owned()));
    applied.touched.iter().for_each(|touch| watches.touched(touch, &mut woken));
    assert_eq!(woken, BTreeSet::from([Ticket(2)]));
}
