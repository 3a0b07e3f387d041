//! What a question about one service costs: 1,000 instances among those of 10,000 services, each with a check, on 1,000
//! nodes; and what it costs to write to another service.
//!
//!     cargo bench -p lictor-core --bench catalog

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use lictor_core::api::catalog::{Check, Filter, Node, Registration, Service};
use lictor_core::api::{ReadOptions, health};
use lictor_core::id::Index;
use lictor_core::store::{Command, Store};

const NODES: u64 = 1000;
const OTHERS: u64 = 10_000;

fn registration(node: u64, service: &str, id: &str, output: String) -> Command {
    let check = |id: String, service_id: &str, output| Check {
        name: id.clone(),
        id,
        service_id: service_id.to_owned(),
        status: health::PASSING.to_owned(),
        output,
        ..Check::default()
    };
    let node = Node { name: format!("node-{node:04}"), address: "10.0.0.1".to_owned(), ..Node::default() };
    let service = Service { id: id.to_owned(), name: service.to_owned(), port: 80, ..Service::default() };
    let checks = vec![
        check(health::SERF_CHECK_ID.to_owned(), "", health::SERF_ALIVE.to_owned()),
        check(format!("service:{id}"), id, output),
    ];
    Command::Register(Box::new(Registration { node, service: Some(service), checks }))
}

fn store() -> Store {
    let mut store = Store::default();
    for n in 0..NODES {
        store.apply(store.index().next(), registration(n, "web", "web", String::new()));
    }
    for n in 0..OTHERS {
        let name = format!("other-{n:05}");
        store.apply(store.index().next(), registration(n % NODES, &name, &name, String::new()));
    }
    store
}

fn catalog(criterion: &mut Criterion) {
    let mut store = store();
    let passing = health::Request::Service {
        name: "web".to_owned(),
        tag: None,
        passing: true,
        filter: Filter::default(),
        read: ReadOptions::default(),
    };
    criterion.bench_function("1,000 passing instances among 11,000", |bencher| {
        bencher.iter(|| black_box(store.query(&passing)));
    });
    criterion
        .bench_function("whether they have changed", |bencher| bencher.iter(|| black_box(store.changed(&passing))));
    criterion.bench_function("a write to another service", |bencher| {
        bencher.iter(|| {
            let Index(index) = store.index().next();
            let name = format!("other-{:05}", index % OTHERS);
            let view = store.clone();
            store.apply(Index(index), registration(index % OTHERS % NODES, &name, &name, index.to_string()));
            view
        });
    });
}

criterion_group!(benches, catalog);
criterion_main!(benches);
