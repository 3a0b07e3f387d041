//! `raft/peers.json`: the operator says who the members are, after most of them are lost for good.
//!
//! It is a list of addresses, `["10.1.0.1:8300"]`, or of servers,
//! `[{"id": "adf4238a-882b-9ddc-4a9d-5b6758e4159e", "address": "10.1.0.1:8300", "non_voter": false}]`.

use std::fmt::Write as _;
use std::net::SocketAddr;

use serde_json::{Map, Value};
use uuid::Uuid;

use super::{PEERS, Recovered, remove};
use crate::id::PeerId;
use crate::raft::{Configuration, Server};

/// More than any list of servers takes.
const MAX_BYTES: usize = 1 << 20;

/// Collects the file's text. What is beyond the limit need not be kept to know that it is too long.
pub(super) fn take(text: &mut Vec<u8>, block: &[u8]) {
    let room = (MAX_BYTES + 1).saturating_sub(text.len());
    text.extend_from_slice(&block[..block.len().min(room)]);
}

/// Reads the file and notes what is to be done about it.
pub(super) fn force(text: &[u8], recovered: &mut Recovered) -> Result<(), String> {
    let known = recovered.configuration().cloned().unwrap_or_default();
    let wanted = parse(text, &known)?;
    let list = describe(&wanted);
    if wanted == known {
        let line = format!("{PEERS}: the cluster's members are {list} already; the file is removed");
        recovered.warnings.push(line);
        recovered.repairs.extend(remove(vec![PEERS.to_owned()]));
        return Ok(());
    }
    let before = if known.servers.is_empty() { "none".to_owned() } else { describe(&known) };
    recovered.warnings.push(format!(
        "{PEERS}: the cluster's members are now {list}, instead of {before}. The file is removed once that is committed"
    ));
    recovered.forced = Some(wanted);
    Ok(())
}

/// The members that the file names. `known` are the last ones that this server knew of.
fn parse(text: &[u8], known: &Configuration) -> Result<Configuration, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("longer than {MAX_BYTES} bytes, which no list of servers is"));
    }
    let value: Value = serde_json::from_slice(text).map_err(|error| format!("not JSON: {error}"))?;
    let Value::Array(items) = value else {
        return Err("not a list of addresses, [\"10.1.0.1:8300\"], or of servers".to_owned());
    };
    let mut wanted = Configuration::default();
    for (n, item) in (1..).zip(&items) {
        let (id, server) = match item {
            Value::String(text) => by_address(text, known),
            Value::Object(fields) => by_id(fields),
            _ => Err("neither an address in quotes nor a server in braces".to_owned()),
        }
        .map_err(|problem| format!("server {n} of {}: {problem}", items.len()))?;
        if let Some((other, _)) = wanted.servers.iter().find(|(_, other)| other.address == server.address) {
            return Err(format!("the address {} is named twice, for {other} and for {id}", server.address));
        }
        if wanted.servers.insert(id, server).is_some() {
            return Err(format!("the server {id} is named twice"));
        }
    }
    if wanted.voter_count() == 0 {
        return Err("names no server that has a vote, and a cluster needs one".to_owned());
    }
    Ok(wanted)
}

fn by_address(text: &str, known: &Configuration) -> Result<(PeerId, Server), String> {
    let address = address(text)?;
    let server = known.servers.iter().find(|(_, server)| server.address == address);
    let (id, _) = server.ok_or_else(|| {
        let others: Vec<_> = known.servers.values().map(|server| server.address.to_string()).collect();
        let others = if others.is_empty() { "none at all".to_owned() } else { others.join(", ") };
        format!(
            "this server knows of no server at {address}, but of {others}; to name others, use the form with ids, \
             [{{\"id\": \"…\", \"address\": \"{address}\"}}]"
        )
    })?;
    Ok((*id, Server { address, voter: true }))
}

fn by_id(fields: &Map<String, Value>) -> Result<(PeerId, Server), String> {
    let text = |name: &str| match fields.get(name) {
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(_) => Err(format!("\"{name}\" is not a text in quotes")),
        None => Err(format!("has no \"{name}\"")),
    };
    let id = text("id")?;
    let uuid = Some(id).filter(|id| id.len() == 36).and_then(|id| Uuid::try_parse(id).ok());
    let uuid =
        uuid.ok_or_else(|| format!("{id:?} is not a server's id, such as \"adf4238a-882b-9ddc-4a9d-5b6758e4159e\""))?;
    let address = address(text("address")?)?;
    let voter = match fields.get("non_voter") {
        None => true,
        Some(Value::Bool(non_voter)) => !non_voter,
        Some(_) => return Err("\"non_voter\" is neither true nor false".to_owned()),
    };
    Ok((PeerId(uuid), Server { address, voter }))
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse().ok().filter(|address: &SocketAddr| address.port() != 0);
    address.ok_or_else(|| format!("{text:?} is not an address with a port, such as \"10.1.0.1:8300\""))
}

/// A configuration in words: "1 server (10.1.0.1:8300)".
fn describe(configuration: &Configuration) -> String {
    let count = configuration.servers.len();
    let mut text = format!("{count} server{} (", if count == 1 { "" } else { "s" });
    for (n, server) in configuration.servers.values().enumerate() {
        let separator = if n == 0 { "" } else { ", " };
        let suffix = if server.voter { "" } else { " without a vote" };
        let _ = write!(text, "{separator}{}{suffix}", server.address);
    }
    text.push(')');
    text
}
