//! Rules as a tree, whichever language they are written in, and what can be wrong with them.

/// What is wrong with rules, in a sentence that names the place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadRules(pub String);

/// Rules, as they stand in each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tree {
    Text(String),
    Fields(Vec<(String, Self)>),
    List(Vec<Self>),
    /// A number and the like: part of no rule that we know.
    Other,
}
