//! The tokens that are always there: the anonymous one, and the one that the configuration names as master.
//!
//! A leader looks for them once it has applied all that its predecessors did, and again after a restoration, which may have taken them
//! away. What it finds stays as it is, whatever has become of it; and what somebody destroys later stays away until the next look.

use crate::api::acl::{ANONYMOUS, Kind, Token};
use crate::config::Config;
use crate::id::Index;
use crate::store::acl::Command as Change;
use crate::store::{Command, Store};
use crate::time::{Duration, Instant};

/// What is still missing is provided again after so long: the log may have had no room.
const RETRY: Duration = Duration::from_secs(1);

/// Provides what is missing.
#[derive(Debug)]
pub(super) struct Provider {
    /// What should be there; nothing without access control, or if another datacenter keeps the tokens.
    wanted: Vec<Token>,
    /// The restoration after which we have looked for them; `None` before the first look.
    looked: Option<Index>,
    missing: Vec<Token>,
    /// How many of those were provided in this turn.
    provided: usize,
    due: Option<Instant>,
}

impl Provider {
    /// The duty of a server that was just elected.
    pub(super) fn new(config: &Config) -> Self {
        let acl = &config.acl;
        let mut wanted = Vec::new();
        if acl.datacenter.as_ref() == Some(&config.datacenter) {
            wanted.push(token(ANONYMOUS, "Anonymous Token", Kind::Client));
            let master = acl.master_token.as_ref().filter(|id| !id.is_empty());
            wanted.extend(master.map(|id| token(id, "Master Token", Kind::Management)));
        }
        Self { wanted, looked: None, missing: Vec::new(), provided: 0, due: None }
    }

    /// Looks at the store after a batch. `caught_up` says whether all is applied that was committed before our term.
    pub(super) fn observe(&mut self, now: Instant, caught_up: bool, store: &Store) {
        if !caught_up || self.wanted.is_empty() {
            return;
        }
        if self.looked != Some(store.restored_at()) {
            self.looked = Some(store.restored_at());
            self.missing.clone_from(&self.wanted);
            (self.provided, self.due) = (0, Some(now));
        }
        self.missing.retain(|token| store.token(&token.id).is_none());
        if self.missing.is_empty() {
            self.due = None;
        }
    }

    /// When [`poll_command`](Self::poll_command) has something to say.
    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Provides the next one that is missing.
    pub(super) fn poll_command(&mut self, now: Instant) -> Option<Command> {
        self.due.filter(|due| *due <= now)?;
        let Some(token) = self.missing.get(self.provided) else {
            (self.provided, self.due) = (0, Some(now + RETRY));
            return None;
        };
        self.provided += 1;
        Some(Command::Acl(Change::Provide(token.clone())))
    }
}

fn token(id: &str, name: &str, kind: Kind) -> Token {
    let (create_index, modify_index) = (Index(0), Index(0));
    Token { id: id.to_owned(), name: name.to_owned(), kind, rules: String::new(), create_index, modify_index }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Acl;

    fn config(keeper: Option<&str>, master: Option<&str>) -> Config {
        let acl =
            Acl { datacenter: keeper.map(str::to_owned), master_token: master.map(str::to_owned), ..Acl::default() };
        let address = "10.0.0.1:8300".parse().unwrap();
        Config { acl, ..Config::new(crate::id::PeerId::default(), "a", address) }
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1000)
    }

    fn take(duty: &mut Provider, now: Instant) -> Vec<Command> {
        std::iter::from_fn(|| duty.poll_command(now)).collect()
    }

    #[test]
    fn what_is_missing_is_provided_until_it_is_there() {
        let (mut store, mut duty) = (Store::default(), Provider::new(&config(Some("dc1"), Some("root"))));
        duty.observe(at(1), false, &store);
        assert_eq!(duty.poll_timeout(), None, "predecessors may have provided it");
        duty.observe(at(2), true, &store);
        assert_eq!(duty.poll_timeout(), Some(at(2)));
        let anonymous = Command::Acl(Change::Provide(token(ANONYMOUS, "Anonymous Token", Kind::Client)));
        let master = Command::Acl(Change::Provide(token("root", "Master Token", Kind::Management)));
        assert_eq!(take(&mut duty, at(2)), [anonymous.clone(), master.clone()]);
        store.apply(store.index().next(), anonymous);
        duty.observe(at(2), true, &store);
        assert_eq!((duty.poll_timeout(), take(&mut duty, at(2))), (Some(at(3)), vec![]));
        assert_eq!(take(&mut duty, at(3)), std::slice::from_ref(&master));
        store.apply(store.index().next(), master);
        duty.observe(at(3), true, &store);
        assert_eq!(duty.poll_timeout(), None);
        store.apply(store.index().next(), Command::Acl(Change::Destroy { id: "root".to_owned() }));
        duty.observe(at(4), true, &store);
        assert_eq!(duty.poll_timeout(), None, "it was destroyed with intent");
    }

    #[test]
    fn what_is_there_stays_as_it_is() {
        let (mut store, mut duty) = (Store::default(), Provider::new(&config(Some("dc1"), Some("root"))));
        for id in [ANONYMOUS, "root"] {
            store.apply(store.index().next(), Command::Acl(Change::Set(token(id, "own", Kind::Client))));
        }
        duty.observe(at(1), true, &store);
        assert_eq!((duty.poll_timeout(), take(&mut duty, at(1))), (None, vec![]));
    }

    #[test]
    fn a_restoration_may_have_taken_them_away() {
        use crate::api::snapshot::Step;
        use crate::store::image::Encoder;
        use uuid::Uuid;

        let (mut store, mut duty) = (Store::default(), Provider::new(&config(Some("dc1"), None)));
        store.apply(store.index().next(), Command::Acl(Change::Set(token(ANONYMOUS, "own", Kind::Client))));
        duty.observe(at(1), true, &store);
        let id = Uuid::from_u128(1);
        let pieces: Vec<_> = Encoder::new(bytes::Bytes::new(), Store::default(), 1000).collect();
        let finish = Step::Finish { pieces: u32::try_from(pieces.len()).unwrap() };
        let steps = (0..).zip(pieces).map(|(number, bytes)| Step::Piece { number, bytes });
        for step in steps.chain([finish]) {
            store.apply(store.index().next(), Command::Restore { id, step }).response.unwrap();
        }
        duty.observe(at(2), true, &store);
        assert_eq!(take(&mut duty, at(2)).len(), 1);
    }

    #[test]
    fn nothing_is_provided_where_no_tokens_are_kept() {
        for (keeper, wanted) in [(None, 0), (Some("dc2"), 0), (Some("dc1"), 1)] {
            assert_eq!(Provider::new(&config(keeper, Some(""))).wanted.len(), wanted, "{keeper:?}");
        }
    }
}
