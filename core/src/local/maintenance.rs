//! Services and nodes under maintenance: a check that is critical as long as it is there.

use super::Local;
use super::definition::Kind;
use super::kept::{Change, KeptCheck, keep_check};
use super::register::Begin;
use super::registry::{Check, Origin};
use crate::api::health::CRITICAL;
use crate::api::{Error, catalog};
use crate::time::Instant;

/// The check that a node has while it is under maintenance.
pub const NODE_MAINTENANCE: &str = "_node_maintenance";
/// What the ID of the check begins with that a service has while it is under maintenance; the service's ID follows.
pub const SERVICE_MAINTENANCE: &str = "_service_maintenance:";

const NODE_NAME: &str = "Node Maintenance Mode";
const SERVICE_NAME: &str = "Service Maintenance Mode";
const NODE_REASON: &str =
    "Maintenance mode is enabled for this node, but no reason was provided. This is a default message.";
const SERVICE_REASON: &str =
    "Maintenance mode is enabled for this service, but no reason was provided. This is a default message.";

impl Local {
    /// Begins or ends maintenance of a service. If it is as wanted, nothing changes, nor does the reason. Gives what is to be
    /// kept.
    ///
    /// # Errors
    /// If there is no such service, or there are too many checks.
    pub fn set_service_maintenance(
        &mut self,
        now: Instant,
        service: &str,
        enable: bool,
        (reason, token): (&str, &str),
    ) -> Result<Vec<Change>, Error> {
        if service.is_empty() {
            return Err(Error::NoServiceNamed);
        }
        if self.registry.service(service).is_none() {
            return Err(Error::ServiceNotRegistered(service.to_owned()));
        }
        self.set_maintenance(now, service, enable, (reason, token))
    }

    /// Begins or ends maintenance of the whole node. If it is as wanted, nothing changes, nor does the reason. Gives what is to
    /// be kept.
    ///
    /// # Errors
    /// If there are too many checks.
    pub fn set_node_maintenance(
        &mut self,
        now: Instant,
        enable: bool,
        (reason, token): (&str, &str),
    ) -> Result<Vec<Change>, Error> {
        self.set_maintenance(now, "", enable, (reason, token))
    }

    fn set_maintenance(
        &mut self,
        now: Instant,
        service: &str,
        enable: bool,
        (reason, token): (&str, &str),
    ) -> Result<Vec<Change>, Error> {
        let id = id_of(service);
        match (enable, self.registry.check(&id).is_some()) {
            (true, true) | (false, false) => Ok(Vec::new()),
            (false, true) => Ok(self.remove_check(&id)),
            (true, false) => {
                self.has_room_for_checks(1)?;
                self.put_maintenance(now, service, reason, token);
                let (service, reason, token) = (service.to_owned(), reason.to_owned(), token.to_owned());
                Ok(vec![keep_check(&id, &KeptCheck::Maintenance { service, reason, token })])
            }
        }
    }

    /// Puts a service, or the node, under maintenance.
    pub(super) fn put_maintenance(&mut self, now: Instant, service: &str, reason: &str, token: &str) {
        let (name, default) =
            if service.is_empty() { (NODE_NAME, NODE_REASON) } else { (SERVICE_NAME, SERVICE_REASON) };
        let shown = catalog::Check {
            id: id_of(service),
            name: name.to_owned(),
            status: CRITICAL.to_owned(),
            notes: if reason.is_empty() { default } else { reason }.to_owned(),
            service_id: service.to_owned(),
            ..catalog::Check::default()
        };
        let check = Check {
            shown,
            token: token.to_owned(),
            origin: Origin::Client,
            kind: Kind::Maintenance,
            told: false,
            critical_since: None,
            deregister_after: None,
            kept_at: None,
            is_kept: false,
        };
        self.begin_check(now, check, Begin::AsTold);
    }
}

/// The ID of the check that says that a service, or with an empty ID the node, is under maintenance.
pub(super) fn id_of(service: &str) -> String {
    if service.is_empty() { NODE_MAINTENANCE.to_owned() } else { format!("{SERVICE_MAINTENANCE}{service}") }
}
