//! Real agents over real sockets and real disks, all in this process.

mod exec;
mod four;
mod gossip;
mod harness;
mod load;
mod one;
mod recovery;
mod three;
