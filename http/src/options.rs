//! What the server allows its clients.

use std::path::PathBuf;
use std::time::Duration;

/// Limits of the HTTP server, and where it puts what does not fit into memory.
#[derive(Clone, Debug)]
pub struct Options {
    /// Open connections, over all listeners. More wait until one closes.
    pub max_connections: usize,
    /// How long a client may take for a request's head, and how long a connection may stay idle. Longer
    /// than common clients keep idle connections, so that the client is the one that closes.
    pub header_timeout: Duration,
    /// How long a client may pause within a request's body, or within the answer with a snapshot.
    pub body_stall: Duration,
    /// The most bytes of a value; see [`lictor_core::config::Limits::value_bytes`].
    pub value_bytes: usize,
    /// The most bytes of a transaction as it comes, values in base64; see [`lictor_core::config::Limits::txn_bytes`].
    pub txn_bytes: usize,
    /// The most bytes of a snapshot that is to be restored, packed and unpacked.
    pub snapshot_bytes: u64,
    /// The agent's datacenter, which nodes are shown with; empty if they are shown without.
    pub datacenter: String,
    /// The datacenter whose servers keep the tokens; `None` without access control.
    pub acl_datacenter: Option<String>,
    /// Whether clients may have commands run on many nodes (`/v1/exec`).
    pub remote_exec: bool,
    /// The directory in which a snapshot waits until it has been verified; it needs as much room as the archive.
    pub spool: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_connections: 16_384,
            header_timeout: Duration::from_secs(300),
            body_stall: Duration::from_secs(30),
            value_bytes: lictor_core::config::Limits::default().value_bytes,
            txn_bytes: 2 * lictor_core::config::Limits::default().txn_bytes,
            snapshot_bytes: 64 << 30,
            datacenter: String::new(),
            acl_datacenter: None,
            remote_exec: false,
            spool: std::env::temp_dir(),
        }
    }
}
