//! Seeded disasters for Lictor's agents.
//!
//! A run is a function of a [`plan`] and the code: the plan follows from a seed (or is read from a file) and
//! says which servers there are, what their clients and their operator do and which troubles befall them, as plain data. The
//! `world` carries it out on virtual time: one heap of events, one agent for each host, a network that sees
//! bytes only, and disks that forget what was not synced. Checkers watch from outside: some look into the
//! agents after every step (raft's safety), some at what clients asked and were told (linearizability, stale
//! reads, blocked queries).
//!
//! The world is plain data and owes nothing to a runtime. It runs as the only task of a madsim runtime, whose
//! clock it moves, so that everything that asks the operating system for time or dice gets madsim's; and it
//! runs without madsim, to the same trace: the two guard each other (see [`run`]).

#[cfg(not(madsim))]
compile_error!(
    "lictor-sim must be built with `--cfg madsim`. The file .cargo/config.toml at the top of the repository sets \
     it; an environment variable RUSTFLAGS, even an empty one, overrides that file: unset it."
);

mod check;
mod clock;
mod dice;
mod disk;
pub mod experiment;
pub mod faults;
mod history;
mod host;
mod net;
pub mod plan;
pub mod run;
pub mod stats;
pub mod swarm;
pub mod trace;
mod workload;
mod world;
