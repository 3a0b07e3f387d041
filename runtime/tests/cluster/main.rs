//! Real agents over real sockets and real disks, all in this process.

mod harness;
mod one;
mod three;
