//! Commands that go on for a while, or carry a lot: `lock`, `watch`, `kv export` and `kv import`.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use lictor_tests::agent::{Process, Signal};
use lictor_tests::{Agent, binary, until};
use serde_json::json;

fn dev() -> Agent {
    let agent = Agent::dev();
    agent.wait_for_leader();
    agent
}

fn lictor(agent: &Agent, args: &[&str]) -> Command {
    let mut command = Command::new(binary::lictor());
    command.args(args).env("CONSUL_HTTP_ADDR", agent.address().to_string()).env("SHELL", "/bin/sh");
    command
}

fn run(agent: &Agent, args: &[&str]) -> Output {
    lictor(agent, args).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

#[test]
fn a_command_under_a_lock_has_its_token_and_its_end_is_told() {
    let agent = dev();
    let line = "echo $CONSUL_LOCK_HELD $LICTOR_LOCK_KEY $LICTOR_LOCK_SESSION $LICTOR_LOCK_INDEX";
    let held = run(&agent, &["lock", "a/b/", line]);
    let words: Vec<&str> = stdout(&held).split_whitespace().collect();
    let [held, key, session, index] = words[..] else { panic!("{words:?}") };
    assert_eq!((held, key, session.len()), ("true", "a/b/.lock", 36));
    assert!(index.parse::<u64>().unwrap() > 0);
    let token = |args: &[&str]| -> u64 { stdout(&run(&agent, args)).trim().parse().unwrap() };
    let next = token(&["lock", "-shell=false", "a/b", "printenv", "LICTOR_LOCK_INDEX"]);
    assert!(next > index.parse().unwrap(), "although the key was deleted in between");
    assert_eq!(agent.get("/v1/kv/a?keys").status, 404);

    let failed = run(&agent, &["lock", "-child-exit-code", "a", "exit 7"]);
    assert_eq!(failed.status.code(), Some(2));
    assert!(stdout(&failed).contains("Error running handler: exit status 7"), "{failed:?}");
    assert_eq!(run(&agent, &["lock", "a", "exit 7"]).status.code(), Some(0));
    assert_eq!(run(&agent, &["lock", "-child-exit-code", "-shell=false", "a", "/nosuch"]).status.code(), Some(2));
}

#[test]
fn signals_reach_the_command_under_a_lock() {
    let agent = dev();
    let line = "trap 'echo got usr1' USR1; trap 'echo got term; exit' TERM; echo up; while :; do sleep 0.01; done";
    let mut lock = Process::run(lictor(&agent, &["lock", "-verbose", "a", line]));
    let says = |word: &str| until(word, || lock.output().lines().any(|said| said == word).then_some(()));
    says("up");
    lock.signal(Signal::USR1);
    says("got usr1");
    lock.signal(Signal::TERM);
    says("got term");
    assert_eq!(lock.wait().code(), Some(0), "{}", lock.output());
    for word in ["Shutdown triggered, killing child", "Child terminated", "Cleanup succeeded"] {
        assert!(lock.output().lines().any(|said| said == word), "{}", lock.output());
    }
    assert_eq!(agent.get("/v1/session/list").json(), json!([]));
}

#[test]
fn a_command_that_does_not_end_with_its_lock_is_killed() {
    let agent = dev();
    let line = "trap '' TERM; echo up; while :; do sleep 0.01; done";
    let mut lock = Process::run(lictor(&agent, &["lock", "-verbose", "a", line]));
    until("it is up", || lock.output().lines().any(|said| said == "up").then_some(()));
    let session = agent.get("/v1/kv/a/.lock").json()[0]["Session"].as_str().unwrap().to_owned();
    agent.put(&format!("/v1/session/destroy/{session}"), b"");
    assert_eq!(lock.wait().code(), Some(0), "{}", lock.output());
    for word in ["Lock lost, killing child", "Child did not exit after grace period of 5s", "signal: killed"] {
        assert!(lock.output().lines().any(|said| said == word), "{word}: {}", lock.output());
    }
}

#[test]
fn a_tree_that_is_exported_can_be_imported() {
    let agent = dev();
    agent.put("/v1/kv/tree/a?flags=18446744073709551615", b"\xff\0");
    agent.put("/v1/kv/tree/empty", b"");
    agent.put("/v1/kv/other", b"1");
    let exported = run(&agent, &["kv", "export", "tree/"]);
    let entries: serde_json::Value = serde_json::from_slice(&exported.stdout).unwrap();
    let a = json!({ "key": "tree/a", "flags": u64::MAX, "value": "/wA=" });
    assert_eq!(entries, json!([a, { "key": "tree/empty", "flags": 0, "value": "" }]));
    assert_eq!(agent.ask("DELETE", "/v1/kv/tree/?recurse", b"").status, 200);

    let mut import = lictor(&agent, &["kv", "import", "-"]);
    let mut import = import.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    import.stdin.take().unwrap().write_all(&exported.stdout).unwrap();
    assert_eq!(stdout(&import.wait_with_output().unwrap()), "Imported: tree/a\nImported: tree/empty\n");
    let again = run(&agent, &["kv", "export", "tree/"]);
    assert_eq!(again.stdout, exported.stdout);
    let text = String::from_utf8(exported.stdout).unwrap();
    assert!(run(&agent, &["kv", "import", "-prefix=copy/", &text]).status.success());
    assert_eq!(agent.get("/v1/kv/copy/tree/a?raw").body, b"\xff\0");
    let wrong = run(&agent, &["kv", "import", "not json"]);
    assert!(!wrong.status.success());
}

#[test]
fn a_watch_runs_its_command_on_each_change_and_on_no_other() {
    let agent = dev();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("seen");
    let line = format!("cat >> {0}; echo $CONSUL_INDEX >> {0}", file.display());
    let mut watch = Process::run(lictor(&agent, &["watch", "-type=keyprefix", "-prefix=w/", &line]));
    let seen = || fs::read_to_string(&file).unwrap_or_default();
    let sees = |text: &str| until(text, || seen().contains(text).then_some(()));
    sees("null\n");
    agent.put("/v1/kv/x", b"unrelated");
    agent.put("/v1/kv/w/a", b"1");
    sees("\"Value\":\"MQ==\"");
    agent.put("/v1/kv/w/a", b"2");
    sees("\"Value\":\"Mg==\"");
    let index = agent.get("/v1/kv/w/a").index().to_string();
    until("the last index is there", || seen().ends_with(&format!("]\n{index}\n")).then_some(()));
    assert_eq!(seen().lines().count(), 6, "{}", seen());
    watch.signal(Signal::TERM);
    assert_eq!(watch.wait().code(), Some(0));

    let failing = run(&agent, &["watch", "-type=key", "-key=w/a", "exit 3"]);
    assert_eq!(failing.status.code(), Some(1));
    let once = run(&agent, &["watch", "-type=service", "-service=nosuch"]);
    assert_eq!((once.status.code(), stdout(&once)), (Some(0), "[]\n"));
}
