//! Bytes → the fields of rows.

use uuid::Uuid;

use crate::id::Index;
use crate::time::Duration;

/// Why bytes are no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadRow {
    /// Its kind is not known.
    Unknown(u8),
    /// The bytes end before the row does, or a field has a value that it cannot have.
    Malformed,
}

/// Bytes from which fields are taken, one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], BadRow> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(BadRow::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadRow> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(BadRow::Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, BadRow> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> Result<u32, BadRow> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, BadRow> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn index(&mut self) -> Result<Index, BadRow> {
        self.u64().map(Index)
    }

    pub(super) fn bool(&mut self) -> Result<bool, BadRow> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(BadRow::Malformed),
        }
    }

    pub(super) fn uuid(&mut self) -> Result<Uuid, BadRow> {
        self.array().map(Uuid::from_bytes)
    }

    pub(super) fn option(&mut self) -> Result<Option<Uuid>, BadRow> {
        let (there, id) = (self.bool()?, self.uuid()?);
        if !there && !id.is_nil() {
            return Err(BadRow::Malformed);
        }
        Ok(there.then_some(id))
    }

    pub(super) fn duration(&mut self) -> Result<Duration, BadRow> {
        let (seconds, nanos) = (self.u64()?, self.u32()?);
        if nanos >= 1_000_000_000 {
            return Err(BadRow::Malformed);
        }
        Ok(Duration::new(seconds, nanos))
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], BadRow> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, BadRow> {
        std::str::from_utf8(self.bytes()?).map_err(|_| BadRow::Malformed)
    }

    pub(super) fn owned(&mut self) -> Result<String, BadRow> {
        self.text().map(str::to_owned)
    }
}
