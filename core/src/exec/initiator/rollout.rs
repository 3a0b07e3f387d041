//! One after another: which nodes are told next, and when no further ones are.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use super::options::{Canary, Options};
use crate::time::Instant;

/// The most bytes that the names of nodes take in one event. It is to fit, with all else that it carries, into the 512 bytes of
/// Consul's.
const NAMES_BYTES: usize = 200;

/// Nodes that are told one after another.
#[derive(Debug)]
pub(super) struct Rollout {
    waiting: VecDeque<String>,
    /// Those that have been told and have not ended, with the time when they were told.
    at_work: BTreeMap<String, Instant>,
    /// How many may be at work.
    parallel: usize,
    /// How many are still to succeed before all others follow; none are told beyond these until then.
    canaries: usize,
    /// Of the canaries, those that have not been told yet.
    canaries_waiting: usize,
    stopped: bool,
    room: usize,
}

impl Rollout {
    pub(super) fn new(nodes: impl IntoIterator<Item = String>, options: &Options) -> Self {
        let waiting: VecDeque<String> = nodes.into_iter().collect();
        let canaries = options.canary.map_or(0, |canary: Canary| canary.of(waiting.len()));
        Self {
            parallel: options.max_parallel.unwrap_or(usize::MAX),
            canaries,
            canaries_waiting: canaries,
            waiting,
            at_work: BTreeMap::new(),
            stopped: false,
            room: NAMES_BYTES.saturating_sub(options.service.len() + options.tag.len()),
        }
    }

    /// The nodes that are to be told now, as many as one event has room for; to be called until there are none.
    pub(super) fn next(&mut self, now: Instant) -> Vec<String> {
        if self.stopped {
            return Vec::new();
        }
        let free = self.parallel.saturating_sub(self.at_work.len());
        let allowed = if self.canaries > 0 { free.min(self.canaries_waiting) } else { free };
        let (mut names, mut bytes) = (Vec::new(), 0);
        while names.len() < allowed {
            let Some(name) = self.waiting.front() else { break };
            bytes += quoted(name).len() + 1;
            if bytes > self.room && !names.is_empty() {
                break;
            }
            names.extend(self.waiting.pop_front());
        }
        self.canaries_waiting = self.canaries_waiting.saturating_sub(names.len());
        self.at_work.extend(names.iter().map(|name| (name.clone(), now)));
        names
    }

    /// Those at work, with the time when they were told.
    pub(super) fn at_work(&self) -> impl Iterator<Item = (&String, Instant)> {
        self.at_work.iter().map(|(name, told)| (name, *told))
    }

    /// A node has ended. Gives whether that stops the others.
    pub(super) fn ended(&mut self, name: &str, success: bool) -> bool {
        if self.at_work.remove(name).is_none() {
            return false;
        }
        if success {
            self.canaries = self.canaries.saturating_sub(1);
            return false;
        }
        let stops = !self.stopped && !self.waiting.is_empty();
        self.stopped = true;
        stops
    }

    /// Whether nobody is at work, and nobody will be told any more.
    pub(super) fn is_over(&self) -> bool {
        self.at_work.is_empty() && (self.stopped || self.waiting.is_empty())
    }

    /// Those that have not been told.
    pub(super) fn not_started(&self) -> Vec<String> {
        self.waiting.iter().cloned().collect()
    }
}

/// An expression for these very names.
pub(super) fn exactly(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    match &names[..] {
        [name] => format!("^{name}$"),
        names => format!("^({})$", names.join("|")),
    }
}

fn quoted(name: &str) -> String {
    let mut quoted = String::with_capacity(name.len());
    for sign in name.chars() {
        if "\\.+*?()|[]{}^$".contains(sign) {
            quoted.push('\\');
        }
        let _ = quoted.write_char(sign);
    }
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::pattern;

    fn names(number: usize) -> Vec<String> {
        (0..number).map(|n| format!("node-{n:03}")).collect()
    }

    fn rollout(nodes: usize, max_parallel: Option<usize>, canary: Option<Canary>) -> Rollout {
        Rollout::new(names(nodes), &Options { max_parallel, canary, ..Options::default() })
    }

    #[test]
    fn as_many_are_at_work_as_may_be() {
        let mut rollout = rollout(5, Some(2), None);
        assert_eq!(rollout.next(Instant::ZERO), ["node-000", "node-001"]);
        assert!(rollout.next(Instant::ZERO).is_empty());
        assert!(!rollout.ended("node-001", true));
        assert_eq!(rollout.next(Instant::ZERO), ["node-002"]);
        assert!(!rollout.ended("node-001", false), "it has ended already");
        assert!(rollout.ended("node-000", false), "a failure stops");
        assert!(rollout.next(Instant::ZERO).is_empty() && !rollout.is_over());
        rollout.ended("node-002", true);
        assert!(rollout.is_over());
        assert_eq!(rollout.not_started(), ["node-003", "node-004"]);
    }

    #[test]
    fn canaries_go_first() {
        let mut rollout = rollout(5, Some(3), Some(Canary::Percent(40)));
        assert_eq!(rollout.next(Instant::ZERO).len(), 2);
        rollout.ended("node-000", true);
        assert!(rollout.next(Instant::ZERO).is_empty(), "one is still at work");
        rollout.ended("node-001", true);
        assert_eq!(rollout.next(Instant::ZERO).len(), 3);
    }

    #[test]
    fn an_event_has_room_for_some_names() {
        let mut rollout = rollout(100, None, None);
        let (mut told, mut events) = (Vec::new(), 0);
        loop {
            let names = rollout.next(Instant::ZERO);
            if names.is_empty() {
                break;
            }
            assert!(exactly(&names).len() <= NAMES_BYTES + 4);
            told.extend(names);
            events += 1;
        }
        assert_eq!(told, names(100));
        assert_eq!(events, 5);
    }

    #[test]
    fn a_long_name_is_told_alone() {
        let long = "x".repeat(500);
        let mut rollout = Rollout::new([long.clone(), "y".to_owned()], &Options::default());
        assert_eq!(rollout.next(Instant::ZERO), [long]);
        assert_eq!(rollout.next(Instant::ZERO), ["y"]);
    }

    proptest! {
        #[test]
        fn names_mean_themselves_alone(names in prop::collection::vec("[ -~]{1,12}", 1..5), other in "[ -~]{1,12}") {
            let expression = pattern::compile(&exactly(&names)).unwrap();
            for name in &names {
                prop_assert!(expression.is_match(name.as_bytes()));
            }
            prop_assert_eq!(expression.is_match(other.as_bytes()), names.contains(&other));
        }
    }
}
