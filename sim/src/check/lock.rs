//! Locks, as their holders see them: tokens by which an outside resource can tell an old holder from a new one, and the time
//! that passes between the end of one holder and the beginning of the next.

use std::collections::BTreeMap;

use bytes::Bytes;
use lictor_core::api::kv::Entry;
use lictor_core::id::{Index, SessionId};
use lictor_core::time::{Duration, Instant};

use super::session::DRIFT_PERCENT;
use super::{Verdict, ensure};

/// A fencing token: when the key came into being, and how often it was locked since. Tokens of a key only grow, from one
/// holder to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Token {
    created: Index,
    locked: u64,
}

impl Token {
    /// The token of a key that is held.
    pub(crate) fn of(entry: &Entry) -> Self {
        Self { created: entry.create_index, locked: entry.lock_index }
    }

    /// As above, of its parts.
    pub(crate) fn new(created: Index, locked: u64) -> Self {
        Self { created, locked }
    }
}

/// The tokens of one key.
#[derive(Debug, Default)]
struct Key {
    holders: BTreeMap<Token, SessionId>,
    /// The highest of which any client knows.
    known: Token,
    /// The highest that the resource has seen.
    seen: Token,
}

/// All keys that are locked, and the resources that the locks protect.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    keys: BTreeMap<Bytes, Key>,
}

impl Locks {
    /// The highest token of a key that any client knows.
    pub(crate) fn known(&self, key: &Bytes) -> Token {
        self.keys.get(key).map(|key| key.known).unwrap_or_default()
    }

    /// A client learns that it holds a key: it began to ask for the lock when `floor` was known.
    pub(crate) fn gained(&mut self, name: &Bytes, token: Token, session: SessionId, floor: Token) -> Verdict {
        let key = self.keys.entry(name.clone()).or_default();
        let holder = *key.holders.entry(token).or_insert(session);
        let text = String::from_utf8_lossy(name);
        ensure!(holder == session, "sessions {holder} and {session} both have held {text:?} with the token {token:?}");
        ensure!(
            token >= floor,
            "session {session} holds {text:?} with {token:?}, and began to ask when {floor:?} was known"
        );
        key.known = key.known.max(token);
        Ok(())
    }

    /// A client works: the resource takes the token if it has seen no higher one. Gives whether it does.
    pub(crate) fn work(&mut self, name: &Bytes, token: Token) -> bool {
        let key = self.keys.entry(name.clone()).or_default();
        let takes = token >= key.seen;
        key.seen = key.seen.max(token);
        takes
    }
}

/// A key was locked, or is said to be free for all, at `at`; its last holder before ended at `ended` with a lock delay.
pub(crate) fn delay_is_over(name: &Bytes, at: Instant, ended: Instant, delay: Duration) -> Verdict {
    let passed = at.since(ended);
    ensure!(
        passed >= delay * (100 - DRIFT_PERCENT) / 100,
        "{:?} is free {passed:?} after its holder's session has ended with a lock delay of {delay:?}",
        String::from_utf8_lossy(name)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use lictor_core::id::PeerId;

    use super::*;

    fn session(n: u64) -> SessionId {
        SessionId(PeerId::numbered(n).0)
    }

    #[test]
    fn tokens_grow_and_are_of_one_session_each() {
        let (key, mut locks) = (Bytes::from_static(b"k"), Locks::default());
        let token = |created, locked| Token::new(Index(created), locked);
        let (first, second) = (token(3, 1), token(3, 2));
        assert_eq!(locks.gained(&key, first, session(1), locks.known(&key)), Ok(()));
        assert_eq!(locks.gained(&key, first, session(1), locks.known(&key)), Ok(()), "taken again");
        assert!(locks.gained(&key, first, session(2), Token::default()).unwrap_err().contains("both have held"));
        let floor = locks.known(&key);
        assert_eq!(locks.gained(&key, second, session(2), floor), Ok(()));
        let late = locks.gained(&key, token(2, 9), session(3), floor);
        assert!(late.unwrap_err().contains("began to ask when"), "whoever asks later has a higher token");
        assert_eq!(locks.gained(&key, token(4, 1), session(3), locks.known(&key)), Ok(()), "a new key");
    }

    #[test]
    fn a_resource_takes_no_token_that_is_older_than_one_it_has_seen() {
        let (key, mut locks) = (Bytes::from_static(b"k"), Locks::default());
        let token = |locked| Token::new(Index(3), locked);
        assert!(locks.work(&key, token(1)) && locks.work(&key, token(1)) && locks.work(&key, token(2)));
        assert!(!locks.work(&key, token(1)));
        assert!(locks.work(&Bytes::from_static(b"other"), token(1)));
    }

    #[test]
    fn a_delay_is_waited_for_up_to_the_clocks_drift() {
        let (key, delay) = (Bytes::from_static(b"k"), Duration::from_secs(10));
        let begin = Instant::from_millis(5_000);
        assert_eq!(delay_is_over(&key, Instant::from_millis(14_800), begin, delay), Ok(()));
        assert!(delay_is_over(&key, Instant::from_millis(14_600), begin, delay).is_err());
    }
}
