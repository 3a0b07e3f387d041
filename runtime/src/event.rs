//! What reaches the agent's thread from others.

use lictor_core::api::{Call, Reply};
use lictor_core::id::CallId;
use lictor_core::io::Input;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Something for the agent's thread.
#[derive(Debug)]
pub(crate) enum Event {
    /// A client calls.
    Call {
        /// A number that no open call has.
        id: CallId,
        /// What is asked.
        call: Call,
        /// Who waits for the answer.
        caller: oneshot::Sender<Reply>,
    },
    /// A peer says something. Its share of the memory set aside for unread messages is held until the
    /// agent has taken it in.
    Message(Input, OwnedSemaphorePermit),
    /// Anything else that happens.
    Input(Input),
    /// Stop in good order.
    Shutdown,
    /// Stop at once, as if the process had been killed.
    Abort,
}
