//! What is registered when an agent starts: what its files define comes before what it had kept.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::definition::{Kind, Sound, kind, sound_check, sound_service};
use super::kept::{CHECKS, Change, KeptCheck, KeptState, SERVICES, STATES, forget};
use super::register::Begin;
use super::registry::Origin;
use super::schedule::Due;
use super::{Local, News, Order, maintenance};
use crate::api::Error;
use crate::api::agent::{CheckDefinition, Definitions, ServiceDefinition};
use crate::api::health::CRITICAL;
use crate::file::FileName;
use crate::keep;
use crate::time::Instant;

impl Local {
    pub(super) fn restore(&mut self, now: Instant, defined: &Definitions, files: &BTreeMap<FileName, Bytes>) {
        let mut needless = Vec::new();
        for definition in &defined.services {
            match sound_service(definition, &self.options) {
                Ok(sound) => self.put_service(now, sound, Origin::File),
                Err(error) => {
                    self.leave_out(format!("service '{}' of the configuration files", definition.name), error);
                }
            }
        }
        for service in self.read::<ServiceDefinition>(files, SERVICES) {
            if self.registry.service(&service.id).is_some() {
                needless.push(forget(SERVICES, &service.id));
            } else {
                self.put_service(now, Sound { service, checks: Vec::new() }, Origin::Client);
            }
        }
        for definition in &defined.checks {
            match sound_check(definition, &self.options).and_then(|check| self.of_known_service(check)) {
                Ok(check) => self.put_check(now, check, Origin::File, Begin::AsTold),
                Err(error) => self.leave_out(format!("check '{}' of the configuration files", definition.name), error),
            }
        }
        for check in self.read::<KeptCheck>(files, CHECKS) {
            needless.extend(self.restore_check(now, check));
        }
        for state in self.read::<KeptState>(files, STATES) {
            needless.extend(self.restore_state(now, state));
        }
        if !needless.is_empty() {
            self.orders.push_back(Order::Keep(needless));
        }
    }

    /// What the files in a folder keep. Those that cannot be read are left alone: somebody may still want to look at them.
    fn read<T: DeserializeOwned>(&mut self, files: &BTreeMap<FileName, Bytes>, folder: &str) -> Vec<T> {
        let folder = format!("{}{folder}", keep::FOLDER);
        let mut read = Vec::new();
        for (file, bytes) in files.range(folder.clone()..).take_while(|(file, _)| file.starts_with(&folder)) {
            match keep::open(bytes) {
                Ok(value) => read.push(value),
                Err(reason) => self.tell(News::Unreadable { file: file.clone(), reason }),
            }
        }
        read
    }

    fn leave_out(&mut self, what: String, error: Error) {
        self.tell(News::LeftOut { what, error });
    }

    /// A check, if the service that it is of is there.
    pub(super) fn of_known_service(&self, check: CheckDefinition) -> Result<CheckDefinition, Error> {
        if check.service_id.is_empty() || self.registry.service(&check.service_id).is_some() {
            Ok(check)
        } else {
            Err(Error::NoSuchService(check.service_id))
        }
    }

    /// Registers a check that was kept. Gives the change that forgets it, if it is not to be kept any more.
    fn restore_check(&mut self, now: Instant, kept: KeptCheck) -> Option<Change> {
        let (id, service) = match &kept {
            KeptCheck::Defined(check) => (check.id.clone(), check.service_id.clone()),
            KeptCheck::Maintenance { service, .. } => (maintenance::id_of(service), service.clone()),
        };
        if self.registry.check(&id).is_some() {
            return Some(forget(CHECKS, &id));
        }
        if !service.is_empty() && self.registry.service(&service).is_none() {
            self.tell(News::Orphan { check: id.clone() });
            return Some(forget(CHECKS, &id));
        }
        match kept {
            KeptCheck::Maintenance { service, reason, token } => self.put_maintenance(now, &service, &reason, &token),
            KeptCheck::Defined(check) => {
                // What may have happened meanwhile, nobody knows: users are not sent there before it is.
                let check = CheckDefinition { status: CRITICAL.to_owned(), ..*check };
                if kind(&check, &self.options).is_none() {
                    return Some(forget(CHECKS, &id));
                }
                if let Err(error) = sound_check(&check, &self.options) {
                    self.tell(News::LeftOut { what: format!("check '{id}', which was kept,"), error });
                    return None;
                }
                self.put_check(now, check, Origin::Client, Begin::AsTold);
            }
        }
        None
    }

    /// Takes over what was told of a check, if it still holds. Gives the change that forgets it, if it does not.
    fn restore_state(&mut self, now: Instant, state: KeptState) -> Option<Change> {
        let time = self.time_of_day(now);
        let expired = matches!((time, state.until), (Some(time), Some(until)) if until <= time);
        let check = self.registry.check_mut(&state.id).filter(|check| matches!(check.kind, Kind::Ttl(_)));
        let (Some(check), false) = (check, expired) else {
            return Some(forget(STATES, &state.id));
        };
        check.critical_since = (state.status == CRITICAL).then_some(now);
        check.shown.status = state.status;
        check.shown.output = state.output;
        check.told = true;
        check.is_kept = true;
        if let Kind::Ttl(ttl) = check.kind {
            self.schedule.set(Due::Expiry(state.id), now + ttl);
        }
        None
    }
}
