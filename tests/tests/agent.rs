//! The agent as a process: what it refuses, what it says, how it ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use lictor_tests::agent::{Process, Signal, server_options};
use lictor_tests::{Agent, binary, until};

/// Starts an agent that should refuse to; gives its exit status and what it said.
fn refusal<S: AsRef<str>>(options: &[S]) -> (Option<i32>, String) {
    let mut process = Process::agent(options);
    let status = process.wait();
    (status.code(), process.output())
}

#[test]
fn dev_mode_takes_its_first_write_soon_after_the_start() {
    // The binary must be there, and read once, before the time counts.
    Command::new(binary::lictor()).arg("version").output().unwrap();
    let start = Instant::now();
    let agent = Agent::dev();
    agent.put("/v1/kv/first", b"1");
    let elapsed = start.elapsed();
    println!("the first write was acknowledged {elapsed:?} after the start");
    // The aim is 150 ms; this is the bound for a debug build on a machine with other work to do.
    assert!(elapsed < Duration::from_secs(5));
}

#[test]
fn a_data_directory_has_one_agent_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let first = Agent::on(directory.path());
    let (status, said) = refusal(&server_options(directory.path()));
    assert_eq!(status, Some(1));
    assert!(
        said.contains(&directory.path().display().to_string()) && said.contains("in use by another agent"),
        "{said}"
    );
    first.end(Signal::INT);
    Agent::on(directory.path()).end(Signal::INT);
}

/// The one segment of a short log.
fn segment(directory: &Path) -> PathBuf {
    let mut files: Vec<_> = fs::read_dir(directory.join("raft")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.file_name().unwrap().to_str().unwrap().starts_with("wal-"));
    files.sort();
    files.remove(0)
}

#[test]
fn a_damaged_log_is_refused_with_its_file_and_offset_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let agent = Agent::on(directory.path());
    agent.wait_for_leader();
    let marker = b"a value that is easy to find";
    agent.put("/v1/kv/early", marker);
    for n in 0..20 {
        agent.put(&format!("/v1/kv/later{n}"), b"x");
    }
    agent.end(Signal::TERM);

    let file = segment(directory.path());
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.windows(marker.len()).position(|window| window == marker).expect("the log holds the value");
    bytes[at] ^= 0x10;
    fs::write(&file, &bytes).unwrap();
    let (status, said) = refusal(&server_options(directory.path()));
    assert_eq!(status, Some(1));
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(said.contains(name) && said.contains("byte ") && said.contains("the raft log is damaged"), "{said}");
    assert_eq!(fs::read(&file).unwrap(), bytes, "a refusal changes nothing");
}

#[test]
fn configuration_files_act_warn_and_refuse() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("agent.json");
    let text = r#"{"node_name": "fromfile", "datacenter": "dc7", "server": true, "bootstrap": true, "segments": null,
        "disable_update_check": true, "performance": {"raft_multiplier": 1}, "ports": {"dns": -1}}"#;
    fs::write(&file, text).unwrap();
    let data = format!("-data-dir={}", directory.path().join("data").display());
    let config = format!("-config-file={}", file.display());
    let agent = Agent::start(&[&*config, &*data, "-node=fromflag"]);
    let shown = agent.get("/v1/agent/self").json();
    assert_eq!(shown["Config"]["NodeName"], "fromflag");
    assert_eq!(shown["Config"]["Datacenter"], "dc7");
    let said = agent.output();
    assert!(said.contains("this release does nothing about: disable_update_check, ports.dns, segments"), "{said}");
    drop(agent);

    let wrong = [
        (r#"{"ports": {"http": "8500"}}"#, "'ports.http' must be a whole number in its range, not \"8500\""),
        (r#"{"datacentre": "x"}"#, "Config has invalid keys: datacentre (did you mean datacenter?)"),
    ];
    for (text, expected) in wrong {
        fs::write(&file, text).unwrap();
        let (status, said) = refusal(&[&config, &data]);
        assert_eq!(status, Some(1));
        assert!(said.contains(&format!("agent.json': {expected}")), "{said}");
    }
}

#[test]
fn what_cannot_work_is_refused_in_a_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let data = format!("-data-dir={}", directory.path().display());
    let cases: [(&[&str], &str); 4] = [
        (&[], "==> Must specify data directory using -data-dir"),
        (&[&data, "-bootstrap-expect=3"], "==> Expect mode cannot be enabled when server mode is not enabled"),
        (&["-dev", "-datacentre=x"], "there is no option -datacentre. Did you mean -datacenter?"),
        (&["-dev", "-http-port=http"], "invalid value 'http'"),
    ];
    for (options, expected) in cases {
        let (status, said) = refusal(options);
        assert_eq!(status, Some(1), "{options:?}");
        assert!(said.contains(expected), "{options:?}: {said}");
    }
    let taken = Agent::dev();
    let port = format!("-http-port={}", taken.address().port());
    let (status, said) = refusal(&["-dev", &port]);
    assert_eq!(status, Some(1));
    assert!(said.contains(&format!("cannot serve HTTP on {}", taken.address())), "{said}");
}

#[test]
fn signals_end_a_server_with_status_1_and_remove_the_pid_file() {
    let directory = tempfile::tempdir().unwrap();
    let pid_file = directory.path().join("pid");
    let option = format!("-pid-file={}", pid_file.display());
    for signal in [Signal::INT, Signal::TERM] {
        let agent = Agent::start(&["-dev", &option]);
        let pid: u32 = fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
        assert!(Path::new(&format!("/proc/{pid}")).exists());
        // As Consul's: it has not left.
        assert_eq!(agent.end(signal).code(), Some(1));
        assert!(!pid_file.exists());
    }
}

#[test]
fn a_hangup_reloads_the_log_level() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("agent.json");
    fs::write(&file, r#"{"log_level": "info"}"#).unwrap();
    let agent = Agent::start(&["-dev".to_owned(), format!("-config-file={}", file.display())]);
    agent.get("/v1/status/peers");
    assert!(!agent.output().contains("[DEBUG]"));
    fs::write(&file, r#"{"log_level": "debug"}"#).unwrap();
    agent.signal(Signal::HUP);
    until("the configuration is reloaded", || agent.output().contains("the log level is debug").then_some(()));
    agent.get("/v1/status/leader");
    until("requests are logged", || agent.output().contains("[DEBUG] http: GET /v1/status/leader 200").then_some(()));
    assert_eq!(agent.end(Signal::TERM).code(), Some(1));
}
