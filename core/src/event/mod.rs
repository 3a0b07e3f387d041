//! User events above gossip: the form in which they travel, whom they are meant for, and those that are kept.
//!
//! Gossip brings every event to every agent, once (see `gossip/user_event.rs`). Each agent then decides for itself whether the
//! event is meant for it ([`filter`]), and keeps the last ones that are ([`buffer`]). What a name, a payload and filters look
//! like on the way is decided here; gossip carries bytes.

pub mod buffer;
pub mod filter;
pub mod pattern;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use buffer::Buffer;
pub use filter::{Audience, Target};

use crate::api::event::Event;
use crate::gossip::{TimedEvent, UserEvent};
use crate::wire;

/// What the names of users' events begin with in the pool, so that they are told from what else may be fired there. It counts
/// against the size of an event, as it does in Serf.
pub const PREFIX: &str = "consul:event:";

/// The name of the events that ask for remote execution. They are no news for users.
pub const REMOTE_EXECUTION: &str = "_rexec";

/// The form of [`Body`]. Events of another form are ignored.
const VERSION: u8 = 1;

/// An event's payload, in the eyes of gossip, behind one byte with its version.
#[derive(Debug, Serialize, Deserialize)]
struct Body {
    payload: Bytes,
    node: String,
    service: String,
    tag: String,
}

/// The form in which an event travels.
#[must_use]
pub fn encode(event: &Event) -> UserEvent {
    let body = Body {
        payload: event.payload.clone(),
        node: event.node_filter.clone(),
        service: event.service_filter.clone(),
        tag: event.tag_filter.clone(),
    };
    let mut bytes = vec![VERSION];
    wire::encode_into(&body, &mut bytes);
    UserEvent { id: event.id, name: format!("{PREFIX}{}", event.name), payload: bytes.into() }
}

/// The event that came by gossip; `None` if it is none of a user, or of a version that we do not know.
#[must_use]
pub fn decode(timed: TimedEvent) -> Option<Event> {
    let TimedEvent { time, event: UserEvent { id, mut name, payload: bytes } } = timed;
    if !name.starts_with(PREFIX) {
        return None;
    }
    name.drain(..PREFIX.len());
    let (version, body) = bytes.split_first()?;
    if *version != VERSION {
        return None;
    }
    let Body { payload, node, service, tag } = wire::decode(body).ok()?;
    Some(Event { id, name, payload, node_filter: node, service_filter: service, tag_filter: tag, time })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::id::LamportTime;

    fn event() -> Event {
        Event {
            id: Uuid::from_u128(7),
            name: "deploy".to_owned(),
            payload: Bytes::from_static(b"\x00\xff"),
            node_filter: "^web".to_owned(),
            service_filter: "app".to_owned(),
            tag_filter: "v1".to_owned(),
            time: LamportTime(3),
        }
    }

    #[test]
    fn an_event_survives_the_way() {
        let travelling = encode(&event());
        assert_eq!(travelling.name, "consul:event:deploy");
        let size = travelling.name.len() + travelling.payload.len();
        assert!(size < 40, "what wraps the payload is small: {size}");
        assert_eq!(decode(TimedEvent { time: LamportTime(3), event: travelling }), Some(event()));
    }

    #[test]
    fn what_is_not_ours_is_ignored() {
        let time = LamportTime(1);
        let good = encode(&event());
        let damaged = |change: &dyn Fn(&mut UserEvent)| {
            let mut event = good.clone();
            change(&mut event);
            decode(TimedEvent { time, event })
        };
        assert!(damaged(&|_| {}).is_some());
        assert_eq!(damaged(&|event| event.name = "deploy".to_owned()), None, "another namespace");
        assert_eq!(damaged(&|event| event.payload = Bytes::new()), None);
        let newer = [&[9], &good.payload[1..]].concat();
        assert_eq!(damaged(&|event| event.payload = newer.clone().into()), None, "another version");
        for cut in 1..good.payload.len() {
            assert_eq!(damaged(&|event| event.payload = good.payload.slice(..cut)), None, "cut to {cut}");
        }
        assert_eq!(damaged(&|event| event.payload = [&good.payload[..], b"x"].concat().into()), None);
    }
}
