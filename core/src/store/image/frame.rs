//! The header of a piece. The [module's page](super) has the table.

use super::Damaged;

/// The length of a piece's header.
pub const HEADER_BYTES: usize = 24;

/// The longest payload of a piece. A row is hardly larger than the command that made it, and a command fits into what
/// [`wire`](crate::wire) decodes.
pub const MAX_PAYLOAD_BYTES: usize = (64 << 20) + (64 << 10);

/// The version of the format.
pub(super) const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"LICTORIM";

/// What a header says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    number: u32,
    payload_bytes: u32,
    checksum: u32,
}

impl Header {
    /// Fills in the header of `piece`, whose payload is there already, and gives back its checksum.
    ///
    /// # Panics
    /// If the payload is longer than 4 GiB.
    pub(super) fn seal(number: u32, piece: &mut [u8]) -> u32 {
        let (header, payload) = piece.split_at_mut(HEADER_BYTES);
        let length = u32::try_from(payload.len()).expect("a piece is far below 4 GiB");
        header[0..8].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[12..16].copy_from_slice(&number.to_le_bytes());
        header[16..20].copy_from_slice(&length.to_le_bytes());
        let checksum = checksum(header, payload);
        header[20..24].copy_from_slice(&checksum.to_le_bytes());
        checksum
    }

    /// Reads the header of the piece that should be the one with `number`. `None` if `bytes` may become one, once there
    /// are more of them.
    pub(super) fn read(bytes: &[u8], number: u32) -> Result<Option<Self>, Damaged> {
        let letters = &bytes[..bytes.len().min(MAGIC.len())];
        if !MAGIC.starts_with(letters) {
            return Err(if number == 0 { Damaged::NotAnImage } else { Damaged::Header { piece: number } });
        }
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let field = |at: usize| u32::from_le_bytes(*header[at..].first_chunk().expect("within the header"));
        if field(8) != VERSION {
            return Err(Damaged::Version(field(8)));
        }
        let header = Self { number: field(12), payload_bytes: field(16), checksum: field(20) };
        if header.payload_bytes as usize > MAX_PAYLOAD_BYTES {
            return Err(Damaged::TooLong { piece: number, bytes: header.payload_bytes });
        }
        Ok(Some(header))
    }

    /// The length of the piece, with its header.
    pub(super) const fn piece_bytes(self) -> usize {
        HEADER_BYTES + self.payload_bytes as usize
    }

    /// The payload of a piece that is all there, and that should be the one with `number`; and its checksum.
    pub(super) fn open(self, piece: &[u8], number: u32) -> Result<(&[u8], u32), Damaged> {
        let (header, payload) = piece.split_at(HEADER_BYTES);
        if checksum(header, payload) != self.checksum {
            return Err(Damaged::Checksum { piece: number });
        }
        if self.number != number {
            return Err(Damaged::Order { expected: number, found: self.number });
        }
        Ok((payload, self.checksum))
    }
}

fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[..20]), payload)
}
