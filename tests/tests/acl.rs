//! Access control: tokens as clients, agents and commands use them, on a cluster of three servers and a client agent.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use lictor_tests::agent::{Process, Signal};
use lictor_tests::cluster::{client, joining, server_of, wait_for_members};
use lictor_tests::{Agent, Answer, binary, until};
use serde_json::{Value, json};

const NAMES: [&str; 4] = ["s0", "s1", "s2", "c0"];
/// The management token that the configuration names.
const ROOT: &str = "secret-of-the-master";
/// The token of the agents themselves.
const AGENT: &str = "secret-of-the-agents";

/// Asks on behalf of a token.
fn ask(agent: &Agent, token: &str, method: &str, target: &str, body: &str) -> Answer {
    let mark = if target.contains('?') { '&' } else { '?' };
    agent.ask(method, &format!("{target}{mark}token={token}"), body.as_bytes())
}

/// Asks for something that must not be done; gives what is said.
fn refused(agent: &Agent, token: &str, method: &str, target: &str) -> String {
    let answer = ask(agent, token, method, target, "x");
    assert_eq!(answer.status, 403, "{method} {target}: {answer:?}");
    answer.text().to_owned()
}

/// Creates a token with these rules.
fn token(agent: &Agent, rules: &str) -> String {
    let answer = ask(agent, ROOT, "PUT", "/v1/acl/create", &json!({ "Rules": rules }).to_string());
    assert_eq!(answer.status, 200, "{rules}: {answer:?}");
    answer.json()["ID"].as_str().unwrap().to_owned()
}

fn command(agent: &Agent, token: &str, args: &[&str]) -> Command {
    let mut command = Command::new(binary::lictor());
    command.args(args).env("CONSUL_HTTP_ADDR", agent.address().to_string()).env("SHELL", "/bin/sh");
    if !token.is_empty() {
        command.env("CONSUL_HTTP_TOKEN", token);
    }
    command
}

fn run(agent: &Agent, token: &str, args: &[&str]) -> Output {
    command(agent, token, args).output().expect("lictor can be run")
}

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].concat().iter().map(|byte| char::from(*byte)).collect()
}

/// Options, and a configuration file with all of `config`.
fn configured(directory: &Path, mut options: Vec<String>, config: &Value) -> Vec<String> {
    let name = options.iter().find_map(|option| option.strip_prefix("-node=")).unwrap_or("server").to_owned();
    let file = directory.join(format!("{name}.json"));
    fs::write(&file, config.to_string()).unwrap();
    options.push(format!("-config-file={}", file.display()));
    options
}

/// Waits until the management token can be used.
fn wait_for_tokens(agent: &Agent) {
    until("the master token is there", || (ask(agent, ROOT, "GET", "/v1/acl/list", "").status == 200).then_some(()));
}

/// Three servers and a client agent that allow nothing unless a token does.
fn four(directory: &Path) -> Vec<Agent> {
    let mut config = json!({
        "acl_datacenter": "DC1", "acl_default_policy": "deny", "acl_agent_token": AGENT, "disable_remote_exec": false,
        "performance": { "raft_multiplier": 1 }, "log_level": "trace"
    });
    let ours = config.clone();
    config["acl_master_token"] = ROOT.into();
    let mut agents = vec![Agent::start(&configured(directory, server_of(3, NAMES[0], directory), &config))];
    for name in &NAMES[1..3] {
        let options = configured(directory, server_of(3, name, directory), &config);
        agents.push(Agent::start(&joining(options, &agents[0])));
    }
    wait_for_tokens(&agents[0]);
    let rules =
        r#"service "" { policy = "write" } key "_rexec" { policy = "write" } event "_rexec" { policy = "write" }"#;
    let own = json!({ "ID": AGENT, "Name": "agents", "Rules": rules }).to_string();
    let created = ask(&agents[1], ROOT, "PUT", "/v1/acl/create", &own);
    assert_eq!((created.status, &created.json()["ID"]), (200, &AGENT.into()));
    agents.push(Agent::start(&joining(configured(directory, client(NAMES[3], directory), &ours), &agents[0])));
    for agent in &agents {
        wait_for_members(agent, &NAMES);
        agent.wait_for_leader();
        wait_for_tokens(agent);
    }
    until("all nodes are in the catalog", || {
        let nodes = agents[3].get("/v1/catalog/nodes").json();
        let names: BTreeSet<&str> = nodes.as_array()?.iter().filter_map(|node| node["Node"].as_str()).collect();
        (names == BTreeSet::from(NAMES)).then_some(())
    });
    agents
}

#[test]
fn tokens_hold_on_every_agent_of_a_cluster() {
    let directory = tempfile::tempdir().unwrap();
    let agents = four(directory.path());
    let mut secrets = vec![ROOT.to_owned(), AGENT.to_owned()];
    secrets.extend(rules_hold_wherever_one_asks(&agents));
    a_token_may_come_in_two_headers(&agents[3]);
    secrets.extend(agents_register_services_with_tokens(&agents[3]));
    secrets.extend(commands_give_tokens(&agents[3], directory.path()));
    secrets.extend(remote_execution_needs_a_token(&agents[3]));
    nothing_tells_a_secret(&agents, &secrets);
}

fn rules_hold_wherever_one_asks(agents: &[Agent]) -> Vec<String> {
    let (client, servers) = agents.split_last().unwrap();
    let writer = token(client, "key \"app/\" { policy = \"write\" }");
    let reader = token(&servers[0], r#"{"key": {"app/": {"policy": "read"}}}"#);
    for (at, agent) in agents.iter().enumerate() {
        let key = format!("/v1/kv/app/{at}");
        assert_eq!(ask(agent, &writer, "PUT", &key, "x").text(), "true");
        assert_eq!(ask(agent, &reader, "GET", &format!("{key}?raw"), "").text(), "x");
        assert_eq!(agent.get(&key).status, 404, "what may not be read is not there");
        assert_eq!(refused(agent, &reader, "PUT", &key), "Permission denied");
        assert_eq!(refused(agent, &writer, "PUT", "/v1/kv/other"), "Permission denied");
        assert_eq!(refused(agent, "", "PUT", &key), "Permission denied");
        assert_eq!(refused(agent, "no-token", "GET", &key), "ACL not found");
        assert_eq!(refused(agent, &writer, "GET", "/v1/acl/list"), "Permission denied");
        let shown = &agent.get("/v1/agent/self").json()["Config"];
        assert_eq!((&shown["ACLDatacenter"], &shown["ACLDefaultPolicy"]), (&"dc1".into(), &"deny".into()));
    }
    let listed = ask(client, &reader, "GET", "/v1/kv/?keys", "").json();
    assert_eq!(listed, json!(["app/0", "app/1", "app/2", "app/3"]));

    // What is taken back is taken back everywhere, at once.
    let changed = json!({ "ID": writer, "Rules": "key \"app/\" { policy = \"read\" }" }).to_string();
    assert_eq!(ask(&servers[1], ROOT, "PUT", "/v1/acl/update", &changed).status, 200);
    assert_eq!(ask(&servers[2], ROOT, "PUT", &format!("/v1/acl/destroy/{reader}"), "").text(), "true");
    for agent in agents {
        assert_eq!(refused(agent, &writer, "PUT", "/v1/kv/app/0"), "Permission denied");
        assert_eq!(refused(agent, &reader, "GET", "/v1/kv/app/0"), "ACL not found");
        let stale = || ask(agent, &reader, "GET", "/v1/kv/app/0?stale", "").status;
        until("every server knows that the token is gone", || (stale() == 403).then_some(()));
    }
    vec![writer, reader]
}

fn a_token_may_come_in_two_headers(agent: &Agent) {
    let status = |headers: &str| {
        let mut http = agent.http();
        http.write(format!("GET /v1/acl/list HTTP/1.1\r\nHost: a\r\n{headers}\r\n").as_bytes()).unwrap();
        http.read().unwrap().status
    };
    assert_eq!(status(""), 403);
    assert_eq!(status(&format!("x-consul-token: {ROOT}\r\n")), 200);
    assert_eq!(status(&format!("Authorization: bearer {ROOT}\r\n")), 200);
    assert_eq!(status(&format!("X-Consul-Token: {ROOT}\r\nAuthorization: Bearer other\r\n")), 200);
    assert_eq!(status(&format!("X-Consul-Token: other\r\nAuthorization: Bearer {ROOT}\r\n")), 403);
    assert_eq!(status(&format!("Authorization: Basic {ROOT}\r\n")), 403);
    assert_eq!(status("X-Consul-Token: \u{e9}\r\n"), 403, "a token that nobody has is not no token");
}

fn agents_register_services_with_tokens(agent: &Agent) -> Vec<String> {
    let (may, may_not) = (token(agent, "service \"web\" { policy = \"write\" }"), token(agent, ""));
    // That of the request goes before that of the definition, and the agent's own is for those that have none.
    for (name, request, definition) in [("kept-out", &*may_not, AGENT), ("web", "", &may), ("db", "", "")] {
        let definition = json!({ "Name": name, "Token": definition }).to_string();
        assert_eq!(ask(agent, request, "PUT", "/v1/agent/service/register", &definition).status, 200, "{name}");
    }
    let seen = |token: &str| {
        let services = ask(agent, token, "GET", "/v1/catalog/services", "").json();
        services.as_object().unwrap().keys().cloned().collect::<BTreeSet<String>>()
    };
    let all = ["consul", "db", "web"].map(str::to_owned);
    until("those are there whose token allows it", || (seen(ROOT) == all.clone().into()).then_some(()));
    assert_eq!(seen(&may), ["consul", "web"].map(str::to_owned).into());
    assert_eq!(seen(""), ["consul".to_owned()].into());
    assert_eq!(agent.get("/v1/health/service/web").json(), json!([]));
    assert_eq!(ask(agent, &may, "GET", "/v1/health/service/web", "").json().as_array().unwrap().len(), 1);
    vec![may, may_not]
}

fn commands_give_tokens(agent: &Agent, directory: &Path) -> Vec<String> {
    let token = token(agent, "key \"job/\" { policy = \"write\" }");
    let (file, none) = (directory.join("token"), directory.join("nosuch"));
    fs::write(&file, format!("{token}\n")).unwrap();
    let (in_file, in_none) = (format!("-token-file={}", file.display()), format!("-token-file={}", none.display()));

    let put = run(agent, "", &["kv", "put", &format!("-token={token}"), "job/a", "by option"]);
    assert!(put.status.success(), "{put:?}");
    let got = run(agent, &token, &["kv", "get", "job/a"]);
    assert_eq!(said(&got), "by option\n");
    let denied = run(agent, "", &["kv", "put", "job/a", "by nobody"]);
    assert!(!denied.status.success() && said(&denied).contains("403 (Permission denied)"), "{denied:?}");
    let put = run(agent, "no-token", &["kv", "put", &in_file, "job/a", "by file"]);
    assert!(put.status.success(), "{put:?}");
    let unread = run(agent, &token, &["kv", "put", &in_none, "job/a", "without the file"]);
    assert!(!unread.status.success() && said(&unread).contains("no such file or directory"), "{unread:?}");
    let by_variable =
        command(agent, "", &["kv", "get", "job/a"]).env("CONSUL_HTTP_TOKEN_FILE", &file).output().unwrap();
    assert_eq!(said(&by_variable), "by file\n");

    let locked = run(agent, &token, &["lock", "job/lock", "echo held"]);
    assert!(locked.status.success() && said(&locked).contains("held"), "{locked:?}");
    let denied = run(agent, "", &["lock", "job/lock", "echo held"]);
    assert!(!denied.status.success() && said(&denied).contains("Permission denied"), "{denied:?}");
    assert_eq!(agent.get("/v1/session/list").json(), json!([]), "a lock that was refused leaves no session");

    let mut watch = Process::run(command(agent, &token, &["watch", "-type=key", "-key=job/w", "echo seen; cat"]));
    until("the watch has begun", || watch.output().contains("seen").then_some(()));
    assert_eq!(ask(agent, &token, "PUT", "/v1/kv/job/w", "news").text(), "true");
    until("the watch has news", || watch.output().contains("bmV3cw==").then_some(()));
    watch.signal(Signal::INT);
    watch.wait();
    vec![token]
}

fn remote_execution_needs_a_token(agent: &Agent) -> Vec<String> {
    let carriers = "key \"_rexec\" { policy = \"write\" } event \"_rexec\" { policy = \"write\" }";
    let carrier = token(agent, carriers);
    let denied = run(agent, "", &["exec", "-wait=200ms", "echo no"]);
    assert_eq!(denied.status.code(), Some(1));
    assert!(
        said(&denied).contains("Failed to create job file: Unexpected response code: 403 (Permission denied)"),
        "{denied:?}"
    );
    let done = run(agent, &carrier, &["exec", "-wait=20s", "echo by hand"]);
    assert!(done.status.success() && said(&done).contains("4 / 4 node(s) completed / acknowledged"), "{done:?}");

    let order = r#"{"Command": "echo by http", "Wait": "20s"}"#;
    let (reader, writer) = (token(agent, "exec = \"read\""), token(agent, &format!("{carriers} exec = \"write\"")));
    for token in ["", &carrier, &reader] {
        assert_eq!(refused(agent, token, "PUT", "/v1/exec"), "Permission denied");
    }
    for token in ["", &carrier] {
        assert_eq!(refused(agent, token, "GET", "/v1/exec"), "Permission denied");
    }
    let answer = ask(agent, &writer, "PUT", "/v1/exec", order);
    let events: Vec<Value> = answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.last().unwrap()["Outcome"], "success", "{events:?}");
    for token in [&reader, &writer] {
        assert_eq!(ask(agent, token, "GET", "/v1/exec", "").json().as_array().unwrap().len(), 1);
    }
    vec![carrier, reader, writer]
}

fn nothing_tells_a_secret(agents: &[Agent], secrets: &[String]) {
    for agent in agents {
        let (itself, info) = (agent.get("/v1/agent/self"), run(agent, "", &["info"]));
        assert!(info.status.success() && itself.status == 200);
        let services = agent.get("/v1/agent/services");
        let told = [itself.text(), services.text(), &said(&info), &agent.output()].concat();
        for secret in secrets {
            assert!(!told.contains(secret.as_str()), "{secret}: {told}");
        }
    }
}

/// A server of its own that allows nothing unless a token does.
fn alone(directory: &Path, master: &str) -> Agent {
    let config =
        json!({ "acl": { "enabled": true, "default_policy": "deny", "tokens": { "initial_management": master } } });
    let options = lictor_tests::agent::server_options(directory);
    Agent::start(&configured(directory, options, &config))
}

#[test]
fn tokens_survive_a_restart_and_travel_in_snapshots() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let one = alone(first.path(), ROOT);
    wait_for_tokens(&one);
    let own = token(&one, "key \"\" { policy = \"write\" } operator = \"write\"");
    assert_eq!(ask(&one, &own, "PUT", "/v1/kv/a", "1").text(), "true");
    one.end(Signal::KILL);
    let one = alone(first.path(), ROOT);
    wait_for_tokens(&one);
    assert_eq!(ask(&one, &own, "GET", "/v1/kv/a?raw", "").text(), "1");
    assert_eq!(one.get("/v1/kv/a").status, 404);

    for token in ["", &own] {
        assert_eq!(refused(&one, token, "GET", "/v1/snapshot"), "Permission denied");
        assert_eq!(refused(&one, token, "PUT", "/v1/snapshot"), "Permission denied");
    }
    let archive = ask(&one, ROOT, "GET", "/v1/snapshot", "");
    assert_eq!(archive.status, 200);

    let other = "secret-of-another-master";
    let two = alone(second.path(), other);
    until("its token is there", || (ask(&two, other, "GET", "/v1/acl/list", "").status == 200).then_some(()));
    assert_eq!(refused(&two, &own, "GET", "/v1/kv/a"), "ACL not found");
    let restored = two.ask("PUT", &format!("/v1/snapshot?token={other}"), &archive.body);
    assert_eq!(restored.status, 200, "{restored:?}");
    assert_eq!(ask(&two, &own, "GET", "/v1/kv/a?raw", "").text(), "1");
    assert_eq!(ask(&two, ROOT, "GET", &format!("/v1/acl/info/{own}"), "").json()[0]["ID"], own.as_str());
}

#[test]
fn without_access_control_there_are_no_tokens() {
    let agent = Agent::dev();
    agent.wait_for_leader();
    for (method, path) in [("PUT", "create"), ("GET", "list"), ("GET", "replication"), ("POST", "info/x")] {
        let answer = ask(&agent, "any", method, &format!("/v1/acl/{path}"), "");
        assert_eq!((answer.status, answer.text()), (401, "ACL support disabled"), "{path}");
    }
    assert_eq!(ask(&agent, "any", "PUT", "/v1/kv/a", "1").text(), "true");
}
