//! Bytes ↔ messages, and how several of them fill one datagram.
//!
//! A packet, be it a datagram or the content of a stream, is a header of [`HEADER_BYTES`] and messages up to its end:
//!
//! | bytes | meaning |
//! |---|---|
//! | 0–3 | the letters `LCTG` |
//! | 4 | version of the protocol |
//! | 5 | zero |
//! | 6–9 | the pool's tag, little endian: the CRC-32C of its name |
//! | 10–13 | CRC-32C of all that follows, little endian |
//! | 14… | messages, each a kind (one byte), its length (number) and that many bytes |
//!
//! Within messages a *number* is of seven bits a byte, the lowest first, the eighth bit saying that there is more; *text*
//! is its length (number) and UTF-8; an *address* is 4 or 6, the address's bytes in network order, and the port (two bytes, little
//! endian); a *list* is how many (number), and these; *tags* are a list of pairs of text; a *float* is eight bytes, little endian.
//!
//! | kind | message | fields |
//! |---|---|---|
//! | 1 | Ping | seq number, target text, from text, reply-to address |
//! | 2 | Ack | seq number, 0 or 1; if 1, a coordinate of floats: vector (8), error, adjustment, height |
//! | 3 | IndirectPing | seq number, target text, address |
//! | 4 | Nack | seq number |
//! | 5 | Alive | name text, incarnation number, address, tags |
//! | 6 | Suspect | name text, incarnation number, from text |
//! | 7 | Dead | as Suspect |
//! | 8 | Left | name text, incarnation number |
//! | 9 | Intent | name text, then an intent: time number, purpose (0 stay, 1 leave, 2 forget), incarnation number |
//! | 10 | Event | time number, id (16 bytes), name text, payload (length and bytes) |
//! | 11 | PushPull | seq number, is-reply (0, 1), from text, reply-to address, clock number, event clock number, a list of records, a list of events |
//! | 12 | WhoIs | seq number, name text |
//! | 13 | Known | seq number, 0 or 1; if 1, an address |
//!
//! A record is name text, incarnation number, state (0 alive, 1 suspect, 2 dead, 3 left), address, tags, age in ms number, and 0, or 1
//! and an intent.
//!
//! Anything else is [`Malformed`], and dropped whole: a packet that has been tampered with is not worth a guess. Lengths are
//! checked before anything is reserved, so that decoding takes no more memory than a small multiple of the packet.
//! Encryption, where it is switched on, wraps whole packets, outside of this module.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::member::{Intent, MAX_NAME_BYTES, MAX_TAG_BYTES, Name, Profile, Purpose, State, Tags, tag_bytes};
use super::message::{Message, PushPull, Record};
use super::user_event::{PER_TIME, TimedEvent, UserEvent, WINDOW};
use crate::coordinate::{Coordinate, DIMENSIONS};
use crate::id::{Incarnation, LamportTime};
use crate::time::Duration;

/// The length of a packet's header.
pub const HEADER_BYTES: usize = 14;
/// The longest content of a stream.
pub const MAX_STREAM_BYTES: usize = 32 << 20;

const MAGIC: [u8; 4] = *b"LCTG";
const VERSION: u8 = 1;
/// The most messages in a packet: more than a datagram has room for.
const MAX_MESSAGES: usize = 1024;
/// The most members in a full state. No pool should be configured to have more.
pub const MAX_RECORDS: usize = 65_536;
/// The most user events in a full state: as many as are remembered.
const MAX_EVENTS: usize = WINDOW * PER_TIME;
/// The most tags of a member: each takes at least four of their bytes.
const MAX_TAGS: usize = MAX_TAG_BYTES / 4;
/// No honest counter gets this far. One that does would leave no room above it.
const MAX_COUNTER: u64 = 1 << 62;

/// What is wrong with bytes that claim to be a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Too short, too long, or not beginning with our letters.
    #[error("not a packet of this protocol")]
    Magic,
    /// A protocol version that this program does not speak.
    #[error("protocol version {0} is not supported, this agent speaks version {VERSION}")]
    Version(u8),
    /// A packet of another pool: another datacenter, or another kind of pool.
    #[error("a packet of another pool: is a member of another datacenter configured to join this one?")]
    Stranger,
    /// Damaged on its way.
    #[error("the checksum does not match")]
    Checksum,
    /// Its messages are not what they should be.
    #[error("a message in the packet is malformed")]
    Body,
}

/// The messages in a packet of the pool with this tag.
///
/// # Errors
/// If it is not such a packet from end to end.
pub fn open(pool: u32, bytes: &[u8]) -> Result<Vec<Message>, Malformed> {
    if bytes.len() < HEADER_BYTES || bytes.len() > MAX_STREAM_BYTES || bytes[0..4] != MAGIC {
        return Err(Malformed::Magic);
    }
    if bytes[4] != VERSION || bytes[5] != 0 {
        return Err(Malformed::Version(bytes[4]));
    }
    if bytes[6..10] != pool.to_le_bytes() {
        return Err(Malformed::Stranger);
    }
    let (header, body) = bytes.split_at(HEADER_BYTES);
    if header[10..14] != crc32c::crc32c(body).to_le_bytes() {
        return Err(Malformed::Checksum);
    }
    let (mut reader, mut messages) = (Reader(body), Vec::new());
    while !reader.0.is_empty() {
        if messages.len() == MAX_MESSAGES {
            return Err(Malformed::Body);
        }
        messages.push(reader.message().ok_or(Malformed::Body)?);
    }
    Ok(messages)
}

/// Fills a packet.
#[derive(Debug)]
pub struct Packer {
    bytes: Vec<u8>,
    limit: usize,
}

impl Packer {
    /// An empty packet for the pool with this tag, of at most `limit` bytes.
    #[must_use]
    pub fn new(pool: u32, limit: usize) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend(MAGIC);
        bytes.extend([VERSION, 0]);
        bytes.extend(pool.to_le_bytes());
        bytes.extend([0; 4]);
        Self { bytes, limit }
    }

    /// How many bytes are left.
    #[must_use]
    pub const fn room(&self) -> usize {
        self.limit.saturating_sub(self.bytes.len())
    }

    /// Whether nothing was put in.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.len() == HEADER_BYTES
    }

    /// Puts a message in that [`encode`] made, if there is room. Whether there was.
    pub fn push(&mut self, message: &[u8]) -> bool {
        let fits = message.len() <= self.room();
        if fits {
            self.bytes.extend_from_slice(message);
        }
        fits
    }

    /// The packet.
    #[must_use]
    pub fn finish(mut self) -> Bytes {
        let sum = crc32c::crc32c(&self.bytes[HEADER_BYTES..]);
        self.bytes[10..14].copy_from_slice(&sum.to_le_bytes());
        self.bytes.into()
    }
}

/// A message with its kind and length, as it stands in a packet.
#[must_use]
pub fn encode(message: &Message) -> Bytes {
    let mut body = Writer(Vec::with_capacity(64));
    let kind = body.message(message);
    let mut framed = Writer(Vec::with_capacity(body.0.len() + 6));
    framed.0.push(kind);
    framed.bytes(&body.0);
    framed.0.into()
}

struct Writer(Vec<u8>);

impl Writer {
    fn message(&mut self, message: &Message) -> u8 {
        match message {
            Message::Ping { seq, target, from, reply_to } => {
                self.number(*seq).text(target.as_str()).text(from.as_str()).address(*reply_to);
                1
            }
            Message::Ack { seq, coordinate } => {
                self.number(*seq).coordinate(coordinate.as_deref());
                2
            }
            Message::IndirectPing { seq, target, address } => {
                self.number(*seq).text(target.as_str()).address(*address);
                3
            }
            Message::Nack { seq } => {
                self.number(*seq);
                4
            }
            Message::Alive { name, incarnation, profile } => {
                self.text(name.as_str()).number(incarnation.0).address(profile.address).tags(&profile.tags);
                5
            }
            Message::Suspect { name, incarnation, from } => {
                self.text(name.as_str()).number(incarnation.0).text(from.as_str());
                6
            }
            Message::Dead { name, incarnation, from } => {
                self.text(name.as_str()).number(incarnation.0).text(from.as_str());
                7
            }
            Message::Left { name, incarnation } => {
                self.text(name.as_str()).number(incarnation.0);
                8
            }
            Message::Intent { name, intent } => {
                self.text(name.as_str()).intent(*intent);
                9
            }
            Message::Event(event) => {
                self.event(event);
                10
            }
            Message::PushPull(state) => {
                self.push_pull(state);
                11
            }
            Message::WhoIs { seq, name } => {
                self.number(*seq).text(name.as_str());
                12
            }
            Message::Known { seq, address } => {
                self.number(*seq).0.push(u8::from(address.is_some()));
                address.map(|address| self.address(address));
                13
            }
        }
    }

    fn number(&mut self, mut value: u64) -> &mut Self {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    fn address(&mut self, address: SocketAddr) -> &mut Self {
        match address.ip() {
            IpAddr::V4(ip) => {
                self.0.push(4);
                self.0.extend(ip.octets());
            }
            IpAddr::V6(ip) => {
                self.0.push(6);
                self.0.extend(ip.octets());
            }
        }
        self.0.extend(address.port().to_le_bytes());
        self
    }

    fn tags(&mut self, tags: &Tags) -> &mut Self {
        self.number(tags.len() as u64);
        for (key, value) in tags {
            self.text(key).text(value);
        }
        self
    }

    fn coordinate(&mut self, coordinate: Option<&Coordinate>) -> &mut Self {
        self.0.push(u8::from(coordinate.is_some()));
        if let Some(at) = coordinate {
            for value in at.vector.iter().chain([&at.error, &at.adjustment, &at.height]) {
                self.0.extend(value.to_le_bytes());
            }
        }
        self
    }

    fn intent(&mut self, intent: Intent) -> &mut Self {
        self.number(intent.time.0);
        self.0.push(intent.purpose as u8);
        self.number(intent.incarnation.0)
    }

    fn event(&mut self, TimedEvent { time, event }: &TimedEvent) -> &mut Self {
        self.number(time.0);
        self.0.extend(event.id.as_bytes());
        self.text(&event.name).bytes(&event.payload)
    }

    fn push_pull(&mut self, state: &PushPull) {
        self.number(state.seq);
        self.0.push(u8::from(state.is_reply));
        self.text(state.from.as_str()).address(state.reply_to).number(state.clock.0).number(state.event_clock.0);
        self.number(state.members.len() as u64);
        for record in &state.members {
            self.text(record.name.as_str()).number(record.incarnation.0);
            self.0.push(record.state as u8);
            self.address(record.profile.address).tags(&record.profile.tags);
            self.number(u64::try_from(record.age.as_millis()).unwrap_or(u64::MAX));
            self.0.push(u8::from(record.intent.is_some()));
            if let Some(intent) = record.intent {
                self.intent(intent);
            }
        }
        self.number(state.events.len() as u64);
        for event in &state.events {
            self.event(event);
        }
    }
}

/// What is left to read. Everything is `None` if it is not there, or not what it should be.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            value |= bits.checked_shl(shift).filter(|shifted| shifted >> shift == bits)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn counter(&mut self) -> Option<u64> {
        self.number().filter(|value| *value <= MAX_COUNTER)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(usize::try_from(length).ok()?)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    fn name(&mut self) -> Option<Name> {
        self.text().filter(|name| !name.is_empty() && name.len() <= MAX_NAME_BYTES).map(Name::from)
    }

    fn address(&mut self) -> Option<SocketAddr> {
        let ip = match self.byte()? {
            4 => IpAddr::from(self.array::<4>()?),
            6 => IpAddr::from(self.array::<16>()?),
            _ => return None,
        };
        Some(SocketAddr::new(ip, u16::from_le_bytes(self.array()?)))
    }

    /// As many as announced, but not more than `most`, each of which `read` finds. Nothing is reserved ahead, as the
    /// announcement may lie; and small things grow when they are read, so that the bytes alone are no limit.
    fn list<T>(&mut self, most: usize, read: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let (count, mut list) = (self.number()?, Vec::new());
        if count > most as u64 {
            return None;
        }
        for _ in 0..count {
            list.push(read(self)?);
        }
        Some(list)
    }

    fn profile(&mut self) -> Option<Profile> {
        let address = self.address()?;
        let pairs = self.list(MAX_TAGS, |reader| Some((reader.text()?.to_owned(), reader.text()?.to_owned())))?;
        let tags = BTreeMap::from_iter(pairs);
        (tag_bytes(&tags) <= MAX_TAG_BYTES).then(|| Profile { address, tags: Arc::new(tags) })
    }

    fn incarnation(&mut self) -> Option<Incarnation> {
        self.counter().map(Incarnation)
    }

    fn time(&mut self) -> Option<LamportTime> {
        self.counter().map(LamportTime)
    }

    fn coordinate(&mut self) -> Option<Option<Box<Coordinate>>> {
        if !self.flag()? {
            return Some(None);
        }
        let mut floats = [0.0; DIMENSIONS + 3];
        for float in &mut floats {
            *float = f64::from_le_bytes(self.array()?);
        }
        let [vector @ .., error, adjustment, height] = floats;
        let coordinate = Coordinate { vector, error, adjustment, height };
        coordinate.is_valid().then(|| Some(Box::new(coordinate)))
    }

    fn intent(&mut self) -> Option<Intent> {
        let time = self.time()?;
        let purpose = match self.byte()? {
            0 => Purpose::Stay,
            1 => Purpose::Leave,
            2 => Purpose::Forget,
            _ => return None,
        };
        Some(Intent { time, purpose, incarnation: self.incarnation()? })
    }

    fn event(&mut self) -> Option<TimedEvent> {
        let time = self.time()?;
        let id = Uuid::from_bytes(self.array()?);
        let name = self.text()?.to_owned();
        let payload = Bytes::copy_from_slice(self.bytes()?);
        Some(TimedEvent { time, event: UserEvent { id, name, payload } })
    }

    fn record(&mut self) -> Option<Record> {
        let (name, incarnation) = (self.name()?, self.incarnation()?);
        let state = match self.byte()? {
            0 => State::Alive,
            1 => State::Suspect,
            2 => State::Dead,
            3 => State::Left,
            _ => return None,
        };
        let profile = self.profile()?;
        let age = Duration::from_millis(self.number()?);
        let intent = if self.flag()? { Some(self.intent()?) } else { None };
        Some(Record { name, incarnation, state, profile, age, intent })
    }

    fn push_pull(&mut self) -> Option<PushPull> {
        Some(PushPull {
            seq: self.number()?,
            is_reply: self.flag()?,
            from: self.name()?,
            reply_to: self.address()?,
            clock: self.time()?,
            event_clock: self.time()?,
            members: self.list(MAX_RECORDS, Self::record)?,
            events: self.list(MAX_EVENTS, Self::event)?,
        })
    }

    fn message(&mut self) -> Option<Message> {
        let kind = self.byte()?;
        let mut body = Reader(self.bytes()?);
        let message = body.body(kind)?;
        // A message that says more than we understand is not one of this version.
        body.0.is_empty().then_some(message)
    }

    fn body(&mut self, kind: u8) -> Option<Message> {
        Some(match kind {
            1 => Message::Ping {
                seq: self.number()?,
                target: self.name()?,
                from: self.name()?,
                reply_to: self.address()?,
            },
            2 => Message::Ack { seq: self.number()?, coordinate: self.coordinate()? },
            3 => Message::IndirectPing { seq: self.number()?, target: self.name()?, address: self.address()? },
            4 => Message::Nack { seq: self.number()? },
            5 => Message::Alive { name: self.name()?, incarnation: self.incarnation()?, profile: self.profile()? },
            6 => Message::Suspect { name: self.name()?, incarnation: self.incarnation()?, from: self.name()? },
            7 => Message::Dead { name: self.name()?, incarnation: self.incarnation()?, from: self.name()? },
            8 => Message::Left { name: self.name()?, incarnation: self.incarnation()? },
            9 => Message::Intent { name: self.name()?, intent: self.intent()? },
            10 => Message::Event(self.event()?),
            11 => Message::PushPull(Box::new(self.push_pull()?)),
            12 => Message::WhoIs { seq: self.number()?, name: self.name()? },
            13 => {
                let seq = self.number()?;
                let address = if self.flag()? { Some(self.address()?) } else { None };
                Message::Known { seq, address }
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
