//! The last checks before the log, and the turn from a request into a command.
//!
//! Whatever is random or depends on the time is fixed here, so that every server applies the same.

use bytes::Bytes;

use uuid::Uuid;

use super::Agent;
use super::acl::{check_token, draws_id};
use super::calls::Stage;
use super::prepared::check_query;
use super::sessions::{Judge, check_session};
use crate::acl::Authority;
use crate::api::catalog::Registration;
use crate::api::snapshot::Step;
use crate::api::{Error, Request, Response, catalog, coordinate, kv, operator, prepared, session, snapshot};
use crate::error::Busy;
use crate::id::{SessionId, Ticket};
use crate::raft::{Entry, Position};
use crate::store::Command;
use crate::store::kv::{Command as Kv, Mode};
use crate::wire;

/// The most of an image that one step of a restoration may bring: it is one entry of the log.
const PIECE_BYTES: usize = 1 << 20;

/// The most bytes that a registration may be of: it is one entry of the log too.
const REGISTRATION_BYTES: usize = 512 << 10;

impl Agent {
    /// Refuses what is too large, wherever it would run.
    pub(super) fn check_limits(&self, request: &Request) -> Result<(), Error> {
        let limits = &self.config.limits;
        if let Request::Snapshot(snapshot::Request::Restore { step: Step::Piece { bytes, .. }, .. }) = request
            && bytes.len() > PIECE_BYTES
        {
            let text = format!("a step of {} bytes is over the limit of {PIECE_BYTES}; take smaller ones", bytes.len());
            return Err(Error::MalformedImage(text));
        }
        if let Request::Catalog(catalog::Request::Register(_) | catalog::Request::Deregister(_)) = request
            && wire::size(request) > REGISTRATION_BYTES
        {
            return Err(Error::RegistrationTooLarge { limit: REGISTRATION_BYTES });
        }
        if let Request::Session(request) = request {
            if wire::size(request) > REGISTRATION_BYTES {
                return Err(Error::RegistrationTooLarge { limit: REGISTRATION_BYTES });
            }
            return check_session(request);
        }
        if let Request::Prepared(request) = request {
            if wire::size(request) > REGISTRATION_BYTES {
                return Err(Error::RegistrationTooLarge { limit: REGISTRATION_BYTES });
            }
            return check_query(request);
        }
        if let Request::Acl(request) = request {
            return check_token(request);
        }
        if let Request::Txn(txn) = request {
            return limits.check_txn(txn);
        }
        let Request::Kv(request) = request else { return Ok(()) };
        let (key, value) = match request {
            kv::Request::Put { key, value, .. } => (key, value.len()),
            kv::Request::Get { key, .. } | kv::Request::Delete { key, .. } => (key, 0),
            kv::Request::List { prefix, .. }
            | kv::Request::Keys { prefix, .. }
            | kv::Request::DeleteTree { prefix } => (prefix, 0),
        };
        if value > limits.value_bytes {
            return Err(Error::ValueTooLarge { limit: limits.value_bytes });
        }
        if key.len() > limits.key_bytes {
            return Err(Error::KeyTooLarge { limit: limits.key_bytes });
        }
        Ok(())
    }

    /// Brings the commands that are due of our own accord into the log. Nobody waits for them, and what is refused
    /// now for lack of room is not lost: the next leader finds it still to be done.
    pub(super) fn do_duties(&mut self) {
        self.end_lock_delays();
        while let Some(command) = self.duties.as_mut().and_then(|duties| duties.poll_command(self.now)) {
            self.propose_duty(&command);
        }
        let sight = self.pool.sight();
        let change = (self.duties.as_mut())
            .and_then(|duties| duties.poll_change(self.now, &self.config, &self.raft, &self.store, sight));
        if let Some(change) = change {
            // Refused now, it is still due the next time.
            let _ = self.change_members(change);
        }
    }

    /// Brings a command into the log that nobody waits for, if there is room for it.
    pub(super) fn propose_duty(&mut self, command: &Command) -> Option<Position> {
        let bytes = Bytes::from(wire::encode(command));
        if self.take_room(Entry::size_of(&bytes)) { self.raft.propose(bytes) } else { None }
    }

    /// Brings a write into the log. We lead, and it may be carried out.
    pub(super) fn propose(&mut self, ticket: Ticket, authority: &Authority) {
        let Some(open) = self.calls.get(ticket) else { return };
        if let (Request::Coordinate(coordinate::Request::Update(place)), Some(duties)) =
            (&open.call.request, &mut self.duties)
        {
            // It goes into the log with all others of the next seconds. If we lose it, the agent soon tells anew.
            duties.gather(self.now, place.clone());
            return self.reply(ticket, Ok(Response::Done(true)));
        }
        let request = &open.call.request;
        let creates = matches!(
            request,
            Request::Session(session::Request::Create(_)) | Request::Prepared(prepared::Request::Create(_))
        ) || matches!(request, Request::Acl(request) if draws_id(request));
        let judge = Judge {
            now: self.now,
            limits: &self.config.limits,
            store: &self.store,
            lock_delays: &self.lock_delays,
            authority,
            fresh: if creates { self.rng.uuid() } else { Uuid::nil() },
        };
        let command = match command_for(request, judge) {
            Ok(command) => command,
            Err(done) => return self.reply(ticket, done),
        };
        let bytes = Bytes::from(wire::encode(&command));
        let limit = self.config.limits.uncommitted_bytes;
        if self.raft.uncommitted_bytes() + bytes.len() > limit {
            let busy = Error::Busy { what: Busy::UncommittedBytes, limit: limit as u64 };
            return self.reply(ticket, Err(busy));
        }
        if !self.take_room(Entry::size_of(&bytes)) {
            return self.reply(ticket, Err(Error::DiskFull));
        }
        match self.raft.propose(bytes) {
            Some(position) => self.calls.enter(ticket, Stage::Proposed(position), None),
            // We are about to hand over: our successor shall have it, or we in a moment.
            None => self.hold_back(ticket),
        }
    }
}

/// The command for a write, or what to answer without one.
#[expect(clippy::result_large_err, reason = "an answer is made once for each call, and moved on at once")]
fn command_for(request: &Request, judge: Judge<'_>) -> Result<Command, crate::api::Reply> {
    let request = match request {
        Request::Kv(request) => request,
        Request::Operator(operator::Request::SetAutopilotConfiguration { settings, cas }) => {
            return Ok(Command::SetAutopilot { settings: settings.clone(), cas: *cas });
        }
        Request::Catalog(catalog::Request::Register(registration)) => {
            return Ok(Command::Register(Box::new(complete(registration).map_err(Err)?)));
        }
        Request::Catalog(catalog::Request::Deregister(deregistration)) if deregistration.node.is_empty() => {
            return Err(Err(Error::MissingNode));
        }
        Request::Catalog(catalog::Request::Deregister(deregistration)) => {
            return Ok(Command::Deregister(deregistration.clone()));
        }
        Request::Snapshot(snapshot::Request::Restore { id, step }) => {
            return Ok(Command::Restore { id: *id, step: step.clone() });
        }
        Request::Session(request) => return judge.session(request).map_err(Err),
        Request::Txn(request) => return judge.txn(request),
        Request::Prepared(request) => return judge.prepared(request).map_err(Err),
        Request::Acl(request) => return judge.acl(request).map_err(Err),
        // A leader that has no duties yet gathers nothing.
        Request::Coordinate(coordinate::Request::Update(place)) => {
            return Ok(Command::UpdateCoordinates(vec![place.clone()]));
        }
        _ => unreachable!("{request:?} is no write"),
    };
    Ok(Command::Kv(match request {
        kv::Request::Put { key, value, flags, mode } => {
            let mode = match mode {
                kv::PutMode::Set => Mode::Set,
                kv::PutMode::Cas(index) => Mode::Cas(*index),
                kv::PutMode::Acquire(session) | kv::PutMode::Release(session) if session.is_empty() => {
                    return Err(Err(Error::MissingSession));
                }
                kv::PutMode::Acquire(session) => {
                    let session = SessionId::parse(session).ok_or(Err(Error::MalformedSession))?;
                    judge.lock(key, session).ok_or(Ok(Response::Done(false)))?
                }
                // Whatever holds the key, it is not this.
                kv::PutMode::Release(session) => {
                    Mode::Unlock(SessionId::parse(session).ok_or(Ok(Response::Done(false)))?)
                }
            };
            Kv::Put { key: key.clone(), value: value.clone(), flags: *flags, mode }
        }
        kv::Request::Delete { key, cas } => Kv::Delete { key: key.clone(), cas: *cas },
        kv::Request::DeleteTree { prefix } => Kv::DeleteTree { prefix: prefix.clone() },
        kv::Request::Get { .. } | kv::Request::List { .. } | kv::Request::Keys { .. } => {
            unreachable!("{request:?} is no write")
        }
    }))
}

/// The registration with its IDs filled in, if it says what it must. What it says of a node that is not there, or of a service
/// without a name and an ID, is judged by the store.
fn complete(registration: &Registration) -> Result<Registration, Error> {
    let mut registration = registration.clone();
    if registration.node.name.is_empty() || registration.node.address.is_empty() {
        return Err(Error::MissingNodeOrAddress);
    }
    if let Some(service) = &mut registration.service {
        if service.id.is_empty() {
            service.id.clone_from(&service.name);
        }
        if service.name.is_empty() && !service.id.is_empty() {
            return Err(Error::MissingServiceName);
        }
    }
    for check in &mut registration.checks {
        if check.id.is_empty() {
            check.id.clone_from(&check.name);
        }
    }
    Ok(registration)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::lock_delay::LockDelays;
    use crate::api::catalog::{Check, Node, Service};
    use crate::config::Limits;
    use crate::store::Store;
    use crate::time::Instant;

    fn registration(node: &str, address: &str) -> Registration {
        let node = Node { name: node.to_owned(), address: address.to_owned(), ..Node::default() };
        Registration { node, ..Registration::default() }
    }

    #[test]
    fn a_registration_needs_a_node_with_an_address() {
        for (node, address) in [("", ""), ("a", ""), ("", "10.0.0.1")] {
            assert_eq!(complete(&registration(node, address)), Err(Error::MissingNodeOrAddress));
        }
        assert_eq!(complete(&registration("a", "no address")), Ok(registration("a", "no address")));
    }

    #[test]
    fn ids_stand_for_names_and_a_service_with_an_id_needs_a_name() {
        let mut given = registration("a", "x");
        given.service = Some(Service { name: "web".to_owned(), ..Service::default() });
        given.checks = vec![Check { name: "up".to_owned(), ..Check::default() }, Check::default()];
        let completed = complete(&given).unwrap();
        assert_eq!(completed.service.unwrap().id, "web");
        assert_eq!([&completed.checks[0].id, &completed.checks[1].id], ["up", ""]);
        given.service = Some(Service { id: "web-1".to_owned(), ..Service::default() });
        assert_eq!(complete(&given), Err(Error::MissingServiceName));
        given.service = Some(Service::default());
        assert!(complete(&given).is_ok(), "the store makes nothing of it, as Consul's does");
    }

    #[test]
    fn a_deregistration_needs_a_node() {
        let what = catalog::Deregistration { service_id: "x".to_owned(), ..catalog::Deregistration::default() };
        let (limits, store, lock_delays) = (Limits::default(), Store::default(), LockDelays::default());
        let judge = Judge {
            now: Instant::ZERO,
            limits: &limits,
            store: &store,
            lock_delays: &lock_delays,
            authority: &Authority::everything(),
            fresh: Uuid::nil(),
        };
        let command = command_for(&catalog::Request::Deregister(what).into(), judge);
        assert_eq!(command, Err(Err(Error::MissingNode)));
    }
}
