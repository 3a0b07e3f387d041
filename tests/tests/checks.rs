//! What is registered with an agent, and the checks that it runs, as they look from outside.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lictor_tests::agent::{Signal, server_options};
use lictor_tests::cluster::{check_state, client, joining, server_of, wait_for_members};
use lictor_tests::{Agent, until};
use serde_json::{Value, json};

/// The interval of every check here.
const INTERVAL: Duration = Duration::from_secs(1);

/// The name of every agent here that is alone.
const NODE: &str = "alone";

/// A server of its own, on a data directory.
fn alone(directory: &Path, more: &[String]) -> Agent {
    let mut options = server_options(directory);
    options.push(format!("-node={NODE}"));
    options.extend_from_slice(more);
    let agent = Agent::start(&options);
    agent.wait_for_leader();
    agent
}

fn register(agent: &Agent, what: &str, definition: &Value) {
    let answer = agent.ask("PUT", &format!("/v1/agent/{what}/register"), definition.to_string().as_bytes());
    assert_eq!((answer.status, answer.text()), (200, ""), "{definition}");
}

/// Asks for something that is answered with nothing.
fn tell(agent: &Agent, target: &str) {
    let answer = agent.ask("PUT", target, b"");
    assert_eq!((answer.status, answer.text()), (200, ""), "{target}");
}

/// Waits until a check is in a state, in the catalog.
fn wait_for_state(agent: &Agent, check: &str, state: &str) {
    until(&format!("{check} is {state}"), || (check_state(agent, NODE, check).as_deref() == Some(state)).then_some(()));
}

/// A web server whose answers all have one status, which can be changed.
struct Web {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    closed: Arc<AtomicBool>,
}

impl Web {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (status, closed) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicBool::new(false)));
        let (answer, ended) = (Arc::clone(&status), Arc::clone(&closed));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                // A client that goes away is its own affair.
                let Ok(mut stream) = stream else { continue };
                let _ = stream.read(&mut [0; 4096]);
                let status = answer.load(Ordering::Relaxed);
                let _ = write!(stream, "HTTP/1.1 {status} Said\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            }
        });
        Self { address, status, closed }
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        // The thread looks up only if somebody comes.
        let _ = std::net::TcpStream::connect(self.address);
    }
}

#[test]
fn the_states_of_checks_follow_reality() {
    let directory = tempfile::tempdir().unwrap();
    let agent = alone(&directory.path().join("data"), &[]);
    let exit = directory.path().join("exit");
    fs::write(&exit, "0").unwrap();
    let web = Web::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = listener.local_addr().unwrap();
    register(&agent, "service", &json!({"Name": "web", "Port": 80, "Check": {"TTL": "600s"}}));
    let checks = [
        ("script", json!({"Script": format!("exit $(cat {})", exit.display())})),
        ("http", json!({"HTTP": format!("http://{}/health", web.address)})),
        ("tcp", json!({"TCP": tcp.to_string()})),
    ];
    for (id, mut check) in checks {
        check["ID"] = json!(id);
        check["Name"] = json!(format!("the {id} check"));
        check["ServiceID"] = json!("web");
        check["Interval"] = json!("1s");
        register(&agent, "check", &check);
    }
    for id in ["script", "http", "tcp"] {
        wait_for_state(&agent, id, "passing");
    }
    assert_eq!(check_state(&agent, NODE, "service:web").as_deref(), Some("critical"), "nobody has told of it");
    tell(&agent, "/v1/agent/check/pass/service:web?note=well");
    wait_for_state(&agent, "service:web", "passing");
    until("the service is healthy", || (healthy(&agent) == 1).then_some(()));

    // Each change of reality, and what is to be seen of it.
    let exits = |code: &str| fs::write(&exit, code).unwrap();
    let answers = |status| web.status.store(status, Ordering::Relaxed);
    let changes: [(&str, &str, &dyn Fn()); 5] = [
        ("script", "warning", &|| exits("1")),
        ("http", "warning", &|| answers(429)),
        ("http", "critical", &|| answers(503)),
        ("script", "critical", &|| exits("2")),
        ("script", "passing", &|| exits("0")),
    ];
    for (id, state, change) in changes {
        let start = Instant::now();
        change();
        wait_for_state(&agent, id, state);
        seen_in_time(start, id, state);
    }
    let start = Instant::now();
    drop(listener);
    wait_for_state(&agent, "tcp", "critical");
    seen_in_time(start, "tcp", "critical");
    until("the service is not healthy", || (healthy(&agent) == 0).then_some(()));
    let start = Instant::now();
    let _listener = TcpListener::bind(tcp).unwrap();
    answers(204);
    wait_for_state(&agent, "tcp", "passing");
    wait_for_state(&agent, "http", "passing");
    seen_in_time(start, "tcp and http", "passing");
    until("the service is healthy again", || (healthy(&agent) == 1).then_some(()));
}

/// How many instances of the service pass all their checks.
fn healthy(agent: &Agent) -> usize {
    agent.get("/v1/health/service/web?passing").json().as_array().unwrap().len()
}

/// A run that has begun before the change may still tell the old state; the next one may not. Each takes its time on a busy
/// machine.
fn seen_in_time(start: Instant, check: &str, state: &str) {
    let elapsed = start.elapsed();
    println!("{check} was {state} {elapsed:?} after it changed");
    assert!(elapsed < INTERVAL + Duration::from_secs(4), "{check} was {state} only after {elapsed:?}");
}

#[test]
fn a_check_that_nobody_tells_of_in_time_is_critical() {
    let directory = tempfile::tempdir().unwrap();
    let agent = alone(directory.path(), &[]);
    register(&agent, "check", &json!({"ID": "ttl", "Name": "a promise", "TTL": "1s"}));
    let start = Instant::now();
    tell(&agent, "/v1/agent/check/pass/ttl");
    let state = || agent.get("/v1/agent/checks").json()["ttl"]["Status"].clone();
    until("what was told holds no longer", || (state() == "critical").then_some(()));
    let elapsed = start.elapsed();
    assert!(elapsed >= Duration::from_secs(1) && elapsed < Duration::from_secs(6), "{elapsed:?}");
    wait_for_state(&agent, "ttl", "critical");
    let checks = agent.get("/v1/agent/checks").json();
    assert!(checks["ttl"]["Output"].as_str().unwrap().contains("TTL expired"), "{checks}");
}

#[test]
fn registrations_maintenance_and_states_outlive_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let agent = alone(directory.path(), &[]);
    register(&agent, "service", &json!({"ID": "web1", "Name": "web", "Tags": ["a", "b"], "Port": 8080}));
    register(&agent, "service", &json!({"ID": "web2", "Name": "web", "Port": 8081}));
    register(&agent, "service", &json!({"ID": "gone", "Name": "gone"}));
    register(&agent, "check", &json!({"ID": "ttl", "Name": "a promise", "ServiceID": "web1", "TTL": "600s"}));
    tell(&agent, "/v1/agent/check/warn/ttl?note=limping");
    tell(&agent, "/v1/agent/service/maintenance/web2?enable=true&reason=repair");
    tell(&agent, "/v1/agent/maintenance?enable=true&reason=move");
    tell(&agent, "/v1/agent/service/deregister/gone");
    let (services, checks) = (agent.get("/v1/agent/services").json(), agent.get("/v1/agent/checks").json());
    let names: Vec<_> = checks.as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, ["_node_maintenance", "_service_maintenance:web2", "ttl"]);
    // The state of a check is kept soon, not at once: a crash in the moment after may cost it, and no more.
    let states = directory.path().join("agent/states");
    until("the state is kept", || fs::read_dir(&states).ok()?.next().map(|_| ()));
    agent.end(Signal::KILL);

    let agent = alone(directory.path(), &[]);
    assert_eq!(agent.get("/v1/agent/services").json(), services);
    assert_eq!(agent.get("/v1/agent/checks").json(), checks);
    wait_for_state(&agent, "ttl", "warning");
    wait_for_state(&agent, "_node_maintenance", "critical");
    wait_for_state(&agent, "_service_maintenance:web2", "critical");
    until("what was deregistered stays away", || {
        (agent.get("/v1/catalog/service/gone").json() == json!([])).then_some(())
    });
    tell(&agent, "/v1/agent/maintenance?enable=false");
    until("maintenance is over", || check_state(&agent, NODE, "_node_maintenance").is_none().then_some(()));
}

/// The processes of a group, of those that run.
fn group(leader: i32) -> Vec<String> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        // It may end while we look.
        let Ok(stat) = fs::read_to_string(process.path().join("stat")) else { continue };
        // 12 (a name) S 1 12 …: state, parent, group. A zombie has ended.
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        let fields: Vec<&str> = rest.split(' ').collect();
        if fields[0] != "Z" && fields[2].parse() == Ok(leader) {
            found.push(stat);
        }
    }
    found
}

#[test]
fn a_script_that_hangs_is_ended_with_all_its_children() {
    let directory = tempfile::tempdir().unwrap();
    let agent = alone(&directory.path().join("data"), &[]);
    let started = directory.path().join("started");
    let script = format!("(sleep 1000 & sleep 1001) & echo $$ >> {}; sleep 1002", started.display());
    register(
        &agent,
        "check",
        &json!({"ID": "hangs", "Name": "x", "Script": script, "Interval": "1s", "Timeout": "1s"}),
    );
    let runs = |least: usize| {
        until("the script has been run often enough", || {
            let text = fs::read_to_string(&started).ok()?;
            let runs: Vec<i32> = text.lines().map(|line| line.parse().unwrap()).collect();
            (runs.len() >= least).then_some(runs)
        })
    };
    let first = runs(1)[0];
    until("it runs, with its children", || (group(first).len() >= 3).then_some(()));
    until("nothing is left of it", || group(first).is_empty().then_some(()));
    until("its end is told", || {
        let checks = agent.get("/v1/agent/checks").json();
        let told = checks["hangs"]["Output"].as_str()?.to_lowercase();
        (checks["hangs"]["Status"] == "critical" && told.contains("time")).then_some(())
    });
    wait_for_state(&agent, "hangs", "critical");

    // One that is being run when its check goes, ends as well.
    let last = runs(3);
    tell(&agent, "/v1/agent/check/deregister/hangs");
    for run in &last {
        until("nothing is left of any", || group(*run).is_empty().then_some(()));
    }
    // None of those that came in between has been overlooked.
    for run in runs(3) {
        until("nothing is left of any", || group(run).is_empty().then_some(()));
    }
}

#[test]
fn a_reload_deregisters_what_is_gone_from_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("services.json");
    let both = r#"{"services": [{"name": "stays", "port": 1}, {"name": "goes", "check": {"ttl": "60s"}}]}"#;
    fs::write(&file, both).unwrap();
    let agent = alone(&directory.path().join("data"), &[format!("-config-file={}", file.display())]);
    register(&agent, "service", &json!({"Name": "registered"}));
    let services = || {
        let services = agent.get("/v1/catalog/services").json();
        services.as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    until("all are in the catalog", || (services() == ["consul", "goes", "registered", "stays"]).then_some(()));
    fs::write(&file, r#"{"services": [{"name": "stays", "port": 2}, {"name": "comes"}]}"#).unwrap();
    agent.signal(Signal::HUP);
    until("the catalog has followed", || (services() == ["comes", "consul", "registered", "stays"]).then_some(()));
    until("the port has changed", || {
        (agent.get("/v1/catalog/service/stays").json()[0]["ServicePort"] == 2).then_some(())
    });
    assert!(check_state(&agent, NODE, "service:goes").is_none());
    assert_eq!(agent.get("/v1/agent/checks").json(), json!({}));

    // A file that cannot be read changes nothing, and ends nothing.
    fs::write(&file, "{").unwrap();
    agent.signal(Signal::HUP);
    until("it is told", || agent.output().contains("the configuration stays as it was").then_some(()));
    assert_eq!(services(), ["comes", "consul", "registered", "stays"]);
}

#[test]
fn an_event_reaches_another_agent_once() {
    let directory = tempfile::tempdir().unwrap();
    let server = Agent::start(&server_of(1, "s0", directory.path()));
    let other = Agent::start(&joining(client("c0", directory.path()), &server));
    wait_for_members(&other, &["s0", "c0"]);
    wait_for_members(&server, &["s0", "c0"]);
    let fired: Vec<String> = (0..5)
        .map(|n| {
            let answer = other.ask("PUT", "/v1/event/fire/deploy", format!("{n}").as_bytes());
            assert_eq!(answer.status, 200, "{answer:?}");
            answer.json()["ID"].as_str().unwrap().to_owned()
        })
        .collect();
    let listed = |agent: &Agent| -> Vec<String> {
        let events = agent.get("/v1/event/list?name=deploy").json();
        events.as_array().unwrap().iter().map(|event| event["ID"].as_str().unwrap().to_owned()).collect()
    };
    let sorted = |mut ids: Vec<String>| {
        ids.sort();
        ids
    };
    until("all have arrived", || (listed(&server).len() >= fired.len()).then_some(()));
    assert_eq!(sorted(listed(&server)), sorted(fired.clone()));

    // A join is an exchange of all that both know, the latest events among it: none of them counts again.
    let target = format!("/v1/agent/join/{}", other.gossip());
    assert_eq!(server.ask("PUT", &target, b"").status, 200);
    let last = other.ask("PUT", "/v1/event/fire/deploy", b"last").json()["ID"].as_str().unwrap().to_owned();
    until("the last one has arrived", || listed(&server).contains(&last).then_some(()));
    assert_eq!(sorted(listed(&server)), sorted([fired, vec![last]].concat()));
    assert_eq!(sorted(listed(&other)), sorted(listed(&server)));
}
