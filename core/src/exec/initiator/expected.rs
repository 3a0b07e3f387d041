//! Who will answer: the live members that the filters mean.
//!
//! The asked agent knows the members of its own datacenter by gossip. Whether a service runs on one of them the catalog
//! says, which its agent keeps up to date. In another datacenter the catalog has to do for both.

use std::collections::{BTreeSet, VecDeque};

use crate::api::agent::{self, MemberStatus};
use crate::api::catalog::{self, Filter};
use crate::api::health::{self, PASSING, SERF_CHECK_ID};
use crate::api::{ReadOptions, Request, Response};
use crate::event::{Audience, Target};

/// How many nodes are asked about at a time.
const WINDOW: usize = 16;
/// Of more nodes than these it is not looked up what runs on them, unless it must be known.
const MOST_ASKED: usize = 512;

/// What is being found out about a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Who is there.
    Nodes,
    /// What runs on one of them.
    Services(String),
}

/// Finds out who will answer.
#[derive(Debug)]
pub(super) struct Lookup {
    audience: Audience,
    by_service: bool,
    /// Whether it has to be known, however many there are.
    needed: bool,
    /// How many members the agent counts, if it says so. It is none in another datacenter.
    counted: Option<usize>,
    elsewhere: bool,
    read: ReadOptions,
    asked: bool,
    todo: VecDeque<String>,
    open: usize,
    found: BTreeSet<String>,
    certain: bool,
    failed: bool,
}

/// Who will answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Expected {
    /// By name.
    pub(super) nodes: BTreeSet<String>,
    /// Whether these are all.
    pub(super) certain: bool,
}

impl Lookup {
    pub(super) fn new(audience: Audience, by_service: bool, needed: bool, read: ReadOptions) -> Self {
        Self {
            audience,
            by_service,
            needed,
            counted: None,
            elsewhere: false,
            read,
            asked: false,
            todo: VecDeque::new(),
            open: 0,
            found: BTreeSet::new(),
            certain: false,
            failed: false,
        }
    }

    /// The agent that is asked has told of itself.
    pub(super) fn introduced(&mut self, itself: &agent::Itself, elsewhere: bool) {
        self.elsewhere = elsewhere;
        let members = itself.stats.get("serf_lan").and_then(|lan| lan.get("members"));
        self.counted = members.and_then(|members| members.parse().ok());
    }

    /// What is to be asked next, and whether of the datacenter that is meant or of the agent itself.
    pub(super) fn next(&mut self) -> Option<(Question, Request)> {
        let read = self.read.clone();
        if !self.asked {
            self.asked = true;
            self.open = 1;
            let request = match self.elsewhere {
                false => agent::Request::Members { wan: false }.into(),
                true => {
                    let (state, filter) = (PASSING.to_owned(), Filter::default());
                    health::Request::State { state, filter, read }.into()
                }
            };
            return Some((Question::Nodes, request));
        }
        if self.open >= WINDOW {
            return None;
        }
        let name = self.todo.pop_front()?;
        self.open += 1;
        let request = catalog::Request::Node { name: name.clone(), read };
        Some((Question::Services(name), request.into()))
    }

    /// Takes what came of a question.
    pub(super) fn take(&mut self, question: Question, answer: Option<Response>) {
        self.open = self.open.saturating_sub(1);
        match (question, answer) {
            (Question::Nodes, Some(Response::Members(members))) => {
                self.certain = self.counted == Some(members.len());
                let alive = members.into_iter().filter(|member| member.status == MemberStatus::Alive);
                self.take_nodes(alive.map(|member| member.name));
            }
            (Question::Nodes, Some(Response::Checks(checks))) => {
                let alive = checks.value.iter().filter(|check| check.id == SERF_CHECK_ID);
                let names: Vec<String> = alive.map(|check| check.node.clone()).collect();
                self.take_nodes(names.into_iter());
            }
            (Question::Services(name), Some(Response::NodeServices(read))) => {
                let services = read.value.map(|node| node.services).unwrap_or_default();
                let services: Vec<(&str, &[String])> = services
                    .iter()
                    .map(|service| (service.id.as_str(), service.tags.as_deref().unwrap_or_default()))
                    .collect();
                if self.audience.has(&Target { node: &name, services: &services }) {
                    self.found.insert(name);
                }
            }
            _ => self.failed = true,
        }
    }

    fn take_nodes(&mut self, names: impl Iterator<Item = String>) {
        // Which services there are does not matter yet.
        let named: Vec<String> = names.filter(|name| self.audience.may_have_node(name)).collect();
        if !self.by_service {
            self.found.extend(named);
        } else if named.len() > MOST_ASKED && !self.needed {
            self.failed = true;
        } else {
            self.todo.extend(named);
        }
    }

    /// Who will answer, once that is known: nobody is known if it could not be found out.
    pub(super) fn result(&self) -> Option<Option<Expected>> {
        if self.failed {
            return Some(None);
        }
        let over = self.asked && self.open == 0 && self.todo.is_empty();
        over.then(|| Some(Expected { nodes: self.found.clone(), certain: self.certain && !self.elsewhere }))
    }
}
