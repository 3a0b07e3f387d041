//! An initiator's questions as requests by HTTP, and the answers as it knows them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::{Method, StatusCode};
use lictor_core::api::agent::{Itself, Member, MemberStatus, Settings};
use lictor_core::api::kv::{Entry, PutMode};
use lictor_core::api::session::{Behavior, Session, Ttl, Wanted};
use lictor_core::api::{
    Call, Consistency, Read, ReadMeta, ReadOptions, Request, Response, agent, catalog, event, exec, health, kv, session,
};
use lictor_core::coordinate::Coordinate;
use lictor_core::duration;
use lictor_core::exec::initiator::{Answer, Trouble};
use lictor_core::id::{Index, PeerId, SessionId};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::client::{self, Client};

/// An agent that has not answered for so long, beyond the time for which it may block, is taken to be gone: of a machine that has
/// lost its power, or of an agent that is stopped, nothing else tells. It is longer than agents wait for a leader.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request by HTTP.
#[derive(Debug, PartialEq, Eq)]
struct Http {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    body: Bytes,
}

impl Http {
    fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), query: Vec::new(), body: Bytes::new() }
    }

    fn get(path: impl Into<String>, read: &ReadOptions) -> Self {
        let mut http = Self::new(Method::GET, path);
        match read.consistency {
            Consistency::Default => {}
            Consistency::Consistent => http = http.with("consistent", ""),
            Consistency::Stale => http = http.with("stale", ""),
        }
        if read.index > Index(0) {
            http = http.with("index", read.index.to_string());
        }
        match read.wait {
            Some(wait) => http.with("wait", duration::format(wait)),
            None => http,
        }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// With a parameter that is left out if there is nothing to be said.
    fn with_some(self, name: &'static str, value: &str) -> Self {
        if value.is_empty() { self } else { self.with(name, value) }
    }
}

/// Asks an agent.
pub(super) async fn ask(client: &Client, call: Call) -> Answer {
    ask_within(client, call, PATIENCE).await
}

async fn ask_within(client: &Client, call: Call, patience: Duration) -> Answer {
    let limit = may_block(&call.request).saturating_add(patience);
    let late = |_| Trouble { text: format!("no answer within {}", duration::format(limit)), may_pass: true };
    tokio::time::timeout(limit, exchange(client, call)).await.unwrap_or_else(|elapsed| Err(late(elapsed)))
}

/// For how long an agent may keep us waiting with this.
fn may_block(request: &Request) -> Duration {
    let wait = match request {
        Request::Exec(exec::Request::Collect { wait, .. }) => *wait,
        _ => request.read_options().and_then(|read| read.wait),
    };
    wait.unwrap_or_default()
}

async fn exchange(client: &Client, call: Call) -> Answer {
    let unknown = || Trouble { text: format!("cannot ask by HTTP: {:?}", call.request), may_pass: false };
    let mut http = request(&call.request).ok_or_else(unknown)?;
    if let Some(datacenter) = &call.datacenter {
        http = http.with("dc", datacenter.clone());
    }
    let query: Vec<(&str, &str)> = http.query.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer =
        client.ask(&http.method, &http.path, &query, http.body.clone()).await.map_err(|error| trouble(&error))?;
    let meta = ReadMeta { index: Index(answer.index.unwrap_or(0)), known_leader: true, ..ReadMeta::default() };
    let missing = answer.status == StatusCode::NOT_FOUND;
    let body = match (&call.request, missing) {
        // That nothing is there is an answer, too.
        (Request::Kv(_), true) => Bytes::from_static(b"[]"),
        _ => answer.ok().map_err(|error| trouble(&error))?,
    };
    let unreadable =
        || Trouble { text: format!("unreadable answer to {} {}", http.method, http.path), may_pass: false };
    let value: Value = serde_json::from_slice(&body).map_err(|_| unreadable())?;
    response(&call.request, meta, &value).ok_or_else(unreadable)
}

fn trouble(error: &client::Error) -> Trouble {
    Trouble { text: error.to_string(), may_pass: error.may_pass() }
}

/// The request by HTTP; `None` for what no initiator asks.
fn request(request: &Request) -> Option<Http> {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    Some(match request {
        Request::Agent(agent::Request::Itself) => Http::new(Method::GET, "agent/self"),
        Request::Agent(agent::Request::Members { wan: false }) => Http::new(Method::GET, "agent/members"),
        Request::Catalog(catalog::Request::Node { name, read }) => Http::get(format!("catalog/node/{name}"), read),
        Request::Health(health::Request::State { state, read, .. }) => Http::get(format!("health/state/{state}"), read),
        Request::Health(health::Request::Service { name, passing: true, read, .. }) => {
            Http::get(format!("health/service/{name}"), read).with("passing", "1")
        }
        Request::Session(session::Request::Create(wanted)) => {
            Http { body: wish(wanted).to_string().into(), ..Http::new(Method::PUT, "session/create") }
        }
        Request::Session(session::Request::Renew { id }) => Http::new(Method::PUT, format!("session/renew/{id}")),
        Request::Session(session::Request::Destroy { id }) => Http::new(Method::PUT, format!("session/destroy/{id}")),
        Request::Kv(kv::Request::Put { key, value, mode: PutMode::Acquire(session), .. }) => {
            let http = Http::new(Method::PUT, format!("kv/{}", text(key))).with("acquire", session.clone());
            Http { body: value.clone(), ..http }
        }
        Request::Kv(kv::Request::Keys { prefix, read, .. }) => {
            Http::get(format!("kv/{}", text(prefix)), read).with("keys", "")
        }
        Request::Kv(kv::Request::Get { key, read }) => Http::get(format!("kv/{}", text(key)), read),
        Request::Kv(kv::Request::DeleteTree { prefix }) => {
            Http::new(Method::DELETE, format!("kv/{}", text(prefix))).with("recurse", "")
        }
        Request::Event(event::Request::Fire(event)) => {
            let http = Http::new(Method::PUT, format!("event/fire/{}", event.name))
                .with_some("node", &event.node_filter)
                .with_some("service", &event.service_filter)
                .with_some("tag", &event.tag_filter);
            Http { body: event.payload.clone(), ..http }
        }
        Request::Exec(request) => {
            let method = match request {
                exec::Request::Open { .. } => Method::PUT,
                exec::Request::Collect { .. } => Method::POST,
                exec::Request::Close { .. } => Method::DELETE,
            };
            let http = Http::new(method, format!("exec/output/{}", request.session()));
            let http = http.with("prefix", request.prefix());
            match request {
                exec::Request::Collect { progress, wait, .. } => {
                    let wait = wait.map(duration::format).unwrap_or_default();
                    Http { body: known(progress).to_string().into(), ..http.with_some("wait", &wait) }
                }
                _ => http,
            }
        }
        _ => return None,
    })
}

/// How far the nodes are, in the form of the endpoint.
fn known(progress: &BTreeMap<String, exec::Progress>) -> Value {
    let nodes =
        progress.iter().map(|(node, progress)| json!({ "Node": node, "Taken": progress.taken, "Have": progress.have }));
    json!({ "Nodes": nodes.collect::<Vec<_>>() })
}

/// A session that is wanted, in the form of its endpoint. What is as usual is left out.
fn wish(wanted: &Wanted) -> Value {
    let mut wish = json!({ "Name": wanted.name, "Behavior": wanted.behavior, "TTL": wanted.ttl.text });
    if let Some(node) = &wanted.node {
        wish["Node"] = node.as_str().into();
    }
    if let Some(checks) = &wanted.checks {
        wish["Checks"] = json!(checks);
    }
    wish
}

/// The answer, as far as initiators look at it; `None` if it is not of the form that it should have.
fn response(request: &Request, meta: ReadMeta, value: &Value) -> Option<Response> {
    Some(match request {
        Request::Agent(agent::Request::Itself) => Response::Itself(Box::new(itself(value)?)),
        Request::Agent(_) => Response::Members(value.as_array()?.iter().map(member).collect::<Option<_>>()?),
        Request::Catalog(_) => {
            let node = if value.is_null() { None } else { Some(node_services(value)?) };
            Response::NodeServices(Read { meta, value: node })
        }
        Request::Health(health::Request::State { .. }) => {
            let checks = value.as_array()?.iter().map(|check| {
                let (node, id) = (string(&check["Node"])?, string(&check["CheckID"])?);
                Some(Arc::new(catalog::Check { node, id, ..Default::default() }))
            });
            Response::Checks(Read { meta, value: checks.collect::<Option<_>>()? })
        }
        Request::Health(_) => {
            let instances = value.as_array()?.iter().map(|instance| {
                let node = catalog::Node { name: string(&instance["Node"]["Node"])?, ..Default::default() };
                Some(health::Instance { node: node.into(), service: Arc::default(), checks: Vec::new() })
            });
            Response::HealthOf(Read { meta, value: instances.collect::<Option<_>>()? })
        }
        Request::Session(session::Request::Create(_)) => {
            Response::SessionCreated(SessionId::parse(value["ID"].as_str()?)?)
        }
        Request::Session(session::Request::Renew { id }) => Response::Renewed(Arc::new(renewed(SessionId::parse(id)?))),
        Request::Kv(kv::Request::Keys { .. }) => {
            let keys =
                value.as_array()?.iter().map(|key| key.as_str().map(|key| Bytes::copy_from_slice(key.as_bytes())));
            Response::KvKeys(Read { meta, value: keys.collect::<Option<_>>()? })
        }
        Request::Kv(kv::Request::Get { .. }) => {
            Response::KvEntries(Read { meta, value: value.as_array()?.iter().map(entry).collect::<Option<_>>()? })
        }
        Request::Session(_) | Request::Kv(_) => Response::Done(value.as_bool()?),
        Request::Exec(exec::Request::Open { .. }) => Response::Inbox(exec::Inbox {
            id: Uuid::parse_str(value["ID"].as_str()?).ok()?,
            peer: PeerId(Uuid::parse_str(value["Peer"].as_str()?).ok()?),
            address: value["Address"].as_str()?.parse().ok()?,
        }),
        Request::Exec(exec::Request::Collect { .. }) => {
            Response::Collected(value.as_array()?.iter().map(piece).collect::<Option<_>>()?)
        }
        Request::Exec(exec::Request::Close { .. }) => Response::Done(value.as_bool()?),
        Request::Event(event::Request::Fire(event)) => {
            let id = Uuid::parse_str(value["ID"].as_str()?).ok()?;
            Response::Fired(event::Event { id, ..event.clone() })
        }
        _ => return None,
    })
}

fn itself(value: &Value) -> Option<Itself> {
    let config = &value["Config"];
    let stats = value["Stats"].as_object().map(|subjects| {
        let figures = |subject: &Value| -> BTreeMap<String, String> {
            let figures = subject.as_object().into_iter().flatten();
            figures.filter_map(|(name, figure)| Some((name.clone(), string(figure)?))).collect()
        };
        subjects.iter().map(|(name, subject)| (name.clone(), figures(subject))).collect()
    });
    Some(Itself {
        config: Settings {
            node_name: string(&config["NodeName"])?,
            datacenter: string(&config["Datacenter"])?,
            ..Settings::default()
        },
        // Later releases of Consul show none where gossip is off; nothing of it matters here.
        member: member(&value["Member"]).unwrap_or_else(|| nobody(String::new())),
        coordinate: Coordinate::default(),
        stats: stats.unwrap_or_default(),
    })
}

fn member(value: &Value) -> Option<Member> {
    let status = match value["Status"].as_u64()? {
        1 => MemberStatus::Alive,
        2 => MemberStatus::Leaving,
        3 => MemberStatus::Left,
        4 => MemberStatus::Failed,
        _ => MemberStatus::None,
    };
    Some(Member { status, ..nobody(string(&value["Name"])?) })
}

fn nobody(name: String) -> Member {
    let address = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    Member { name, address, port: 0, tags: BTreeMap::new(), status: MemberStatus::None }
}

fn node_services(value: &Value) -> Option<catalog::NodeServices> {
    let node = catalog::Node { name: string(&value["Node"]["Node"])?, ..Default::default() };
    let services = value["Services"].as_object()?.values().map(|service| {
        let tags = service["Tags"].as_array().map(|tags| tags.iter().filter_map(string).collect());
        let (id, name) = (string(&service["ID"])?, string(&service["Service"])?);
        Some(Arc::new(catalog::Service { id, name, tags, ..Default::default() }))
    });
    Some(catalog::NodeServices { node: node.into(), services: services.collect::<Option<_>>()? })
}

fn entry(value: &Value) -> Option<Arc<Entry>> {
    let key = Bytes::from(string(&value["Key"])?);
    let stored = match &value["Value"] {
        Value::Null => Vec::new(),
        text => STANDARD.decode(text.as_str()?).ok()?,
    };
    let session = value["Session"].as_str().and_then(SessionId::parse);
    let (create_index, modify_index) = (Index(0), Index(value["ModifyIndex"].as_u64().unwrap_or(0)));
    let lock_index = value["LockIndex"].as_u64().unwrap_or(0);
    Some(Arc::new(Entry { key, value: stored.into(), flags: 0, create_index, modify_index, lock_index, session }))
}

fn piece(value: &Value) -> Option<exec::Piece> {
    let number = u32::try_from(value["Number"].as_u64()?).ok()?;
    let output = STANDARD.decode(value["Output"].as_str()?).ok()?;
    Some(exec::Piece { node: string(&value["Node"])?, number, output: output.into() })
}

/// What is known of a session that was renewed.
fn renewed(id: SessionId) -> Session {
    Session {
        id,
        name: String::new(),
        node: String::new(),
        checks: Vec::new(),
        lock_delay: session::DEFAULT_LOCK_DELAY,
        behavior: Behavior::Delete,
        ttl: Ttl::default(),
        create_index: Index(0),
    }
}

fn string(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An agent that is stopped takes connections all the same.
    #[tokio::test]
    async fn an_agent_that_never_answers_is_not_waited_for_for_ever() {
        let agent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Client::at(agent.local_addr().unwrap().to_string());
        let call = Call::new(Request::Agent(agent::Request::Itself));
        let trouble = ask_within(&client, call, Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(trouble, Trouble { text: "no answer within 50ms".to_owned(), may_pass: true });
    }

    #[test]
    fn blocking_questions_have_their_time() {
        let wait = Some(Duration::from_secs(30));
        let read = ReadOptions { index: Index(7), wait, consistency: Consistency::Default };
        let keys = kv::Request::Keys { prefix: "x".into(), separator: Bytes::new(), read };
        assert_eq!(may_block(&keys.into()), Duration::from_secs(30));
        let session = SessionId::parse("adf4238a-882b-9ddc-4a9d-5b6758e4159e").unwrap();
        let (prefix, progress) = ("p".to_owned(), BTreeMap::new());
        let collect = exec::Request::Collect { prefix, session, progress, wait };
        assert_eq!(may_block(&collect.into()), Duration::from_secs(30));
        assert_eq!(may_block(&agent::Request::Itself.into()), Duration::ZERO);
    }

    fn shown(asked: impl Into<Request>) -> String {
        let http = request(&asked.into()).unwrap();
        let query: Vec<_> = http.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let body = String::from_utf8_lossy(&http.body);
        format!("{} {}?{} {body}", http.method, http.path, query.join("&"))
    }

    #[test]
    fn questions_are_asked_as_consuls_command_asks_them() {
        let wait = Some(Duration::from_secs(2));
        let read = ReadOptions { index: Index(7), wait, consistency: Consistency::Stale };
        let keys = kv::Request::Keys { prefix: "_rexec/x/".into(), separator: Bytes::new(), read };
        assert_eq!(shown(keys), "GET kv/_rexec/x/?stale=&index=7&wait=2s&keys= ");
        let ttl = Ttl { text: "15s".into(), nanos: 15_000_000_000 };
        let wanted = Wanted { name: "Remote Exec".into(), behavior: "delete".into(), ttl, ..Wanted::default() };
        assert_eq!(shown(session::Request::Create(wanted)), {
            r#"PUT session/create? {"Behavior":"delete","Name":"Remote Exec","TTL":"15s"}"#
        });
        let event = event::Event {
            name: "_rexec".into(),
            payload: "{}".into(),
            node_filter: "a&b".into(),
            ..Default::default()
        };
        assert_eq!(shown(event::Request::Fire(event)), "PUT event/fire/_rexec?node=a&b {}");
        let put = kv::Request::Put { key: "k".into(), value: "v".into(), flags: 0, mode: PutMode::Acquire("s".into()) };
        assert_eq!(shown(put), "PUT kv/k?acquire=s v");
        let session = SessionId(Uuid::from_u128(1));
        let (prefix, progress) = ("p".to_owned(), exec::Progress { taken: 1, have: 2 });
        assert_eq!(shown(exec::Request::Open { prefix: prefix.clone(), session }), {
            "PUT exec/output/00000000-0000-0000-0000-000000000001?prefix=p "
        });
        let progress = [("n".to_owned(), progress)].into();
        assert_eq!(shown(exec::Request::Collect { prefix, session, progress, wait }), {
            "POST exec/output/00000000-0000-0000-0000-000000000001?prefix=p&wait=2s {\"Nodes\":[{\"Have\":2,\"Node\":\"n\",\"Taken\":1}]}"
        });
    }

    #[test]
    fn answers_are_read_as_far_as_they_matter() {
        let answer = |asked: Request, value: Value| response(&asked, ReadMeta::default(), &value);
        let this = json!({ "Config": { "NodeName": "n", "Datacenter": "dc1" },
            "Stats": { "serf_lan": { "members": "3" }, "runtime": { "x": 1 } } });
        let Some(Response::Itself(itself)) = answer(agent::Request::Itself.into(), this) else { panic!("unreadable") };
        assert_eq!((&*itself.config.node_name, &*itself.stats["serf_lan"]["members"]), ("n", "3"));
        let members = json!([{ "Name": "a", "Status": 1 }, { "Name": "b", "Status": 4 }]);
        let Some(Response::Members(members)) = answer(agent::Request::Members { wan: false }.into(), members) else {
            panic!("unreadable")
        };
        assert_eq!((members[0].status, members[1].status), (MemberStatus::Alive, MemberStatus::Failed));
        let get = || kv::Request::Get { key: "k".into(), read: ReadOptions::default() };
        let entries = json!([{ "Key": "k", "Value": "aGk=", "Session": "x" }]);
        let Some(Response::KvEntries(read)) = answer(get().into(), entries) else { panic!("unreadable") };
        assert_eq!(read.value[0].value, "hi");
        assert_eq!(answer(get().into(), json!([{ "Key": "k", "Value": "&" }])), None);
        assert_eq!(answer(get().into(), json!({})), None);
        let (prefix, session) = (String::new(), SessionId(Uuid::from_u128(1)));
        let open = exec::Request::Open { prefix: prefix.clone(), session };
        let id = Uuid::from_u128(7).to_string();
        let inbox = answer(open.into(), json!({ "ID": id, "Peer": id, "Address": "10.0.0.1:8300" }));
        assert!(matches!(inbox, Some(Response::Inbox(inbox)) if inbox.address.port() == 8300), "{inbox:?}");
        let collect =
            || exec::Request::Collect { prefix: prefix.clone(), session, progress: BTreeMap::new(), wait: None };
        let pieces = answer(collect().into(), json!([{ "Node": "n", "Number": 3, "Output": "aGk=" }]));
        let piece = exec::Piece { node: "n".into(), number: 3, output: "hi".into() };
        assert_eq!(pieces, Some(Response::Collected(vec![piece])));
        assert_eq!(answer(collect().into(), json!([{ "Node": "n", "Number": -3, "Output": "" }])), None);
        let node = catalog::Request::Node { name: "a".into(), read: ReadOptions::default() };
        let services =
            json!({ "Node": { "Node": "a" }, "Services": { "w": { "ID": "w", "Service": "web", "Tags": null } } });
        let Some(Response::NodeServices(read)) = answer(node.into(), services) else { panic!("unreadable") };
        assert_eq!(read.value.unwrap().services[0].id, "w");
    }
}
