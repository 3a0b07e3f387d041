//! The members of the gossip pools.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lictor_core::api::agent::Member;
use serde::Serialize;

/// The versions of serf's protocol, the least, the greatest and the one that is spoken, as its own clients look for them.
pub(super) const PROTOCOL: (u8, u8, u8) = (1, 5, 2);
/// The same of Consul's own messages within it.
const DELEGATE: (u8, u8, u8) = (2, 4, 4);

/// A member, as JSON.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ShownMember<'m> {
    name: &'m str,
    addr: IpAddr,
    port: u16,
    tags: &'m BTreeMap<String, String>,
    status: u8,
    protocol_min: u8,
    protocol_max: u8,
    protocol_cur: u8,
    delegate_min: u8,
    delegate_max: u8,
    delegate_cur: u8,
}

impl<'m> From<&'m Member> for ShownMember<'m> {
    fn from(member: &'m Member) -> Self {
        Self {
            name: &member.name,
            addr: member.address,
            port: member.port,
            tags: &member.tags,
            status: member.status as u8,
            protocol_min: PROTOCOL.0,
            protocol_max: PROTOCOL.1,
            protocol_cur: PROTOCOL.2,
            delegate_min: DELEGATE.0,
            delegate_max: DELEGATE.1,
            delegate_cur: DELEGATE.2,
        }
    }
}

/// All members, as JSON.
pub(crate) fn members(members: &[Member]) -> Vec<ShownMember<'_>> {
    members.iter().map(ShownMember::from).collect()
}
