//! Joining others: because a client asks for it, because the configuration says so, or because they were members with us in
//! an earlier life.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::Agent;
use super::calls::Stage;
use super::timers::{Due, JoinId};
use crate::api::{Error, Response};
use crate::error::Busy;
use crate::gossip::NoJoin;
use crate::id::Ticket;
use crate::io::{Output, PoolNews};
use crate::time::Duration;

/// The most joins at a time that clients have asked for.
const MAX_JOINS: usize = 64;
/// The most addresses in one join.
const MAX_ADDRESSES: usize = 256;
/// The most addresses of one host that are tried.
const MAX_PER_HOST: usize = 32;
/// How long the name of a host is waited for.
const RESOLVE_WITHIN: Duration = Duration::from_secs(10);
/// A join ends long before that.
const PATIENCE: Duration = Duration::from_secs(120);
/// How many members of an earlier life are tried at a time.
const REJOIN_AT_ONCE: usize = 3;

/// Who wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// A client.
    Call(Ticket),
    /// The configuration.
    Retry,
}

/// A host whose name was not resolved yet.
#[derive(Clone, Debug)]
struct Host {
    name: String,
    port: u16,
    /// As it was written.
    text: String,
}

#[derive(Debug)]
struct Join {
    purpose: Purpose,
    hosts: Vec<Host>,
    awaited: BTreeSet<SocketAddr>,
    /// How many have answered, ourselves not among them.
    joined: usize,
    /// How many of the addresses are our own.
    own: usize,
    errors: Vec<String>,
}

/// All joins that are under way.
#[derive(Debug, Default)]
pub(super) struct Joins {
    last: JoinId,
    open: BTreeMap<JoinId, Join>,
    /// Names that the owner was asked for.
    resolving: BTreeSet<String>,
    /// Attempts to join what the configuration names that have failed.
    attempts: u32,
    /// Members of an earlier life that are still to be tried, …
    former: Vec<SocketAddr>,
    /// … and those that are being tried.
    trying: BTreeSet<SocketAddr>,
    /// It was told that none of them answers, …
    complained: bool,
    /// … or that one does.
    rejoined: bool,
}

/// An agent as a user names it.
enum Target {
    At(SocketAddr),
    Host { name: String, port: u16 },
}

impl Target {
    /// An IP address or the name of a host, each with or without a port.
    fn parse(text: &str, default_port: u16) -> Self {
        if let Ok(address) = text.parse() {
            return Self::At(address);
        }
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Self::At(SocketAddr::new(ip, default_port));
        }
        let (name, port) = match text.rsplit_once(':').map(|(name, port)| (name, port.parse())) {
            Some((name, Ok(port))) => (name, port),
            _ => (text, default_port),
        };
        Self::Host { name: name.to_owned(), port }
    }
}

/// Whether a host can be called that at all.
fn may_be_host(name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    (1..=253).contains(&name.len()) && name.chars().all(is_part)
}

fn no_such_host(host: &Host, why: &str) -> String {
    format!("Failed to resolve {}: lookup {}: {why}", host.text, host.name)
}

impl Agent {
    /// A client wants others to be joined.
    pub(super) fn serve_join(&mut self, ticket: Ticket, addresses: &[String], wan: bool) {
        if wan {
            let reply = self.join_wan(addresses);
            return self.reply(ticket, reply);
        }
        if self.pool.leaving.is_some() {
            return self.reply(ticket, Err(Error::Leaving));
        }
        if self.pool.joins.open.len() >= MAX_JOINS || addresses.len() > MAX_ADDRESSES {
            let limit = if addresses.len() > MAX_ADDRESSES { MAX_ADDRESSES } else { MAX_JOINS };
            return self.reply(ticket, Err(Error::Busy { what: Busy::Joins, limit: limit as u64 }));
        }
        self.calls.enter(ticket, Stage::Pending, Some(self.now + PATIENCE));
        self.begin_join(Purpose::Call(ticket), addresses);
    }

    /// In the pool of all datacenters' servers there is nobody to meet but ourselves.
    fn join_wan(&self, addresses: &[String]) -> Result<Response, Error> {
        if !self.config.server {
            return Err(Error::NotAServer);
        }
        let port = self.config.wan_port();
        let own = SocketAddr::new(self.config.gossip.address.ip(), port);
        let is_own = |text: &&String| matches!(Target::parse(text, port), Target::At(address) if address == own);
        let joined = addresses.iter().filter(is_own).count();
        if joined > 0 || addresses.is_empty() {
            return Ok(Response::Joined(joined));
        }
        let error = |text: &String| format!("Failed to join {text}: datacenters are not joined by this agent");
        Err(Error::JoinFailed(addresses.iter().map(error).collect()))
    }

    fn begin_join(&mut self, purpose: Purpose, addresses: &[String]) {
        let joins = &mut self.pool.joins;
        joins.last = JoinId(joins.last.0 + 1);
        let (id, own) = (joins.last, self.config.gossip.address);
        let mut join =
            Join { purpose, hosts: Vec::new(), awaited: BTreeSet::new(), joined: 0, own: 0, errors: Vec::new() };
        let mut names = Vec::new();
        for text in addresses {
            match Target::parse(text, own.port()) {
                Target::At(address) if address == own => join.own += 1,
                Target::At(address) => drop(join.awaited.insert(address)),
                Target::Host { name, port } => {
                    let host = Host { name: name.clone(), port, text: text.clone() };
                    if may_be_host(&name) {
                        join.hosts.push(host);
                        names.push(name);
                    } else {
                        join.errors.push(no_such_host(&host, "no such host"));
                    }
                }
            }
        }
        self.gossip.join(self.now, join.awaited.iter().copied());
        if !join.hosts.is_empty() {
            self.pool.timers.set(Due::Resolve(id), self.now + RESOLVE_WITHIN);
        }
        self.pool.joins.open.insert(id, join);
        for name in names {
            if self.pool.joins.resolving.insert(name.clone()) {
                self.outputs.push_back(Output::Resolve { name });
            }
        }
        self.maybe_end_join(id);
    }

    /// The owner knows the addresses of a host, or that it has none.
    pub(super) fn handle_resolved(&mut self, name: &str, addresses: &[IpAddr]) {
        self.pool.joins.resolving.remove(name);
        let own = self.config.gossip.address;
        let mut wanted = BTreeSet::new();
        let ids: Vec<JoinId> = self.pool.joins.open.keys().copied().collect();
        for join in self.pool.joins.open.values_mut() {
            let (found, others): (Vec<Host>, Vec<Host>) = join.hosts.drain(..).partition(|host| host.name == name);
            join.hosts = others;
            for host in found {
                if addresses.is_empty() {
                    join.errors.push(no_such_host(&host, "no such host"));
                }
                for ip in addresses.iter().take(MAX_PER_HOST) {
                    let address = SocketAddr::new(*ip, host.port);
                    if address == own {
                        join.own += 1;
                    } else if join.awaited.insert(address) {
                        wanted.insert(address);
                    }
                }
            }
        }
        self.gossip.join(self.now, wanted);
        ids.into_iter().for_each(|id| self.maybe_end_join(id));
    }

    /// Nobody has told in time what addresses some hosts have.
    pub(super) fn resolved_too_late(&mut self, id: JoinId) {
        let Some(join) = self.pool.joins.open.get_mut(&id) else { return };
        for host in std::mem::take(&mut join.hosts) {
            join.errors.push(no_such_host(&host, "i/o timeout"));
            self.pool.joins.resolving.remove(&host.name);
        }
        self.maybe_end_join(id);
    }

    /// Gossip has got an answer from an address, or none for this reason.
    pub(super) fn join_answered(&mut self, address: SocketAddr, failed: Option<NoJoin>) {
        self.former_answered(address, failed.is_none());
        let error = failed.map(|reason| format!("Failed to join {}: dial tcp {address}: {reason}", address.ip()));
        let waits = self.pool.joins.open.iter_mut().filter(|(_, join)| join.awaited.contains(&address));
        let mut ids = Vec::new();
        for (id, join) in waits {
            join.awaited.remove(&address);
            match &error {
                None => join.joined += 1,
                Some(error) => join.errors.push(error.clone()),
            }
            ids.push(*id);
        }
        ids.into_iter().for_each(|id| self.maybe_end_join(id));
    }

    /// Ends a join that waits for nothing any more.
    fn maybe_end_join(&mut self, id: JoinId) {
        let open = &mut self.pool.joins.open;
        if open.get(&id).is_none_or(|join| !join.awaited.is_empty() || !join.hosts.is_empty()) {
            return;
        }
        let Some(Join { purpose, joined, own, errors, .. }) = open.remove(&id) else { return };
        self.pool.timers.clear(&Due::Resolve(id));
        match purpose {
            Purpose::Call(ticket) => {
                let some = joined + own > 0 || errors.is_empty();
                self.reply(
                    ticket,
                    if some { Ok(Response::Joined(joined + own)) } else { Err(Error::JoinFailed(errors)) },
                );
            }
            Purpose::Retry => self.retry_ended(joined, own, errors),
        }
    }

    /// Joins what the configuration names.
    pub(super) fn retry_join(&mut self) {
        if self.pool.leaving.is_none() {
            let config = std::sync::Arc::clone(&self.config);
            self.begin_join(Purpose::Retry, &config.gossip.retry_join);
        }
    }

    /// An attempt to join what the configuration names is over.
    fn retry_ended(&mut self, joined: usize, own: usize, errors: Vec<String>) {
        // That somebody has joined us is just as good. But that we are among those who are named is not: we should not be
        // content with our own company while the others are still starting.
        if joined > 0 || self.gossip.live() > 1 || errors.is_empty() {
            return self.notice(PoolNews::RetrySucceeded { contacted: joined + own });
        }
        let (again_in, most) = (self.config.gossip.retry_interval, self.config.gossip.retry_max);
        self.pool.joins.attempts = self.pool.joins.attempts.saturating_add(1);
        let (attempt, reason) = (self.pool.joins.attempts, Error::JoinFailed(errors).to_string());
        if own == 0 && most > 0 && attempt >= most {
            return self.notice(PoolNews::GaveUp { attempts: attempt, reason });
        }
        self.notice(PoolNews::RetryFailed { attempt, reason, again_in });
        self.pool.timers.set(Due::Retry, self.now + again_in);
    }

    /// Joins members of an earlier life that we have not met again, a few at a time, until one answers. The others are tried again
    /// later, if it did not bring them along: it may have been the only one of another company, and nobody else knows of both.
    pub(super) fn rejoin(&mut self) {
        self.forget_former();
        if self.pool.leaving.is_some() || self.pool.memory.former.is_empty() {
            return;
        }
        self.pool.joins.former = self.pool.memory.former.iter().map(|kept| kept.address).collect();
        self.try_former();
    }

    fn try_former(&mut self) {
        let joins = &mut self.pool.joins;
        let mut chosen = Vec::new();
        while chosen.len() < REJOIN_AT_ONCE && !joins.former.is_empty() {
            let at = usize::try_from(self.pool.rng.below(joins.former.len() as u64)).unwrap_or(0);
            chosen.push(joins.former.swap_remove(at));
        }
        joins.trying.extend(&chosen);
        self.gossip.join(self.now, chosen);
    }

    /// A member of an earlier life has answered, or not.
    fn former_answered(&mut self, address: SocketAddr, answered: bool) {
        let joins = &mut self.pool.joins;
        if !joins.trying.remove(&address) {
            return;
        }
        if answered {
            joins.trying.clear();
            joins.former.clear();
            self.pool.timers.set(Due::Rejoin, self.now + self.config.gossip.retry_interval);
            if !std::mem::replace(&mut self.pool.joins.rejoined, true) {
                self.notice(PoolNews::Rejoined { address });
            }
            return;
        }
        if !joins.trying.is_empty() {
            return;
        }
        if !joins.former.is_empty() {
            return self.try_former();
        }
        let again_in = self.config.gossip.retry_interval;
        self.pool.timers.set(Due::Rejoin, self.now + again_in);
        if self.gossip.live() == 1 && !std::mem::replace(&mut self.pool.joins.complained, true) {
            let asked = self.pool.memory.former.len();
            self.notice(PoolNews::RejoinFailed { asked, again_in });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_named_in_many_ways() {
        let show = |text: &str| match Target::parse(text, 8301) {
            Target::At(address) => address.to_string(),
            Target::Host { name, port } => format!("host {name} {port}"),
        };
        let cases = [
            ("10.0.0.1", "10.0.0.1:8301"),
            ("10.0.0.1:99", "10.0.0.1:99"),
            ("::1", "[::1]:8301"),
            ("[::1]", "[::1]:8301"),
            ("[::1]:99", "[::1]:99"),
            ("a.example", "host a.example 8301"),
            ("a.example:99", "host a.example 99"),
            ("a:b", "host a:b 8301"),
            ("", "host  8301"),
        ];
        for (text, expected) in cases {
            assert_eq!(show(text), expected);
        }
        assert!(may_be_host("a-b.c_d"));
        assert!(["", "not an address", "a:b", &"a".repeat(254)].iter().all(|name| !may_be_host(name)));
    }
}
