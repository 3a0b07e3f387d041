//! Jobs: what a command has written comes to who ordered it, whole and in order; each runs at most once on an agent, and only once it
//! has been acknowledged; and of every agent that acknowledged it is said what became of it. No command writes much that is neither in
//! the store nor told.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lictor_core::exec::initiator::{News, Summary};
use lictor_core::exec::layout::{DEFAULT_PREFIX, KILLED, NOT_RUN, Order, Place};
use lictor_core::id::SessionId;

use super::model::Model;
use super::{Verdict, ensure};

/// How far a command may be ahead of whoever reads what it writes: by as much as waits on its agent on the direct way, …
const AHEAD: u64 = 256 << 10;

/// … and by pieces in the store, of which there are at most so many.
const PIECES: u32 = 2_000;

/// What the sentence begins with by which an agent marks where it has cut the output off.
const CUT: &[u8] = b"\n[lictor: ";

/// A job on an agent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Run {
    pub(crate) job: u64,
    pub(crate) node: String,
}

/// The order of a job.
pub(crate) fn order_of(job: u64) -> Order {
    Order::Command(format!("job {job}"))
}

/// The job of an order; `None` if it is of none.
pub(crate) fn job_of(order: &Order) -> Option<u64> {
    match order {
        Order::Command(line) => line.strip_prefix("job ")?.parse().ok(),
        Order::Program(_) | Order::Script(_) => None,
    }
}

/// What a command writes, from some byte on.
pub(crate) fn text(run: &Run, from: u64, bytes: u64) -> Vec<u8> {
    let salt = run.node.bytes().map(u64::from).sum::<u64>() + run.job * 7;
    let byte = |at: u64| b'a' + ((at / 26 * 11 + at + salt) % 26) as u8;
    (from..from + bytes).map(byte).collect()
}

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It runs, or its agent went down with it.
    Unknown,
    /// It ended by itself, with this code, and had written so much.
    Exited(i32, u64),
    /// It was ended, or could not be started.
    Ended,
}

/// What its user was told of a job on an agent.
#[derive(Debug, Default)]
struct Told {
    output: Vec<u8>,
    code: Option<i32>,
}

/// All jobs.
#[derive(Debug)]
pub(crate) struct Jobs {
    /// How much of a command's output is told.
    limit: u64,
    ordered: u64,
    places: BTreeMap<u64, Place>,
    runs: BTreeMap<Run, Fate>,
    /// By job and agent: what its user was told since the agent acknowledged it.
    told: BTreeMap<Run, Told>,
}

impl Jobs {
    /// None so far, of agents that tell so many bytes of a command's output.
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, ordered: 0, places: BTreeMap::new(), runs: BTreeMap::new(), told: BTreeMap::new() }
    }

    /// The number of another job.
    pub(crate) fn order(&mut self) -> u64 {
        self.ordered += 1;
        self.ordered
    }

    /// A job has its session, whether or not its user has been told so.
    pub(crate) fn placed(&mut self, job: u64, session: SessionId) {
        self.places.insert(job, Place::new(DEFAULT_PREFIX, session));
    }

    /// A command is started.
    pub(crate) fn started(&mut self, run: &Run, model: &Model) -> Verdict {
        let Some(place) = self.places.get(&run.job) else {
            return Err(format!("{run:?} is started, and nobody knows its session"));
        };
        ensure!(model.was_ever(&place.ack(&run.node)), "{run:?} is started, and was not acknowledged");
        let before = self.runs.insert(run.clone(), Fate::Unknown);
        ensure!(before.is_none(), "{run:?} is started for the second time");
        Ok(())
    }

    /// A command is over: by itself, with this code after so many bytes, or not.
    pub(crate) fn ended(&mut self, run: &Run, by_itself: Option<(i32, u64)>) {
        let fate = by_itself.map_or(Fate::Ended, |(code, bytes)| Fate::Exited(code, bytes));
        self.runs.insert(run.clone(), fate);
    }

    /// The user of a job is told something.
    pub(crate) fn heard(&mut self, job: u64, news: News) -> Verdict {
        match news {
            News::Acknowledged(node) => {
                let before = self.told.insert(Run { job, node: node.clone() }, Told::default());
                ensure!(before.is_none(), "{node} has acknowledged it twice");
            }
            News::Wrote { node, output } => self.wrote(&Run { job, node }, &output)?,
            News::Ended { node, code } => self.exited(&Run { job, node }, code)?,
            News::Finished(summary) => self.finished(job, &summary)?,
            _ => {}
        }
        Ok(())
    }

    fn told(&mut self, run: &Run) -> Result<&mut Told, String> {
        let told = self.told.get_mut(run);
        told.ok_or_else(|| format!("{} has something to tell, and has not acknowledged it", run.node))
    }

    /// A command has written so much so far: it is not let on before that is passed on.
    pub(crate) fn wrote_on(&self, run: &Run, written: u64, model: &Model) -> Verdict {
        let told = self.told.get(run).map_or(0, |told| told.output.len() as u64);
        if written <= told + AHEAD {
            return Ok(());
        }
        let Some(place) = self.places.get(&run.job) else { return Ok(()) };
        let keys = (0..PIECES).map(|number| place.output(&run.node, number));
        let stored: u64 = keys.filter_map(|key| model.longest_ever(&key)).sum();
        ensure!(
            written <= told + stored + AHEAD,
            "{run:?} has written {written} bytes: {told} are told, {stored} in the store"
        );
        Ok(())
    }

    fn wrote(&mut self, run: &Run, output: &Bytes) -> Verdict {
        let limit = self.limit;
        let told = self.told(run)?;
        ensure!(told.code.is_none(), "{} writes after its end", run.node);
        told.output.extend_from_slice(output);
        let heard = told.output.len() as u64;
        let expected = text(run, 0, heard.min(limit));
        let (own, rest) = told.output.split_at(expected.len());
        ensure!(own == expected, "what {} writes is not what its command wrote, within {heard} bytes", run.node);
        // What is beyond the limit is the sentence that says so, which may have been cut into pieces like all else.
        let said = rest.len().min(CUT.len());
        ensure!(rest[..said] == CUT[..said], "{} tells more than it may", run.node);
        Ok(())
    }

    fn exited(&mut self, run: &Run, code: i32) -> Verdict {
        let (limit, fate) = (self.limit, self.runs.get(run).copied());
        let told = self.told(run)?;
        ensure!(told.code.replace(code).is_none(), "{} ends twice", run.node);
        let heard = told.output.len() as u64;
        match fate {
            Some(Fate::Exited(own, bytes)) => {
                ensure!(code == own, "{} says that it ended with {code}, and it was {own}", run.node);
                ensure!(heard >= bytes.min(limit), "of {bytes} bytes that {} wrote, {heard} were told", run.node);
            }
            Some(Fate::Ended) => {
                ensure!(code == KILLED || code == NOT_RUN, "{} was ended, and says {code}", run.node);
            }
            Some(Fate::Unknown) | None => return Err(format!("{} says that it ended, and it did not", run.node)),
        }
        Ok(())
    }

    /// Of all who acknowledged it, it is said how it ended there, or that nobody knows.
    fn finished(&self, job: u64, summary: &Summary) -> Verdict {
        let of_job = || self.told.iter().filter(move |(run, _)| run.job == job);
        let acknowledged: BTreeSet<&str> = of_job().map(|(run, _)| run.node.as_str()).collect();
        let ended: BTreeSet<&str> =
            of_job().filter(|(_, told)| told.code.is_some()).map(|(run, _)| run.node.as_str()).collect();
        let unfinished: BTreeSet<&str> = summary.unfinished.iter().map(String::as_str).collect();
        ensure!(
            acknowledged == &ended | &unfinished && (&ended & &unfinished).is_empty(),
            "acknowledged by {acknowledged:?}, ended on {ended:?}, and said to go on at {unfinished:?}"
        );
        ensure!(
            (summary.completed, summary.acknowledged) == (ended.len(), acknowledged.len()),
            "it counts {} and {} of {acknowledged:?}",
            summary.completed,
            summary.acknowledged
        );
        let silent = summary.silent.iter().find(|node| acknowledged.contains(node.as_str()));
        ensure!(silent.is_none(), "{silent:?} acknowledged it, and is said to have been silent");
        Ok(())
    }

    /// No key of any job is there any more.
    pub(crate) fn left_no_keys(&self, model: &Model) -> Verdict {
        let left = model.key_under(DEFAULT_PREFIX.as_bytes());
        ensure!(left.is_none(), "the key {left:?} of a job is left");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Jobs of which at most ten bytes are told, and the one that has been acknowledged.
    fn acknowledged() -> (Jobs, Run) {
        let (mut jobs, run) = (Jobs::new(10), Run { job: 1, node: "n1".to_owned() });
        jobs.heard(run.job, News::Acknowledged(run.node.clone())).unwrap();
        (jobs, run)
    }

    fn wrote(jobs: &mut Jobs, run: &Run, output: &[u8]) -> Verdict {
        jobs.heard(run.job, News::Wrote { node: run.node.clone(), output: Bytes::copy_from_slice(output) })
    }

    #[test]
    fn the_sentence_at_the_limit_may_come_in_pieces_and_nothing_else_may_come_there() {
        let sentence = b"\n[lictor: the output is cut off here, after 10 bytes]\n";
        for cut in 0..sentence.len() {
            let (mut jobs, run) = acknowledged();
            let whole = [&text(&run, 0, 10), &sentence[..]].concat();
            let (first, second) = whole.split_at(10 + cut);
            wrote(&mut jobs, &run, first).unwrap();
            wrote(&mut jobs, &run, second).unwrap();
        }
        for more in [1, 2, 5, 20] {
            let (mut jobs, run) = acknowledged();
            assert!(wrote(&mut jobs, &run, &text(&run, 0, 10 + more)).is_err(), "{more} bytes too many");
        }
        let (mut jobs, run) = acknowledged();
        assert!(wrote(&mut jobs, &run, &[&text(&run, 0, 9), &sentence[..]].concat()).is_err(), "cut off too early");
    }
}
