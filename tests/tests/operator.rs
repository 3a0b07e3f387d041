//! What operators do: snapshots, raft's members, settings, by HTTP and by the commands.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Command;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use lictor_tests::agent::Signal;
use lictor_tests::{Agent, binary};
use serde_json::{Value, json};

/// An agent that takes writes.
fn dev() -> Agent {
    let agent = Agent::dev();
    agent.wait_for_leader();
    agent
}

/// A server that keeps its data, and takes writes.
fn server(directory: &Path) -> Agent {
    let agent = Agent::on(directory);
    agent.wait_for_leader();
    agent
}

/// All keys with all that belongs to them.
fn dump(agent: &Agent) -> String {
    let answer = agent.get("/v1/kv/?recurse");
    assert!(matches!(answer.status, 200 | 404), "{answer:?}");
    answer.text().to_owned()
}

fn save(agent: &Agent) -> Vec<u8> {
    let saved = agent.get("/v1/snapshot");
    assert_eq!((saved.status, saved.header("content-type")), (200, Some("application/x-gzip")));
    saved.body
}

fn restore(agent: &Agent, archive: &[u8]) {
    let answer = agent.ask("PUT", "/v1/snapshot", archive);
    assert_eq!((answer.status, answer.text()), (200, ""));
}

/// Runs a command for an agent: exit status, what it printed, and what it complained of.
fn run(agent: &Agent, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(binary::lictor());
    let output = command.args(args).env("CONSUL_HTTP_ADDR", agent.address().to_string()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_snapshot_of_one_cluster_restores_another() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let one = server(first.path());
    one.put("/v1/kv/plain?flags=18446744073709551615", b"text");
    one.put("/v1/kv/a/b%20c/%ff%fe", &[0, 0xff, b'\n', 0]);
    one.put("/v1/kv/empty", b"");
    one.put("/v1/kv/changed", b"1");
    one.put("/v1/kv/deleted", b"x");
    one.put("/v1/kv/tree/a", b"x");
    one.put("/v1/kv/changed", b"2");
    assert_eq!(one.ask("DELETE", "/v1/kv/deleted", b"").text(), "true");
    assert_eq!(one.ask("DELETE", "/v1/kv/tree/?recurse", b"").text(), "true");
    let (archive, saved) = (save(&one), dump(&one));
    one.put("/v1/kv/later", b"not in it");

    let two = server(second.path());
    for n in 0..20 {
        two.put(&format!("/v1/kv/own/{n}"), b"to be replaced");
    }
    let before = two.get("/v1/kv/?recurse").index();
    restore(&two, &archive);
    assert_eq!(dump(&two), saved);
    for gone in ["deleted", "tree/a", "own/0", "later"] {
        assert_eq!(two.get(&format!("/v1/kv/{gone}")).status, 404, "{gone}");
    }

    // Indexes go on from the larger of both.
    let after = two.get("/v1/kv/?recurse").index();
    two.put("/v1/kv/next", b"x");
    let next = two.get("/v1/kv/next").json()[0]["ModifyIndex"].as_u64().unwrap();
    let highest = highest_index(&saved);
    assert!(next > highest && next > before && next > after && after >= before, "{before} {after} {highest} {next}");

    let went_on = dump(&two);
    two.end(Signal::KILL);
    let two = server(second.path());
    assert_eq!(dump(&two), went_on, "after a restart");
}

fn highest_index(dump: &str) -> u64 {
    let entries: Value = serde_json::from_str(dump).unwrap();
    entries.as_array().unwrap().iter().map(|entry| entry["ModifyIndex"].as_u64().unwrap()).max().unwrap()
}

#[test]
fn a_cluster_returns_to_its_own_snapshot_and_wakes_who_waits() {
    let agent = dev();
    agent.put("/v1/kv/a", b"before");
    let archive = save(&agent);
    agent.put("/v1/kv/a", b"after");
    let index = agent.get("/v1/kv/a").index();
    let mut blocked = agent.http();
    blocked.send("GET", &format!("/v1/kv/a?index={index}&wait=60s"), b"").unwrap();
    restore(&agent, &archive);
    let woken = blocked.read().unwrap();
    assert_eq!(woken.json()[0]["Value"], "YmVmb3Jl");
    assert!(woken.index() > index, "the index of what was restored must be news to those who wait");
}

#[test]
fn a_damaged_archive_is_refused_and_changes_nothing() {
    let agent = dev();
    for n in 0..50 {
        agent.put(&format!("/v1/kv/k/{n}"), format!("value {n}").as_bytes());
    }
    let archive = save(&agent);
    agent.put("/v1/kv/after", b"1");
    let unchanged = dump(&agent);
    let mut tar = Vec::new();
    GzDecoder::new(&*archive).read_to_end(&mut tar).unwrap();
    let replaced = |what: &[u8], by: &[u8]| {
        let at = tar.windows(what.len()).position(|window| window == what).unwrap();
        let mut changed = tar.clone();
        changed[at..at + by.len()].copy_from_slice(by);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&changed).unwrap();
        gzip.finish().unwrap()
    };
    let refuse = |body: &[u8], why: &str| {
        let answer = agent.ask("PUT", "/v1/snapshot", body);
        assert_eq!(answer.status, 500, "{why}");
        assert!(answer.text().contains(why), "{why}: {}", answer.text());
        assert_eq!(dump(&agent), unchanged, "{why}");
    };
    refuse(b"", "failed to decompress snapshot: EOF");
    refuse(b"not an archive", "failed to decompress snapshot: gzip: invalid header");
    for end in [11, archive.len() / 3, archive.len() / 2, archive.len() - 1] {
        refuse(&archive[..end], "the archive is cut short");
    }
    for at in (12..archive.len()).step_by(archive.len() / 10) {
        let mut flipped = archive.clone();
        flipped[at] ^= 4;
        // A few bits of a compressed stream mean nothing; all others count.
        let mut same = Vec::new();
        if GzDecoder::new(&*flipped).read_to_end(&mut same).is_err() || same != tar {
            refuse(&flipped, "failed to ");
        }
    }
    refuse(&replaced(b"value 7", b"value 8"), "the checksum of state.bin does not match");
    refuse(&replaced(b"\"Version\":1", b"\"Version\":2"), "its version is 2, and this release knows version 1 only");
    refuse(&replaced(b"LICTORIM\x01", b"LICTORIM\x02"), "format version 2");
    refuse(&replaced(b"LICTORIM\x01", b"CONSUL"), "no snapshot of Lictor");
    restore(&agent, &archive);
    assert_eq!(agent.get("/v1/kv/after").status, 404);
}

#[test]
fn a_snapshot_of_fifty_mebibytes_takes_little_memory() {
    const VALUES: u64 = 100;
    let (first, second, files) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let one = server(first.path());
    let mut http = one.http();
    for n in 0..VALUES {
        let answer = http.request("PUT", &format!("/v1/kv/large/{n}"), &noise(n, 512 << 10)).unwrap();
        assert_eq!(answer.text(), "true");
    }
    let file = files.path().join("large.snap");
    let file = file.to_str().unwrap();
    let before = most_memory(&one);
    let (status, said, wrong) = run(&one, &["snapshot", "save", file]);
    assert_eq!(status, 0, "{wrong}");
    assert!(said.starts_with("Saved and verified snapshot to index "), "{said}");
    assert!(fs::metadata(file).unwrap().len() > 50 << 20);
    let grown = most_memory(&one).saturating_sub(before);
    assert!(grown < 25 << 20, "saving 50 MiB took {grown} bytes of memory");

    let two = server(second.path());
    let (status, said, wrong) = run(&two, &["snapshot", "restore", file]);
    assert_eq!((status, &*said), (0, "Restored snapshot\n"), "{wrong}");
    assert!(dump(&one) == dump(&two), "the dumps differ");
}

/// Bytes that cannot be compressed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    };
    (0..length / 4).flat_map(|_| next().to_le_bytes()).collect()
}

/// The most memory that an agent ever had, in bytes.
fn most_memory(agent: &Agent) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

#[test]
fn the_commands_save_inspect_and_restore() {
    let agent = dev();
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name).display().to_string();
    agent.put("/v1/kv/a", b"before");
    fs::write(path("s.snap"), "an old one").unwrap();
    for options in [&["snapshot", "save"][..], &["snapshot", "save", "-stale"]] {
        let (status, said, wrong) = run(&agent, &[options, &[&path("s.snap")]].concat());
        assert_eq!((status, &*wrong), (0, ""));
        assert!(said.starts_with("Saved and verified snapshot to index "), "{said}");
    }
    assert_eq!(fs::read_dir(files.path()).unwrap().count(), 1, "nothing else was left behind");
    let (status, shown, _) = run(&agent, &["snapshot", "inspect", &path("s.snap")]);
    let names: Vec<_> = shown.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!((status, names), (0, vec!["ID", "Size", "Index", "Term", "Version"]));

    agent.put("/v1/kv/a", b"after");
    let restored = (0, "Restored snapshot\n".to_owned(), String::new());
    assert_eq!(run(&agent, &["snapshot", "restore", &path("s.snap")]), restored);
    assert_eq!(agent.get("/v1/kv/a?raw").text(), "before");

    fs::write(path("bad.snap"), "not a snapshot").unwrap();
    let (status, _, wrong) = run(&agent, &["snapshot", "restore", &path("bad.snap")]);
    let expected = "Error restoring snapshot: Unexpected response code: 500 (failed to decompress snapshot: gzip: invalid header)\n";
    assert_eq!((status, &*wrong), (1, expected));
    assert_eq!(run(&agent, &["snapshot", "inspect", &path("bad.snap")]).0, 2);

    // What was there stays if there is nothing better.
    let kept = fs::read(path("s.snap")).unwrap();
    let (status, _, wrong) = run(&agent, &["snapshot", "save", "-http-addr=127.0.0.1:1", &path("s.snap")]);
    assert!(status == 1 && wrong.contains("connection refused"), "{wrong}");
    assert_eq!(fs::read(path("s.snap")).unwrap(), kept);
    assert_eq!(fs::read_dir(files.path()).unwrap().count(), 2);
}

#[test]
fn a_snapshot_is_restored_from_standard_input() {
    let agent = dev();
    agent.put("/v1/kv/a", b"before");
    let archive = save(&agent);
    agent.put("/v1/kv/a", b"after");
    let mut command = Command::new(binary::lictor());
    command.args(["snapshot", "restore", "-"]).env("CONSUL_HTTP_ADDR", agent.address().to_string());
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), archive).unwrap();
    let output = command.stdin(file.reopen().unwrap()).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "Restored snapshot\n");
    assert_eq!(agent.get("/v1/kv/a?raw").text(), "before");
}

#[test]
fn raft_s_members_are_shown_and_cannot_be_lost_by_mistake() {
    let agent = dev();
    let configuration = agent.get("/v1/operator/raft/configuration").json();
    let server = &configuration["Servers"][0];
    assert_eq!((&server["Leader"], &server["Voter"]), (&json!(true), &json!(true)));
    let (id, address) = (server["ID"].as_str().unwrap(), server["Address"].as_str().unwrap());
    let cases = [
        (
            "address=127.0.1.251:8300".to_owned(),
            500,
            "address \"127.0.1.251:8300\" was not found in the Raft configuration",
        ),
        ("address=nonsense".to_owned(), 500, "address \"nonsense\" was not found in the Raft configuration"),
        ("id=nonsense".to_owned(), 500, "id \"nonsense\" was not found in the Raft configuration"),
        (format!("id={id}"), 500, "cannot remove the last voting server of the cluster"),
        (format!("address={address}"), 500, "cannot remove the last voting server of the cluster"),
        (format!("address={address}&id={id}"), 400, "not both"),
        (String::new(), 400, "Must specify ?address with IP:port of peer to remove"),
    ];
    for (query, status, why) in cases {
        let answer = agent.ask("DELETE", &format!("/v1/operator/raft/peer?{query}"), b"");
        assert_eq!(answer.status, status, "{query}");
        assert!(answer.text().contains(why), "{query}: {}", answer.text());
    }
    assert_eq!(agent.get("/v1/operator/raft/configuration?stale").json(), configuration);
    let transfer = agent.ask("POST", "/v1/operator/raft/transfer-leader", b"");
    assert_eq!((transfer.status, transfer.text()), (500, "cannot find peer to transfer leadership to"));

    let (status, table, _) = run(&agent, &["operator", "raft", "list-peers"]);
    let words: Vec<_> = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!((status, &words[0][..]), (0, &["Node", "ID", "Address", "State", "Voter", "RaftProtocol"][..]));
    assert_eq!(words[1][1..], [id, address, "leader", "true", "3"]);
    let (status, _, wrong) = run(&agent, &["operator", "raft", "remove-peer", &format!("-id={id}")]);
    assert!(status == 1 && wrong.contains("cannot remove the last voting server"), "{wrong}");
    assert_eq!(run(&agent, &["operator", "raft", "-remove-peer"]).0, 1);
}

#[test]
fn autopilot_is_set_and_tells_how_the_servers_are() {
    let agent = dev();
    let target = "/v1/operator/autopilot/configuration";
    let defaults = agent.get(target).json();
    assert_eq!((&defaults["MaxTrailingLogs"], &defaults["LastContactThreshold"]), (&json!(250), &json!("200ms")));
    agent.put(target, br#"{"MaxTrailingLogs": 1000, "LastContactThreshold": 500000000}"#);
    let changed = agent.get(target).json();
    assert_eq!((&changed["MaxTrailingLogs"], &changed["LastContactThreshold"]), (&json!(1000), &json!("500ms")));
    let index = changed["ModifyIndex"].as_u64().unwrap();
    assert_eq!(agent.ask("PUT", &format!("{target}?cas={}", index + 1), b"{}").text(), "false");
    assert_eq!(agent.ask("PUT", target, b"{").status, 400);
    assert_eq!(agent.get(target).json(), changed);
    agent.put(&format!("{target}?cas={index}"), b"{}");
    assert_eq!(agent.get(target).json()["MaxTrailingLogs"], 250);

    let set =
        run(&agent, &["operator", "autopilot", "set-config", "-cleanup-dead-servers=false", "-max-trailing-logs=7"]);
    assert_eq!(set, (0, "Configuration updated!\n".to_owned(), String::new()));
    let (_, shown, _) = run(&agent, &["operator", "autopilot", "get-config"]);
    assert!(
        shown.starts_with("CleanupDeadServers = false\nLastContactThreshold = 200ms\nMaxTrailingLogs = 7\n"),
        "{shown}"
    );
    let lost = run(&agent, &["operator", "autopilot", "set-config", "-cas", "-modify-index=1", "-max-trailing-logs=8"]);
    assert_eq!(lost.2, "Configuration could not be atomically updated, please try again\n");

    let health = agent.get("/v1/operator/autopilot/health");
    let body = health.json();
    assert_eq!((health.status, &body["Healthy"], &body["FailureTolerance"]), (200, &json!(true), &json!(0)));
    let server = &body["Servers"][0];
    assert_eq!((&server["SerfStatus"], &server["LastContact"]), (&json!("alive"), &json!("0s")));
    assert!(server["StableSince"].as_str().unwrap().ends_with('Z'), "{server}");
    assert_eq!(run(&agent, &["operator", "autopilot", "state"]).0, 0);
}

#[test]
fn info_shows_what_the_agent_counts() {
    let agent = dev();
    let (status, shown, _) = run(&agent, &["info"]);
    assert_eq!(status, 0);
    assert!(shown.contains("\nraft:\n\tapplied_index = ") && shown.contains("\n\tleader = true\n"), "{shown}");
    let (status, wrong, _) = run(&agent, &["info", "-http-addr=127.0.0.1:1"]);
    assert!(status == 1 && wrong.starts_with("Error connecting to Consul agent: dial tcp 127.0.0.1:1"), "{wrong}");
}
