//! Remote execution: a command is run on many agents, and what it writes there comes back.
//!
//! Everything goes through the key-value store, below `<prefix>/<session>/`, and every key is locked with that session, whose
//! behaviour is `delete`: when it ends, nothing is left. Who wants something run (the *initiator*) writes the job there and
//! fires an event that names it; each agent that is meant acknowledges, runs it, and writes what comes of it. The layout is that
//! of Consul, so that either end may be Consul's: [`layout`] is what both ends know.

pub mod initiator;
pub mod layout;
