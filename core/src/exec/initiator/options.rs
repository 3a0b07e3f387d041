//! What may be wanted of a job, and whether it makes sense.

use crate::api::event::Event;
use crate::api::{Error, EventFilter};
use crate::event::Audience;
use crate::exec::layout::{DEFAULT_PREFIX, Order};
use crate::time::Duration;

/// How long nobody must be silent, if nothing else is said.
pub const DEFAULT_WAIT: Duration = Duration::from_secs(2);
/// How long the servers get to replicate a job, if nothing else is said.
pub const DEFAULT_WAIT_REPL: Duration = Duration::from_millis(200);
/// The longest of both times that is taken: more is a slip.
pub const LONGEST_WAIT: Duration = Duration::from_secs(86_400);

/// What is wanted of a job, beside what is to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What the keys begin with.
    pub prefix: String,
    /// A regular expression for the names of the nodes that are meant; empty for all.
    pub node: String,
    /// A regular expression for services: nodes that have one are meant; empty for all.
    pub service: String,
    /// With `service`: a regular expression for a tag of such a service; empty for all.
    pub tag: String,
    /// For how long nobody must have said anything before the job is taken to be over. Twice as long while
    /// somebody is known to be at work. Agents are told, and give a sign of life that often.
    pub wait: Duration,
    /// How long to wait between the job and the event, so that agents find the job on whichever server they ask.
    pub wait_repl: Duration,
    /// Where; the asked agent's own datacenter if absent.
    pub datacenter: Option<String>,
    /// On whose behalf; on the agent's if absent.
    pub token: Option<String>,
    /// Whether any server may answer what is asked of the store.
    pub stale: bool,
    /// On how many nodes it may run at a time; on all of them if absent.
    pub max_parallel: Option<usize>,
    /// Where it is tried first: the others follow only if it succeeds there.
    pub canary: Option<Canary>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            prefix: DEFAULT_PREFIX.to_owned(),
            node: String::new(),
            service: String::new(),
            tag: String::new(),
            wait: DEFAULT_WAIT,
            wait_repl: DEFAULT_WAIT_REPL,
            datacenter: None,
            token: None,
            stale: false,
            max_parallel: None,
            canary: None,
        }
    }
}

/// How many nodes are tried first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// So many.
    Nodes(usize),
    /// So many of a hundred, but at least one.
    Percent(u8),
}

impl Canary {
    /// Reads `3` or `10%`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('%') {
            Some(percent) => percent.parse().ok().filter(|percent| (1..=100).contains(percent)).map(Self::Percent),
            None => text.parse().ok().filter(|nodes| *nodes > 0).map(Self::Nodes),
        }
    }

    /// How many that is, of `all`.
    #[must_use]
    pub fn of(self, all: usize) -> usize {
        match self {
            Self::Nodes(nodes) => nodes.min(all),
            Self::Percent(percent) => (all * usize::from(percent)).div_ceil(100),
        }
    }
}

/// Why a job makes no sense. The texts are those of Consul's command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// There is nothing to run.
    #[error("Must specify a command to execute")]
    NoCommand,
    /// Tags are those of services.
    #[error("Cannot provide tag filter without service filter.")]
    TagAlone,
    /// A filter that is no regular expression.
    #[error("Failed to compile {which} filter regexp: {why}")]
    Filter {
        /// Which one.
        which: EventFilter,
        /// In Go's words.
        why: String,
    },
    /// A time that no job needs.
    #[error("{0} must not be above 24h")]
    TooLong(&'static str),
    /// Nothing can run nowhere.
    #[error("max-parallel must be at least 1")]
    NoParallel,
}

impl Options {
    /// Whether `order` makes sense with these.
    pub(super) fn check(&self, order: &Order) -> Result<(), Wrong> {
        let nothing = match order {
            Order::Command(line) => line.is_empty(),
            Order::Program(words) => words.first().is_none_or(String::is_empty),
            Order::Script(bytes) => bytes.is_empty(),
        };
        if nothing {
            return Err(Wrong::NoCommand);
        }
        self.audience()?;
        for (name, wait) in [("wait", self.wait), ("wait-repl", self.wait_repl)] {
            if wait > LONGEST_WAIT {
                return Err(Wrong::TooLong(name));
            }
        }
        if self.max_parallel == Some(0) {
            return Err(Wrong::NoParallel);
        }
        Ok(())
    }

    /// Whom the filters mean.
    pub(super) fn audience(&self) -> Result<Audience, Wrong> {
        Audience::of(&self.event()).map_err(|error| match error {
            Error::InvalidEventFilter { which, why } => Wrong::Filter { which, why },
            _ => Wrong::TagAlone,
        })
    }

    /// An event for all who are meant.
    pub(super) fn event(&self) -> Event {
        Event {
            node_filter: self.node.clone(),
            service_filter: self.service.clone(),
            tag_filter: self.tag.clone(),
            ..Event::default()
        }
    }

    /// Whether nodes are told one after another, each by its name.
    pub(super) const fn is_rolling(&self) -> bool {
        self.max_parallel.is_some() || self.canary.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canaries_are_numbers_or_parts() {
        assert_eq!(Canary::parse("3"), Some(Canary::Nodes(3)));
        assert_eq!(Canary::parse("10%"), Some(Canary::Percent(10)));
        for bad in ["", "0", "0%", "101%", "-1", "x", "5 %", "%"] {
            assert_eq!(Canary::parse(bad), None, "{bad}");
        }
        assert_eq!([1, 9, 10, 11, 100].map(|all| Canary::Percent(10).of(all)), [1, 1, 1, 2, 10]);
        assert_eq!((Canary::Nodes(3).of(2), Canary::Nodes(3).of(5)), (2, 3));
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_consuls_words() {
        let refused = |order: Order, change: &dyn Fn(&mut Options)| {
            let mut options = Options::default();
            change(&mut options);
            options.check(&order).map_err(|wrong| wrong.to_string())
        };
        let uptime = || Order::Command("uptime".to_owned());
        let says = |text: &str| Err(text.to_owned());
        assert_eq!(refused(uptime(), &|_| {}), Ok(()));
        assert_eq!(refused(Order::Command(String::new()), &|_| {}), says("Must specify a command to execute"));
        assert_eq!(refused(Order::Program(Vec::new()), &|_| {}), says("Must specify a command to execute"));
        assert_eq!(refused(Order::Script("".into()), &|_| {}), says("Must specify a command to execute"));
        assert_eq!(
            refused(uptime(), &|options| options.tag = "x".into()),
            says("Cannot provide tag filter without service filter.")
        );
        for (which, change) in [
            ("node", (|options| options.node = "(".into()) as fn(&mut Options)),
            ("service", |options| options.service = "(".into()),
            ("tag", |options| {
                options.service = "x".into();
                options.tag = "(".into();
            }),
        ] {
            let text = format!("Failed to compile {which} filter regexp: error parsing regexp: missing closing ): `(`");
            assert_eq!(refused(uptime(), &change), Err(text));
        }
        assert!(refused(uptime(), &|options| options.max_parallel = Some(0)).is_err());
        assert!(refused(uptime(), &|options| options.wait = Duration::MAX).is_err());
    }
}
