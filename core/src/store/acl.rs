//! Tokens: which there are, and what each of them allows.
//!
//! Rules are read when a token comes in, by every server alike, so that to look one up costs nothing more. None comes into the log
//! whose rules cannot be read; should one of another version of this program be there all the same, it allows nothing.
//!
//! A token that is destroyed leaves a tombstone, as a key does: whoever waits for it is told, and for no other.

use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::table::after;
use super::tombstone::Tombstones;
use super::{Answer, Applied, Body, Store, Topic, Touch};
use crate::acl::{Authority, Policy};
use crate::api::acl::{ANONYMOUS, Kind, Request, Token, is_built_in};
use crate::api::{Error, Response};
use crate::id::Index;

/// A change of the tokens. What is wrong with a token on its own was found before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Enters a token, or puts it in the place of that with its ID. Its indexes are set by the store.
    Set(Token),
    /// Enters a token unless there is one with its ID. Its indexes are set by the store.
    Provide(Token),
    /// Enters a token that has all from another but its ID.
    Clone {
        /// The other one.
        source: String,
        /// Its own ID.
        id: String,
    },
    /// Strikes a token out.
    Destroy {
        /// Which.
        id: String,
    },
}

/// A part of the tokens that questions are about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    /// All of them.
    All,
    /// The one with this ID.
    One(String),
}

impl Which {
    /// What could change the answer to a question; `None` if it is a write, or about no token.
    #[must_use]
    pub fn of(request: &Request) -> Option<Self> {
        match request {
            Request::Info { id, .. } => Some(Self::One(id.clone())),
            Request::List { .. } => Some(Self::All),
            Request::Set(_) | Request::Clone { .. } | Request::Destroy { .. } | Request::Permit(_) => None,
        }
    }

    fn all_of(id: &str) -> Vec<Touch> {
        [Self::All, Self::One(id.to_owned())].map(|which| Touch::Topic(Topic::Tokens(which))).to_vec()
    }
}

/// What a token allows.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Grant {
    Everything,
    Rules(Arc<Policy>),
    /// Its rules cannot be read.
    Nothing,
}

impl Grant {
    fn of(token: &Token) -> Self {
        match token.kind {
            Kind::Management => Self::Everything,
            Kind::Client => Policy::parse(&token.rules).map_or(Self::Nothing, |policy| Self::Rules(Arc::new(policy))),
        }
    }

    fn authority(&self, allow_by_default: bool) -> Authority {
        match self {
            Self::Everything => Authority::everything(),
            Self::Rules(policy) => Authority::limited(Arc::clone(policy), allow_by_default),
            Self::Nothing => Authority::limited(Arc::default(), false),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    token: Arc<Token>,
    grant: Grant,
}

/// The tokens that there are. Invariants:
///
/// - no token that is there has a tombstone;
/// - for each token, `1 <= create_index <= modify_index <= changed`; no tombstone is beyond `changed`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tokens {
    rows: OrdMap<String, Row>,
    tombstones: Tombstones,
    /// When any of them last changed.
    changed: Index,
}

impl Tokens {
    /// When any of them last changed; 0 if there never was one.
    pub(super) fn changed(&self) -> Index {
        self.changed
    }

    /// The last index at which what is found there may have changed.
    pub(super) fn changed_at(&self, which: &Which) -> Index {
        match which {
            Which::All => self.changed,
            Which::One(id) => match self.rows.get(id) {
                Some(row) => row.token.modify_index,
                None => self.tombstones.of(id.as_bytes()),
            },
        }
    }

    /// Those that were destroyed.
    pub(super) fn tombstones(&self) -> &Tombstones {
        &self.tombstones
    }

    /// Forgets those that were destroyed up to and including this index.
    pub(super) fn reap_tombstones(&mut self, up_to: Index) {
        self.tombstones.reap(up_to);
    }

    /// The tokens that follow this ID, by ID; all of them without one. Finds the first in O(log n).
    pub(super) fn after(&self, id: Option<&String>) -> impl Iterator<Item = (&String, &Arc<Token>)> {
        after(&self.rows, id).map(|(id, row)| (id, &row.token))
    }

    fn get(&self, id: &str) -> Option<&Row> {
        self.rows.get(id)
    }

    fn find(&self, which: &Which) -> Vec<Arc<Token>> {
        match which {
            Which::All => self.rows.values().map(|row| Arc::clone(&row.token)).collect(),
            Which::One(id) => self.get(id).map(|row| Arc::clone(&row.token)).into_iter().collect(),
        }
    }

    fn set(&mut self, index: Index, mut token: Token) {
        token.create_index = self.get(&token.id).map_or(index, |row| row.token.create_index);
        token.modify_index = index;
        self.tombstones.lift(&key_of(&token.id));
        self.changed = index;
        self.enter(token);
    }

    fn enter(&mut self, token: Token) {
        let grant = Grant::of(&token);
        self.rows.insert(token.id.clone(), Row { token: Arc::new(token), grant });
    }

    /// Strikes a token out, and says whether it was there.
    fn remove(&mut self, index: Index, id: &str) -> bool {
        let there = self.rows.remove(id).is_some();
        if there {
            self.tombstones.bury(key_of(id), index);
            self.changed = index;
        }
        there
    }

    /// The tokens as they are after a restoration at `index`, which changes all of them.
    pub(super) fn restored(self, index: Index) -> Self {
        Self { tombstones: Tombstones::default(), changed: index, ..self }
    }

    /// None, but some may have been there up to `changed`, and been destroyed up to `floor`: as an image describes them before
    /// they come.
    pub(super) fn bare(changed: Index, floor: Index) -> Self {
        Self { tombstones: Tombstones::above(floor), changed, ..Self::default() }
    }

    /// Takes in a token of an image. They come by ID.
    pub(super) fn load(&mut self, token: Token) -> Result<(), &'static str> {
        if self.rows.get_max().is_some_and(|(last, _)| *last >= token.id) {
            return Err("tokens do not come in their order");
        }
        let (created, modified) = (token.create_index, token.modify_index);
        if created == Index(0) || created > modified || modified > self.changed {
            return Err("a token was written at an index that cannot be");
        }
        self.enter(token);
        Ok(())
    }

    /// Takes in a tombstone of an image. The tokens were loaded before.
    pub(super) fn load_tombstone(&mut self, id: &str, index: Index) -> Result<(), &'static str> {
        if self.rows.contains_key(id) {
            return Err("a token is both there and destroyed");
        }
        if index <= self.tombstones.floor() || index > self.changed {
            return Err("a token was destroyed at an index that cannot be");
        }
        self.tombstones.bury(key_of(id), index);
        Ok(())
    }
}

fn key_of(id: &str) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

impl Store {
    /// Applies a change of the tokens.
    pub(super) fn change_tokens(&mut self, index: Index, command: Command) -> Applied {
        let tokens = &mut self.tokens;
        let token = match command {
            Command::Set(token) => token,
            Command::Provide(token) => {
                if let Some(row) = tokens.get(&token.id) {
                    let index = row.token.modify_index;
                    return Applied { response: Ok(Response::TokenSet { id: token.id, index }), touched: Vec::new() };
                }
                token
            }
            Command::Clone { source, id } => match tokens.get(&source) {
                Some(row) => Token { id, create_index: Index(0), ..Token::clone(&row.token) },
                None => return Applied { response: Err(Error::NoTokenToClone), touched: Vec::new() },
            },
            Command::Destroy { id } => {
                let touched = if tokens.remove(index, &id) { Which::all_of(&id) } else { Vec::new() };
                return Applied { response: Ok(Response::Done(true)), touched };
            }
        };
        let id = token.id.clone();
        tokens.set(index, token);
        Applied { touched: Which::all_of(&id), response: Ok(Response::TokenSet { id, index }) }
    }

    /// What whoever gives this token may do; without one, or with an empty one, what the anonymous one allows. If there is none
    /// of that, the default policy decides about everything.
    ///
    /// # Errors
    /// [`Error::UnknownToken`], [`Error::RootToken`].
    pub fn authority(&self, token: Option<&str>, allow_by_default: bool) -> Result<Authority, Error> {
        let id = token.filter(|id| !id.is_empty()).unwrap_or(ANONYMOUS);
        match self.tokens.get(id) {
            _ if is_built_in(id) => Err(Error::RootToken),
            Some(row) => Ok(row.grant.authority(allow_by_default)),
            None if id == ANONYMOUS => Ok(Authority::limited(Arc::default(), allow_by_default)),
            None => Err(Error::UnknownToken),
        }
    }

    /// The token with this ID.
    #[must_use]
    pub fn token(&self, id: &str) -> Option<&Arc<Token>> {
        self.tokens.get(id).map(|row| &row.token)
    }

    /// All tokens, by ID.
    pub fn tokens(&self) -> impl Iterator<Item = &Arc<Token>> {
        self.tokens.after(None).map(|(_, token)| token)
    }

    /// The answer to a question for tokens; `None` if it is another.
    pub(super) fn query_tokens(&self, request: &Request) -> Option<Answer> {
        let which = Which::of(request)?;
        let changed = self.tokens.changed_at(&which).max(self.restored_at);
        let found = self.tokens.find(&which);
        let index = if found.is_empty() { self.tokens.changed() } else { changed };
        Some(Answer { index: index.max(changed).max(Index(1)), changed, body: Body::Tokens(found) })
    }
}

#[cfg(test)]
#[path = "acl_tests.rs"]
mod tests;
