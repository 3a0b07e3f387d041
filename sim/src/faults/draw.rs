//! Drawing a schedule of troubles.

use lictor_core::rng::Rng;

use super::{Cut, DISMISSAL, Fault, LEAVE, NAMES, Return, Rotten, Target, Trouble, WITHOUT_OPERATOR};
use crate::dice::Dice as _;

/// What the schedule is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub(crate) hosts: usize,
    pub(crate) trouble_ms: u64,
    pub(crate) election_ms: u64,
    /// Whether there is an operator who looks after the members.
    pub(crate) operated: bool,
    /// Whether the agents look after the members themselves.
    pub(crate) pooled: bool,
    /// How long the longest stops and cuts are, if some are to be much longer than an election.
    pub(crate) long_ms: Option<u64>,
}

/// Draws a schedule. A seed prefers a few kinds of faults, so that some runs are all crashes and some all
/// partitions; faults overlap as they like.
pub(crate) fn draw(dice: &mut Rng, frame: Frame) -> Vec<Trouble> {
    let Frame { trouble_ms, election_ms, operated, pooled, .. } = frame;
    if dice.one_in(20) {
        // Quiet runs, for what must not happen when nothing does.
        return Vec::new();
    }
    let mut weights = [0; NAMES.len()];
    for weight in &mut weights {
        *weight = *dice.pick(&[0, 1, 1, 4]);
    }
    weights[2] /= 2;
    weights[0] += 1;
    if operated || pooled {
        // What only this scenario has comes more often than the rest.
        weights[WITHOUT_OPERATOR..].iter_mut().for_each(|weight| *weight += 1);
    } else {
        weights[WITHOUT_OPERATOR..].fill(0);
    }
    if !operated {
        weights[DISMISSAL] = 0;
    }
    if !pooled {
        weights[LEAVE] = 0;
    }
    let gap = dice.between(election_ms * 2, election_ms * 20).min(trouble_ms / 3);
    let mut troubles = Vec::new();
    let mut at_ms = dice.between(0, gap);
    while at_ms < trouble_ms {
        let fault = draw_fault(dice, &weights, frame);
        troubles.push(Trouble { at_ms, fault });
        // Sometimes troubles come together.
        at_ms += if dice.one_in(3) { dice.between(0, 50) } else { dice.between(0, gap * 2) };
    }
    troubles
}

fn draw_fault(dice: &mut Rng, weights: &[u64; NAMES.len()], frame: Frame) -> Fault {
    let Frame { hosts, election_ms, long_ms, .. } = frame;
    let target = draw_target(dice, hosts);
    // Around the election timeout is where the edges are.
    let ms = match dice.below(4) {
        0 => dice.between(1, election_ms),
        1 | 2 => dice.between(election_ms / 2, election_ms * 4),
        _ => dice.between(election_ms, election_ms * 20),
    };
    let ms = match long_ms {
        Some(long_ms) if dice.one_in(5) => dice.between(long_ms / 4, long_ms),
        _ => ms,
    };
    let down_ms = if dice.one_in(3) { dice.between(0, 50) } else { ms };
    let mut left = dice.below(weights.iter().sum());
    let mut kind = 0;
    while left >= weights[kind] {
        left -= weights[kind];
        kind += 1;
    }
    match kind {
        0 => Fault::Crash { target, down_ms },
        1 => Fault::PowerCut { target, down_ms },
        2 => Fault::PowerLoss { down_ms },
        3 => Fault::Pause { target, ms },
        4 => Fault::Stall { target, ms },
        5 => Fault::Partition { cut: draw_cut(dice, hosts), ms },
        6 => Fault::Weather {
            loss_ppm: *dice.pick(&[0, 10_000, 100_000, 400_000]),
            duplicate_ppm: *dice.pick(&[0, 10_000, 200_000]),
            held_ppm: *dice.pick(&[0, 10_000, 200_000]),
            held_ms: dice.between(1, election_ms * 3),
            ms,
        },
        7 => Fault::SlowLink { target, extra_ms: dice.between(1, election_ms), ms },
        8 => Fault::SlowDisk { target, factor: *dice.pick(&[10, 100, 1_000]), ms },
        9 => Fault::FullDisk { target, spare: *dice.pick(&[0, 100, 2_000]), ms },
        10 => Fault::Drift { target, ppm: *dice.pick(&[-20_000, 20_000, 0, 5_000, -7_000]) },
        11 => Fault::NarrowLink {
            target,
            above: *dice.pick(&[100, 300, 1_000, 4_000]),
            loss_ppm: *dice.pick(&[0, 200_000, 800_000, 1_000_000]),
            byte_us: *dice.pick(&[0, 10, 200]),
            ms,
        },
        12 => Fault::SlowJobs { target, factor: *dice.pick(&[10, 100, 1_000]), ms },
        13 => {
            let longest = *dice.pick(&[50, election_ms, election_ms * 5]);
            Fault::Echo { after_ms: dice.between(1, longest), ms: ms * 3 }
        }
        14 => Fault::Wipe { target, down_ms, moves: dice.one_in(3) },
        15 => Fault::Rot {
            target,
            file: *dice.pick(&[Rotten::Log, Rotten::Snapshot]),
            wipe_ms: ms,
            moves: dice.one_in(3),
        },
        16 => Fault::Move { target, down_ms },
        DISMISSAL => Fault::Dismissal { target, ms: ms * 3 },
        _ => Fault::Leave {
            target: Target::Host(dice.below(hosts as u64) as usize),
            down_ms,
            then: *dice.pick(&[Return::Same, Return::Same, Return::Wiped, Return::Never]),
        },
    }
}

fn draw_target(dice: &mut Rng, hosts: usize) -> Target {
    match dice.below(5) {
        0 | 1 => Target::Leader,
        2 => Target::Follower,
        _ => Target::Host(dice.below(hosts as u64) as usize),
    }
}

fn draw_cut(dice: &mut Rng, hosts: usize) -> Cut {
    let mut side: Vec<usize> = (0..hosts).filter(|_| dice.one_in(2)).collect();
    if side.is_empty() || side.len() == hosts {
        side = vec![dice.below(hosts as u64) as usize];
    }
    match dice.below(9) {
        0 | 1 => Cut::Halves(side),
        2 => Cut::OneWay(side),
        3 => Cut::Alone(draw_target(dice, hosts)),
        4 => Cut::Alone(Target::Leader),
        5 => Cut::Mute(draw_target(dice, hosts)),
        6 => Cut::Deaf(draw_target(dice, hosts)),
        7 => Cut::Bridge(dice.below(hosts as u64) as usize),
        _ => Cut::Ring,
    }
}
