//! What members say to each other.

use std::fmt;
use std::net::SocketAddr;

use super::member::{Claim, Intent, Name, Profile, Purpose, State};
use super::user_event::TimedEvent;
use crate::coordinate::Coordinate;
use crate::id::{Incarnation, LamportTime};
use crate::time::Duration;

/// One message. Several travel in one datagram; a stream carries one.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Are you there? Answered with [`Message::Ack`] on the way it came. It names whom it is meant for, as another may
    /// have taken the address over.
    Ping {
        /// The prober's number for this probe.
        seq: u64,
        /// Whom it is meant for.
        target: Name,
        /// Who asks.
        from: Name,
        /// Where to answer, if it came by a stream: a connection's own address says nothing.
        reply_to: SocketAddr,
    },
    /// I am here.
    Ack {
        /// The number of the ping.
        seq: u64,
        /// Where the answerer believes to be, if it says so.
        coordinate: Option<Box<Coordinate>>,
    },
    /// Please ping somebody for me: I got no answer.
    IndirectPing {
        /// The prober's number for this probe.
        seq: u64,
        /// Whom to ping.
        target: Name,
        /// Where it is.
        address: SocketAddr,
    },
    /// I tried, and got no answer either; but you see that *we* can talk (Lifeguard, section IV-A).
    Nack {
        /// The number of the indirect ping.
        seq: u64,
    },
    /// A member is here, in the words of its own that others pass on.
    Alive {
        /// Its name.
        name: Name,
        /// Its incarnation.
        incarnation: Incarnation,
        /// Its address and tags.
        profile: Profile,
    },
    /// A member did not answer.
    Suspect {
        /// Whom.
        name: Name,
        /// In which incarnation.
        incarnation: Incarnation,
        /// Who says so. Different accusers confirm each other.
        from: Name,
    },
    /// A member did not object in time.
    Dead {
        /// Whom.
        name: Name,
        /// In which incarnation.
        incarnation: Incarnation,
        /// Who says so.
        from: Name,
    },
    /// A member says farewell.
    Left {
        /// Who.
        name: Name,
        /// In which incarnation.
        incarnation: Incarnation,
    },
    /// What a member is about to do.
    Intent {
        /// Who.
        name: Name,
        /// What.
        intent: Intent,
    },
    /// A user event.
    Event(TimedEvent),
    /// All that a member knows, or the answer to that.
    PushPull(Box<PushPull>),
    /// Whom do you know by this name? Asked by a member whose own name another claims.
    WhoIs {
        /// The asker's number for this vote.
        seq: u64,
        /// The name.
        name: Name,
    },
    /// The answer.
    Known {
        /// The number of the question.
        seq: u64,
        /// Where whoever has the name is, if anybody who is here has it.
        address: Option<SocketAddr>,
    },
}

/// A full state. Streams only.
#[derive(Clone, Debug, PartialEq)]
pub struct PushPull {
    /// The asker's number for this exchange.
    pub seq: u64,
    /// Whether it is the answer.
    pub is_reply: bool,
    /// Who sends it.
    pub from: Name,
    /// Where to answer.
    pub reply_to: SocketAddr,
    /// The sender's clock of intents.
    pub clock: LamportTime,
    /// The sender's clock of user events.
    pub event_clock: LamportTime,
    /// All members, the sender among them.
    pub members: Vec<Record>,
    /// User events of late.
    pub events: Vec<TimedEvent>,
}

/// A member in a full state.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its name.
    pub name: Name,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// What the sender believes it to be.
    pub state: State,
    /// Its address and tags.
    pub profile: Profile,
    /// For how long it has been so: who learns of a dead member forgets it when all others do.
    pub age: Duration,
    /// The latest intent.
    pub intent: Option<Intent>,
}

impl Record {
    /// The record as a claim.
    #[must_use]
    pub fn claim(&self) -> Claim {
        Claim { incarnation: self.incarnation, state: self.state, profile: Some(self.profile.clone()) }
    }
}

struct ShowProfile<'a>(&'a Profile);

impl fmt::Display for ShowProfile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.address)?;
        self.0.tags.iter().try_for_each(|(key, value)| write!(f, " {key}={value}"))
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Dead => "dead",
            Self::Left => "left",
        })
    }
}

impl fmt::Display for Intent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let purpose = match self.purpose {
            Purpose::Stay => "stay",
            Purpose::Leave => "leave",
            Purpose::Forget => "forget",
        };
        write!(f, "{purpose}@{} up-to={}", self.time, self.incarnation)
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ping { seq, target, from, .. } => write!(f, "Ping seq={seq} target={target} from={from}"),
            Self::Ack { seq, .. } => write!(f, "Ack seq={seq}"),
            Self::IndirectPing { seq, target, .. } => write!(f, "IndirectPing seq={seq} target={target}"),
            Self::Nack { seq } => write!(f, "Nack seq={seq}"),
            Self::Alive { name, incarnation, profile } => {
                write!(f, "Alive {name} inc={incarnation} {}", ShowProfile(profile))
            }
            Self::Suspect { name, incarnation, from } => write!(f, "Suspect {name} inc={incarnation} from={from}"),
            Self::Dead { name, incarnation, from } => write!(f, "Dead {name} inc={incarnation} from={from}"),
            Self::Left { name, incarnation } => write!(f, "Left {name} inc={incarnation}"),
            Self::Intent { name, intent } => write!(f, "Intent {name} {intent}"),
            Self::Event(TimedEvent { time, event }) => write!(f, "Event {}@{time}", event.name),
            Self::WhoIs { seq, name } => write!(f, "WhoIs {name} seq={seq}"),
            Self::Known { seq, address: Some(address) } => write!(f, "Known {address} seq={seq}"),
            Self::Known { seq, address: None } => write!(f, "Known nobody seq={seq}"),
            Self::PushPull(state) => {
                let kind = if state.is_reply { "Reply" } else { "PushPull" };
                write!(f, "{kind} seq={} clock={} event-clock={}", state.seq, state.clock, state.event_clock)?;
                for record in &state.members {
                    write!(f, " {}:{}@{}", record.name, record.state, record.incarnation)?;
                }
                state.events.iter().try_for_each(|timed| write!(f, " event:{}@{}", timed.event.name, timed.time))
            }
        }
    }
}
