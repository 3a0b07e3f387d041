//! Tokens over connections: how they are given, what is asked of them before anything else, and how they are managed.

use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};

use lictor_core::api::acl::{Permission, Request, Wanted};
use lictor_core::api::{self, Call, Error, Reply, Response};
use lictor_core::id::Index;
use lictor_http::Options;

use crate::client::Server;

/// What an agent was asked, and with which token.
type Asked = Arc<Mutex<Vec<(api::Request, Option<String>)>>>;

/// An agent that allows everything to the token `good`, and leaves nothing unheard.
fn agent() -> (Asked, impl Fn(Call) -> Ready<Reply> + Send + Sync) {
    let asked = Asked::default();
    let heard = asked.clone();
    let call = move |call: Call| {
        let reply = match (call.token.as_deref(), &call.request) {
            (None | Some("known"), api::Request::Acl(Request::Permit(_))) => Ok(Response::Done(false)),
            (None | Some("known"), _) => Err(Error::PermissionDenied),
            (Some("good"), api::Request::Acl(Request::Set(wanted))) => {
                Ok(Response::TokenSet { id: wanted.id.clone(), index: Index(7) })
            }
            (Some("good"), api::Request::Acl(Request::Clone { id })) => {
                Ok(Response::TokenSet { id: format!("{id}-copy"), index: Index(7) })
            }
            (Some("good"), _) => Ok(Response::Done(true)),
            (Some(_), _) => Err(Error::UnknownToken),
        };
        heard.lock().unwrap().push((call.request, call.token));
        ready(reply)
    };
    (asked, call)
}

fn controlled() -> Options {
    let (datacenter, acl_datacenter) = ("dc1".to_owned(), Some("dc1".to_owned()));
    Options { datacenter, acl_datacenter, remote_exec: true, ..Options::default() }
}

#[tokio::test]
async fn the_parameter_goes_before_consul_s_header_and_that_before_the_other() {
    let (asked, call) = agent();
    let server = Server::start_with(&controlled(), call);
    let own = "X-Consul-Token: own\r\n";
    let other = "Authorization: Bearer other\r\n";
    for (query, headers, expected) in [
        ("", String::new(), None),
        ("?token=query", format!("{own}{other}"), Some("query")),
        ("?token=", format!("{own}{other}"), Some("own")),
        ("", format!("x-consul-token:\r\n{other}"), Some("other")),
        ("", "authorization: bearer  other \r\n".to_owned(), Some("other")),
        ("", "Authorization: Bearer \r\n".to_owned(), None),
        ("", "Authorization: Basic other\r\n".to_owned(), None),
        ("", "Authorization: Bear\r\n".to_owned(), None),
        ("", "X-Consul-Token: \u{e9}\r\n".to_owned(), Some("\u{e9}")),
    ] {
        let request = format!("GET /v1/session/list{query} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        server.client().send(request.as_bytes()).await;
        let token = asked.lock().unwrap().pop().unwrap().1;
        assert_eq!(token.as_deref(), expected, "{query} {headers}");
    }
}

#[tokio::test]
async fn permission_is_asked_for_before_anything_else() {
    let (asked, call) = agent();
    let server = Server::start_with(&controlled(), call);
    let permit = |permission| api::Request::Acl(Request::Permit(permission));
    for (method, path, permission, denied) in [
        ("PUT", "/v1/exec", Permission::WriteExec, (403, "Permission denied")),
        ("GET", "/v1/exec", Permission::ReadExec, (403, "Permission denied")),
        ("PUT", "/v1/snapshot", Permission::Snapshot, (403, "Permission denied")),
        ("GET", "/v1/operator/keyring", Permission::ReadKeyring, (500, "Reading keyring denied by ACLs")),
        ("POST", "/v1/operator/keyring", Permission::WriteKeyring, (500, "Modifying keyring denied due to ACLs")),
        ("DELETE", "/v1/operator/keyring", Permission::WriteKeyring, (500, "Modifying keyring denied due to ACLs")),
    ] {
        for (token, denied) in [("", denied), ("known", denied), ("nosuch", (403, "ACL not found"))] {
            // A body that would be refused as well.
            let answer = server.client().request(method, &format!("{path}?dc=elsewhere&token={token}"), b"{").await;
            assert_eq!((answer.status, answer.text()), denied, "{method} {path} {token}");
            let token = Some(token.to_owned()).filter(|token| !token.is_empty());
            assert_eq!(*asked.lock().unwrap(), [(permit(permission), token)], "{method} {path}");
            asked.lock().unwrap().clear();
        }
        let answer = server.client().request(method, &format!("{path}?token=good"), b"{").await;
        assert_ne!((answer.status, answer.text()), denied, "{method} {path}");
        asked.lock().unwrap().clear();
    }
    assert_eq!(server.client().request("DELETE", "/v1/exec", b"").await.status, 405);
}

#[tokio::test]
async fn tokens_are_managed() {
    let (asked, call) = agent();
    let server = Server::start_with(&controlled(), call);
    let made = server.client().request("PUT", "/v1/acl/create?token=good", br#"{"ID": "x", "Name": "n"}"#).await;
    assert_eq!((made.status, made.text()), (200, r#"{"ID":"x"}"#));
    assert_eq!(made.header("x-consul-index"), None);
    let wanted = Wanted { id: "x".into(), name: "n".into(), kind: "client".into(), ..Wanted::default() };
    assert_eq!(asked.lock().unwrap().pop().unwrap().0, Request::Set(wanted).into());
    let destroyed = server.client().request("PUT", "/v1/acl/destroy/a/b?token=good", b"").await;
    assert_eq!((destroyed.status, destroyed.text()), (200, "true"));
    assert_eq!(asked.lock().unwrap().pop().unwrap().0, Request::Destroy { id: "a/b".into() }.into());
    let copied = server.client().request("PUT", "/v1/acl/clone/a?token=good", b"").await;
    assert_eq!((copied.text(), copied.header("x-consul-index")), (r#"{"ID":"a-copy"}"#, Some("7")));
    let denied = server.client().request("PUT", "/v1/acl/clone/a?token=known", b"").await;
    assert_eq!((denied.status, denied.text()), (403, "Permission denied"));
    let replication = server.client().get("/v1/acl/replication").await;
    assert!(replication.status == 200 && replication.text().contains(r#""Running":false"#), "{replication:?}");
    assert_eq!(server.client().get("/v1/acl/nosuch").await.status, 404);
}

#[tokio::test]
async fn without_access_control_nobody_is_asked() {
    let (asked, call) = agent();
    let server = Server::start_with(&Options { remote_exec: true, ..Options::default() }, call);
    for path in ["create", "update", "list", "replication", "info/x", "destroy/x", "clone/"] {
        for method in ["GET", "PUT", "POST", "DELETE"] {
            let answer = server.client().request(method, &format!("/v1/acl/{path}?token=good"), b"{").await;
            assert_eq!((answer.status, answer.text()), (401, "ACL support disabled"), "{method} {path}");
        }
    }
    assert_eq!(server.client().get("/v1/exec").await.text(), "[]");
    assert!(asked.lock().unwrap().is_empty());
}
