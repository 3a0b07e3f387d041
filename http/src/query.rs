//! `/v1/query*`: prepared queries.

use lictor_core::api::Read;
use std::sync::Arc;

use lictor_core::api::prepared::{Failover, Found, Query, Request, Service, Template};
use serde::Serialize;
use uuid::Uuid;
use warp::http::{Method, StatusCode};

use crate::ask::{Ask, Asked, Form, Shape, decoded, text};
use crate::decode::Fields;
use crate::health::{self, ShownInstance};
use crate::params::Params;
use crate::reply::{self, HttpResponse, Layout, Refusal};

/// What a path of this subject names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint<'p> {
    /// All queries.
    All,
    /// One of them, by ID, or what is done with one, by ID or name.
    One(&'p [u8]),
}

/// What a request asks for.
pub(crate) fn ask<'f>(endpoint: Endpoint<'_>, form: Form<'f>) -> Result<Asked<'f>, Refusal> {
    let params = form.params;
    let Endpoint::One(path) = endpoint else {
        return match *form.method {
            Method::POST => Ok(create(params)),
            Method::GET => Ok(Ask::new(Request::List { read: params.read_options()? }, Shape::Read, params).into()),
            _ => Err(Refusal::wrong_method(form.method, "GET, POST")),
        };
    };
    let (id, verb) = split(path);
    let id = text(id);
    match (form.method, verb) {
        (&Method::GET, Verb::Read) => {
            let request = Request::Get { id, read: params.read_options()? };
            Ok(Ask::new(request, Shape::Read, params).into())
        }
        (&Method::GET, Verb::Execute) => execute(id, params).map(Asked::from),
        (&Method::GET, Verb::Explain) => {
            let request = Request::Explain { name: id, agent: String::new(), read: params.read_at_once()? };
            Ok(Ask::new(request, Shape::Json, params).into())
        }
        (&Method::PUT, _) => Ok(Asked::body(move |body| {
            let query = Box::new(decoded(body, query)?);
            Ok(Ask::new(Request::Update { id, query }, Shape::Empty, params))
        })),
        (&Method::DELETE, _) => Ok(Ask::new(Request::Delete { id }, Shape::Empty, params).into()),
        _ => Err(Refusal::wrong_method(form.method, "GET, PUT, DELETE")),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Read,
    Execute,
    Explain,
}

/// An ID or a name, and what is to be done with it. Names may have slashes.
fn split(path: &[u8]) -> (&[u8], Verb) {
    if let Some(name) = path.strip_suffix(b"/execute") {
        (name, Verb::Execute)
    } else if let Some(name) = path.strip_suffix(b"/explain") {
        (name, Verb::Explain)
    } else {
        (path, Verb::Read)
    }
}

fn create<'f>(params: &'f Params<'f>) -> Asked<'f> {
    Asked::body(move |body| {
        let (id, query) = decoded(body, |fields| (fields.text("ID"), query(fields)))?;
        if !id.is_empty() {
            let why = "ID must be empty when creating a new prepared query";
            return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why));
        }
        Ok(Ask::new(Request::Create(Box::new(query)), Shape::Json, params))
    })
}

fn execute(name: String, params: &Params<'_>) -> Result<Ask, Refusal> {
    let read = params.read_at_once()?;
    let request = Request::Execute {
        name,
        limit: limit(params)?,
        near: params.text("near").map(std::borrow::Cow::into_owned),
        agent: String::new(),
        read,
    };
    Ok(Ask::new(request, Shape::Json, params))
}

/// `?limit`, which may be less than zero and is none then.
fn limit(params: &Params<'_>) -> Result<usize, Refusal> {
    let Some(text) = params.text("limit") else { return Ok(0) };
    let digits = text.strip_prefix(['+', '-']).unwrap_or(&text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse::<i64>().map_err(|_| {
        let why = if is_number { "value out of range" } else { "invalid syntax" };
        let text = format!("Bad limit: strconv.ParseInt: parsing {text:?}: {why}");
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    })?;
    Ok(usize::try_from(number).unwrap_or(0))
}

fn query(fields: &Fields<'_>) -> Query {
    Query {
        name: fields.text("Name"),
        session: fields.text("Session"),
        token: fields.text("Token"),
        template: fields.object("Template", template).unwrap_or_default(),
        service: fields.object("Service", service).unwrap_or_default(),
        dns_ttl: fields.object("DNS", |dns| dns.text("TTL")).unwrap_or_default(),
        ..Query::default()
    }
}

fn template(fields: &Fields<'_>) -> Template {
    Template { kind: fields.text("Type"), regexp: fields.text("Regexp") }
}

fn service(fields: &Fields<'_>) -> Service {
    Service {
        service: fields.text("Service"),
        failover: fields.object("Failover", failover).unwrap_or_default(),
        only_passing: fields.flag("OnlyPassing"),
        near: fields.text("Near"),
        tags: fields.texts("Tags"),
    }
}

fn failover(fields: &Fields<'_>) -> Failover {
    Failover { nearest_n: fields.number("NearestN"), datacenters: fields.texts("Datacenters") }
}

/// The answer to the creation of a query, as JSON.
#[derive(Serialize)]
pub(crate) struct ShownId {
    #[serde(rename = "ID")]
    pub(crate) id: Uuid,
}

/// A query, as JSON.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ShownQuery<'q> {
    #[serde(rename = "ID")]
    id: Uuid,
    name: &'q str,
    session: &'q str,
    token: &'q str,
    template: ShownTemplate<'q>,
    service: ShownService<'q>,
    #[serde(rename = "DNS")]
    dns: ShownDns<'q>,
    create_index: u64,
    modify_index: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ShownTemplate<'q> {
    #[serde(rename = "Type")]
    kind: &'q str,
    regexp: &'q str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ShownService<'q> {
    service: &'q str,
    failover: ShownFailover<'q>,
    only_passing: bool,
    near: &'q str,
    tags: Option<&'q [String]>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ShownFailover<'q> {
    nearest_n: i64,
    datacenters: Option<&'q [String]>,
}

#[derive(Serialize)]
struct ShownDns<'q> {
    #[serde(rename = "TTL")]
    ttl: &'q str,
}

impl<'q> From<&'q Query> for ShownQuery<'q> {
    fn from(query: &'q Query) -> Self {
        let Query { id, name, session, token, template, service, dns_ttl, create_index, modify_index } = query;
        let Service { service, failover, only_passing, near, tags } = service;
        Self {
            id: *id,
            name,
            session,
            token,
            template: ShownTemplate { kind: &template.kind, regexp: &template.regexp },
            service: ShownService {
                service,
                failover: ShownFailover { nearest_n: failover.nearest_n, datacenters: failover.datacenters.as_deref() },
                only_passing: *only_passing,
                near,
                tags: tags.as_deref(),
            },
            dns: ShownDns { ttl: dns_ttl },
            create_index: create_index.0,
            modify_index: modify_index.0,
        }
    }
}

/// What asking a query found, as JSON.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ShownFound<'f> {
    service: &'f str,
    nodes: Vec<ShownInstance<'f>>,
    #[serde(rename = "DNS")]
    dns: ShownDns<'f>,
    datacenter: &'f str,
    failovers: usize,
    #[serde(flatten)]
    meta: reply::ShownMeta,
}

/// The answer of a query that was asked.
pub(crate) fn executed(read: &Read<Found>, layout: Layout) -> HttpResponse {
    let Found { service, instances, dns_ttl, datacenter, failovers } = &read.value;
    let shown = ShownFound {
        service,
        nodes: health::instances(instances, datacenter),
        dns: ShownDns { ttl: dns_ttl },
        datacenter,
        failovers: *failovers,
        meta: reply::ShownMeta::from(&read.meta),
    };
    let mut response = reply::json(&shown, layout);
    reply::set_contact(&mut response, &read.meta);
    response
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ShownExplained<'q> {
    query: ShownQuery<'q>,
    #[serde(flatten)]
    meta: reply::ShownMeta,
}

/// What a query would ask.
pub(crate) fn explained(read: &Read<Arc<Query>>, layout: Layout) -> HttpResponse {
    let shown = ShownExplained { query: (&*read.value).into(), meta: reply::ShownMeta::from(&read.meta) };
    let mut response = reply::json(&shown, layout);
    reply::set_contact(&mut response, &read.meta);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_have_slashes() {
        assert_eq!(split(b"a/b/execute"), (&b"a/b"[..], Verb::Execute));
        assert_eq!(split(b"execute/explain"), (&b"execute"[..], Verb::Explain));
        assert_eq!(split(b"execute"), (&b"execute"[..], Verb::Read));
    }

    #[test]
    fn a_limit_is_a_number_of_any_sign() {
        let limit = |query: &str| limit(&Params::parse(query)).map_err(|refusal| refusal.text.into_owned());
        for (query, expected) in [("", 0), ("limit=", 0), ("limit=3", 3), ("limit=%2B3", 3), ("limit=-3", 0)] {
            assert_eq!(limit(query), Ok(expected), "{query}");
        }
        for (query, why) in [
            ("limit=x", "\"x\": invalid syntax"),
            ("limit=99999999999999999999", "\"99999999999999999999\": value out of range"),
        ] {
            assert_eq!(limit(query), Err(format!("Bad limit: strconv.ParseInt: parsing {why}")), "{query}");
        }
    }
}
