//! Commands run on many nodes: five agents as processes, asked from the command line and by HTTP.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use lictor_tests::agent::{Process, Signal};
use lictor_tests::cluster::{client, joining, server_of, wait_for_members};
use lictor_tests::{Agent, binary, until};
use serde_json::Value;

const NAMES: [&str; 5] = ["s0", "s1", "s2", "c0", "c1"];

/// Three servers and two clients that take part.
fn five(directory: &Path) -> Vec<Agent> {
    let file = directory.join("exec.json");
    fs::write(&file, r#"{"disable_remote_exec": false}"#).unwrap();
    let with_exec = |mut options: Vec<String>| {
        options.push(format!("-config-file={}", file.display()));
        options
    };
    let mut agents = vec![Agent::start(&with_exec(server_of(3, NAMES[0], directory)))];
    for name in &NAMES[1..] {
        let options = if name.starts_with('s') { server_of(3, name, directory) } else { client(name, directory) };
        agents.push(Agent::start(&joining(with_exec(options), &agents[0])));
    }
    for agent in &agents {
        wait_for_members(agent, &NAMES);
        agent.wait_for_leader();
    }
    // Sessions need the node that they live on.
    until("all nodes are in the catalog", || {
        let nodes = agents[3].get("/v1/catalog/nodes").json();
        let names: BTreeSet<&str> = nodes.as_array()?.iter().filter_map(|node| node["Node"].as_str()).collect();
        (names == BTreeSet::from(NAMES)).then_some(())
    });
    agents
}

fn command(agent: &Agent, args: &[&str]) -> Command {
    let mut command = Command::new(binary::lictor());
    command.args(args).env("CONSUL_HTTP_ADDR", agent.address().to_string());
    command
}

fn exec(agent: &Agent, args: &[&str]) -> Output {
    command(agent, &[&["exec"], args].concat()).output().expect("lictor can be run")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn nothing_is_left(agent: &Agent) {
    until("nothing is left in the store", || (agent.get("/v1/kv/_rexec?keys").status == 404).then_some(()));
    until("no session is left", || (agent.get("/v1/session/list").text() == "[]").then_some(()));
}

#[test]
fn commands_run_on_all_nodes_of_a_cluster() {
    let directory = tempfile::tempdir().unwrap();
    let agents = five(directory.path());
    all_answer_and_nobody_is_waited_for(&agents[3]);
    an_interruption_tidies_up(&agents[4]);
    one_after_another_stops_at_the_first_failure(&agents[0]);
    programs_get_json(&agents[1]);
    it_goes_by_http(&agents[4]);
    a_client_that_goes_away_breaks_it_off(&agents[0]);
    a_flood_goes_past_the_log(&agents);
    who_does_not_read_can_break_it_off(&agents[2]);
    who_closes_the_pipe_breaks_it_off(&agents[3]);
    who_does_not_hear_the_end_need_not_wait_for_it(&agents[4]);
}

fn all_answer_and_nobody_is_waited_for(agent: &Agent) {
    let output = exec(agent, &["-wait=20s", "uptime > /dev/null; date +at=%s.%N"]);
    let returned = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let text = out(&output);
    assert!(output.status.success(), "{output:?}");
    assert!(text.ends_with("5 / 5 node(s) completed / acknowledged\n"), "{text}");
    for name in NAMES {
        assert!(text.contains(&format!("    {name}: at=")), "{text}");
        assert!(text.contains(&format!("==> {name}: finished with exit code 0")), "{text}");
    }
    let times = text.lines().filter_map(|line| line.split_once(": at=")?.1.parse::<f64>().ok());
    let last = times.fold(0.0, f64::max);
    let after = returned.as_secs_f64() - last;
    println!("exec returned {after:.3} s after the last command had ended");
    assert!(after < 5.0, "it waited for silence: {after} s");
    nothing_is_left(agent);
}

fn an_interruption_tidies_up(agent: &Agent) {
    let mut running = Process::run(command(agent, &["exec", "-wait=20s", "sleep 300"]));
    until("all are at work", || {
        let keys = agent.get("/v1/kv/_rexec?keys");
        (keys.status == 200 && keys.text().matches("/ack\"").count() == NAMES.len()).then_some(())
    });
    running.signal(Signal::INT);
    assert_eq!(running.wait().code(), Some(1));
    nothing_is_left(agent);
}

fn one_after_another_stops_at_the_first_failure(agent: &Agent) {
    let output = exec(agent, &["-max-parallel=1", "-json", "exit 3"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let events: Vec<Value> = out(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let finished = events.iter().find(|event| event["Event"] == "finished").unwrap();
    assert_eq!(finished["NotStarted"].as_array().unwrap().len(), 4, "{events:?}");
    assert_eq!((&finished["Completed"], &finished["Failed"]), (&1.into(), &1.into()), "{events:?}");
    let output = exec(agent, &["-canary=20%", "-max-parallel=3", "true"]);
    assert!(output.status.success() && out(&output).contains("5 / 5 node(s)"), "{output:?}");
    nothing_is_left(agent);
}

fn programs_get_json(agent: &Agent) {
    let output = exec(agent, &["-json", "-node=^c", "printf 'one\\ntwo'"]);
    assert!(output.status.success(), "{output:?}");
    let events: Vec<Value> = out(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |node: &str| {
        let lines = events.iter().filter(|event| event["Event"] == "line" && event["Node"] == node);
        lines.map(|event| event["Text"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        (of("c0"), of("c1"), of("s0").len()),
        (vec!["one".into(), "two".into()], vec!["one".into(), "two".into()], 0)
    );
    assert_eq!(events.last().unwrap()["Outcome"], "success");
    assert_eq!(events[0]["Nodes"], serde_json::json!(["c0", "c1"]));
}

fn it_goes_by_http(agent: &Agent) {
    let order = br#"{"Command": "echo by http", "Node": "^s", "Wait": "20s"}"#;
    let answer = agent.ask("PUT", "/v1/exec", order);
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/x-ndjson")));
    let events: Vec<Value> = answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let lines = events.iter().filter(|event| event["Event"] == "line" && event["Text"] == "by http");
    assert_eq!(lines.count(), 3, "{events:?}");
    let ended =
        until("the job is listed", || agent.get("/v1/exec").json().as_array().filter(|jobs| !jobs.is_empty()).cloned());
    assert_eq!((&ended[0]["Command"], &ended[0]["Outcome"]), (&"echo by http".into(), &"success".into()));
    assert_eq!(ended[0]["Summary"]["Completed"], 3);
    let refused = agent.ask("PUT", "/v1/exec", br#"{"Command": ""}"#);
    assert_eq!((refused.status, refused.text()), (400, "Must specify a command to execute"));
    nothing_is_left(agent);
}

fn a_client_that_goes_away_breaks_it_off(agent: &Agent) {
    let mut http = agent.http();
    http.send("PUT", "/v1/exec", br#"{"Command": "sleep 300", "Wait": "20s"}"#).unwrap();
    until("somebody is at work", || {
        let keys = agent.get("/v1/kv/_rexec?keys");
        (keys.status == 200 && keys.text().contains("/ack\"")).then_some(())
    });
    drop(http);
    nothing_is_left(agent);
    // It is listed a moment after the last of its keys has gone.
    until("it is listed", || (agent.get("/v1/exec").json()[0]["Outcome"] == "interrupted").then_some(()));
}

/// How far the log is.
fn log_index(agent: &Agent) -> u64 {
    let shown = agent.get("/v1/agent/self").json();
    shown["Stats"]["raft"]["last_log_index"].as_str().unwrap().parse().unwrap()
}

/// A client agent collects what two servers and another client agent write: of that, only the first 64 KiB of each are in the log.
fn a_flood_goes_past_the_log(agents: &[Agent]) {
    const LINES: usize = 200_000;
    let before = log_index(&agents[0]);
    let flood = format!("yes 0123456789abcde | head -n {LINES}");
    let output = exec(&agents[4], &["-wait=20s", "-node=^(s0|s1|c0)$", &flood]);
    let after = log_index(&agents[0]);
    assert!(output.status.success(), "{:?}", output.status);
    let text = out(&output);
    for name in ["s0", "s1", "c0"] {
        let line = format!("    {name}: 0123456789abcde");
        assert_eq!(text.lines().filter(|shown| *shown == line).count(), LINES, "{name}");
        assert!(text.contains(&format!("==> {name}: finished with exit code 0")), "{name}");
    }
    // By way of the store it would take 2,344 pieces.
    let took = after - before;
    println!("{took} entries of the log");
    assert!((48..400).contains(&took), "it took {took} entries of the log");
    nothing_is_left(&agents[0]);
}

/// A pipe that nobody reads holds up neither Ctrl-C nor the job's session.
fn who_does_not_read_can_break_it_off(agent: &Agent) {
    let mut command = command(agent, &["exec", "-wait=20s", "-node=^s0$", "yes"]);
    let mut running = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    until("the command floods", || {
        let keys = agent.get("/v1/kv/_rexec?keys");
        (keys.status == 200 && keys.text().contains("/out/0000f\"")).then_some(())
    });
    let id = running.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let ended = until("it ends", || running.try_wait().unwrap());
    assert_eq!(ended.code(), Some(1));
    nothing_is_left(agent);
}

/// As in `lictor exec ... | head -1`, where nothing else would ever end it.
fn who_closes_the_pipe_breaks_it_off(agent: &Agent) {
    let mut command = command(agent, &["exec", "-wait=20s", "-node=^s0$", "while echo again; do sleep 0.1; done"]);
    let mut running = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(running.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "    s0: again\n");
    let ended = until("it ends", || running.try_wait().unwrap());
    assert_eq!(ended.code(), Some(1));
    nothing_is_left(agent);
}

/// All is over but for the last line, for which the pipe has no room: one interruption is enough.
fn who_does_not_hear_the_end_need_not_wait_for_it(agent: &Agent) {
    /// Pipes have sixteen pages.
    const PAGE: usize = 4096;
    let ended = "==> s0: finished with exit code 0\n".len();
    let text = PAGE - "    s0: \n".len() - ended - "1 / 1".len();
    let (_reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(&[b'x'; 15 * PAGE]).unwrap();
    let print = format!("head -c {text} /dev/zero | tr '\\0' x");
    let mut command = command(agent, &["exec", "-wait=20s", "-node=^s0$", &print]);
    let mut running = command.stdout(writer).spawn().unwrap();
    until("the job has begun", || (agent.get("/v1/session/list").text() != "[]").then_some(()));
    nothing_is_left(agent);
    assert_eq!(running.try_wait().unwrap(), None, "its last line has room");
    let id = running.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let ended = until("it ends", || running.try_wait().unwrap());
    assert_eq!(ended.code(), Some(0), "the job had succeeded");
}

#[test]
fn what_is_collected_is_asked_for_by_http() {
    let directory = tempfile::tempdir().unwrap();
    let agent = Agent::on(directory.path());
    assert_eq!(agent.get("/v1/agent/self").json()["Stats"]["exec"]["collects"], "true");
    let target = "/v1/exec/output/adf4238a-882b-9ddc-4a9d-5b6758e4159e?prefix=p&wait=1ms";
    let asked = |method: &str, body: &[u8]| agent.ask(method, target, body);
    let none = asked("POST", b"{}");
    assert_eq!((none.status, none.text()), (404, "the output of this job is not collected here"));
    let inbox = asked("PUT", b"").json();
    assert!(inbox["ID"].is_string() && inbox["Peer"].is_string() && inbox["Address"].is_string(), "{inbox}");
    assert_eq!(asked("PUT", b"").json(), inbox, "once more does no harm");
    assert_eq!(asked("POST", br#"{"Nodes": [{"Node": "n", "Taken": 1, "Have": 2}]}"#).text(), "[]");
    assert_eq!(asked("DELETE", b"").text(), "true");
    assert_eq!(asked("POST", b"{}").status, 404);
    assert_eq!(agent.ask("PUT", "/v1/exec/output/nosuch", b"").status, 400);
}

#[test]
fn an_agent_may_keep_out_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let agent = Agent::on(directory.path());
    agent.wait_for_leader();
    until("the node is in the catalog", || (agent.get("/v1/catalog/nodes").text() != "[]").then_some(()));
    let refused = agent.ask("PUT", "/v1/exec", br#"{"Command": "uptime"}"#);
    assert_eq!(refused.status, 403);
    assert!(refused.text().contains("disable_remote_exec"), "{refused:?}");
    let output = exec(&agent, &["-verbose", "-wait=200ms", "uptime"]);
    assert!(output.status.success(), "{output:?}");
    assert!(out(&output).contains("\n0 / 0 node(s) completed / acknowledged\n"), "{output:?}");
    let notes = String::from_utf8_lossy(&output.stderr);
    assert!(notes.contains("[INFO] exec: 1 live node(s) are meant: "), "{notes}");
    assert!(notes.contains("never acknowledged: remote exec disabled?: "), "{notes}");
    let output = exec(&agent, &["-wait=200ms", "uptime"]);
    assert!(output.stderr.is_empty(), "{output:?}");
    nothing_is_left(&agent);
}
