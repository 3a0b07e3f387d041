//! When it is over: all who are expected have ended, or all are silent.

use super::expected::Expected;
use super::rollout::Rollout;
use super::{Initiator, News, Outcome, Purpose, Summary};
use crate::time::Instant;

impl Initiator {
    /// Of nodes that were told by their names, each has its own time to be silent in.
    pub(super) fn give_up_the_silent(&mut self, now: Instant) {
        let Some(rollout) = &self.rollout else { return };
        if !self.can_hear() {
            return;
        }
        let silent: Vec<String> = rollout
            .at_work()
            .filter(|(name, told)| now >= self.patience_with(name, *told))
            .map(|(name, _)| name.clone())
            .collect();
        for node in silent {
            self.node_ended(node, false);
        }
    }

    /// When a node that was told at `told` has been silent for too long.
    pub(super) fn patience_with(&self, name: &str, told: Instant) -> Instant {
        let since = self.nodes.heard(name).map_or(told, |heard| heard.max(told)).max(self.listening_since);
        since + if self.nodes.has_acknowledged(name) { 2 * self.options.wait } else { self.options.wait }
    }

    pub(super) fn tell_the_next(&mut self, now: Instant) {
        loop {
            let Some(rollout) = &mut self.rollout else { return };
            let nodes = rollout.next(now);
            if nodes.is_empty() {
                return;
            }
            self.quiet_since = now;
            self.fire(nodes);
        }
    }

    /// Whether all have ended of whom anything can be expected.
    pub(super) fn have_all_ended(&self) -> bool {
        if let Some(rollout) = &self.rollout {
            return rollout.is_over();
        }
        let Expected { nodes, certain } = &self.expected;
        let nobody_at_work = self.nodes.completed == self.nodes.acknowledged;
        *certain && !nodes.is_empty() && nobody_at_work && nodes.iter().all(|node| self.nodes.ended(node).is_some())
    }

    /// When it is over, as far as is known now.
    pub(super) fn next_end(&self) -> Instant {
        if let Some(settles) = self.settles {
            return settles;
        }
        match &self.rollout {
            Some(rollout) => {
                let silent = rollout.at_work().map(|(name, told)| self.patience_with(name, told)).min();
                silent.unwrap_or_else(|| self.quiet_end())
            }
            None => self.quiet_end(),
        }
    }

    /// When all have been silent for too long.
    pub(super) fn quiet_end(&self) -> Instant {
        let at_work = self.nodes.acknowledged > self.nodes.completed;
        self.quiet_since + if at_work { 2 * self.options.wait } else { self.options.wait }
    }

    /// Whether silence means anything.
    pub(super) fn can_hear(&self) -> bool {
        let firing = self.open.values().any(|purpose| matches!(purpose, Purpose::Fire(_)));
        let collects = self.collecting.as_ref().is_none_or(|collecting| collecting.troubled.is_none());
        // What there is to tell waits for the user: then there may be more that nobody has asked for yet.
        self.troubled.is_none() && collects && self.owed == 0 && self.nodes.is_idle() && !firing
    }

    pub(super) fn finish(&mut self, now: Instant) {
        let silent = |node: &&String| !self.nodes.has_acknowledged(node);
        let not_started = self.rollout.as_ref().map(Rollout::not_started).unwrap_or_default();
        let expected = self.expected.nodes.iter().filter(silent).filter(|node| !not_started.contains(node));
        let summary = Summary {
            completed: self.nodes.completed,
            acknowledged: self.nodes.acknowledged,
            failed: self.nodes.failed,
            unfinished: self.nodes.unfinished(),
            silent: expected.cloned().collect(),
            not_started,
            took: now.since(self.began),
        };
        // Who is told by his name and says nothing has failed, be it that nobody comes after him.
        let all_heard = self.rollout.is_none() || summary.silent.is_empty();
        let success = summary.is_success() && all_heard;
        let outcome = if success { Outcome::Success } else { Outcome::Unsuccessful };
        self.tell(News::Finished(summary));
        self.close(now, outcome);
    }

    pub(super) fn fail(&mut self, now: Instant, why: String) {
        self.tell(News::Failed(why));
        self.close(now, Outcome::Failed);
    }
}
