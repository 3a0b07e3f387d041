//! What may be done: a policy together with what holds where it is silent.

use std::sync::Arc;

use super::policy::{Access, Policy, Prefixes};

/// What somebody may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Everything,
    Limited { policy: Arc<Policy>, silent: Access },
}

/// The service that all servers are registered as. Whoever may not see any other may see that.
const SERVER_SERVICE: &str = "consul";

impl Authority {
    /// Everything, tokens included: with a management token, or where there is no access control.
    #[must_use]
    pub const fn everything() -> Self {
        Self(Kind::Everything)
    }

    /// What rules allow, and what the default policy allows where they are silent: all but the management of tokens, or nothing.
    #[must_use]
    pub const fn limited(policy: Arc<Policy>, allow_by_default: bool) -> Self {
        let silent = if allow_by_default { Access::Write } else { Access::Deny };
        Self(Kind::Limited { policy, silent })
    }

    /// Whether there are no limits at all: to see and change tokens, to save and restore the whole state.
    #[must_use]
    pub const fn may_manage(&self) -> bool {
        matches!(self.0, Kind::Everything)
    }

    /// Whether a key may be read.
    #[must_use]
    pub fn may_read_key(&self, key: &[u8]) -> bool {
        self.over(|policy| &policy.keys, key) >= Access::Read
    }

    /// Whether a key may be written.
    #[must_use]
    pub fn may_write_key(&self, key: &[u8]) -> bool {
        self.over(|policy| &policy.keys, key) >= Access::Write
    }

    /// Whether each key that begins with this may be written, whatever there is.
    #[must_use]
    pub fn may_write_keys_below(&self, prefix: &[u8]) -> bool {
        match &self.0 {
            Kind::Everything => true,
            Kind::Limited { policy, .. } => {
                self.may_write_key(prefix) && policy.keys.below(prefix).all(|access| access == Access::Write)
            }
        }
    }

    /// Whether a service may be seen. That of the servers always may, and so may what belongs to no service.
    #[must_use]
    pub fn may_read_service(&self, name: &str) -> bool {
        name.is_empty()
            || name == SERVER_SERVICE
            || self.over(|policy| &policy.services, name.as_bytes()) >= Access::Read
    }

    /// Whether a service may be registered. That of the servers always may, as agents do.
    #[must_use]
    pub fn may_write_service(&self, name: &str) -> bool {
        name == SERVER_SERVICE || self.over(|policy| &policy.services, name.as_bytes()) >= Access::Write
    }

    /// Whether user events of this name may be seen.
    #[must_use]
    pub fn may_read_event(&self, name: &str) -> bool {
        self.over(|policy| &policy.events, name.as_bytes()) >= Access::Read
    }

    /// Whether user events of this name may be fired.
    #[must_use]
    pub fn may_write_event(&self, name: &str) -> bool {
        self.over(|policy| &policy.events, name.as_bytes()) >= Access::Write
    }

    /// Whether a prepared query of this name may be seen.
    #[must_use]
    pub fn may_read_query(&self, name: &str) -> bool {
        self.over(|policy| &policy.queries, name.as_bytes()) >= Access::Read
    }

    /// Whether a prepared query of this name may be changed.
    #[must_use]
    pub fn may_write_query(&self, name: &str) -> bool {
        self.over(|policy| &policy.queries, name.as_bytes()) >= Access::Write
    }

    /// What may be done with the keys that gossip is encrypted with.
    #[must_use]
    pub fn over_keyring(&self) -> Access {
        self.over_all(|policy| policy.keyring)
    }

    /// What may be done with the cluster itself.
    #[must_use]
    pub fn over_operator(&self) -> Access {
        self.over_all(|policy| policy.operator)
    }

    /// What may be done with remote execution by HTTP.
    #[must_use]
    pub fn over_exec(&self) -> Access {
        self.over_all(|policy| policy.exec)
    }

    fn over(&self, rules: impl FnOnce(&Policy) -> &Prefixes, name: &[u8]) -> Access {
        match &self.0 {
            Kind::Everything => Access::Write,
            Kind::Limited { policy, silent } => rules(policy).of(name).unwrap_or(*silent),
        }
    }

    fn over_all(&self, rule: impl FnOnce(&Policy) -> Option<Access>) -> Access {
        match &self.0 {
            Kind::Everything => Access::Write,
            Kind::Limited { policy, silent } => rule(policy).unwrap_or(*silent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(allow_by_default: bool) -> Authority {
        let mut policy = Policy { operator: Some(Access::Read), ..Policy::default() };
        for (prefix, access) in [("a/", Access::Write), ("a/no/", Access::Deny), ("b/", Access::Read)] {
            policy.keys.insert(prefix, access);
            policy.services.insert(prefix, access);
        }
        Authority::limited(Arc::new(policy), allow_by_default)
    }

    #[test]
    fn rules_decide_and_where_they_are_silent_the_default_does() {
        for allow in [false, true] {
            let authority = limited(allow);
            let (reads, writes) = (|key: &[u8]| authority.may_read_key(key), |key: &[u8]| authority.may_write_key(key));
            assert_eq!((reads(b"a/x"), writes(b"a/x")), (true, true));
            assert_eq!((reads(b"a/no/x"), writes(b"a/no/x")), (false, false));
            assert_eq!((reads(b"b/x"), writes(b"b/x")), (true, false));
            assert_eq!((reads(b"c"), writes(b"c")), (allow, allow));
            assert_eq!((authority.over_operator(), authority.over_exec() == Access::Write), (Access::Read, allow));
            assert!(!authority.may_manage());
        }
    }

    #[test]
    fn a_tree_may_be_written_if_no_rule_within_forbids_it() {
        let (strict, open) = (limited(false), limited(true));
        assert!(!strict.may_write_keys_below(b"a/"), "a/no/ is denied");
        assert!(strict.may_write_keys_below(b"a/yes"));
        assert!(!open.may_write_keys_below(b""), "a/no/ is within");
        assert!(open.may_write_keys_below(b"c"));
        assert!(Authority::everything().may_write_keys_below(b""));
    }

    #[test]
    fn the_service_of_the_servers_is_open() {
        let authority = Authority::limited(Arc::default(), false);
        assert!(authority.may_read_service("consul") && authority.may_write_service("consul"));
        assert!(authority.may_read_service("") && !authority.may_read_service("consul-x"));
        assert!(!authority.may_write_service(""));
    }
}
