//! Rules, as they are looked up.

use std::collections::BTreeMap;
use std::ops::Bound;

/// What a rule allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Nothing.
    Deny,
    /// To read.
    Read,
    /// To read and to write.
    Write,
}

impl Access {
    /// The access of this name; `None` if there is none.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "deny" => Some(Self::Deny),
            "read" => Some(Self::Read),
            "write" => Some(Self::Write),
            _ => None,
        }
    }
}

/// Rules by prefix: the one with the longest prefix of a name decides about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefixes(BTreeMap<Vec<u8>, Access>);

impl Prefixes {
    /// Adds a rule. Of two for the same prefix the later one holds.
    pub fn insert(&mut self, prefix: impl Into<Vec<u8>>, access: Access) {
        self.0.insert(prefix.into(), access);
    }

    /// What is allowed with a name; `None` if no rule speaks of it.
    #[must_use]
    pub fn of(&self, name: &[u8]) -> Option<Access> {
        // Each prefix of the name sorts before it: only those between can be longer than one that is found on the way down.
        let mut upper = name;
        loop {
            let (prefix, access) = self.0.range::<[u8], _>((Bound::Unbounded, Bound::Included(upper))).next_back()?;
            let common = prefix.iter().zip(name).take_while(|(a, b)| a == b).count();
            if common == prefix.len() {
                return Some(*access);
            }
            // It branches off: whatever is a prefix of the name is a prefix of what they share.
            upper = &name[..common];
        }
    }

    /// The rules for names that begin with this.
    pub fn below<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = Access> + 'a {
        let from = self.0.range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded));
        from.take_while(move |(name, _)| name.starts_with(prefix)).map(|(_, access)| *access)
    }

    /// How many rules there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// All rules of a token. What is `None` or not mentioned is left to the default policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Keys.
    pub keys: Prefixes,
    /// Services, by name.
    pub services: Prefixes,
    /// User events, by name.
    pub events: Prefixes,
    /// Prepared queries, by name.
    pub queries: Prefixes,
    /// The keys that gossip is encrypted with.
    pub keyring: Option<Access>,
    /// The cluster itself.
    pub operator: Option<Access>,
    /// Remote execution by HTTP: ours alone. To read lists jobs, to write begins them.
    pub exec: Option<Access>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_longest_prefix_decides(rules in prop::collection::btree_map("[ab/]{0,5}", 0u8..3, 0..8), name in "[ab/]{0,7}") {
            let access = |number: &u8| [Access::Deny, Access::Read, Access::Write][usize::from(*number)];
            let mut prefixes = Prefixes::default();
            rules.iter().for_each(|(prefix, number)| prefixes.insert(prefix.as_bytes(), access(number)));
            let longest = rules.iter().filter(|(prefix, _)| name.starts_with(prefix.as_str())).max_by_key(|(prefix, _)| prefix.len());
            prop_assert_eq!(prefixes.of(name.as_bytes()), longest.map(|(_, number)| access(number)));
            let below = rules.iter().filter(|(prefix, _)| prefix.starts_with(&name)).map(|(_, number)| access(number));
            prop_assert_eq!(prefixes.below(name.as_bytes()).collect::<Vec<_>>(), below.collect::<Vec<_>>());
        }
    }
}
