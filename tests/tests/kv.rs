//! The key-value store, as its users meet it: curl, the documents' examples, mistakes.

use std::process::Command;
use std::time::{Duration, Instant};

use lictor_tests::{Agent, binary};
use serde_json::{Value, json};

/// An agent that takes writes.
fn dev() -> Agent {
    let agent = Agent::dev();
    agent.wait_for_leader();
    agent
}

#[test]
fn the_readme_s_first_steps_work() {
    let agent = dev();
    assert_eq!(agent.ask("PUT", "/v1/kv/zip", b"test").text(), "true");
    let answer = agent.get("/v1/kv/zip?pretty");
    assert!(answer.text().starts_with("[\n    {\n        \"LockIndex\": 0,\n"), "{}", answer.text());
    let entry = &answer.json()[0];
    assert_eq!(entry["Key"], "zip");
    assert_eq!(entry["Value"], "dGVzdA==");
    assert_eq!(entry["ModifyIndex"], json!(answer.index()));
    assert_eq!(answer.header("X-Consul-KnownLeader"), Some("true"));
    assert_eq!(agent.get("/v1/kv/zip?raw").text(), "test");
    assert_eq!(agent.ask("DELETE", "/v1/kv/zip", b"").text(), "true");
    assert_eq!(agent.get("/v1/kv/zip").status, 404);
}

#[test]
fn options_of_puts_gets_and_deletes_do_what_they_say() {
    let agent = dev();
    agent.put("/v1/kv/web/a?flags=18446744073709551615", b"1");
    agent.put("/v1/kv/web/sub/b", b"2");
    agent.put("/v1/kv/web/sub/c", b"");
    let flags = &agent.get("/v1/kv/web/a").json()[0]["Flags"];
    assert_eq!(*flags, json!(u64::MAX));
    assert_eq!(agent.get("/v1/kv/web/?keys&separator=/").json(), json!(["web/a", "web/sub/"]));
    let listed = agent.get("/v1/kv/web/sub?recurse").json();
    let values: Vec<&Value> = listed.as_array().unwrap().iter().map(|entry| &entry["Value"]).collect();
    assert_eq!(values, [&json!("Mg=="), &Value::Null]);

    let index = agent.get("/v1/kv/web/a").json()[0]["ModifyIndex"].as_u64().unwrap();
    assert_eq!(agent.ask("PUT", "/v1/kv/web/a?cas=0", b"x").text(), "false");
    agent.put(&format!("/v1/kv/web/a?cas={index}"), b"x");
    assert_eq!(agent.ask("DELETE", &format!("/v1/kv/web/a?cas={index}"), b"").text(), "false");
    assert_eq!(agent.ask("DELETE", "/v1/kv/web/sub?recurse", b"").text(), "true");
    assert_eq!(agent.get("/v1/kv/web?keys").json(), json!(["web/a"]));
    for mode in ["stale", "consistent"] {
        assert_eq!(agent.get(&format!("/v1/kv/web/a?raw&{mode}")).text(), "x");
    }
}

#[test]
fn a_blocked_read_wakes_for_its_own_key_and_no_other() {
    let agent = dev();
    agent.put("/v1/kv/watched", b"1");
    let index = agent.get("/v1/kv/watched").index();
    let mut blocked = agent.http();
    blocked.send("GET", &format!("/v1/kv/watched?index={index}&wait=60s"), b"").unwrap();
    agent.put("/v1/kv/other", b"1");
    agent.put("/v1/kv/watched/below", b"1");
    assert!(blocked.is_silent(Duration::from_millis(150)), "woken for nothing");
    agent.put("/v1/kv/watched", b"2");
    let answer = blocked.read().unwrap();
    assert_eq!(answer.json()[0]["Value"], "Mg==");
    assert!(answer.index() > index);

    let start = Instant::now();
    let answer = agent.get(&format!("/v1/kv/watched?index={}&wait=200ms", answer.index()));
    assert!(start.elapsed() >= Duration::from_millis(200), "came back before its time");
    assert_eq!(answer.json()[0]["Value"], "Mg==");
}

#[test]
fn bad_input_is_refused_with_a_reason_and_changes_nothing() {
    let agent = dev();
    let too_large = vec![b'x'; 512 * 1024 + 1];
    let cases: [(&str, &str, &[u8], u16, &str); 12] = [
        ("GET", "/v1/kv/", b"", 400, "Missing key name"),
        ("GET", "/v1/kv/bad?index=18446744073709551616", b"", 400, "Invalid index"),
        ("GET", "/v1/kv/bad?index=-1", b"", 400, "Invalid index"),
        ("GET", "/v1/kv/bad?wait=10", b"", 400, "Invalid wait time"),
        ("GET", "/v1/kv/bad?stale&consistent", b"", 400, "Cannot specify ?stale with ?consistent"),
        ("GET", "/v1/kv/bad?dc=nosuch", b"", 500, "No path to datacenter"),
        ("PUT", "/v1/kv/bad?flags=18446744073709551616", b"x", 500, "value out of range"),
        ("PUT", "/v1/kv/bad?cas=abc", b"x", 500, "invalid syntax"),
        ("PUT", "/v1/kv/bad?cas=0&acquire=s", b"x", 400, "Conflicting flags: acquire=s&cas=0"),
        ("PUT", "/v1/kv/bad?acquire=nosuch", b"x", 500, "UUID must be 36 characters"),
        ("PUT", "/v1/kv/bad", &too_large, 413, "Value exceeds 524288 byte limit"),
        ("FROB", "/v1/kv/bad", b"x", 405, "method FROB not allowed here"),
    ];
    for (method, target, body, status, reason) in cases {
        let answer = agent.ask(method, target, body);
        assert_eq!(answer.status, status, "{method} {target}");
        assert!(answer.text().contains(reason), "{method} {target}: {}", answer.text());
    }
    assert_eq!(agent.get("/v1/kv/bad").status, 404);
}

#[test]
fn bodies_that_are_cut_short_change_nothing() {
    let agent = dev();
    for request in [
        "PUT /v1/kv/cut HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf",
        "PUT /v1/kv/cut HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "PUT /v1/kv/cut HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhalf\r\n",
    ] {
        let mut http = agent.http();
        http.write(request.as_bytes()).unwrap();
        http.finish_writing().unwrap();
        let answer = http.read().unwrap();
        assert_eq!(answer.status, 400, "{request}");
        assert!(answer.text().contains("cut short or badly encoded"), "{}", answer.text());
    }
    assert_eq!(agent.get("/v1/kv/cut").status, 404);
}

#[test]
fn the_command_line_puts_gets_and_deletes() {
    let agent = dev();
    let run = |args: &[&str]| {
        let output = Command::new(binary::lictor())
            .arg("kv")
            .args(args)
            .env("CONSUL_HTTP_ADDR", agent.address().to_string())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let ok = |text: &str| (0, text.to_owned(), String::new());
    let failed = |text: &str| (1, String::new(), text.to_owned());
    assert_eq!(run(&["put", "a/temperature", "-5"]), ok("Success! Data written to: a/temperature\n"));
    assert_eq!(run(&["get", "a/temperature"]), ok("-5\n"));
    assert_eq!(run(&["put", "-flags=7", "a/b c%", "x"]).0, 0);
    assert_eq!(run(&["get", "--keys", "a/"]), ok("a/b c%\na/temperature\n"));
    assert_eq!(run(&["get", "-recurse", "a/"]), ok("a/b c%:x\na/temperature:-5\n"));
    assert_eq!(run(&["get", "nosuch"]), failed("Error! No key exists at: nosuch\n"));
    let lost = failed("Error! Did not write to a/temperature: CAS failed\n");
    assert_eq!(run(&["put", "-cas", "-modify-index=1", "a/temperature", "0"]), lost);
    assert_eq!(run(&["delete", "-recurse", "a"]), ok("Success! Deleted keys with prefix: a\n"));
    assert_eq!(run(&["get", "-recurse"]), ok(""));
    let (status, _, refused) = run(&["get", "-http-addr=127.0.0.1:1", "a"]);
    assert_eq!(status, 1);
    assert!(refused.contains("dial tcp 127.0.0.1:1: connect: connection refused"), "{refused}");
}
