//! Clusters of several agents, and what they say of each other.

use std::path::Path;

use serde_json::Value;

use crate::agent::Agent;
use crate::wait::until;

/// The options of one of `expect` servers that found a cluster together.
#[must_use]
pub fn server_of(expect: usize, name: &str, directory: &Path) -> Vec<String> {
    let mut options = client(name, directory);
    options.extend(["-server".into(), format!("-bootstrap-expect={expect}")]);
    options
}

/// The options of an agent that is no server.
#[must_use]
pub fn client(name: &str, directory: &Path) -> Vec<String> {
    vec![format!("-node={name}"), format!("-data-dir={}", directory.join(name).display())]
}

/// Options, and whom to join.
#[must_use]
pub fn joining(mut options: Vec<String>, whom: &Agent) -> Vec<String> {
    options.push(format!("-join={}", whom.gossip()));
    options
}

/// What `lictor members` calls the status of a member, as an agent knows it; nothing if it does not know it.
///
/// # Panics
/// If the agent does not answer, or with something else.
#[must_use]
pub fn status(agent: &Agent, name: &str) -> Option<&'static str> {
    let members = agent.get("/v1/agent/members").json();
    let member = members.as_array().expect("a list").iter().find(|member| member["Name"] == name)?;
    let names = ["none", "alive", "leaving", "left", "failed"];
    let number = member["Status"].as_u64().and_then(|number| usize::try_from(number).ok());
    number.and_then(|number| names.get(number)).copied()
}

/// Waits until an agent sees all these members alive.
pub fn wait_for_members(agent: &Agent, names: &[&str]) {
    for name in names {
        until(&format!("{name} is alive"), || (status(agent, name) == Some("alive")).then_some(()));
    }
}

/// The state of a node's check in the catalog, as an agent gets it from the servers.
#[must_use]
pub fn check_state(agent: &Agent, node: &str, check: &str) -> Option<String> {
    let answer = agent.get(&format!("/v1/health/node/{node}"));
    if answer.status != 200 {
        return None;
    }
    let checks = answer.json();
    let check = checks.as_array()?.iter().find(|it| it["CheckID"] == check)?;
    check["Status"].as_str().map(str::to_owned)
}

/// Raft's members as an agent gets them from the leader: name, address, whether they vote; by name. Nothing if there is no
/// answer at the moment.
#[must_use]
pub fn raft_members(agent: &Agent) -> Option<Vec<(String, String, bool)>> {
    let answer = agent.get("/v1/operator/raft/configuration");
    if answer.status != 200 {
        return None;
    }
    let shown = answer.json();
    let text = |server: &Value, key: &str| server[key].as_str().map(str::to_owned);
    let members = shown["Servers"].as_array()?.iter();
    let mut members: Vec<_> = members
        .map(|server| Some((text(server, "Node")?, text(server, "Address")?, server["Voter"].as_bool()?)))
        .collect::<Option<_>>()?;
    members.sort();
    Some(members)
}

/// Waits until exactly these servers vote, at their addresses, and nobody else is there. By name.
///
/// # Panics
/// If that does not come; with what was there.
pub fn wait_for_voters(agent: &Agent, servers: &[&Agent]) {
    let mut wanted: Vec<_> = servers.iter().map(|server| voter(server)).collect();
    wanted.sort();
    let names: Vec<_> = wanted.iter().map(|(name, ..)| name.as_str()).collect();
    let what = format!("raft's members are {}", names.join(", "));
    until(&what, || (raft_members(agent).as_ref() == Some(&wanted)).then_some(()));
}

/// A server as it appears among raft's members once it votes.
fn voter(server: &Agent) -> (String, String, bool) {
    let shown = server.get("/v1/agent/self").json();
    let member = &shown["Member"];
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let address = format!("{}:{}", text(&member["Addr"]), text(&member["Tags"]["port"]));
    (text(&member["Name"]), address, true)
}

/// Which of the servers leads, as an agent gets it from them.
#[must_use]
pub fn leader(agent: &Agent, servers: &[Agent]) -> Option<usize> {
    let address = agent.get("/v1/status/leader");
    let address = address.json();
    servers.iter().position(|server| address == voter(server).1.as_str())
}
