//! Registering services and checks, and taking them back.

use super::definition::{self, Kind, Sound, kind, sound_check, sound_service};
use super::kept::{CHECKS, Change, KeptCheck, SERVICES, STATES, forget, keep_check, keep_service};
use super::registry::{Check, Origin, Service};
use super::schedule::Due;
use super::sync::{Gone, Item};
use super::{Local, News, Order};
use crate::api::agent::{CheckDefinition, ServiceDefinition};
use crate::api::health::{CRITICAL, SERF_CHECK_ID, SERVER_SERVICE};
use crate::api::{Error, catalog};
use crate::error::Busy;
use crate::time::{Duration, Instant};

/// What a check that is registered again begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// With the state that it had, if that was told or found out; else with what the definition says.
    AsTold,
    /// With the state that it had, if it was there at all.
    AsItWas,
}

impl Local {
    /// Registers a service with its checks, in place of an older one with its ID. Checks that the older one had and the new
    /// one does not name stay; those that it had keep their states. Gives what is to be kept.
    ///
    /// # Errors
    /// [`Error::BadDefinition`], or [`Error::Busy`] if there are too many.
    pub fn register_service(&mut self, now: Instant, definition: &ServiceDefinition) -> Result<Vec<Change>, Error> {
        let sound = sound_service(definition, &self.options)?;
        self.has_room(&sound)?;
        let mut changes = vec![keep_service(&sound.service)];
        for check in &sound.checks {
            changes.push(keep_check(&check.id, &KeptCheck::Defined(Box::new(check.clone()))));
        }
        self.put_service(now, sound, Origin::Client);
        Ok(changes)
    }

    /// Takes back a service with its checks. Gives what is to be kept no more. That there is none is no error, and the
    /// catalog's is struck out even then.
    ///
    /// # Errors
    /// If the ID is empty.
    pub fn deregister_service(&mut self, id: &str) -> Result<Vec<Change>, Error> {
        if id.is_empty() {
            return Err(Error::MissingServiceId);
        }
        Ok(self.remove_service(id))
    }

    /// Registers a check, in place of an older one with its ID. Gives what is to be kept.
    ///
    /// # Errors
    /// [`Error::BadDefinition`], [`Error::NoSuchService`], or [`Error::Busy`] if there are too many.
    pub fn register_check(&mut self, now: Instant, definition: &CheckDefinition) -> Result<Vec<Change>, Error> {
        let check = sound_check(definition, &self.options)?;
        if !check.service_id.is_empty() && self.registry.service(&check.service_id).is_none() {
            return Err(Error::NoSuchService(check.service_id));
        }
        if self.registry.check(&check.id).is_none() {
            self.has_room_for_checks(1)?;
        }
        let changes = vec![keep_check(&check.id, &KeptCheck::Defined(Box::new(check.clone())))];
        self.put_check(now, check, Origin::Client, Begin::AsTold);
        Ok(changes)
    }

    /// Takes back a check. Gives what is to be kept no more. That there is none is no error, and the catalog's is struck out
    /// even then.
    ///
    /// # Errors
    /// If the ID is empty.
    pub fn deregister_check(&mut self, id: &str) -> Result<Vec<Change>, Error> {
        if id.is_empty() {
            return Err(Error::MissingCheckId);
        }
        Ok(self.remove_check(id))
    }

    pub(super) fn put_service(&mut self, now: Instant, sound: Sound, origin: Origin) {
        let token = sound.service.token.clone();
        let shown = definition::shown(&self.me.name, sound.service);
        let (id, name) = (shown.id.clone(), shown.name.clone());
        self.registry.put_service(Service { shown, token, origin });
        self.sync.touch(Item::Service(id.clone()));
        for check in sound.checks {
            self.put_check(now, check, origin, Begin::AsItWas);
        }
        // Checks carry the name of their service.
        let others: Vec<_> = self.registry.checks_of(&id).cloned().collect();
        for check in others {
            let Some(found) = self.registry.check_mut(&check) else { continue };
            if found.shown.service_name != name {
                found.shown.service_name.clone_from(&name);
                self.sync.touch(Item::Check(check));
            }
        }
    }

    /// Registers a check whose definition is sound, and whose service is there.
    pub(super) fn put_check(&mut self, now: Instant, definition: CheckDefinition, origin: Origin, begin: Begin) {
        let Some(kind) = kind(&definition, &self.options) else { return };
        if definition::kinds_named(&definition) > 1 {
            self.tell(News::SeveralKinds { check: definition.id.clone() });
        }
        let deregister_after = definition::deregister_after(&definition, &self.options);
        let CheckDefinition { id, name, notes, service_id, status, token, .. } = definition;
        let status = if status.is_empty() { CRITICAL.to_owned() } else { status };
        let shown = catalog::Check { id, name, notes, service_id, status, ..catalog::Check::default() };
        self.begin_check(
            now,
            Check {
                shown,
                token,
                origin,
                kind,
                told: false,
                critical_since: None,
                deregister_after,
                kept_at: None,
                is_kept: false,
            },
            begin,
        );
    }

    /// Registers a check, in place of an older one.
    pub(super) fn begin_check(&mut self, now: Instant, mut check: Check, begin: Begin) {
        check.shown.node.clone_from(&self.me.name);
        let service = self.registry.service(&check.shown.service_id);
        check.shown.service_name = service.map_or_else(String::new, |service| service.shown.name.clone());
        let id = check.shown.id.clone();
        let old = self.registry.remove_check(&id);
        if let Some(old) = &old
            && (old.told || begin == Begin::AsItWas)
        {
            check.shown.status.clone_from(&old.shown.status);
            check.shown.output.clone_from(&old.shown.output);
            (check.told, check.kept_at, check.is_kept) = (old.told, old.kept_at, old.is_kept);
        }
        if check.shown.status == CRITICAL {
            check.critical_since = Some(now);
        }
        let goes_on = old.as_ref().is_some_and(|old| old.kind == check.kind);
        if old.is_some() && (!goes_on || !matches!(check.kind, Kind::Probed(_))) {
            self.stop(&id);
        }
        match &check.kind {
            // Who registers a service again and again would otherwise keep its checks from ever being run.
            Kind::Probed(_) if goes_on => {}
            Kind::Probed(plan) => {
                let first = now + self.rng.duration(Duration::ZERO, plan.interval);
                self.schedule.set(Due::Run(id.clone()), first);
            }
            Kind::Ttl(ttl) => self.schedule.set(Due::Expiry(id.clone()), now + *ttl),
            Kind::Maintenance => {}
        }
        if check.deregister_after.is_some() && !self.schedule.is_set(&Due::Reap) {
            self.schedule.set(Due::Reap, now + self.options.reap_interval);
        }
        self.registry.put_check(check);
        self.schedule.clear(&Due::Output(id.clone()));
        self.sync.touch(Item::Check(id));
    }

    /// Nothing of a check is done any more.
    fn stop(&mut self, check: &str) {
        if let Some(probe) = self.schedule.forget(check) {
            self.orders.push_back(Order::Cancel(probe));
        }
    }

    pub(super) fn remove_service(&mut self, id: &str) -> Vec<Change> {
        let service = self.registry.remove_service(id);
        if service.is_none() && id == SERVER_SERVICE {
            return Vec::new();
        }
        let checks: Vec<_> = self.registry.checks_of(id).cloned().collect();
        let mut changes = Vec::new();
        for check in checks {
            changes.extend(self.remove_check(&check));
        }
        if service.as_ref().is_some_and(|service| service.origin == Origin::Client) {
            changes.push(forget(SERVICES, id));
        }
        let token = service.map(|service| service.token).unwrap_or_default();
        self.sync.gone(Item::Service(id.to_owned()), Gone { token, service: String::new() });
        changes
    }

    pub(super) fn remove_check(&mut self, id: &str) -> Vec<Change> {
        let check = self.registry.remove_check(id);
        if check.is_none() && id == SERF_CHECK_ID {
            return Vec::new();
        }
        self.stop(id);
        self.stale.remove(id);
        let mut changes = Vec::new();
        let mut gone = Gone::default();
        if let Some(check) = check {
            if check.origin == Origin::Client {
                changes.push(forget(CHECKS, id));
            }
            if check.is_kept {
                changes.push(forget(STATES, id));
            }
            gone = Gone { token: check.token, service: check.shown.service_id };
        }
        self.sync.gone(Item::Check(id.to_owned()), gone);
        changes
    }

    fn has_room(&self, sound: &Sound) -> Result<(), Error> {
        let is_new = self.registry.service(&sound.service.id).is_none();
        let limit = self.options.services;
        if is_new && self.registry.services().len() >= limit {
            return Err(Error::Busy { what: Busy::Services, limit: limit as u64 });
        }
        self.has_room_for_checks(sound.checks.iter().filter(|check| self.registry.check(&check.id).is_none()).count())
    }

    pub(super) fn has_room_for_checks(&self, new: usize) -> Result<(), Error> {
        let limit = self.options.checks;
        if new > 0 && self.registry.checks().len() + new > limit {
            return Err(Error::Busy { what: Busy::Checks, limit: limit as u64 });
        }
        Ok(())
    }
}
