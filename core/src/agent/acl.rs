//! Tokens, before they enter the log.

use super::sessions::Judge;
use crate::acl::{MAX_RULES_BYTES, Policy};
use crate::api::Error;
use crate::api::acl::{ANONYMOUS, Kind, Request, Token, Wanted, is_built_in};
use crate::id::Index;
use crate::store::Command;
use crate::store::acl::Command as Change;
use crate::wire;

/// The most bytes that a token may be of: its rules, and as much as anybody needs for its ID and its name.
const TOKEN_BYTES: usize = MAX_RULES_BYTES + (4 << 10);

/// Refuses a token that is too large, wherever the request would run.
pub(super) fn check_token(request: &Request) -> Result<(), Error> {
    let rules = if let Request::Set(wanted) = request { wanted.rules.len() } else { 0 };
    let limit = match wire::size(request) {
        _ if rules > MAX_RULES_BYTES => MAX_RULES_BYTES,
        size if size > TOKEN_BYTES => TOKEN_BYTES,
        _ => return Ok(()),
    };
    Err(Error::TokenTooLarge { limit })
}

/// Whether a request creates a token whose ID is drawn.
pub(super) fn draws_id(request: &Request) -> bool {
    match request {
        Request::Set(wanted) => wanted.id.is_empty(),
        Request::Clone { .. } => true,
        Request::Destroy { .. } | Request::Info { .. } | Request::List { .. } | Request::Permit(_) => false,
    }
}

impl Judge<'_> {
    /// The command for a write of tokens.
    pub(super) fn acl(&self, request: &Request) -> Result<Command, Error> {
        let change = match request {
            Request::Set(wanted) => Change::Set(self.token(wanted)?),
            Request::Clone { id } => Change::Clone { source: id.clone(), id: self.fresh.to_string() },
            Request::Destroy { id } if id == ANONYMOUS => return Err(Error::AnonymousStays),
            Request::Destroy { id } => Change::Destroy { id: id.clone() },
            other => unreachable!("{other:?} is no write"),
        };
        Ok(Command::Acl(change))
    }

    fn token(&self, wanted: &Wanted) -> Result<Token, Error> {
        let Wanted { id, name, kind, rules } = wanted;
        let kind = Kind::parse(kind).ok_or(Error::BadTokenKind)?;
        if is_built_in(id) {
            return Err(Error::RootStays);
        }
        Policy::parse(rules).map_err(|bad| Error::BadRules(bad.0))?;
        Ok(Token {
            id: if id.is_empty() { self.fresh.to_string() } else { id.clone() },
            name: name.clone(),
            kind,
            rules: rules.clone(),
            create_index: Index(0),
            modify_index: Index(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::acl::Authority;
    use crate::agent::lock_delay::LockDelays;
    use crate::config::Limits;
    use crate::store::Store;
    use crate::time::Instant;

    fn judged(request: &Request) -> Result<Command, Error> {
        check_token(request)?;
        let (limits, store, lock_delays) = (Limits::default(), Store::default(), LockDelays::default());
        let fresh = Uuid::from_u128(7);
        let judge = Judge {
            now: Instant::ZERO,
            limits: &limits,
            store: &store,
            lock_delays: &lock_delays,
            authority: &Authority::everything(),
            fresh,
        };
        judge.acl(request)
    }

    fn set(id: &str, kind: &str, rules: &str) -> Request {
        Request::Set(Wanted { id: id.to_owned(), name: "n".to_owned(), kind: kind.to_owned(), rules: rules.to_owned() })
    }

    #[test]
    fn a_token_gets_an_id_unless_it_has_one() {
        for (id, expected) in [("", "00000000-0000-0000-0000-000000000007"), ("own", "own")] {
            let request = set(id, "management", "# none");
            assert_eq!(draws_id(&request), id.is_empty());
            let Ok(Command::Acl(Change::Set(token))) = judged(&request) else { panic!("{id}") };
            assert_eq!((token.id.as_str(), token.kind, token.rules.as_str()), (expected, Kind::Management, "# none"));
        }
        let (source, id) = ("own".to_owned(), "00000000-0000-0000-0000-000000000007".to_owned());
        let request = Request::Clone { id: source.clone() };
        assert!(draws_id(&request));
        assert_eq!(judged(&request), Ok(Command::Acl(Change::Clone { source, id })));
    }

    #[test]
    fn what_is_wrong_with_a_token_is_found_before_the_log() {
        assert_eq!(judged(&set("a", "", "{{")), Err(Error::BadTokenKind), "the kind is looked at first");
        assert_eq!(judged(&set("manage", "client", "")), Err(Error::RootStays));
        let bad = "Invalid key policy: acl.KeyPolicy{Prefix:\"\", Policy:\"bogus\"}".to_owned();
        assert_eq!(judged(&set("a", "client", "key \"\" { policy = \"bogus\" }")), Err(Error::BadRules(bad)));
        assert!(matches!(judged(&set("a", "management", "{{")), Err(Error::BadRules(_))));
        assert_eq!(judged(&Request::Destroy { id: ANONYMOUS.to_owned() }), Err(Error::AnonymousStays));
        let id = "nosuch".to_owned();
        assert_eq!(judged(&Request::Destroy { id: id.clone() }), Ok(Command::Acl(Change::Destroy { id })));
    }

    #[test]
    fn a_token_is_bounded() {
        let comment = |bytes: usize| format!("#{}", "x".repeat(bytes - 1));
        assert!(judged(&set("a", "client", &comment(MAX_RULES_BYTES))).is_ok());
        let limit = MAX_RULES_BYTES;
        assert_eq!(judged(&set("a", "client", &comment(limit + 1))), Err(Error::TokenTooLarge { limit }));
        let limit = TOKEN_BYTES;
        assert_eq!(judged(&set(&comment(limit), "client", "")), Err(Error::TokenTooLarge { limit }));
        assert_eq!(judged(&Request::Clone { id: comment(limit) }), Err(Error::TokenTooLarge { limit }));
    }
}
