//! Commands that are run for others, on a real agent with a real disk.

use std::path::Path;

use lictor_core::api::event::{self, Event};
use lictor_core::api::kv::{self, PutMode};
use lictor_core::api::session::{self, Wanted};
use lictor_core::api::{Call, Consistency, ReadOptions, Request, Response};
use lictor_core::exec::layout::{self, Order, Place, Spec};
use lictor_core::time::Duration;
use lictor_runtime::Handle;

use crate::harness::{Cluster, eventually, get, soon};

async fn ask(handle: &Handle, request: impl Into<Request>) -> Option<Response> {
    soon("a call is answered", handle.call(Call::new(request))).await.ok()
}

/// Does what the initiator does, up to the event.
async fn run(handle: &Handle, line: &str) -> Place {
    let wanted = Wanted { behavior: "delete".to_owned(), ..Wanted::default() };
    // Its node is not in the catalog before it is led.
    let id = eventually("there is a session", || async {
        match ask(handle, session::Request::Create(wanted.clone())).await? {
            Response::SessionCreated(id) => Some(id),
            other => panic!("unexpected: {other:?}"),
        }
    })
    .await;
    let place = Place::new(layout::DEFAULT_PREFIX, id);
    let spec = Spec { order: Order::Command(line.to_owned()), wait: Duration::from_secs(60), inbox: None };
    let mode = PutMode::Acquire(id.to_string());
    let job = kv::Request::Put { key: place.job(), value: spec.encode(), flags: 0, mode };
    assert_eq!(ask(handle, job).await, Some(Response::Done(true)));
    let event = Event { name: layout::EVENT.to_owned(), payload: place.summons(), ..Event::default() };
    assert!(matches!(ask(handle, event::Request::Fire(event)).await, Some(Response::Fired(_))));
    place
}

/// How it has ended, and what it wrote.
async fn outcome(handle: &Handle, place: &Place, node: &str) -> (String, Vec<u8>) {
    let key = String::from_utf8(place.exit(node).to_vec()).unwrap();
    let exit = eventually("the job has ended", || get(handle, &key, Consistency::Default)).await;
    let list =
        kv::Request::List { prefix: format!("{}{node}/out/", place.root()).into(), read: ReadOptions::default() };
    match ask(handle, list).await {
        Some(Response::KvEntries(read)) => (exit, read.value.iter().flat_map(|entry| entry.value.to_vec()).collect()),
        other => panic!("unexpected: {other:?}"),
    }
}

async fn lines(file: &Path, count: usize) -> Vec<String> {
    eventually("the command has begun", || async {
        let text = std::fs::read_to_string(file).ok()?;
        (text.ends_with('\n') && text.lines().count() == count).then(|| text.lines().map(str::to_owned).collect())
    })
    .await
}

/// Whether there is such a process that has not ended.
fn lives(number: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|fields| fields.split_whitespace().next());
    state.is_some_and(|state| state != "Z")
}

async fn gone(number: &str) {
    eventually("the process is gone", || async { (!lives(number)).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_s_whole_output_arrives_and_its_session_s_end_kills_it() {
    let cluster = Cluster::start_tuned(1, |config| config.exec.enabled = true).await;
    let (handle, node) = (cluster.handle(0), "node-n1");
    let place = run(&handle, "yes | head -c 300000; exit 3").await;
    let (exit, output) = outcome(&handle, &place, node).await;
    assert_eq!((exit.as_str(), output.len()), ("3", 300_000));
    assert!(output.chunks(2).all(|pair| pair == b"y\n"));

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("numbers");
    let name = file.display();
    let place =
        run(&handle, &format!("trap 'exit 1' TERM; sleep 1000 & echo $! >>{name}; echo $$ >>{name}; wait")).await;
    let numbers = lines(&file, 2).await;
    let destroy = session::Request::Destroy { id: place.session().to_string() };
    assert_eq!(ask(&handle, destroy).await, Some(Response::Done(true)));
    for number in &numbers {
        gone(number).await;
    }
    soon("the server stops", async { drop(cluster) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_ends_with_the_agent_and_is_not_run_again_in_its_next_life() {
    let mut cluster = Cluster::start_tuned(1, |config| config.exec.enabled = true).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("numbers");
    let first = run(&cluster.handle(0), &format!("trap '' TERM; echo $$ >>{}; sleep 1000", file.display())).await;
    let number = lines(&file, 1).await.remove(0);
    cluster.stop(0).await;
    assert!(!lives(&number), "nothing is left when the agent has stopped");
    cluster.restart(0).await;
    let handle = cluster.handle(0);
    let second = run(&handle, "echo fine").await;
    assert_eq!(outcome(&handle, &second, "node-n1").await, ("0".to_owned(), b"fine\n".to_vec()));
    // Somebody says it once more.
    let event = Event { name: layout::EVENT.to_owned(), payload: first.summons(), ..Event::default() };
    assert!(matches!(ask(&handle, event::Request::Fire(event)).await, Some(Response::Fired(_))));
    let third = run(&handle, "echo fine").await;
    outcome(&handle, &third, "node-n1").await;
    assert_eq!(lines(&file, 1).await, [number], "it was run once");
    let exit = String::from_utf8(first.exit("node-n1").to_vec()).unwrap();
    assert_eq!(get(&handle, &exit, Consistency::Default).await, None, "how it ended nobody knows");
    cluster.stop(0).await;
}
