//! What raft looks like from the server that is asked (`http-api.txt`, "Status").

use serde::{Deserialize, Serialize};

/// A question about raft. Answered at once by the server that is asked, without a leader's help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// The leader's address, if one is known.
    Leader,
    /// The addresses of all peers.
    Peers,
}
