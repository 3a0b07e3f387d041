//! `/v1/acl/*`: tokens, and what they may do.

use bytes::Bytes;
use lictor_core::api::Error;
use lictor_core::api::acl::{Kind, Request, Token, Wanted};
use serde::Serialize;
use serde_json::json;
use warp::http::Method;

use crate::ask::{Ask, Asked, Form, Shape, decoded, needed};
use crate::params::Params;
use crate::reply::{self, HttpResponse, Refusal};

/// When what never happened did, as Go has it.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// What a path of this subject names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint<'p> {
    Create,
    Update,
    Destroy(&'p [u8]),
    Clone(&'p [u8]),
    Info(&'p [u8]),
    List,
}

/// What a request asks of the tokens, which the datacenter `keeper` keeps, whatever datacenter the parameters name. Reads take every
/// method.
pub(crate) fn ask<'f>(endpoint: Endpoint<'_>, keeper: &str, form: Form<'f>) -> Result<Asked<'f>, Refusal> {
    let params = form.params;
    let id_of = |name| needed(name, "Missing ACL");
    let write = || form.only(&Method::PUT, "PUT");
    let keeper = keeper.to_owned();
    let (request, shape) = match endpoint {
        Endpoint::Create => {
            write()?;
            return Ok(Asked::body(move |body| Ok(there(keeper, Request::Set(wanted(body)?), Shape::Json))));
        }
        Endpoint::Update => {
            write()?;
            return Ok(Asked::body(move |body| {
                let wanted = wanted(body)?;
                if wanted.id.is_empty() {
                    return Err(Refusal::bad_request("ACL ID must be set"));
                }
                Ok(there(keeper, Request::Set(wanted), Shape::Json))
            }));
        }
        Endpoint::Destroy(id) => {
            write()?;
            (Request::Destroy { id: id_of(id)? }, Shape::Json)
        }
        Endpoint::Clone(id) => {
            write()?;
            (Request::Clone { id: id_of(id)? }, Shape::Read)
        }
        Endpoint::Info(id) => {
            let read = params.read_options()?;
            (Request::Info { id: id_of(id)?, read }, Shape::Read)
        }
        Endpoint::List => (Request::List { read: params.read_options()? }, Shape::Read),
    };
    Ok(there(keeper, request, shape).into())
}

/// To the datacenter that keeps the tokens.
fn there(keeper: String, request: Request, shape: Shape) -> Ask {
    Ask { datacenter: Some(keeper), ..Ask::here(request, shape) }
}

/// What a body asks for; one without a body takes all that is usual.
fn wanted(body: &Bytes) -> Result<Wanted, Refusal> {
    let usual = || Kind::default().to_string();
    if body.is_empty() {
        return Ok(Wanted { kind: usual(), ..Wanted::default() });
    }
    decoded(body, |fields| Wanted {
        id: fields.text("ID"),
        name: fields.text("Name"),
        kind: if fields.has("Type") { fields.text("Type") } else { usual() },
        rules: fields.text("Rules"),
    })
}

/// How tokens come here from another datacenter: not at all.
pub(crate) fn replication(params: &Params<'_>, own: &str) -> Result<HttpResponse, Refusal> {
    params.read_options()?;
    if params.datacenter().is_some_and(|datacenter| datacenter != own) {
        return Err(Refusal::of(&Error::NoPathToDatacenter));
    }
    let status = json!({
        "Enabled": false,
        "Running": false,
        "SourceDatacenter": "",
        "ReplicatedIndex": 0,
        "LastSuccess": NEVER,
        "LastError": NEVER,
    });
    Ok(reply::json(&status, params.layout()))
}

/// A token, as Consul shows it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ShownToken<'t> {
    #[serde(rename = "ID")]
    id: &'t str,
    name: &'t str,
    #[serde(rename = "Type")]
    kind: String,
    rules: &'t str,
    create_index: u64,
    modify_index: u64,
}

impl<'t> From<&'t Token> for ShownToken<'t> {
    fn from(token: &'t Token) -> Self {
        Self {
            id: &token.id,
            name: &token.name,
            kind: token.kind.to_string(),
            rules: &token.rules,
            create_index: token.create_index.0,
            modify_index: token.modify_index.0,
        }
    }
}

/// The ID of a token that was created or changed.
#[derive(Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) struct ShownTokenId<'t> {
    pub(crate) id: &'t str,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is asked, by its path's endpoint, the method, the query and the body; or why not.
    fn asked(endpoint: Endpoint<'_>, method: &Method, query: &str, body: &str) -> Result<Ask, (u16, String)> {
        let params = Params::parse(query);
        let form = Form { method, params: &params, token: None };
        let ask = match ask(endpoint, "dc1", form) {
            Ok(Asked::Ready(ask)) => Ok(ask),
            Ok(Asked::Body(complete)) => complete(&Bytes::copy_from_slice(body.as_bytes())),
            Ok(_) => panic!("of another kind"),
            Err(refusal) => Err(refusal),
        };
        ask.map_err(|refusal| (refusal.status.as_u16(), refusal.text.into_owned()))
    }

    fn set(endpoint: Endpoint<'_>, body: &str) -> Result<Wanted, (u16, String)> {
        match asked(endpoint, &Method::PUT, "dc=elsewhere", body)? {
            Ask { request: lictor_core::api::Request::Acl(Request::Set(wanted)), datacenter, shape: Shape::Json } => {
                assert_eq!(datacenter.as_deref(), Some("dc1"));
                Ok(wanted)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_kind_that_is_not_said_is_client_and_one_that_is_empty_is_left_to_the_judge() {
        let kind = |body| set(Endpoint::Create, body).unwrap().kind;
        for usual in ["", "{}", "null", r#"{"Type": null}"#, r#"{"type": "client"}"#] {
            assert_eq!(kind(usual), "client", "{usual}");
        }
        assert_eq!((kind(r#"{"Type": ""}"#), kind(r#"{"TYPE": "management"}"#)), ("".into(), "management".into()));
        let all = set(Endpoint::Create, r#"{"id": "i", "name": "n", "rules": "r"}"#).unwrap();
        assert_eq!((&*all.id, &*all.name, &*all.rules), ("i", "n", "r"));
    }

    #[test]
    fn an_update_names_its_token() {
        for body in ["", "{}", r#"{"ID": ""}"#, r#"{"Name": "x", "Type": "bogus"}"#] {
            assert_eq!(set(Endpoint::Update, body), Err((400, "ACL ID must be set".into())), "{body}");
        }
        assert_eq!(set(Endpoint::Update, r#"{"ID": "x"}"#).unwrap().id, "x");
        for endpoint in [Endpoint::Create, Endpoint::Update] {
            let (status, text) = set(endpoint, r#"{"Name": 5}"#).unwrap_err();
            assert!(status == 400 && text.starts_with("Request decode failed: 1 error(s) decoding"), "{text}");
        }
    }

    #[test]
    fn methods_and_names_are_looked_at_before_all_else() {
        let writes = [Endpoint::Create, Endpoint::Update, Endpoint::Destroy(b"x"), Endpoint::Clone(b"x")];
        for endpoint in writes {
            for method in [Method::GET, Method::POST, Method::DELETE] {
                assert_eq!(asked(endpoint, &method, "", "").unwrap_err().0, 405, "{endpoint:?} {method}");
            }
        }
        for endpoint in [Endpoint::Destroy(b""), Endpoint::Clone(b""), Endpoint::Info(b"")] {
            assert_eq!(asked(endpoint, &Method::PUT, "", "").unwrap_err(), (400, "Missing ACL".into()), "{endpoint:?}");
        }
        for endpoint in [Endpoint::Info(b"x"), Endpoint::List] {
            assert_eq!(asked(endpoint, &Method::PUT, "", "").unwrap().shape, Shape::Read, "{endpoint:?}");
            assert_eq!(asked(endpoint, &Method::GET, "stale&consistent", "").unwrap_err().0, 400, "{endpoint:?}");
        }
    }

    #[test]
    fn nothing_is_replicated() {
        let status =
            |query: &'static str| replication(&Params::parse(query), "dc1").map_err(|refusal| refusal.status.as_u16());
        assert_eq!(status("").unwrap().status(), 200);
        assert_eq!(
            (status("dc=dc1").is_ok(), status("dc=dc2").err(), status("index=x").err()),
            (true, Some(500), Some(400))
        );
    }
}
