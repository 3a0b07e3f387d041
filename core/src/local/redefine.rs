//! Taking over what the configuration files define now.

use std::collections::BTreeSet;

use super::Local;
use super::definition::{Sound, sound_check, sound_service};
use super::kept::{CHECKS, Change, SERVICES, forget};
use super::register::Begin;
use super::registry::Origin;
use crate::api::Error;
use crate::api::agent::{CheckDefinition, Definitions};
use crate::error::Busy;
use crate::time::Instant;

impl Local {
    /// Takes over what the files define, in place of what they defined before: what they do not define any more is taken back.
    /// A service or check of theirs takes the place of a client's with the same ID. Checks that are still there keep their
    /// states. Gives what is to be kept no more.
    ///
    /// # Errors
    /// What is wrong with the first wrong definition. Then nothing changes.
    pub fn redefine(&mut self, now: Instant, definitions: &Definitions) -> Result<Vec<Change>, Error> {
        let (services, checks) = self.sound(definitions)?;
        let mut changes = Vec::new();
        let named: BTreeSet<_> = services.iter().map(|sound| &sound.service.id).collect();
        for id in self.of_files(self.registry.services().values().map(|it| (&it.shown.id, it.origin)), &named) {
            changes.extend(self.remove_service(&id));
        }
        let named: BTreeSet<_> =
            services.iter().flat_map(|sound| &sound.checks).chain(&checks).map(|check| &check.id).collect();
        for id in self.of_files(self.registry.checks().values().map(|it| (&it.shown.id, it.origin)), &named) {
            changes.extend(self.remove_check(&id));
        }
        for sound in services {
            if self.registry.service(&sound.service.id).is_some_and(|service| service.origin == Origin::Client) {
                changes.push(forget(SERVICES, &sound.service.id));
            }
            changes.extend(sound.checks.iter().filter_map(|check| self.displace(check)));
            self.put_service(now, sound, Origin::File);
        }
        for check in checks {
            changes.extend(self.displace(&check));
            self.put_check(now, check, Origin::File, Begin::AsItWas);
        }
        Ok(changes)
    }

    /// What the files define, if all of it can be registered.
    fn sound(&self, definitions: &Definitions) -> Result<(Vec<Sound>, Vec<CheckDefinition>), Error> {
        let services: Vec<_> =
            definitions.services.iter().map(|it| sound_service(it, &self.options)).collect::<Result<_, _>>()?;
        let checks: Vec<_> =
            definitions.checks.iter().map(|it| sound_check(it, &self.options)).collect::<Result<_, _>>()?;
        let mut ids: BTreeSet<_> = services.iter().map(|sound| &sound.service.id).collect();
        let clients = self.registry.services().values().filter(|service| service.origin == Origin::Client);
        ids.extend(clients.map(|service| &service.shown.id));
        if let Some(stray) =
            checks.iter().find(|check| !check.service_id.is_empty() && !ids.contains(&check.service_id))
        {
            return Err(Error::NoSuchService(stray.service_id.clone()));
        }
        if ids.len() > self.options.services {
            return Err(Error::Busy { what: Busy::Services, limit: self.options.services as u64 });
        }
        let theirs = services.iter().map(|sound| sound.checks.len()).sum::<usize>() + checks.len();
        let clients = self.registry.checks().values().filter(|check| check.origin == Origin::Client).count();
        if theirs + clients > self.options.checks {
            return Err(Error::Busy { what: Busy::Checks, limit: self.options.checks as u64 });
        }
        Ok((services, checks))
    }

    /// The IDs of those that the files defined, and that are not among the `named`.
    fn of_files<'a>(&self, all: impl Iterator<Item = (&'a String, Origin)>, named: &BTreeSet<&String>) -> Vec<String> {
        all.filter(|(id, origin)| *origin == Origin::File && !named.contains(id)).map(|(id, _)| id.clone()).collect()
    }

    /// The change that forgets a client's check, if this one takes its place.
    fn displace(&self, check: &CheckDefinition) -> Option<Change> {
        let old = self.registry.check(&check.id)?;
        (old.origin == Origin::Client).then(|| forget(CHECKS, &check.id))
    }
}
