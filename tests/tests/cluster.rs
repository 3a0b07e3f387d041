//! Several agents as processes: a cluster forms, loses its leader, gets it back, and sees agents leave.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use lictor_tests::agent::{Process, Signal};
use lictor_tests::cluster::{
    check_state, client, joining, leader, server_of, status, wait_for_members, wait_for_voters,
};
use lictor_tests::wait::until_within;
use lictor_tests::{Agent, binary, until};
use serde_json::Value;

/// Serf's bounds for a pool of five: every member is probed within four intervals of a second, twice that if a
/// probe was missed, and a suspicion that nobody confirms lasts 24 s.
const FAILED_WITHIN: Duration = Duration::from_secs(32);

/// Three servers and two clients that have found each other, through the first one.
fn five(directory: &Path) -> (Vec<Agent>, Vec<Agent>) {
    let first = Agent::start(&server_of(3, "s0", directory));
    let mut servers = vec![first];
    for name in ["s1", "s2"] {
        let next = Agent::start(&joining(server_of(3, name, directory), &servers[0]));
        servers.push(next);
    }
    let clients = ["c0", "c1"].map(|name| Agent::start(&joining(client(name, directory), &servers[0])));
    for agent in servers.iter().chain(&clients) {
        wait_for_members(agent, &["s0", "s1", "s2", "c0", "c1"]);
        agent.wait_for_leader();
    }
    (servers, clients.into())
}

/// Writes until it succeeds.
fn write(agent: &Agent, key: &str, value: &str) {
    until(&format!("{key} is written"), || {
        let answer = agent.ask("PUT", &format!("/v1/kv/{key}"), value.as_bytes());
        (answer.status == 200).then_some(())
    });
}

/// The names of the nodes in the catalog.
fn nodes(agent: &Agent) -> Vec<String> {
    let nodes = agent.get("/v1/catalog/nodes").json();
    nodes.as_array().unwrap().iter().map(|node| node["Node"].as_str().unwrap().to_owned()).collect()
}

fn run(agent: &Agent, args: &[&str]) -> String {
    let mut command = Command::new(binary::lictor());
    let output = command.args(args).env("CONSUL_HTTP_ADDR", agent.address().to_string()).output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_cluster_serves_through_its_clients_and_survives_its_leader() {
    let directory = tempfile::tempdir().unwrap();
    let (mut servers, clients) = five(directory.path());
    wait_for_voters(&clients[0], &servers.iter().collect::<Vec<_>>());
    the_store_is_served_by_clients(&clients);

    let at = until("a leader is known", || leader(&clients[0], &servers));
    let name = format!("s{at}");
    until("the leader is in the catalog", || {
        (check_state(&clients[0], &name, "serfHealth").as_deref() == Some("passing")).then_some(())
    });
    // Members are written down half a second after a change: who was seen a moment before a crash may be forgotten.
    let members = directory.path().join(&name).join("agent/members");
    until("it has written down with whom it is", || {
        let written = fs::read(&members).ok()?;
        let mut others = ["s0", "s1", "s2", "c0", "c1"].into_iter().filter(|other| *other != name);
        others.all(|other| written.windows(2).any(|word| word == other.as_bytes())).then_some(())
    });
    let (killed, start) = (servers.remove(at), Instant::now());
    killed.end(Signal::KILL);
    write(&clients[0], "after", "the leader's death");
    let pause = start.elapsed();
    println!("the first write after the leader's death was acknowledged {pause:?} after it");
    assert!(pause < Duration::from_secs(3), "{pause:?}");

    until_within(FAILED_WITHIN, "the dead server is failed", || {
        (status(&clients[1], &name) == Some("failed")).then_some(())
    });
    until_within(FAILED_WITHIN.saturating_sub(start.elapsed()), "the dead server's check is critical", || {
        (check_state(&clients[1], &name, "serfHealth").as_deref() == Some("critical")).then_some(())
    });
    println!("the dead server was failed and critical {:?} after its death", start.elapsed());

    // It remembers with whom it was; that its ports are others now must not matter.
    let back = Agent::start(&server_of(3, &name, directory.path()));
    until("it is alive again", || (status(&clients[1], &name) == Some("alive")).then_some(()));
    until("its check passes", || {
        (check_state(&clients[1], &name, "serfHealth").as_deref() == Some("passing")).then_some(())
    });
    servers.insert(at, back);
    wait_for_voters(&clients[0], &servers.iter().collect::<Vec<_>>());
    let peers = run(&clients[0], &["operator", "raft", "list-peers"]);
    let rows: Vec<Vec<&str>> = peers.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.iter().filter(|row| row[3] == "leader").count(), 1, "{peers}");
    assert!(rows.len() == 3 && rows.iter().all(|row| row[0].starts_with('s') && row[4] == "true"), "{peers}");
    until("it has what was written without it", || {
        (servers[at].get("/v1/kv/after?stale&raw").text() == "the leader's death").then_some(())
    });
}

fn the_store_is_served_by_clients(clients: &[Agent]) {
    clients[0].put("/v1/kv/a", b"1");
    let read = clients[1].get("/v1/kv/a");
    assert_eq!(read.json()[0]["Value"], "MQ==");
    let mut blocked = clients[1].http();
    blocked.send("GET", &format!("/v1/kv/a?index={}&wait=60s", read.index()), b"").unwrap();
    assert!(blocked.is_silent(Duration::from_millis(100)), "nothing has changed");
    clients[0].put("/v1/kv/a", b"2");
    let woken = blocked.read().unwrap();
    assert_eq!(woken.json()[0]["Value"], "Mg==");
    assert!(woken.index() > read.index());
    until("a stale read through a client has it too", || {
        let answer = clients[0].get("/v1/kv/a?stale&raw");
        assert!(answer.header("x-consul-lastcontact").is_some() && answer.header("x-consul-knownleader").is_some());
        (answer.text() == "2").then_some(())
    });
}

#[test]
fn an_agent_that_leaves_is_left_and_goes_from_the_catalog() {
    let directory = tempfile::tempdir().unwrap();
    let server = Agent::start(&server_of(1, "s0", directory.path()));
    let leaver = Agent::start(&joining(client("c0", directory.path()), &server));
    until("it is in the catalog", || nodes(&server).contains(&"c0".to_owned()).then_some(()));
    run(&leaver, &["leave"]);
    assert_eq!(leaver.wait().code(), Some(0));
    until("it has left", || (status(&server, "c0") == Some("left")).then_some(()));
    until("it is gone from the catalog", || (nodes(&server) == ["s0"]).then_some(()));
    assert_eq!(server.get("/v1/health/node/c0").json(), Value::Array(Vec::new()));
}

#[test]
fn an_agent_that_cannot_join_names_the_address_and_ends() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = client("c0", directory.path());
    options.push("-join=127.0.0.1:1".into());
    let mut agent = Process::agent(&options);
    assert_eq!(agent.wait().code(), Some(1));
    let said = agent.output();
    assert!(said.contains("Failed to join 127.0.0.1: dial tcp 127.0.0.1:1: connect: connection refused"), "{said}");
}

#[test]
fn a_name_that_is_taken_stays_with_the_first() {
    let directory = tempfile::tempdir().unwrap();
    let server = Agent::start(&server_of(1, "s0", directory.path()));
    let first = Agent::start(&joining(client("c0", directory.path()), &server));
    wait_for_members(&server, &["c0"]);
    let other = tempfile::tempdir().unwrap();
    let mut late = Process::agent(&joining(client("c0", other.path()), &server));
    assert_eq!(late.wait().code(), Some(1));
    let said = late.output();
    let wanted = format!("the node name c0 belongs to the agent at {}", first.gossip());
    assert!(said.contains(&wanted), "{said}");
    let members = server.get("/v1/agent/members").json();
    let [member] = members.as_array().unwrap().iter().filter(|it| it["Name"] == "c0").collect::<Vec<_>>()[..] else {
        panic!("one member of that name: {members}")
    };
    assert_eq!((&member["Port"], &member["Status"]), (&first.gossip().port().into(), &1.into()));
    write(&first, "still", "there");
}
