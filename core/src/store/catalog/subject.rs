//! What can be asked of the catalog, as far as waiting goes: each subject has an index of its own.

use std::fmt;
use std::sync::Arc;

use super::super::Question;
use crate::api::{catalog, coordinate, health};

/// A node's name, a service's name or an ID, as the catalog compares them: without regard to case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(Arc<str>);

impl Name {
    /// The form of `text` by which it is compared.
    #[must_use]
    pub fn of(text: &str) -> Self {
        if text.chars().any(char::is_uppercase) { Self(text.to_lowercase().into()) } else { Self(text.into()) }
    }

    /// The text, in small letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it names nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A part of the catalog that questions are about. What a question finds changes only if its subject does; the filters of
/// a question (tags, node metadata, `passing`) make no subject of their own, so a change that they hide counts too.
///
/// A node's modify index moves with whatever is registered on it, as Consul's does. That alone changes no subject: else whoever
/// waits for one service would be woken by all others of its nodes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The list of all nodes: which there are, and what they say of themselves.
    Nodes,
    /// The names of all services with their tags.
    ServiceNames,
    /// Where nodes are.
    Coordinates,
    /// All checks.
    AnyState,
    /// A node with its services.
    Node(Name),
    /// The checks of a node and of its services.
    NodeChecks(Name),
    /// The instances of a service, with their nodes.
    Service(Name),
    /// The instances of a service, with their nodes and the checks of both.
    Health(Name),
    /// The checks that were registered for a service of this name.
    ServiceChecks(Name),
    /// The checks in a state, which is compared to the letter.
    State(Arc<str>),
}

impl Subject {
    /// What could change the answer to a question; `None` if it is not about the catalog, or a write.
    #[must_use]
    pub fn of(question: Question<'_>) -> Option<Self> {
        Some(match question {
            Question::Kv(_) | Question::Session(_) | Question::Txn(_) | Question::Prepared(_) | Question::Acl(_) => {
                return None;
            }
            Question::Catalog(request) => match request {
                catalog::Request::Nodes { .. } => Self::Nodes,
                catalog::Request::Services { .. } => Self::ServiceNames,
                catalog::Request::Service { name, .. } => Self::Service(Name::of(name)),
                catalog::Request::Node { name, .. } => Self::Node(Name::of(name)),
                catalog::Request::Register(_) | catalog::Request::Deregister(_) | catalog::Request::Datacenters => {
                    return None;
                }
            },
            Question::Health(request) => match request {
                health::Request::Node { name, .. } => Self::NodeChecks(Name::of(name)),
                health::Request::Checks { service, .. } => Self::ServiceChecks(Name::of(service)),
                health::Request::Service { name, .. } => Self::Health(Name::of(name)),
                health::Request::State { state, .. } if state == health::ANY => Self::AnyState,
                health::Request::State { state, .. } => Self::State(state.as_str().into()),
            },
            Question::Coordinate(coordinate::Request::Nodes { .. }) => Self::Coordinates,
            Question::Coordinate(coordinate::Request::Datacenters | coordinate::Request::Update(_)) => return None,
        })
    }

    /// Its number and its name in an image. Never changes.
    pub(in crate::store) fn parts(&self) -> (u8, &str) {
        match self {
            Self::Nodes => (0, ""),
            Self::ServiceNames => (1, ""),
            Self::Coordinates => (2, ""),
            Self::AnyState => (3, ""),
            Self::Node(name) => (4, name.as_str()),
            Self::NodeChecks(name) => (5, name.as_str()),
            Self::Service(name) => (6, name.as_str()),
            Self::Health(name) => (7, name.as_str()),
            Self::ServiceChecks(name) => (8, name.as_str()),
            Self::State(state) => (9, state),
        }
    }

    /// The subject with these parts; `None` if there is none.
    pub(in crate::store) fn from_parts(kind: u8, name: &str) -> Option<Self> {
        let named = || Name::of(name);
        let subject = match kind {
            0 => Self::Nodes,
            1 => Self::ServiceNames,
            2 => Self::Coordinates,
            3 => Self::AnyState,
            4 => Self::Node(named()),
            5 => Self::NodeChecks(named()),
            6 => Self::Service(named()),
            7 => Self::Health(named()),
            8 => Self::ServiceChecks(named()),
            9 => Self::State(name.into()),
            _ => return None,
        };
        (subject.parts() == (kind, name)).then_some(subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_without_regard_to_case_and_states_are_not() {
        assert_eq!(Name::of("Web-Ä"), Name::of("wEB-ä"));
        assert_ne!(Subject::State("passing".into()), Subject::State("PASSING".into()));
    }

    #[test]
    fn every_subject_comes_back_from_its_parts() {
        let web = || Name::of("web");
        let subjects = [
            Subject::Nodes,
            Subject::ServiceNames,
            Subject::Coordinates,
            Subject::AnyState,
            Subject::Node(web()),
            Subject::NodeChecks(web()),
            Subject::Service(web()),
            Subject::Health(web()),
            Subject::ServiceChecks(web()),
            Subject::State("Odd".into()),
        ];
        for (number, subject) in (0..).zip(subjects) {
            let (kind, name) = subject.parts();
            assert_eq!(kind, number);
            assert_eq!(Subject::from_parts(kind, name).as_ref(), Some(&subject));
        }
        assert_eq!(Subject::from_parts(10, ""), None);
        assert_eq!(Subject::from_parts(0, "x"), None, "a list has no name");
        assert_eq!(Subject::from_parts(6, "Web"), None, "names are in small letters");
    }
}
