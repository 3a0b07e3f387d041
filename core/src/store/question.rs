//! What may be asked of the store, and what each question is about.

use super::acl::Which;
use super::catalog::Subject;
use super::prepared::Part;
use super::session::Scope;
use crate::api;

/// What questions are about, keys apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// A part of the catalog.
    Catalog(Subject),
    /// A part of the sessions.
    Sessions(Scope),
    /// A part of the prepared queries.
    Queries(Part),
    /// A part of the tokens.
    Tokens(Which),
}

impl Topic {
    /// What could change the answer to a question; `None` if it is about keys, or a write.
    #[must_use]
    pub fn of(question: Question<'_>) -> Option<Self> {
        match question {
            Question::Session(request) => Scope::of(request).map(Self::Sessions),
            Question::Prepared(request) => Part::of(request).map(Self::Queries),
            Question::Acl(request) => Which::of(request).map(Self::Tokens),
            question => Subject::of(question).map(Self::Catalog),
        }
    }
}

/// A request, by the table that it is about.
#[derive(Clone, Copy, Debug)]
pub enum Question<'a> {
    /// The key-value store.
    Kv(&'a api::kv::Request),
    /// Nodes and services.
    Catalog(&'a api::catalog::Request),
    /// Checks.
    Health(&'a api::health::Request),
    /// Where nodes are.
    Coordinate(&'a api::coordinate::Request),
    /// Sessions.
    Session(&'a api::session::Request),
    /// Transactions.
    Txn(&'a api::txn::Request),
    /// Prepared queries themselves. What comes of asking them is no matter of the store alone.
    Prepared(&'a api::prepared::Request),
    /// Tokens.
    Acl(&'a api::acl::Request),
}

impl<'a> Question<'a> {
    /// The question in a request; `None` if it is not about what the store holds.
    #[must_use]
    pub fn of(request: &'a api::Request) -> Option<Self> {
        match request {
            api::Request::Kv(request) => Some(Self::Kv(request)),
            api::Request::Catalog(request) => Some(Self::Catalog(request)),
            api::Request::Health(request) => Some(Self::Health(request)),
            api::Request::Coordinate(request) => Some(Self::Coordinate(request)),
            api::Request::Session(request) => Some(Self::Session(request)),
            api::Request::Txn(request) => Some(Self::Txn(request)),
            api::Request::Prepared(request) => Some(Self::Prepared(request)),
            api::Request::Acl(request) => Some(Self::Acl(request)),
            api::Request::Status(_)
            | api::Request::Agent(_)
            | api::Request::Operator(_)
            | api::Request::Snapshot(_)
            | api::Request::Event(_)
            | api::Request::Exec(_) => None,
        }
    }
}

/// Each subject's requests are questions.
macro_rules! questions_of {
    ($($subject:ident => $variant:ident),+ $(,)?) => {$(
        impl<'a> From<&'a api::$subject::Request> for Question<'a> {
            fn from(request: &'a api::$subject::Request) -> Self {
                Self::$variant(request)
            }
        }
    )+};
}

questions_of! {
    kv => Kv,
    catalog => Catalog,
    health => Health,
    coordinate => Coordinate,
    session => Session,
    prepared => Prepared,
    acl => Acl,
    txn => Txn,
}
