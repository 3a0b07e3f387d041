//! Experiments: figures of the literature, measured again on the machines of the core and in virtual time.
//!
//! An experiment is a function of its options, its seed and the code. It runs as fast as the processors allow, and
//! ends in a table for the reader and, if wanted, in a picture.

pub mod elections;
pub mod gossip;
pub mod plot;
pub mod sample;
mod table;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use clap::Subcommand;

/// The experiments, as the command line names them.
#[derive(Clone, Debug, Subcommand)]
pub enum Experiment {
    /// How long a cluster of five is without a leader after a crash, for several widths of the election timeout.
    Elections(elections::Args),
    /// How fast gossip spreads news and notices deaths, and how well it keeps slow members from wronging others.
    Gossip(gossip::Args),
}

impl Experiment {
    /// Carries it out and returns what there is to read. Pictures are written where the options say.
    ///
    /// # Errors
    /// A sentence about options that make no sense, or a file that cannot be written.
    pub fn conduct(&self) -> Result<String, String> {
        match self {
            Self::Elections(args) => elections::conduct(args),
            Self::Gossip(args) => gossip::conduct(args),
        }
    }
}

/// Does `one` for each number below `count`, on so many threads, and returns what came of them in their order.
pub fn side_by_side<T: Send>(count: u64, jobs: usize, one: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let next = AtomicU64::new(0);
    let share = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return done;
            }
            done.push((number, one(number)));
        }
    };
    let mut all: Vec<(u64, T)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(share)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("an experiment's thread does not panic")).collect()
    });
    all.sort_by_key(|(number, _)| *number);
    all.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_threads_did_comes_back_in_order() {
        for jobs in [0, 1, 3, 40] {
            assert_eq!(side_by_side(20, jobs, |n| n * n), (0..20).map(|n| n * n).collect::<Vec<_>>());
        }
    }
}
