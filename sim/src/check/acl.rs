//! Tokens, and what they allowed at each index: an implementation of our own, fed by the committed log. It reads only the rules that
//! [`written`] writes, and knows nothing of Lictor's way to look them up.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use lictor_core::api::acl::{ANONYMOUS, Kind, Token};
use lictor_core::id::Index;
use lictor_core::store::acl::Command;

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Key,
    Event,
}

/// What a rule allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Access {
    Deny,
    Read,
    Write,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) subject: Subject,
    pub(crate) prefix: String,
    pub(crate) access: Access,
}

impl Rule {
    fn words(&self) -> (&'static str, &'static str) {
        let subject = match self.subject {
            Subject::Key => "key",
            Subject::Event => "event",
        };
        let access = match self.access {
            Access::Deny => "deny",
            Access::Read => "read",
            Access::Write => "write",
        };
        (subject, access)
    }

    fn read(line: &str) -> Option<Self> {
        let mut parts = line.split('"');
        let (subject, prefix, _, access) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let subject = match subject.trim() {
            "key" => Subject::Key,
            "event" => Subject::Event,
            _ => return None,
        };
        let access = match access {
            "deny" => Access::Deny,
            "read" => Access::Read,
            "write" => Access::Write,
            _ => return None,
        };
        Some(Self { subject, prefix: prefix.to_owned(), access })
    }
}

/// Rules as text, in one of the forms that Lictor reads. The number makes each text the only one of its kind.
pub(crate) fn written(rules: &[Rule], number: u64) -> String {
    let mut text = format!("# {number}\n");
    for rule in rules {
        let (subject, access) = rule.words();
        let _ = writeln!(text, "{subject} \"{}\" {{ policy = \"{access}\" }}", rule.prefix);
    }
    text
}

/// What a token allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rights<'a> {
    /// There is no such token.
    Unknown,
    /// It is a management token.
    Everything,
    /// What its rules say, and where they are silent, nothing or all.
    Rules(&'a [Rule], Access),
}

impl Rights<'_> {
    pub(crate) fn are_known(&self) -> bool {
        *self != Self::Unknown
    }

    pub(crate) fn may_manage(&self) -> bool {
        *self == Self::Everything
    }

    pub(crate) fn may_read(&self, subject: Subject, name: &[u8]) -> bool {
        self.over(subject, name) >= Access::Read
    }

    pub(crate) fn may_write(&self, subject: Subject, name: &[u8]) -> bool {
        self.over(subject, name) == Access::Write
    }

    /// Whether all keys with a prefix may be written.
    pub(crate) fn may_write_below(&self, prefix: &[u8]) -> bool {
        let denies = |rule: &Rule| {
            rule.prefix.as_bytes().starts_with(prefix) && !self.may_write(rule.subject, rule.prefix.as_bytes())
        };
        let within = match self {
            Self::Rules(rules, _) => rules.iter().filter(|rule| rule.subject == Subject::Key).any(denies),
            Self::Unknown | Self::Everything => false,
        };
        self.may_write(Subject::Key, prefix) && !within
    }

    fn over(&self, subject: Subject, name: &[u8]) -> Access {
        match self {
            Self::Unknown => Access::Deny,
            Self::Everything => Access::Write,
            Self::Rules(rules, silent) => {
                let concerns = |rule: &&Rule| rule.subject == subject && name.starts_with(rule.prefix.as_bytes());
                // Of two for one prefix the later one holds.
                let longest = rules.iter().filter(concerns).max_by_key(|rule| rule.prefix.len());
                longest.map_or(*silent, |rule| rule.access)
            }
        }
    }
}

/// A token from one index on.
#[derive(Clone, Debug)]
struct Version {
    index: Index,
    /// `None` if it was destroyed.
    held: Option<(Token, Vec<Rule>)>,
}

/// All versions of all tokens.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    by_id: BTreeMap<String, Vec<Version>>,
    /// When each was asked to be destroyed, whether or not it was there.
    destroyed: BTreeMap<String, Vec<Index>>,
}

impl Tokens {
    /// A change is committed.
    pub(crate) fn apply(&mut self, index: Index, command: Command) {
        match command {
            Command::Set(token) => self.enter(index, token),
            Command::Provide(token) => {
                if self.token(&token.id, index).is_none() {
                    self.enter(index, token);
                }
            }
            Command::Clone { source, id } => {
                if let Some(token) = self.token(&source, index).cloned() {
                    self.enter(index, Token { id, ..token });
                }
            }
            Command::Destroy { id } => {
                if self.token(&id, index).is_some() {
                    self.by_id.entry(id.clone()).or_default().push(Version { index, held: None });
                }
                self.destroyed.entry(id).or_default().push(index);
            }
        }
    }

    fn enter(&mut self, index: Index, token: Token) {
        let created = self.token(&token.id, index).map_or(index, |before| before.create_index);
        let token = Token { create_index: created, modify_index: index, ..token };
        let rules = token.rules.lines().filter_map(Rule::read).collect();
        self.by_id.entry(token.id.clone()).or_default().push(Version { index, held: Some((token, rules)) });
    }

    fn held(&self, id: &str, at: Index) -> Option<&(Token, Vec<Rule>)> {
        let versions = self.by_id.get(id)?;
        let last = versions.partition_point(|version| version.index <= at).checked_sub(1)?;
        versions[last].held.as_ref()
    }

    /// A token as of an index.
    pub(crate) fn token(&self, id: &str, at: Index) -> Option<&Token> {
        self.held(id, at).map(|(token, _)| token)
    }

    /// All tokens as of an index, by ID.
    pub(crate) fn all(&self, at: Index) -> impl Iterator<Item = &Token> {
        self.by_id.keys().filter_map(move |id| self.token(id, at))
    }

    /// What a token, or the lack of one, allows as of an index.
    pub(crate) fn rights(&self, id: Option<&str>, at: Index, silent: Access) -> Rights<'_> {
        match self.held(id.unwrap_or(ANONYMOUS), at) {
            Some((Token { kind: Kind::Management, .. }, _)) => Rights::Everything,
            Some((_, rules)) => Rights::Rules(rules, silent),
            None if id.is_none_or(|id| id == ANONYMOUS) => Rights::Rules(&[], silent),
            None => Rights::Unknown,
        }
    }

    /// The indexes after `low` and up to `high` at which a token changed, or any if none is named.
    pub(crate) fn changes(&self, id: Option<&str>, low: Index, high: Index) -> impl Iterator<Item = Index> {
        let concerned = self.by_id.iter().filter(move |(known, _)| id.is_none_or(|id| id == known.as_str()));
        let indexes = concerned.flat_map(|(_, versions)| versions.iter().map(|version| version.index));
        indexes.filter(move |index| low < *index && *index <= high)
    }

    /// When a token was given these rules, which no other was given first; or when it came to be.
    pub(crate) fn entered(&self, id: &str, rules: Option<&str>) -> Option<Index> {
        let versions = self.by_id.get(id)?.iter();
        let fits = |version: &&Version| {
            version.held.as_ref().is_some_and(|(token, _)| rules.is_none_or(|rules| token.rules == rules))
        };
        versions.filter(fits).map(|version| version.index).next()
    }

    /// The first index after `low` at which a token was to be destroyed.
    pub(crate) fn destroyed(&self, id: &str, low: Index) -> Option<Index> {
        self.destroyed.get(id)?.iter().copied().find(|index| *index > low)
    }

    /// Whether any token was ever given these rules.
    pub(crate) fn were_ever(&self, rules: &str) -> bool {
        let held = self.by_id.values().flatten().filter_map(|version| version.held.as_ref());
        held.into_iter().any(|(token, _)| token.rules == rules)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(prefix: &str, access: Access) -> Rule {
        Rule { subject: Subject::Key, prefix: prefix.to_owned(), access }
    }

    fn set(id: &str, rules: &[Rule]) -> Command {
        let (create_index, modify_index) = (Index(0), Index(0));
        let (id, name, rules) = (id.to_owned(), String::new(), written(rules, 7));
        Command::Set(Token { id, name, kind: Kind::Client, rules, create_index, modify_index })
    }

    #[test]
    fn each_index_has_its_rights() {
        let mut tokens = Tokens::default();
        tokens.apply(Index(3), set("a", &[rule("k", Access::Read), rule("k/x", Access::Write)]));
        tokens.apply(Index(5), Command::Clone { source: "a".to_owned(), id: "b".to_owned() });
        tokens.apply(Index(6), set("a", &[rule("k", Access::Write), rule("k/no", Access::Deny)]));
        tokens.apply(Index(8), Command::Destroy { id: "a".to_owned() });
        let rights = |id, at| tokens.rights(Some(id), Index(at), Access::Deny);
        assert_eq!(rights("a", 2), Rights::Unknown);
        let (reads, writes) = (
            |r: &Rights<'_>, key: &[u8]| r.may_read(Subject::Key, key),
            |r: &Rights<'_>, key: &[u8]| r.may_write(Subject::Key, key),
        );
        for early in [rights("a", 5), rights("b", 9)] {
            assert!(
                reads(&early, b"k/") && !writes(&early, b"k/") && writes(&early, b"k/x") && !reads(&early, b"other")
            );
        }
        let late = rights("a", 7);
        assert!(writes(&late, b"k/x") && !reads(&late, b"k/no/x"));
        assert!(late.may_write_below(b"k/x") && !late.may_write_below(b"k") && !late.may_write_below(b"k/no/x"));
        assert_eq!(rights("a", 8), Rights::Unknown);
        assert!(tokens.rights(None, Index(1), Access::Write).may_write_below(b""));
        assert_eq!(tokens.changes(Some("a"), Index(3), Index(8)).collect::<Vec<_>>(), [Index(6), Index(8)]);
        assert_eq!((tokens.destroyed("a", Index(7)), tokens.destroyed("a", Index(8))), (Some(Index(8)), None));
        assert_eq!(
            tokens.all(Index(7)).map(|token| (token.create_index.0, token.modify_index.0)).collect::<Vec<_>>(),
            [(3, 6), (5, 5)]
        );
    }
}
