//! What follows from who is in the gossip pool: clusters founded, servers added and removed, the catalog kept true, and client
//! agents that ask whoever is there.

mod clients;
mod founding;
mod reconcile;
mod world;
