//! Commands that go on for a while, or carry a lot: `lock`, `watch`, `kv export` and `kv import`.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
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
    let told = run(&agent, &["lock", "-verbose", "a", "echo hi"]);
    let expected = [
        "Setting up lock at path: a/.lock",
        "Attempting lock acquisition",
        "Starting handler 'echo hi'",
        "hi",
        "Child terminated, releasing lock",
        "Cleanup succeeded",
    ];
    assert_eq!(stdout(&told).lines().collect::<Vec<_>>(), expected);
    let semaphore = run(&agent, &["lock", "-verbose", "-n=0x2", "/a/", "true"]);
    assert!(stdout(&semaphore).starts_with("Setting up semaphore (limit 2) at prefix: a/\n"), "{semaphore:?}");
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
    for word in [
        "Lock lost, killing child",
        "Child did not exit after grace period of 5s",
        "Error running handler: signal: killed",
    ] {
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
fn slashes_too_many_do_no_harm_to_who_reads() {
    let agent = dev();
    agent.put("/v1/kv/a/b", b"1");
    for key in ["a/b", "/a/b", "//a/b", "a///b"] {
        assert_eq!(stdout(&run(&agent, &["kv", "get", key])), "1\n", "{key}");
    }
    assert_eq!(stdout(&run(&agent, &["kv", "get", "-recurse", "a//"])), "a/b:1\n");
    assert_eq!(stdout(&run(&agent, &["kv", "get", "-keys", "-separator=", "a//"])), "a/b\n");
    let missing = run(&agent, &["kv", "get", "a//c"]);
    assert_eq!((missing.status.code(), &*missing.stderr), (Some(1), &b"Error! No key exists at: a//c\n"[..]));
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

#[test]
fn that_nobody_is_there_is_told_as_each_command_of_consul_tells_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let dial = format!("dial tcp {address}: connect: connection refused");
    let queried = "Error querying Consul agent: ";
    let cases: [(&[&str], &str); 7] = [
        (&["event", "-name=x"], queried),
        (&["maint"], queried),
        (&["maint", "-enable", "-service=web"], queried),
        (&["rtt", "a"], "Unable to look up agent info: Get http://"),
        (&["rtt", "a", "b"], "Error getting coordinates: Get http://"),
        (&["members"], "Error connecting to Consul agent: dial "),
        (&["keyring", "-list"], "Error connecting to Consul agent: dial "),
    ];
    for (args, begins) in cases {
        let mut command = Command::new(binary::lictor());
        command.args(args).env("CONSUL_HTTP_ADDR", &address).env_remove("CONSUL_RPC_ADDR");
        let output = command.output().unwrap();
        let all = [&output.stdout[..], &output.stderr].concat();
        let told = String::from_utf8(all).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(told.starts_with(begins) && told.contains(&dial), "{args:?}: {told}");
    }
}

#[test]
fn who_does_not_read_on_hears_nothing_and_what_is_lost_is_told() {
    let run = |args: &[&str], out: Stdio| {
        let child = Command::new(binary::lictor()).args(args).stdout(out).stderr(Stdio::piped()).spawn();
        let output = child.unwrap().wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for (args, code) in [(&["version"][..], 0), (&["kv", "get", "-h"], 1), (&["keygen"], 0)] {
        let (ours, reader) = UnixStream::pair().unwrap();
        drop(reader);
        assert_eq!(run(args, OwnedFd::from(ours).into()), (Some(code), String::new()), "{args:?}");
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let (code, told) = run(args, full.into());
        assert_eq!(code, Some(1), "{args:?}");
        assert!(told.starts_with("cannot print: No space left on device"), "{args:?}: {told}");
    }
}

#[test]
fn help_follows_what_is_wrong_with_the_arguments() {
    let cases: [(&[&str], &str); 9] = [
        (&["event"], "Event name must be specified\n\n"),
        (&["event", "-name=x", "two", "words"], "Too many command line arguments.\n\n"),
        (&["force-leave"], "A single node name must be specified to force leave.\n\n"),
        (&["join"], "At least one address to join must be specified.\n\n"),
        (&["lock", "prefix"], "Key prefix and child command must be specified\n\n"),
        (&["operator"], "A subcommand must be specified\n\n"),
        (&["rtt", "a", "b", "c"], "One or two node names must be specified\n\n"),
        (&["watch"], "Watch type must be specified\n\n"),
        (&["keyring"], ""),
    ];
    for (args, wrong) in cases {
        let output = Command::new(binary::lictor()).args(args).output().unwrap();
        let told = String::from_utf8([&output.stdout[..], &output.stderr].concat()).unwrap();
        let usage = format!("{wrong}Usage: {} {} ", binary::lictor().display(), args[0]);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(told.starts_with(&usage), "{args:?}: {told}");
    }
}
