//! What follows from who is in the gossip pool: clusters founded, servers added and removed, the catalog kept true, sessions
//! on the nodes that are in it, commands run for others, and client agents that ask whoever is there; and what tokens allow on all of them.

mod acl;
mod clients;
mod exec;
mod founding;
mod reconcile;
mod sessions;
mod world;
