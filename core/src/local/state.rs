//! The states of checks: told by users, found out by probes, expired, and critical for too long.

use super::definition::{Kind, is_state};
use super::kept::{KeptState, STATES, forget, keep_state};
use super::schedule::Due;
use super::sync::Item;
use super::{Local, News, Order, verdict};
use crate::api::Error;
use crate::api::health::CRITICAL;
use crate::id::ProbeId;
use crate::probe::{Finding, Probe};
use crate::time::{Duration, Instant};

/// States that are kept at a time.
const STATES_AT_ONCE: usize = 64;

impl Local {
    /// Takes what a user tells of a check with a time to live.
    ///
    /// # Errors
    /// If that is no state, or the check is none that is told of.
    pub fn update_check(&mut self, now: Instant, id: &str, status: &str, output: String) -> Result<(), Error> {
        if !is_state(status) {
            return Err(Error::BadCheckStatus(status.to_owned()));
        }
        let known_time = self.dawn.is_some();
        let Some((check, ttl)) = self.registry.check_mut(id).and_then(|check| match check.kind {
            Kind::Ttl(ttl) => Some((check, ttl)),
            _ => None,
        }) else {
            return Err(Error::NoTtl(id.to_owned()));
        };
        let output = verdict::told(output);
        // What the disk says holds for nearly as long, if only the time has changed: a heartbeat is not worth a write.
        let same = check.told && check.shown.status == status && check.shown.output == output;
        let fresh = check.kept_at.is_some_and(|at| !known_time || now.since(at) < ttl / 4);
        check.told = true;
        if !(same && fresh) {
            (check.kept_at, check.is_kept) = (Some(now), true);
            self.stale.insert(id.to_owned());
        }
        self.schedule.set(Due::Expiry(id.to_owned()), now + ttl);
        self.set_state(now, id, status, output);
        Ok(())
    }

    /// Takes what a probe has found out.
    pub fn handle_probed(&mut self, now: Instant, probe: ProbeId, finding: Finding) {
        let Some(id) = self.schedule.end(probe) else { return };
        let Some(check) = self.registry.check_mut(&id) else { return };
        let Kind::Probed(plan) = &check.kind else { return };
        let (status, output) = verdict::of(&plan.question, plan.timeout, finding);
        check.told = true;
        self.schedule.set(Due::Run(id.clone()), now + plan.interval);
        self.set_state(now, &id, status, output);
    }

    /// A probe has taken so long that it will not be answered any more.
    pub(super) fn give_up(&mut self, now: Instant, probe: ProbeId) {
        self.orders.push_back(Order::Cancel(probe));
        self.handle_probed(now, probe, Finding::TimedOut);
    }

    /// Nobody has told anything of a check for too long.
    pub(super) fn expire(&mut self, now: Instant, id: &str) {
        let Some(check) = self.registry.check_mut(id) else { return };
        let last = if check.told { check.shown.output.clone() } else { String::new() };
        if std::mem::take(&mut check.told) {
            self.stale.insert(id.to_owned());
        }
        self.set_state(now, id, CRITICAL, verdict::expired(&last));
    }

    /// Runs the checks that are due, as far as there are places.
    pub(super) fn begin_probes(&mut self, now: Instant) {
        while let Some((id, check)) = self.schedule.begin(now, self.options.probes) {
            let Some(Kind::Probed(plan)) = self.registry.check(&check).map(|check| &check.kind) else {
                self.schedule.end(id);
                continue;
            };
            let (question, timeout) = (plan.question.clone(), plan.timeout);
            self.schedule.expect_answer(id, now, timeout);
            self.orders.push_back(Order::Probe(Probe { id, question, timeout }));
        }
    }

    /// A check is in this state. The catalog is told at once if the state is another, and later if only the output is: what
    /// changes with every run would otherwise be a write with every run.
    fn set_state(&mut self, now: Instant, id: &str, status: &str, output: String) {
        let interval = self.options.output_interval;
        let Some(check) = self.registry.check_mut(id) else { return };
        check.critical_since = if status == CRITICAL { check.critical_since.or(Some(now)) } else { None };
        let (same_status, same_output) = (check.shown.status == status, check.shown.output == output);
        if same_status && same_output {
            return;
        }
        check.shown.output = output;
        if same_status && !interval.is_zero() {
            let due = Due::Output(id.to_owned());
            if !self.schedule.is_set(&due) {
                let wait = interval / 2 + self.rng.duration(Duration::ZERO, interval);
                self.schedule.set(due, now + wait);
            }
            return;
        }
        self.schedule.clear(&Due::Output(id.to_owned()));
        self.sync.touch(Item::Check(id.to_owned()));
        if !same_status {
            status.clone_into(&mut check.shown.status);
            self.tell(News::Changed { check: id.to_owned(), status: status.to_owned() });
        }
    }

    /// Takes back the services of which a check has been critical for too long.
    pub(super) fn reap(&mut self, now: Instant) {
        let mut late = Vec::new();
        let mut any = false;
        for check in self.registry.checks().values() {
            let Some(after) = check.deregister_after else { continue };
            any = true;
            let service = &check.shown.service_id;
            if !service.is_empty() && check.critical_since.is_some_and(|since| now.since(since) > after) {
                late.push((service.clone(), check.shown.id.clone()));
            }
        }
        if any {
            self.schedule.set(Due::Reap, now + self.options.reap_interval);
        }
        for (service, check) in late {
            if self.registry.service(&service).is_none() {
                continue;
            }
            let changes = self.remove_service(&service);
            if !changes.is_empty() {
                self.orders.push_back(Order::Keep(changes));
            }
            self.tell(News::Reaped { service, check });
        }
    }

    /// The states that were to be kept are.
    pub fn states_kept(&mut self) {
        self.keeping = false;
    }

    /// Has the disk keep what was told of checks. Nobody waits for it, so it goes a batch at a time.
    pub(super) fn keep_states(&mut self) {
        if self.keeping || self.stale.is_empty() {
            return;
        }
        let mut changes = Vec::new();
        while changes.len() < STATES_AT_ONCE
            && let Some(id) = self.stale.pop_first()
        {
            let Some(check) = self.registry.check(&id) else { continue };
            let Kind::Ttl(ttl) = check.kind else { continue };
            if check.told {
                let told_at = check.kept_at.unwrap_or_default();
                let until = self.time_of_day(told_at).map(|time| time + ttl);
                let (status, output) = (check.shown.status.clone(), check.shown.output.clone());
                changes.push(keep_state(&KeptState { id, status, output, until }));
            } else {
                changes.push(forget(STATES, &id));
            }
        }
        if !changes.is_empty() {
            self.keeping = true;
            self.orders.push_back(Order::KeepStates(changes));
        }
    }
}
