//! `/v1/status/*`: raft as this agent sees it.

use std::net::SocketAddr;

/// The leader's address as it is shown: an empty text if there is none.
pub(crate) fn leader(leader: Option<SocketAddr>) -> String {
    leader.map(|address| address.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_leader_is_an_empty_text() {
        assert_eq!(leader(None), "");
        assert_eq!(leader(Some(([10, 1, 10, 12], 8300).into())), "10.1.10.12:8300");
    }
}
