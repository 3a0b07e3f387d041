//! The rows of tokens, and their bytes.

use std::borrow::Cow;

use super::catalog_row::Sink;
use super::fields::{BadRow, Fields};
use crate::api::acl::{Kind, Token};
use crate::id::Index;

/// A row of the tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TokenRow<'a> {
    /// When any of them last changed, and up to when deletions are forgotten.
    Totals { changed: Index, floor: Index },
    /// One of them.
    Token(Cow<'a, Token>),
    /// One that was destroyed.
    Tombstone { index: Index, id: Cow<'a, str> },
}

/// The numbers of the kinds. See [`super::row::kind`].
pub(super) mod kind {
    pub(in crate::store::image) const TOTALS: u8 = 20;
    pub(in crate::store::image) const TOKEN: u8 = 21;
    pub(in crate::store::image) const TOMBSTONE: u8 = 22;
}

impl<'a> TokenRow<'a> {
    /// The number of its kind.
    pub(super) const fn kind(&self) -> u8 {
        match self {
            Self::Totals { .. } => kind::TOTALS,
            Self::Token(_) => kind::TOKEN,
            Self::Tombstone { .. } => kind::TOMBSTONE,
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
            Self::Totals { changed, floor } => {
                out.put_index(*changed);
                out.put_index(*floor);
            }
            Self::Token(token) => {
                let Token { id, name, kind, rules, create_index, modify_index } = &**token;
                out.put_index(*create_index);
                out.put_index(*modify_index);
                out.put_bool(*kind == Kind::Management);
                [id, name, rules].into_iter().for_each(|text| out.put_text(text));
            }
            Self::Tombstone { index, id } => {
                out.put_index(*index);
                out.put_text(id);
            }
        }
    }

    /// Takes the fields of a row of this kind.
    pub(super) fn decode(kind: u8, fields: &mut Fields<'a>) -> Result<Self, BadRow> {
        Ok(match kind {
            kind::TOTALS => Self::Totals { changed: fields.index()?, floor: fields.index()? },
            kind::TOKEN => Self::Token(Cow::Owned(Token {
                create_index: fields.index()?,
                modify_index: fields.index()?,
                kind: if fields.bool()? { Kind::Management } else { Kind::Client },
                id: fields.owned()?,
                name: fields.owned()?,
                rules: fields.owned()?,
            })),
            kind::TOMBSTONE => Self::Tombstone { index: fields.index()?, id: Cow::Borrowed(fields.text()?) },
            unknown => return Err(BadRow::Unknown(unknown)),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A row of each form.
    pub(in crate::store::image) fn rows() -> Vec<TokenRow<'static>> {
        let token = Token {
            id: "secret".to_owned(),
            name: "of the application".to_owned(),
            kind: Kind::Client,
            rules: "key \"\" { policy = \"read\" }".to_owned(),
            create_index: Index(5),
            modify_index: Index(6),
        };
        let other = Token { kind: Kind::Management, name: String::new(), rules: String::new(), ..token.clone() };
        vec![
            TokenRow::Totals { changed: Index(9), floor: Index(4) },
            TokenRow::Token(Cow::Owned(token)),
            TokenRow::Token(Cow::Owned(other)),
            TokenRow::Tombstone { index: Index(7), id: Cow::Borrowed("gone") },
        ]
    }
}
