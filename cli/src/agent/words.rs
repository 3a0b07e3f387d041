//! What must have a certain form: names, IDs, keys. What has not is refused in Consul's words, where it has any.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lictor_core::id::PeerId;
use uuid::Uuid;

/// The protocol versions that an agent may be told to speak.
const PROTOCOLS: std::ops::RangeInclusive<i64> = 2..=3;

/// Consul keeps datacenters in lower case.
pub(super) fn datacenter(name: Option<&str>) -> Result<String, String> {
    let name = name.filter(|name| !name.is_empty()).unwrap_or("dc1").to_lowercase();
    match name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        true => Ok(name),
        false => Err("Datacenter must be alpha-numeric with underscores and hypens only".to_owned()),
    }
}

pub(super) fn node_id(text: &str) -> Result<PeerId, String> {
    let id = Uuid::try_parse(text).ok().filter(|_| text.len() == 36);
    id.map(PeerId).ok_or_else(|| format!("the node ID must be a UUID, not \"{text}\""))
}

/// What is wrong with a protocol version.
pub(super) fn protocol(version: i64, server: bool) -> Result<(), String> {
    if PROTOCOLS.contains(&version) {
        return Ok(());
    }
    let role = if server { "server" } else { "client" };
    let how = if version < *PROTOCOLS.start() { "low" } else { "high" };
    let (least, most) = (PROTOCOLS.start(), PROTOCOLS.end());
    Err(format!(
        "Failed to start Consul {role}: Protocol version '{version}' too {how}. Must be in range: [{least}, {most}]"
    ))
}

/// Whether a text is a key for gossip: 16, 24 or 32 bytes in base64.
pub(super) fn encryption_key(text: &str) -> Result<(), String> {
    let bytes = STANDARD.decode(text).map_err(|error| {
        let at = match error {
            base64::DecodeError::InvalidByte(at, _) => at,
            base64::DecodeError::InvalidLastSymbol { offset, .. } => offset,
            // Where the group of four begins that is cut short.
            _ => text.trim_end_matches('=').len() / 4 * 4,
        };
        format!("Invalid encryption key: illegal base64 data at input byte {at}")
    })?;
    match bytes.len() {
        16 | 24 | 32 => Ok(()),
        _ => Err("Invalid encryption key: key size must be 16, 24 or 32 bytes".to_owned()),
    }
}

/// Whether what is said of a node is fit for the catalog: Consul's limits.
pub(super) fn node_meta(meta: &BTreeMap<String, String>) -> Result<(), String> {
    if meta.len() > 64 {
        return Err(format!("node_meta: {} entries are too many, 64 is the most", meta.len()));
    }
    for (key, value) in meta {
        let fit = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        if key.is_empty() || key.len() > 128 || !fit {
            return Err(format!(
                "node_meta: the key \"{key}\" must have 1 to 128 letters, digits, hyphens and underscores"
            ));
        }
        if key.starts_with("consul-") {
            return Err(format!("node_meta: the key \"{key}\" begins with \"consul-\", which is set aside"));
        }
        if value.len() > 512 {
            return Err(format!("node_meta: the value of \"{key}\" has more than 512 bytes"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_16_24_or_32_bytes() {
        assert_eq!(encryption_key("pUqJrVyVRj5jsiYEkM/tFQ=="), Ok(()));
        assert_eq!(encryption_key("bad").unwrap_err(), "Invalid encryption key: illegal base64 data at input byte 0");
        assert_eq!(encryption_key("aaaa!").unwrap_err(), "Invalid encryption key: illegal base64 data at input byte 4");
        assert!(encryption_key("YWJj").unwrap_err().contains("must be 16, 24 or 32 bytes"));
    }

    #[test]
    fn protocols_have_a_range() {
        assert_eq!((protocol(2, true), protocol(3, false)), (Ok(()), Ok(())));
        assert_eq!(
            protocol(1, false).unwrap_err(),
            "Failed to start Consul client: Protocol version '1' too low. Must be in range: [2, 3]"
        );
        assert!(protocol(99, true).unwrap_err().contains("server: Protocol version '99' too high"));
    }
}
