//! Commands end with whoever has had them started, even if that is killed without a chance to do anything.

use std::fs;
use std::path::Path;
use std::process::Command;

use lictor_tests::agent::{Process, Signal, server_options};
use lictor_tests::{Agent, binary, until};
use rustix::process::{Pid, kill_process};
use serde_json::json;

/// An agent that runs checks, and commands for others.
fn agent(directory: &Path) -> Agent {
    let file = directory.join("exec.json");
    fs::write(&file, r#"{"disable_remote_exec": false}"#).unwrap();
    let mut options = server_options(&directory.join("data"));
    options.extend(["-node=alone".to_owned(), format!("-config-file={}", file.display())]);
    let agent = Agent::start(&options);
    agent.wait_for_leader();
    let created = || agent.ask("PUT", "/v1/session/create", b"");
    until("its node can have sessions", || (created().status == 200).then_some(()));
    agent
}

fn run(agent: &Agent, arguments: &[&str]) -> Process {
    let mut command = Command::new(binary::lictor());
    command.args(arguments).env("CONSUL_HTTP_ADDR", agent.address().to_string());
    Process::run(command)
}

/// A line that hangs with a child, none of which minds a polite signal; each notes its number in a file.
fn hanging(file: &Path) -> String {
    let file = file.display();
    format!("trap '' TERM; sh -c 'echo $$ >>{file}; exec sleep 1000' & echo $$ >>{file}; wait")
}

/// Waits for both numbers.
fn numbers(file: &Path) -> Vec<i32> {
    until(&format!("the command that writes {} runs", file.display()), || {
        let text = fs::read_to_string(file).ok().filter(|text| text.ends_with('\n'))?;
        let numbers: Vec<i32> = text.lines().map(|line| line.parse().unwrap()).collect();
        (numbers.len() == 2).then_some(numbers)
    })
}

/// The state of a process, and its parent; nothing if there is none of that number.
fn process(number: i32) -> Option<(String, i32)> {
    let stat = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    let mut fields = stat.rsplit(')').next()?.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

fn is_gone(number: i32) -> bool {
    process(number).is_none_or(|(state, _)| state == "Z")
}

fn all_go(numbers: &[i32]) {
    for number in numbers {
        until(&format!("process {number} is gone"), || is_gone(*number).then_some(()));
    }
}

#[test]
fn commands_go_with_an_agent_and_a_lock_that_are_killed() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    let agent = agent(directory.path());
    let check = json!({"Name": "hangs", "Script": hanging(&file("check")), "Interval": "1s", "Timeout": "600s"});
    let answer = agent.ask("PUT", "/v1/agent/check/register", check.to_string().as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let exec = run(&agent, &["exec", "-wait=600s", &hanging(&file("exec"))]);
    let lock = run(&agent, &["lock", "prefix", &hanging(&file("lock"))]);
    let [check, exec_command, lock_command] = ["check", "exec", "lock"].map(|name| numbers(&file(name)));

    lock.signal(Signal::KILL);
    all_go(&lock_command);
    assert!(!check.iter().chain(&exec_command).any(|number| is_gone(*number)), "those of the agent run");
    agent.end(Signal::KILL);
    all_go(&check);
    all_go(&exec_command);
    drop(exec);
}

/// Who can still do something does it: a guard minds no polite signal, and a command whose guard is killed all the same is looked
/// after by the agent.
#[test]
fn a_guard_stays_and_is_not_missed_if_it_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let agent = agent(directory.path());
    let file = directory.path().join("check");
    let check = json!({"Name": "hangs", "Script": hanging(&file), "Interval": "1s", "Timeout": "600s"});
    assert_eq!(agent.ask("PUT", "/v1/agent/check/register", check.to_string().as_bytes()).status, 200);
    let command = numbers(&file);
    let mut parents = command.iter().filter_map(|number| process(*number)).map(|(_, parent)| parent);
    let guard = parents.rfind(|parent| !command.contains(parent)).expect("somebody has started it");
    assert_ne!(guard, i32::try_from(agent.id()).unwrap(), "the agent itself has started it");
    let guard_number = Pid::from_raw(guard).unwrap();
    kill_process(guard_number, Signal::TERM).unwrap();
    kill_process(guard_number, Signal::HUP).unwrap();
    // If it minded them, it would by the time that the agent has answered.
    assert_eq!(agent.get("/v1/agent/self").status, 200);
    assert!(!is_gone(guard));
    kill_process(guard_number, Signal::KILL).unwrap();
    until("the guard is gone", || is_gone(guard).then_some(()));
    assert!(!command.iter().any(|number| is_gone(*number)), "that alone ends nothing");
    assert_eq!(agent.ask("PUT", "/v1/agent/check/deregister/hangs", b"").status, 200);
    all_go(&command);
    assert!(agent.end(Signal::INT).code().is_some());
}
