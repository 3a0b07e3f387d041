//! The rows of sessions and of locks, and their bytes.

use super::catalog_row::{Sink, take_texts};
use super::fields::{BadRow, Fields};
use crate::api::session::{Behavior, Session, Ttl};
use crate::id::{Index, SessionId};
use crate::store::Delay;

/// A row of what there is beside the sessions themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionRow<'a> {
    /// When any session last came or went.
    Changed(Index),
    /// When one of a node last did.
    Mark { index: Index, node: &'a str },
    /// A key that cannot be locked for a while.
    Delay { delay: Delay, key: &'a [u8] },
}

/// The numbers of the kinds. See [`super::row::kind`].
pub(super) mod kind {
    pub(in crate::store::image) const CHANGED: u8 = 15;
    pub(in crate::store::image) const MARK: u8 = 16;
    pub(in crate::store::image) const DELAY: u8 = 17;
}

impl<'a> SessionRow<'a> {
    /// The number of its kind.
    pub(super) const fn kind(&self) -> u8 {
        match self {
            Self::Changed(_) => kind::CHANGED,
            Self::Mark { .. } => kind::MARK,
            Self::Delay { .. } => kind::DELAY,
        }
    }

    /// How many bytes its fields take.
    pub(super) fn len(&self) -> usize {
        let mut length = 0;
        self.put_into(&mut length);
        length
    }

    /// Puts its fields into `out`.
    pub(super) fn put_into(&self, out: &mut impl Sink) {
        match self {
            Self::Changed(index) => out.put_index(*index),
            Self::Mark { index, node } => {
                out.put_index(*index);
                out.put_text(node);
            }
            Self::Delay { delay, key } => {
                out.put_index(delay.since);
                out.put_duration(delay.length);
                out.put_count(key.len());
                out.put(key);
            }
        }
    }

    /// Takes the fields of a row of this kind.
    pub(super) fn decode(kind: u8, fields: &mut Fields<'a>) -> Result<Self, BadRow> {
        Ok(match kind {
            kind::CHANGED => Self::Changed(fields.index()?),
            kind::MARK => Self::Mark { index: fields.index()?, node: fields.text()? },
            kind::DELAY => {
                let delay = Delay { since: fields.index()?, length: fields.duration()? };
                Self::Delay { delay, key: fields.bytes()? }
            }
            unknown => return Err(BadRow::Unknown(unknown)),
        })
    }
}

/// Puts a session's fields into `out`.
pub(super) fn put_session(session: &Session, out: &mut impl Sink) {
    let Session { id, name, node, checks, lock_delay, behavior, ttl, create_index } = session;
    out.put(id.0.as_bytes());
    out.put_index(*create_index);
    [name, node].into_iter().for_each(|text| out.put_text(text));
    out.put_count(checks.len());
    checks.iter().for_each(|check| out.put_text(check));
    out.put_duration(*lock_delay);
    out.put_bool(*behavior == Behavior::Delete);
    out.put_text(&ttl.text);
    out.put(&ttl.nanos.to_le_bytes());
}

/// Takes a session's fields.
pub(super) fn take_session(fields: &mut Fields<'_>) -> Result<Session, BadRow> {
    Ok(Session {
        id: SessionId(fields.uuid()?),
        create_index: fields.index()?,
        name: fields.owned()?,
        node: fields.owned()?,
        checks: take_texts(fields)?,
        lock_delay: fields.duration()?,
        behavior: if fields.bool()? { Behavior::Delete } else { Behavior::Release },
        ttl: Ttl { text: fields.owned()?, nanos: fields.u64()?.cast_signed() },
    })
}
