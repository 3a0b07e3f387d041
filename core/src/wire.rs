//! The codec: bytes between agents, and the bytes of commands in the log. All decoding is bounded, all
//! malformed input is an error and never a panic.
//!
//! bincode is unmaintained since 2.0.1; this module alone knows of it, so that it can be replaced.
//!
//! A frame between agents is a header of [`HEADER_BYTES`] and a body:
//!
//! | bytes | meaning |
//! |---|---|
//! | 0–3 | the letters `LCTR` |
//! | 4–5 | version of the protocol, little endian |
//! | 6 | what the body is: 0 for an [`Envelope`], 1 for a packet of gossip |
//! | 7 | zero |
//! | 8–11 | length of the body, little endian |
//! | 12–15 | CRC-32C of the body, little endian |

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::peer::Envelope;

/// The length of a frame's header.
pub const HEADER_BYTES: usize = 16;

/// The longest body of a frame that is sent or accepted: an append with the largest batch, or the answer
/// to the largest read that is forwarded.
pub const MAX_BODY_BYTES: usize = 64 << 20;

const MAGIC: [u8; 4] = *b"LCTR";
const VERSION: u16 = 1;

/// What a frame carries.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "it is taken apart as soon as it is there")]
pub enum Frame {
    /// A message between agents.
    Envelope(Envelope),
    /// A packet of gossip, which has a codec of its own.
    Gossip(Bytes),
}

const ENVELOPE: u8 = 0;
const GOSSIP: u8 = 1;

/// What is wrong with bytes that claim to be ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The first four bytes are not ours.
    #[error("not a frame of this protocol")]
    Magic,
    /// A protocol version that this program does not speak.
    #[error("protocol version {0} is not supported, this agent speaks version {VERSION}")]
    Version(u16),
    /// The body is longer than any message may be.
    #[error("a body of {0} bytes exceeds the limit of {MAX_BODY_BYTES}")]
    TooLong(usize),
    /// The body was damaged on its way.
    #[error("the checksum of the body does not match")]
    Checksum,
    /// The body is no message.
    #[error("the body is not a message")]
    Body,
    /// A well-formed message of another cluster, or for another agent.
    #[error("a message for another agent or of another cluster")]
    Stranger,
}

fn options() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_BODY_BYTES>()
}

/// A tag for a cluster by its name, so that a stranger's messages are recognised.
#[must_use]
pub fn cluster_tag(datacenter: &str) -> u32 {
    crc32c::crc32c(datacenter.as_bytes())
}

/// Encodes a value. Values are ours and fit; see the limits in [`crate::config::Limits`].
///
/// # Panics
/// If the value cannot be encoded, which no value of this crate can fail to be.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, bincode::config::standard()).expect("our own values can be encoded")
}

/// Encodes a value behind what `bytes` already holds. See [`encode`].
///
/// # Panics
/// As [`encode`] does.
pub fn encode_into<T: Serialize>(value: &T, bytes: &mut Vec<u8>) {
    bincode::serde::encode_into_std_write(value, bytes, bincode::config::standard())
        .expect("our own values can be encoded");
}

/// How many bytes [`encode`] makes of a value, without making them.
///
/// # Panics
/// As [`encode`] does.
#[must_use]
pub fn size<T: Serialize>(value: &T) -> usize {
    struct Count(usize);

    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let mut count = Count(0);
    bincode::serde::encode_into_std_write(value, &mut count, bincode::config::standard())
        .expect("our own values can be encoded");
    count.0
}

/// Decodes a value that `bytes` begins with, and tells how many bytes it took.
///
/// # Errors
/// If the bytes do not begin with such a value.
pub fn decode_prefix<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), Malformed> {
    bincode::serde::decode_from_slice(bytes, options()).map_err(|_| Malformed::Body)
}

/// Decodes a value that fills `bytes` exactly.
///
/// # Errors
/// If the bytes are not such a value, or more follow it.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
    match bincode::serde::decode_from_slice(bytes, options()) {
        Ok((value, used)) if used == bytes.len() => Ok(value),
        _ => Err(Malformed::Body),
    }
}

/// The frame of a message, ready to be sent.
#[must_use]
pub fn encode_frame(envelope: &Envelope) -> Bytes {
    let mut frame = BytesMut::with_capacity(256);
    frame.put_bytes(0, HEADER_BYTES);
    let mut frame = frame.writer();
    bincode::serde::encode_into_std_write(envelope, &mut frame, bincode::config::standard())
        .expect("our own messages can be encoded");
    seal(frame.into_inner(), ENVELOPE)
}

/// The frame of a packet of gossip, ready to be sent.
#[must_use]
pub fn gossip_frame(packet: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEADER_BYTES + packet.len());
    frame.put_bytes(0, HEADER_BYTES);
    frame.put_slice(packet);
    seal(frame, GOSSIP)
}

/// Fills in the header that the body has been left room for.
fn seal(mut frame: BytesMut, kind: u8) -> Bytes {
    let (header, body) = frame.split_at_mut(HEADER_BYTES);
    let length = u32::try_from(body.len()).expect("a message is far below 4 GiB");
    header[0..4].copy_from_slice(&MAGIC);
    header[4..6].copy_from_slice(&VERSION.to_le_bytes());
    header[6] = kind;
    header[8..12].copy_from_slice(&length.to_le_bytes());
    header[12..16].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    frame.freeze()
}

/// The length of the body that follows a header.
///
/// # Errors
/// If the header is not ours, or announces a body that is too long.
pub fn body_length(header: &[u8; HEADER_BYTES]) -> Result<usize, Malformed> {
    if header[0..4] != MAGIC {
        return Err(Malformed::Magic);
    }
    let version = u16::from_le_bytes([header[4], header[5]]);
    if version != VERSION {
        return Err(Malformed::Version(version));
    }
    let length = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
    if length > MAX_BODY_BYTES {
        return Err(Malformed::TooLong(length));
    }
    Ok(length)
}

/// What is in a frame's body.
///
/// # Errors
/// If the checksum does not match, or the body is not exactly one message.
pub fn decode_body(header: &[u8; HEADER_BYTES], body: &[u8]) -> Result<Frame, Malformed> {
    let expected = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
    if crc32c::crc32c(body) != expected {
        return Err(Malformed::Checksum);
    }
    match header[6] {
        ENVELOPE => decode(body).map(Frame::Envelope),
        GOSSIP => Ok(Frame::Gossip(Bytes::copy_from_slice(body))),
        _ => Err(Malformed::Body),
    }
}
