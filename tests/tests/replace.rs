//! All servers of a cluster are replaced, one after the other, while clients go on writing.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lictor_tests::agent::Signal;
use lictor_tests::cluster::{client, joining, server_of, status, wait_for_members, wait_for_voters};
use lictor_tests::load::{Load, Written};
use lictor_tests::{Agent, binary, until};

/// How a server is told to leave for good.
#[derive(Clone, Copy, Debug)]
enum Farewell {
    /// By the system that runs it, as its configuration has it leave then.
    Terminate,
    /// By the command.
    Command,
    /// By HTTP.
    Http,
}

impl Farewell {
    fn say(self, server: Agent) {
        match self {
            Self::Terminate => server.signal(Signal::TERM),
            Self::Command => {
                let mut leave = Command::new(binary::lictor());
                let left = leave.arg("leave").env("CONSUL_HTTP_ADDR", server.address().to_string()).output().unwrap();
                assert!(left.status.success(), "{left:?}");
            }
            Self::Http => assert_eq!(server.ask("PUT", "/v1/agent/leave", b"").status, 200),
        }
        assert_eq!(server.wait().code(), Some(0), "{self:?}");
    }
}

/// A server that is to have two others, and leaves when it is told to end.
fn server(name: &str, directory: &Path) -> Vec<String> {
    let file = directory.join("leave.json");
    fs::write(&file, r#"{"leave_on_terminate": true}"#).unwrap();
    let mut options = server_of(3, name, directory);
    options.push(format!("-config-file={}", file.display()));
    options
}

#[test]
fn every_server_is_replaced_and_no_write_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let mut servers = vec![Agent::start(&server("old0", directory))];
    for name in ["old1", "old2"] {
        let next = Agent::start(&joining(server(name, directory), &servers[0]));
        servers.push(next);
    }
    let client = Agent::start(&joining(client("client", directory), &servers[0]));
    wait_for_members(&client, &["old0", "old1", "old2"]);
    client.wait_for_leader();
    wait_for_voters(&client, &servers.iter().collect::<Vec<_>>());
    client.put("/v1/operator/autopilot/configuration", br#"{"ServerStabilizationTime": "1s"}"#);

    let load = Load::start(&client);
    let steps = [("new0", Farewell::Terminate), ("new1", Farewell::Command), ("new2", Farewell::Http)];
    for (number, (name, farewell)) in steps.into_iter().enumerate() {
        servers.push(Agent::start(&joining(server(name, directory), &client)));
        wait_for_voters(&client, &servers.iter().collect::<Vec<_>>());
        farewell.say(servers.remove(0));
        wait_for_voters(&client, &servers.iter().collect::<Vec<_>>());
        let old = format!("old{number}");
        until("the others know that it left", || (status(&client, &old) == Some("left")).then_some(()));
    }
    let written = load.stop();

    let number = written.acknowledged.len();
    println!(
        "{number} writes were acknowledged, {} refused; longest pause {:?}",
        written.refused, written.longest_pause
    );
    assert!(number > 100, "{number} writes are no load");
    for agent in servers.iter().chain([&client]) {
        nothing_is_missing(agent, &written);
    }
    assert!(written.longest_pause < Duration::from_secs(3), "{:?}", written.longest_pause);
}

/// Looks for every acknowledged write, with its value.
fn nothing_is_missing(agent: &Agent, written: &Written) {
    let listed = agent.get("/v1/kv/load/?keys&consistent").json();
    let there: BTreeSet<_> = listed.as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect();
    let missing: Vec<_> = written.acknowledged.iter().filter(|n| !there.contains(&*format!("load/{n}"))).collect();
    assert!(missing.is_empty(), "acknowledged and lost: {missing:?}");
    let mut http = agent.http();
    for n in written.acknowledged.iter().step_by(50) {
        let answer = http.request("GET", &format!("/v1/kv/load/{n}?raw"), b"").unwrap();
        assert_eq!(answer.text(), format!("value {n}"));
    }
}
