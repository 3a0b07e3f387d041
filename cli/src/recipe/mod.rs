//! Locks and semaphores, in the way that Consul's own clients make them of sessions and keys, so that they get along with
//! those.
//!
//! Whoever wants something creates a session with a TTL, and renews it as long as it holds what it got. A
//! [`Lock`] is a key that the session has acquired. A [`Semaphore`] is a record of its holders in one key, changed by
//! check-and-set, beside a key for each contender, which shows by its session that the contender is alive.
//!
//! # What a holder may rely on
//!
//! A session that is not renewed ends no earlier than its TTL after the last renewal, and nobody gets what it held before
//! the lock delay has passed, too. The holder hears of it sooner, if it runs: [`Held::lost`] ends when the key says that
//! somebody else may have it, and in any case when the TTL has passed since the last renewal *was sent*, whatever has become
//! of the agents.
//!
//! A holder that does *not* run for a while, because its machine is stopped or swaps, cannot hear of anything. What it does
//! in the moment when it comes back must be fenced by those to whom it does it: see [`Sequencer`].

mod entry;
mod lock;
mod patience;
mod semaphore;
mod session;

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

pub use lock::{LOCK_FLAGS, Lock};
use patience::Patience;
pub use semaphore::{SEMAPHORE_FLAGS, Semaphore};
use session::Session;

use crate::client::{self, Client};

/// The name of the key, below the prefix, that stands for the whole: the lock itself, or the semaphore's record. Both have
/// the same, so that a lock and a semaphore in one place get into each other's way and are noticed.
pub const KEY: &str = ".lock";

/// How long to pause before something is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// What a session is to be like, and how much may go wrong.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The session's name, for people.
    pub name: String,
    /// The session's TTL: how long it lives on at least when nobody renews it. Consul's clients have 15 s.
    pub ttl: Duration,
    /// How long nobody else gets what a session held that ended without giving it back; the servers' 15 s if nothing is
    /// said.
    pub lock_delay: Option<Duration>,
    /// How many failures in a row are ridden out, a second apart each, before waiting or holding is given up.
    pub retries: u32,
}

impl Default for Terms {
    fn default() -> Self {
        Self { name: "Consul API Lock".to_owned(), ttl: Duration::from_secs(15), lock_delay: None, retries: 0 }
    }
}

/// What tells one tenure of a lock from all others, before and after it.
///
/// `index` is the key's `ModifyIndex` once it was acquired. Whoever gets the lock later has a greater one: indexes of a
/// cluster never go back, not even when the key is deleted in between, or a snapshot restored. So a resource that remembers
/// the greatest index that it has seen, and refuses smaller ones, cannot be harmed by a holder that does not know yet that
/// it has lost the lock.
///
/// A resource that can ask the cluster may instead read the key with `?consistent` and see whether `session` still holds it
/// at the same `lock_index`. That one is no fence by itself: it begins anew when the key is deleted or plainly put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequencer {
    /// The key.
    pub key: String,
    /// The session that holds it.
    pub session: String,
    /// The key's `LockIndex`.
    pub lock_index: u64,
    /// The key's `ModifyIndex`.
    pub index: u64,
}

/// Why something cannot be had, kept or given back. The texts are those of Consul's own client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No session.
    #[error("failed to create session: {0}")]
    Session(client::Error),
    /// The session ended before anything was got.
    #[error("the session ended, or could not be renewed, while waiting")]
    SessionLost,
    /// The keys cannot be read.
    #[error("failed to read {what}: {error}")]
    Read {
        /// What.
        what: Kind,
        /// Why.
        error: client::Error,
    },
    /// The keys cannot be written.
    #[error("failed to {doing}: {error}")]
    Write {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        error: client::Error,
    },
    /// The key is used by something else, as its flags say.
    #[error("Existing key does not match {0} use")]
    Conflict(Kind),
    /// The session cannot have a key of its own below the semaphore's prefix.
    #[error("failed to make contender entry")]
    NoContender,
    /// Others allow the semaphore another number of holders.
    #[error("semaphore limit conflict (lock: {theirs}, local: {ours})")]
    Limit {
        /// What the record says.
        theirs: u64,
        /// What we say.
        ours: u64,
    },
    /// The semaphore's record cannot be understood.
    #[error("lock decoding failed: {0}")]
    Decoding(String),
    /// It cannot be cleaned up, as somebody holds it or was quicker.
    #[error("{} in use", match .0 { Kind::Lock => "Lock", Kind::Semaphore => "Semaphore" })]
    InUse(Kind),
}

/// Which of the two it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A [`Lock`].
    Lock,
    /// A [`Semaphore`].
    Semaphore,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lock => "lock",
            Self::Semaphore => "semaphore",
        })
    }
}

/// How waiting ended.
#[derive(Debug)]
pub enum Taken {
    /// It was got; with what tells this tenure from others, if there is but one holder at a time.
    Held(Option<Sequencer>),
    /// Waiting was given up.
    GivenUp,
}

/// Something that can be held through a session.
///
/// None of its futures needs to be polled from more than one thread, and dropping one gives up what it was about to do.
#[expect(async_fn_in_trait, reason = "nobody sends them to other threads")]
pub trait Recipe: Sized {
    /// Whom to ask.
    fn client(&self) -> &Client;

    /// What the session is to be like.
    fn terms(&self) -> &Terms;

    /// Waits until the session has it, or `given_up` is over.
    async fn take(&self, session: &str, given_up: Pin<&mut impl Future<Output = ()>>) -> Result<Taken, Error>;

    /// Waits until the keys are newer than `index` (0 for not at all), and tells whether the session has it then, and how
    /// new the keys are.
    async fn holds(&self, session: &str, index: u64) -> Result<(bool, u64), client::Error>;

    /// Gives back what the session has.
    async fn give_back(&self, session: &str) -> Result<(), Error>;

    /// Removes what is left in the store, if nobody uses it.
    async fn clean_up(&self) -> Result<(), Error>;

    /// Waits until it is held, or `given_up` is over: then there is none.
    async fn acquire(&self, given_up: impl Future<Output = ()>) -> Result<Option<Held<'_, Self>>, Error> {
        let mut session = Session::create(self.client(), self.terms()).await.map_err(Error::Session)?;
        let id = session.id().to_owned();
        let mut given_up = std::pin::pin!(given_up);
        let taken = tokio::select! {
            biased;
            taken = self.take(&id, given_up.as_mut()) => taken,
            () = session.keep() => Err(Error::SessionLost),
        };
        match taken {
            Ok(Taken::Held(sequencer)) => {
                let patience = Patience::new(self.terms().retries);
                Ok(Some(Held { recipe: self, session, sequencer, seen: 0, patience }))
            }
            Ok(Taken::GivenUp) => {
                session.destroy().await;
                Ok(None)
            }
            Err(error) => {
                session.destroy().await;
                Err(error)
            }
        }
    }
}

/// Something that is held. As long as it is, somebody must wait for [`lost`](Self::lost): that is what renews the session.
#[derive(Debug)]
pub struct Held<'r, R> {
    recipe: &'r R,
    session: Session<'r>,
    sequencer: Option<Sequencer>,
    /// How new the keys were when they were last looked at.
    seen: u64,
    patience: Patience,
}

impl<R: Recipe> Held<'_, R> {
    /// What tells this tenure from others, if there is but one holder at a time.
    #[must_use]
    pub fn sequencer(&self) -> Option<&Sequencer> {
        self.sequencer.as_ref()
    }

    /// The session that holds it.
    #[must_use]
    pub fn session(&self) -> &str {
        self.session.id()
    }

    /// Keeps it, until it is lost or cannot be relied on any more. May be dropped and called again, as long as that does
    /// not take long.
    pub async fn lost(&mut self) {
        let Self { recipe, session, seen, patience, .. } = self;
        let id = session.id().to_owned();
        let watching = async {
            loop {
                match recipe.holds(&id, *seen).await {
                    Ok((true, index)) => {
                        patience.restore();
                        *seen = if index < *seen { 0 } else { index };
                    }
                    Ok((false, _)) => return,
                    Err(error) => {
                        *seen = 0;
                        if patience.ride_out(error).await.is_err() {
                            return;
                        }
                    }
                }
            }
        };
        tokio::select! {
            () = session.keep() => {}
            () = watching => {}
        }
    }

    /// Gives it back, so that others can have it at once, and ends the session.
    ///
    /// # Errors
    /// If that fails: others can have it once the session has ended, and the lock delay passed.
    pub async fn release(self) -> Result<(), Error> {
        let released = self.recipe.give_back(self.session.id()).await;
        self.session.destroy().await;
        released
    }
}

/// The path of a key below a prefix, as Consul's commands put it together: without empty parts.
#[must_use]
pub fn below(prefix: &str, name: &str) -> String {
    let parts = prefix.split('/').chain([name]).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_put_together_without_empty_parts() {
        for (prefix, key) in
            [("a", "a/.lock"), ("/a", "a/.lock"), ("a/", "a/.lock"), ("a//b/", "a/b/.lock"), ("", ".lock")]
        {
            assert_eq!(below(prefix, KEY), key);
        }
    }

    #[test]
    fn errors_read_as_those_of_consul() {
        assert_eq!(Error::Conflict(Kind::Lock).to_string(), "Existing key does not match lock use");
        assert_eq!(Error::InUse(Kind::Semaphore).to_string(), "Semaphore in use");
        let error = client::Error::Unsupported("x".to_owned());
        assert_eq!(Error::Read { what: Kind::Lock, error }.to_string(), "failed to read lock: x");
    }
}
