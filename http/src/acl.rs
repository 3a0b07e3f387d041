//! `/v1/acl/*`: tokens, and what they may do.

use lictor_core::api::acl::Token;
use serde::Serialize;

/// A token, as Consul shows it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ShownToken<'t> {
    #[serde(rename = "ID")]
    id: &'t str,
    name: &'t str,
    #[serde(rename = "Type")]
    kind: String,
    rules: &'t str,
    create_index: u64,
    modify_index: u64,
}

impl<'t> From<&'t Token> for ShownToken<'t> {
    fn from(token: &'t Token) -> Self {
        Self {
            id: &token.id,
            name: &token.name,
            kind: token.kind.to_string(),
            rules: &token.rules,
            create_index: token.create_index.0,
            modify_index: token.modify_index.0,
        }
    }
}

/// The ID of a token that was created or changed.
#[derive(Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) struct ShownTokenId<'t> {
    pub(crate) id: &'t str,
}
