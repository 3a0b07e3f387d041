//! The services and checks that are registered, and nothing of what is done about them.

use std::collections::{BTreeMap, BTreeSet};

use super::definition::Kind;
use crate::api::catalog;
use crate::time::{Duration, Instant};

/// Who registered something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The configuration files, which say it again at every start.
    File,
    /// A client. It is kept on the disk.
    Client,
}

/// A registered service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    /// What the catalog is to say of it.
    pub(super) shown: catalog::Service,
    /// On whose behalf.
    pub(super) token: String,
    pub(super) origin: Origin,
}

/// A registered check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    /// What the catalog is to say of it.
    pub(super) shown: catalog::Check,
    /// On whose behalf.
    pub(super) token: String,
    pub(super) origin: Origin,
    pub(super) kind: Kind,
    /// Its state is not only what its definition began with: it was told or found out, and has not expired.
    pub(super) told: bool,
    /// Since when it has been critical, counted from its last registration.
    pub(super) critical_since: Option<Instant>,
    /// After how long in the critical state its service is taken back.
    pub(super) deregister_after: Option<Duration>,
    /// Of a time to live: when what the disk says of its state was told, if that was in this life.
    pub(super) kept_at: Option<Instant>,
    /// The disk has a file for its state.
    pub(super) is_kept: bool,
}

/// All that is registered.
///
/// Invariants: `of_service` holds the IDs of exactly all `checks`, by the services that they are of (the empty ID for the
/// node's own); every check of a service is of one in `services`.
#[derive(Debug, Default)]
pub(super) struct Registry {
    services: BTreeMap<String, Service>,
    checks: BTreeMap<String, Check>,
    of_service: BTreeMap<String, BTreeSet<String>>,
    counts: Counts,
}

/// How much is registered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Services.
    pub services: usize,
    /// Checks of all kinds.
    pub checks: usize,
    /// Those with a time to live.
    pub ttls: usize,
    /// Those that are run.
    pub monitors: usize,
}

impl Counts {
    /// The number of checks of this kind; none is kept of those for maintenance.
    fn of(&mut self, kind: &Kind) -> Option<&mut usize> {
        match kind {
            Kind::Ttl(_) => Some(&mut self.ttls),
            Kind::Probed(_) => Some(&mut self.monitors),
            Kind::Maintenance => None,
        }
    }
}

impl Registry {
    pub(super) fn counts(&self) -> Counts {
        Counts { services: self.services.len(), checks: self.checks.len(), ..self.counts }
    }

    pub(super) const fn services(&self) -> &BTreeMap<String, Service> {
        &self.services
    }

    pub(super) const fn checks(&self) -> &BTreeMap<String, Check> {
        &self.checks
    }

    pub(super) fn service(&self, id: &str) -> Option<&Service> {
        self.services.get(id)
    }

    pub(super) fn service_mut(&mut self, id: &str) -> Option<&mut Service> {
        self.services.get_mut(id)
    }

    pub(super) fn check(&self, id: &str) -> Option<&Check> {
        self.checks.get(id)
    }

    /// A check, to be changed in anything but the service that it is of.
    pub(super) fn check_mut(&mut self, id: &str) -> Option<&mut Check> {
        self.checks.get_mut(id)
    }

    /// The IDs of a service's checks, or of the node's own.
    pub(super) fn checks_of(&self, service: &str) -> impl Iterator<Item = &String> {
        self.of_service.get(service).into_iter().flatten()
    }

    pub(super) fn put_service(&mut self, service: Service) {
        self.services.insert(service.shown.id.clone(), service);
    }

    pub(super) fn remove_service(&mut self, id: &str) -> Option<Service> {
        self.services.remove(id)
    }

    pub(super) fn put_check(&mut self, check: Check) {
        let id = check.shown.id.clone();
        self.remove_check(&id);
        self.of_service.entry(check.shown.service_id.clone()).or_default().insert(id.clone());
        self.counts.of(&check.kind).into_iter().for_each(|count| *count += 1);
        self.checks.insert(id, check);
    }

    pub(super) fn remove_check(&mut self, id: &str) -> Option<Check> {
        let check = self.checks.remove(id)?;
        self.counts.of(&check.kind).into_iter().for_each(|count| *count -= 1);
        if let Some(ids) = self.of_service.get_mut(&check.shown.service_id) {
            ids.remove(id);
            if ids.is_empty() {
                self.of_service.remove(&check.shown.service_id);
            }
        }
        Some(check)
    }

    /// Panics if an invariant does not hold.
    pub(super) fn assert_invariants(&self) {
        let indexed: BTreeSet<_> =
            self.of_service.iter().flat_map(|(service, ids)| ids.iter().map(move |id| (service, id))).collect();
        let there: BTreeSet<_> = self.checks.iter().map(|(id, check)| (&check.shown.service_id, id)).collect();
        assert_eq!(indexed, there);
        let of_kind = |wanted: fn(&Kind) -> bool| self.checks.values().filter(|check| wanted(&check.kind)).count();
        assert_eq!(self.counts.ttls, of_kind(|kind| matches!(kind, Kind::Ttl(_))));
        assert_eq!(self.counts.monitors, of_kind(|kind| matches!(kind, Kind::Probed(_))));
        for service in self.of_service.keys().filter(|service| !service.is_empty()) {
            assert!(self.services.contains_key(service), "checks of {service}, which is not registered");
        }
    }
}
