//! Tokens, and what they may do (`http-api.txt`, "ACL").

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ReadOptions;
use crate::id::Index;

/// The token of those who give none.
pub const ANONYMOUS: &str = "anonymous";

/// Whether this is the name of one of Consul's built-in policies. No token may have it.
#[must_use]
pub fn is_built_in(id: &str) -> bool {
    matches!(id, "allow" | "deny" | "manage")
}

/// A token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The secret by which it is named.
    pub id: String,
    /// For people; need not be unique.
    pub name: String,
    /// Whether rules hold for it.
    pub kind: Kind,
    /// The rules, as they were written. Empty: the default policy decides about everything.
    pub rules: String,
    /// When it was created. Set by the store.
    pub create_index: Index,
    /// When it was changed last. Set by the store.
    pub modify_index: Index,
}

/// Whether rules hold for a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// They do.
    #[default]
    Client,
    /// It may do everything.
    Management,
}

impl Kind {
    /// The kind of this name; `None` if there is none.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "client" => Some(Self::Client),
            "management" => Some(Self::Management),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Management => "management",
        })
    }
}

/// A token that is wanted, as it was given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The secret; empty to have one drawn.
    pub id: String,
    /// For people.
    pub name: String,
    /// `client` or `management`.
    pub kind: String,
    /// The rules.
    pub rules: String,
}

/// What may be asked of the tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Creates a token, or gives one that there is another name, kind and rules.
    Set(Wanted),
    /// Creates a token with the name, the kind and the rules of this one, and an ID that is drawn.
    Clone {
        /// Which.
        id: String,
    },
    /// Destroys a token. That there is none is no error.
    Destroy {
        /// Which.
        id: String,
    },
    /// One token.
    Info {
        /// Which.
        id: String,
        /// How.
        read: ReadOptions,
    },
    /// All tokens.
    List {
        /// How.
        read: ReadOptions,
    },
    /// Whether the caller's token allows something that no other request stands for.
    Permit(Permission),
}

/// Something that a token may allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Permission {
    /// To list the jobs of remote execution that an agent carried out for its clients.
    ReadExec,
    /// To have an agent carry out such a job.
    WriteExec,
    /// To see the keys that gossip is encrypted with.
    ReadKeyring,
    /// To change them.
    WriteKeyring,
    /// To save and restore the whole state: asked before anybody's archive is taken in.
    Snapshot,
}
