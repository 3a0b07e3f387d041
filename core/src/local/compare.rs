//! Telling the servers what differs: which calls to make, and what their answers mean.

use std::collections::{BTreeMap, BTreeSet};

use super::schedule::Due;
use super::sync::{
    BYTES_IN_WRITE, CHECKS_IN_WRITE, Gone, Item, Next, Outcome, Read, Remote, Sync, Write, is_same_id, may_pass,
};
use super::{Local, News, Order};
use crate::api::catalog::{self, Check, Deregistration, Node, Registration, Service};
use crate::api::health::{self, SERF_CHECK_ID, SERVER_SERVICE};
use crate::api::{Error, ReadOptions, Reply, Request, Response};
use crate::time::Instant;
use crate::wire;

impl Local {
    /// Makes the calls that are to be made now.
    pub(super) fn tell_servers(&mut self, now: Instant) {
        if let Some(error) = self.sync.give_up(now, &mut self.rng) {
            self.tell(News::OutOfTouch { error });
        }
        loop {
            match self.sync.next(now) {
                Next::Nothing => return,
                Next::Read([services, checks]) => {
                    let (name, read) = (self.me.name.clone(), ReadOptions::default());
                    self.ask(services, "", catalog::Request::Node { name: name.clone(), read: read.clone() });
                    self.ask(checks, "", health::Request::Node { name, read });
                    return;
                }
                Next::Write => {
                    let Some((write, token, request)) = self.next_write(now) else { return };
                    let number = self.sync.begin_write(write);
                    self.ask(number, &token, request);
                }
            }
        }
    }

    fn ask(&mut self, number: u64, token: &str, request: impl Into<Request>) {
        self.orders.push_back(Order::Ask { number, token: token.to_owned(), request: Box::new(request.into()) });
    }

    /// Takes the answer to a call.
    pub fn handle_answer(&mut self, now: Instant, number: u64, reply: Reply) {
        if self.sync.is_read(number) {
            let read = match reply {
                Ok(Response::NodeServices(read)) => Read::Services(read.value),
                Ok(Response::Checks(read)) => Read::Checks(read.value),
                Ok(_) => return self.fail(now, Error::NoAnswer),
                Err(error) => return self.fail(now, error),
            };
            if let Outcome::Compare(remote) = self.sync.read(number, read) {
                self.compare(now, &remote);
            }
            return;
        }
        let Some(write) = self.sync.take_write(number) else { return };
        match reply {
            Ok(_) => self.sync.written(&write),
            Err(error) if may_pass(&error) => self.fail(now, error),
            Err(error) => {
                self.sync.refused(now, &write, &mut self.rng);
                let what = write.items.first().map_or_else(|| "the node".to_owned(), |(item, _)| describe(item));
                self.tell(News::Refused { what, error });
            }
        }
    }

    fn fail(&mut self, now: Instant, error: Error) {
        if let Some(error) = self.sync.fail(now, error, &mut self.rng) {
            self.tell(News::OutOfTouch { error });
        }
    }

    /// The next write, of whatever differs and is in nobody's way; the token for it; and the call.
    fn next_write(&mut self, now: Instant) -> Option<(Write, String, Request)> {
        if self.sync.lacks_node_only() {
            let write = Write { service: String::new(), items: Vec::new(), enters: true, since: now };
            return Some((write, String::new(), self.registration(None, Vec::new())));
        }
        let item = self.item_to_write()?;
        if let Some(gone) = self.sync.what_is_gone(&item) {
            return Some(self.strike_out(now, &item, gone));
        }
        let (service, token) = match &item {
            Item::Service(id) => (id.clone(), self.registry.service(id)?.token.clone()),
            Item::Check(id) => {
                let check = self.registry.check(id)?;
                (check.shown.service_id.clone(), check.token.clone())
            }
        };
        let mut items: Vec<Item> = Vec::new();
        items.extend(matches!(item, Item::Service(_)).then(|| item.clone()));
        items.extend(self.checks_to_write(&service, &token));
        let entered = match &item {
            Item::Service(id) => self.registry.service(id).map(|service| service.shown.clone()),
            Item::Check(_) => None,
        };
        Some(self.enter(now, service, items, token, entered))
    }

    /// What the next write is of. To strike out what is registered under another spelling now would strike out just that: it is
    /// entered in its place.
    fn item_to_write(&mut self) -> Option<Item> {
        loop {
            let item = self.sync.dirty().map(|(item, _)| item).find(|item| self.may_write(item))?.clone();
            let Some(namesake) = self.sync.what_is_gone(&item).and_then(|_| self.namesake(&item)) else {
                return Some(item);
            };
            self.sync.settle(&item);
            self.sync.touch(namesake);
        }
    }

    /// What is registered and to the catalog has the same ID, as it does not tell them apart by their case.
    fn namesake(&self, item: &Item) -> Option<Item> {
        match item {
            Item::Service(id) => {
                self.registry.services().keys().find(|other| is_same_id(other, id)).cloned().map(Item::Service)
            }
            Item::Check(id) => {
                self.registry.checks().keys().find(|other| is_same_id(other, id)).cloned().map(Item::Check)
            }
        }
    }

    /// Checks of a service, or of the node, that differ and fit into one write.
    fn checks_to_write(&self, service: &str, token: &str) -> Vec<Item> {
        let mut items = Vec::new();
        let mut bytes = 0;
        for id in self.registry.checks_of(service) {
            let item = Item::Check(id.clone());
            let Some(check) = self.registry.check(id).filter(|check| check.token == token) else { continue };
            if !self.sync.is_dirty(&item) || self.sync.is_busy("", Some(&item)) {
                continue;
            }
            bytes += wire::size(&check.shown);
            if items.len() >= CHECKS_IN_WRITE || (bytes > BYTES_IN_WRITE && !items.is_empty()) {
                break;
            }
            items.push(item);
        }
        items
    }

    /// Whether nothing that is under way, or has to come before, stands in the way of a write.
    fn may_write(&self, item: &Item) -> bool {
        let check = match item {
            Item::Service(id) => return !self.sync.is_busy(id, None),
            Item::Check(id) => id,
        };
        let service = match self.sync.what_is_gone(item) {
            Some(gone) => &gone.service,
            None => match self.registry.check(check) {
                Some(check) => &check.shown.service_id,
                None => return false,
            },
        };
        let after = !service.is_empty() && self.sync.is_dirty(&Item::Service(service.clone()));
        !after && !self.sync.is_busy(service, Some(item))
    }

    /// A write that enters a service, or only checks, and the node with them.
    fn enter(
        &mut self,
        now: Instant,
        service: String,
        items: Vec<Item>,
        token: String,
        entered: Option<Service>,
    ) -> (Write, String, Request) {
        let mut checks = Vec::new();
        for item in &items {
            let Item::Check(id) = item else { continue };
            // Its output goes with it.
            self.schedule.clear(&Due::Output(id.clone()));
            checks.extend(self.registry.check(id).map(|check| check.shown.clone()));
        }
        let request = self.registration(entered, checks);
        (self.write(now, service, items, true), token, request)
    }

    /// A write that strikes out a service or a check.
    fn strike_out(&self, now: Instant, item: &Item, gone: &Gone) -> (Write, String, Request) {
        let node = self.me.name.clone();
        let (service, deregistration) = match item {
            Item::Service(id) => {
                (id.clone(), Deregistration { node, service_id: id.clone(), ..Deregistration::default() })
            }
            Item::Check(id) => {
                (gone.service.clone(), Deregistration { node, check_id: id.clone(), ..Deregistration::default() })
            }
        };
        let write = self.write(now, service, vec![item.clone()], false);
        (write, gone.token.clone(), catalog::Request::Deregister(deregistration).into())
    }

    fn write(&self, since: Instant, service: String, items: Vec<Item>, enters: bool) -> Write {
        let items = items
            .into_iter()
            .map(|item| {
                let revision = self.sync.revision_of(&item).unwrap_or(0);
                (item, revision)
            })
            .collect();
        Write { service, items, enters, since }
    }

    fn registration(&self, service: Option<Service>, checks: Vec<Check>) -> Request {
        catalog::Request::Register(Box::new(Registration { node: self.me.clone(), service, checks })).into()
    }

    /// Finds out what differs between what is registered here and what the catalog says.
    fn compare(&mut self, now: Instant, remote: &Remote) {
        let node = remote.node.as_ref().map(|node| &*node.node);
        self.sync.note_node(node.is_some_and(|node| is_same_node(node, &self.me)));
        let services: BTreeMap<&str, &Service> = remote
            .node
            .iter()
            .flat_map(|node| &node.services)
            .map(|service| (service.id.as_str(), &**service))
            .collect();
        let checks: BTreeMap<&str, &Check> = remote.checks.iter().map(|check| (check.id.as_str(), &**check)).collect();
        self.compare_services(&services);
        self.compare_checks(&checks);
        for item in self.sync.gone_items() {
            let still_there = match &item {
                Item::Service(id) => services.contains_key(id.as_str()),
                Item::Check(id) => checks.contains_key(id.as_str()),
            };
            if !still_there {
                self.sync.settle(&item);
            }
        }
        if self.sync.compared(now, self.options.sync_interval, &mut self.rng) {
            self.tell(News::InTouch);
        }
    }

    fn compare_services(&mut self, remote: &BTreeMap<&str, &Service>) {
        let ids: Vec<_> = self.registry.services().keys().cloned().collect();
        for id in ids {
            let Some(mine) = self.registry.service_mut(&id) else { continue };
            let theirs = remote.get(id.as_str());
            if let Some(theirs) = theirs
                && mine.shown.enable_tag_override
                && !same_tags(&mine.shown, theirs)
            {
                mine.shown.tags.clone_from(&theirs.tags);
            }
            let same = theirs.is_some_and(|theirs| is_same_service(&mine.shown, theirs));
            agree(&mut self.sync, Item::Service(id), same);
        }
        let known: BTreeSet<_> = self.registry.services().keys().map(String::as_str).collect();
        for id in remote.keys().filter(|id| **id != SERVER_SERVICE && !known.contains(**id)) {
            strike(&mut self.sync, Item::Service((*id).to_owned()), "");
        }
    }

    fn compare_checks(&mut self, remote: &BTreeMap<&str, &Check>) {
        for (id, mine) in self.registry.checks() {
            // If the output waits for its time, that it differs means nothing.
            let waits = self.schedule.is_set(&Due::Output(id.clone()));
            let same = remote.get(id.as_str()).is_some_and(|theirs| is_same_check(&mine.shown, theirs, waits));
            agree(&mut self.sync, Item::Check(id.clone()), same);
        }
        for (id, theirs) in remote {
            if *id != SERF_CHECK_ID && self.registry.check(id).is_none() {
                strike(&mut self.sync, Item::Check((*id).to_owned()), &theirs.service_id);
            }
        }
    }
}

/// Takes note of whether the catalog agrees in something that is registered.
fn agree(sync: &mut Sync, item: Item, same: bool) {
    if same {
        sync.settle(&item);
    } else if !sync.is_dirty(&item) {
        sync.touch(item);
    }
}

/// The catalog has something that is not registered.
fn strike(sync: &mut Sync, item: Item, service: &str) {
    if sync.what_is_gone(&item).is_none() {
        sync.gone(item, Gone { token: String::new(), service: service.to_owned() });
    }
}

fn describe(item: &Item) -> String {
    match item {
        Item::Service(id) => format!("service '{id}'"),
        Item::Check(id) => format!("check '{id}'"),
    }
}

fn is_same_node(a: &Node, b: &Node) -> bool {
    (&a.id, &a.address, &a.tagged_addresses, &a.meta) == (&b.id, &b.address, &b.tagged_addresses, &b.meta)
}

/// No tags, whether written as none or as an empty list, are the same.
fn same_tags(a: &Service, b: &Service) -> bool {
    a.tags.as_deref().unwrap_or_default() == b.tags.as_deref().unwrap_or_default()
}

fn is_same_service(a: &Service, b: &Service) -> bool {
    let shape = |service: &Service| (service.port, service.enable_tag_override);
    same_tags(a, b) && shape(a) == shape(b) && (&a.name, &a.address, &a.meta) == (&b.name, &b.address, &b.meta)
}

fn is_same_check(a: &Check, b: &Check, but_output: bool) -> bool {
    let words = |check: &Check| [&check.name, &check.status, &check.notes, &check.service_id].map(Clone::clone);
    words(a) == words(b) && a.service_name == b.service_name && (but_output || a.output == b.output)
}
