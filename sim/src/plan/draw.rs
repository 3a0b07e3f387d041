//! Drawing a plan.

use lictor_core::rng::Rng;

use super::{
    ClientPlan, ExecPlan, HostPlan, KEYS, LOCKS, LockerPlan, LockersPlan, Mix, NetworkPlan, OperatorPlan, Plan,
    PoolPlan, RegistrarPlan, Scenario, Size, SnapshotPlan, Tie, TokensPlan,
};
use crate::dice::{Concern, Dice as _, stream};
use crate::faults::{self, Frame};

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn draw(seed: u64, scenario: Scenario) -> Self {
        Self::draw_sized(seed, scenario, Size::default())
    }

    /// The plan of a seed, of this size if it is one of [`Scenario::Cluster`].
    #[must_use]
    pub fn draw_sized(seed: u64, scenario: Scenario, size: Size) -> Self {
        let mut dice = stream(seed, Concern::Plan);
        let dice = &mut dice;
        let servers = match scenario {
            Scenario::Kv => *dice.pick(&[1, 2, 3, 3, 3, 3, 4, 5, 5, 5, 6, 7]),
            Scenario::Members => *dice.pick(&[2, 3, 4, 4, 5, 5, 6, 7]),
            Scenario::Cluster | Scenario::Exec => *dice.pick(&[1, 2, 3, 3, 3, 5, 5]),
            Scenario::Locks => *dice.pick(&[1, 2, 3, 3, 3, 3, 4, 5]),
            Scenario::Acl => *dice.pick(&[1, 3, 3, 3, 3, 4, 5, 5]),
            Scenario::Bench => 5,
        };
        let mut hosts = (0..servers).map(|_| draw_host(dice)).collect::<Vec<_>>();
        let pooled = matches!(scenario, Scenario::Cluster | Scenario::Exec);
        if pooled {
            let client_agents = if dice.one_in(30) { dice.between(7, 30) } else { dice.below(7) };
            let client_agents = size.agents.map_or(client_agents, |count| count as u64);
            hosts.extend((0..client_agents).map(|_| HostPlan { client: true, ..draw_host(dice) }));
        }
        if scenario == Scenario::Acl {
            let client_agents = dice.below(3);
            hosts.extend((0..client_agents).map(|_| HostPlan { client: true, ..draw_host(dice) }));
        }
        let agents = hosts.len();
        let network = draw_network(dice);
        let raft_multiplier = match scenario {
            Scenario::Kv | Scenario::Members | Scenario::Cluster | Scenario::Exec | Scenario::Acl => {
                *dice.pick(&[1, 1, 1, 2, 3, 5])
            }
            Scenario::Locks => *dice.pick(&[1, 2, 3, 5, 5]),
            Scenario::Bench => 5,
        };
        let election_ms = 200 * u64::from(raft_multiplier);
        let (clients, trouble_ms) = match scenario {
            Scenario::Kv => (dice.between(2, 8), dice.between(8_000, 40_000)),
            Scenario::Members => (dice.between(2, 5), dice.between(8_000, 40_000)),
            Scenario::Cluster => (dice.between(1, 6), dice.between(10_000, 60_000)),
            Scenario::Exec => (dice.below(3), dice.between(20_000, 60_000)),
            Scenario::Locks => (dice.below(3), dice.between(30_000, 120_000)),
            Scenario::Acl => (dice.below(3), dice.between(8_000, 40_000)),
            Scenario::Bench => (5, 60_000),
        };
        // Some of the calm passes before anything can be demanded of it.
        let calm_ms = 2_000 + 15 * election_ms + dice.between(2_000, 6_000);
        let mut clients: Vec<ClientPlan> = (0..clients).map(|_| draw_client(dice, agents)).collect();
        let operated = scenario == Scenario::Members;
        if operated {
            draw_roles(dice, &mut hosts);
        }
        let lockers = (scenario == Scenario::Locks).then(|| draw_lockers(dice, agents));
        let exec = (scenario == Scenario::Exec).then(|| draw_exec(dice, agents));
        let tokens = (scenario == Scenario::Acl).then(|| draw_tokens(dice));
        if lockers.is_some() || exec.is_some() {
            // Nobody else touches their keys.
            clients.iter_mut().for_each(|client| client.mix.delete_tree = 0);
        }
        let long_ms = lockers.as_ref().map(|lockers| lockers.longest_ttl().as_millis() as u64 * 3);
        let troubles = faults::draw(dice, Frame { hosts: agents, trouble_ms, election_ms, operated, pooled, long_ms });
        let keys = dice.between(1, KEYS.len() as u64) as usize;
        let small = match scenario {
            Scenario::Kv | Scenario::Cluster | Scenario::Locks | Scenario::Exec => dice.one_in(3),
            Scenario::Acl => dice.one_in(2),
            Scenario::Members => true,
            Scenario::Bench => false,
        };
        let mut snapshots = small.then(|| draw_snapshots(dice));
        if let Some(snapshots) = &mut snapshots {
            // Where there is more in the store, small pieces that get out of order would take too long.
            let least = match scenario {
                Scenario::Locks | Scenario::Acl => 2_000,
                Scenario::Exec => 32 << 10,
                Scenario::Kv | Scenario::Members | Scenario::Cluster | Scenario::Bench => 0,
            };
            snapshots.piece_bytes = snapshots.piece_bytes.max(least);
        }
        let operator = operated.then(|| draw_operator(dice, election_ms));
        // An operator stands in for what agents do as they find each other.
        let services = if pooled { size.services } else { 0 };
        let pool = (!operated).then(|| PoolPlan { services, ..draw_pool(dice, pooled) });
        let registrar = pooled.then(|| draw_registrar(dice));
        Self {
            seed,
            scenario,
            raft_multiplier,
            hosts,
            network,
            clients,
            keys,
            trouble_ms,
            calm_ms,
            snapshots,
            pool,
            operator,
            registrar,
            lockers,
            exec,
            tokens,
            troubles,
        }
    }
}

fn draw_tokens(dice: &mut Rng) -> TokensPlan {
    let (change, pause) = (*dice.pick(&[100, 300, 1_000, 3_000]), *dice.pick(&[20, 100, 500]));
    let patience = *dice.pick(&[500, 3_000, 15_000]);
    TokensPlan {
        denies: !dice.one_in(4),
        tokens: dice.between(1, 5) as usize,
        managers: dice.between(1, 3) as usize,
        change_ms: (change / 4, change),
        bearers: dice.between(2, 6) as usize,
        pause_ms: (pause / 4, pause),
        patience_ms: (patience / 2, patience),
    }
}

fn draw_exec(dice: &mut Rng, agents: usize) -> ExecPlan {
    ExecPlan {
        pause_ms: (200, dice.between(500, 6_000)),
        output_bytes: *dice.pick(&[10_000, 1 << 20, 64 << 20]),
        direct_after: *dice.pick(&[0, 4_096, 64 << 10, 64 << 10, u64::MAX]),
        direct_rate: *dice.pick(&[1 << 20, 8 << 20]),
        inbox_bytes: *dice.pick(&[64 << 10, 256 << 10, 4 << 20]),
        jobs: dice.between(1, 4) as usize,
        disabled: (0..agents).filter(|_| dice.one_in(8)).collect(),
    }
}

/// Some hosts join later, and of some there is no use in the end.
fn draw_roles(dice: &mut Rng, hosts: &mut [HostPlan]) {
    for host in &mut hosts[1..] {
        host.joins = dice.one_in(3);
    }
    if hosts.len() > 2 && dice.one_in(3) {
        let retired = dice.below(hosts.len() as u64) as usize;
        hosts[retired].retires = true;
    }
}

fn draw_host(dice: &mut Rng) -> HostPlan {
    let step = *dice.pick(&[0, 10, 50, 200, 2_000]);
    let sync = *dice.pick(&[50, 200, 1_000, 5_000, 20_000]);
    HostPlan {
        client: false,
        clock_ms: dice.below(100_000),
        drift_ppm: i32::try_from(dice.below(40_001)).expect("it is below 40001") - 20_000,
        step_us: (step / 4, step),
        sync_us: (sync / 4, sync),
        joins: false,
        retires: false,
    }
}

fn draw_pool(dice: &mut Rng, forms: bool) -> PoolPlan {
    PoolPlan {
        expects: forms && !dice.one_in(4),
        retry_ms: *dice.pick(&[200, 1_000, 5_000]),
        push_pull_ms: *dice.pick(&[2_000, 5_000, 15_000]),
        reconnect_ms: *dice.pick(&[1_000, 3_000, 10_000]),
        sync_ms: if forms { *dice.pick(&[3_000, 10_000, 30_000]) } else { 0 },
        services: 0,
    }
}

fn draw_network(dice: &mut Rng) -> NetworkPlan {
    let latency = *dice.pick(&[50, 100, 300, 1_000, 5_000, 15_000]);
    NetworkPlan {
        latency_us: (latency / 2, latency),
        jitter_us: dice.below(latency * 2),
        in_order: dice.one_in(2),
        loss_ppm: *dice.pick(&[0, 0, 0, 1_000, 10_000]),
        duplicate_ppm: *dice.pick(&[0, 0, 1_000, 10_000]),
        damage_ppm: *dice.pick(&[0, 0, 0, 500]),
    }
}

fn draw_client(dice: &mut Rng, servers: usize) -> ClientPlan {
    let think = *dice.pick(&[20_000, 50_000, 100_000, 300_000]);
    let patience = *dice.pick(&[100, 1_000, 4_000, 20_000]);
    // Some only watch, some never do; the rest do everything.
    let mut mix = Mix {
        put: 30,
        cas: dice.below(20) as u32,
        delete: dice.below(10) as u32,
        delete_tree: u32::from(dice.one_in(3)),
        get: 30,
        list: dice.below(15) as u32,
        watch: dice.below(10) as u32,
        stale_percent: dice.below(40),
        consistent_percent: dice.below(40),
    };
    match dice.below(4) {
        0 => mix = Mix { watch: 1, ..mix.reads_only() },
        1 => mix = mix.reads_only(),
        _ => {}
    }
    ClientPlan {
        host: dice.below(servers as u64) as usize,
        roams_percent: *dice.pick(&[0, 1, 5, 20]),
        think_us: (think / 10, think),
        patience_ms: (patience / 2, patience),
        mix,
    }
}

/// Small, so that logs are cut off all the time, and even a small store has several pieces.
fn draw_snapshots(dice: &mut Rng) -> SnapshotPlan {
    SnapshotPlan {
        entries: *dice.pick(&[5, 20, 60, 300]),
        bytes: *dice.pick(&[300, 2_000, 50_000]),
        trailing_entries: *dice.pick(&[0, 3, 20, 100]),
        kept_bytes: *dice.pick(&[0, 2_000, 50_000]),
        piece_bytes: *dice.pick(&[64, 300, 2_000, 20_000]),
        inflight_pieces: *dice.pick(&[1, 2, 8]),
        segment_bytes: *dice.pick(&[8 << 10, 16 << 10, 64 << 10]),
    }
}

fn draw_operator(dice: &mut Rng, election_ms: u64) -> OperatorPlan {
    let pause = *dice.pick(&[50, 200, 800]);
    let patience = *dice.pick(&[300, 1_000, 5_000]);
    OperatorPlan {
        pause_ms: (pause / 4, pause),
        patience_ms: (patience / 2, patience),
        strays_percent: *dice.pick(&[0, 10, 50]),
        transfers_percent: *dice.pick(&[0, 1, 10]),
        meddles_percent: *dice.pick(&[0, 5, 20]),
        dead_ms: *dice.pick(&[election_ms * 5, 4_000, 15_000]),
        cleanup_dead_servers: dice.one_in(2),
        stabilization_ms: *dice.pick(&[0, 100, 1_000]),
        // A healthy server answers every heartbeat, and may have a slow disk and a slow link.
        last_contact_ms: election_ms.max(200),
        max_trailing_logs: *dice.pick(&[5, 50, 250]),
    }
}

fn draw_registrar(dice: &mut Rng) -> RegistrarPlan {
    let pause = *dice.pick(&[100, 500, 2_000]);
    RegistrarPlan { pause_ms: (pause / 4, pause) }
}

fn draw_lockers(dice: &mut Rng, hosts: usize) -> LockersPlan {
    // Sometimes all of them live long, so that whatever ends them early stands out.
    let ttls: &[u64] = if dice.one_in(2) { &[10, 10, 12, 15] } else { &[10, 15, 20, 0] };
    let count = dice.between(2, 6);
    LockersPlan {
        locks: dice.between(1, LOCKS.len() as u64) as usize,
        accounts: dice.between(2, 5) as usize,
        clients: (0..count).map(|_| draw_locker(dice, hosts, ttls)).collect(),
    }
}

fn draw_locker(dice: &mut Rng, hosts: usize, ttls: &[u64]) -> LockerPlan {
    let step = *dice.pick(&[50, 200, 1_000, 3_000]);
    let patience = *dice.pick(&[1_000, 5_000, 20_000]);
    LockerPlan {
        host: dice.below(hosts as u64) as usize,
        ttl_s: *dice.pick(ttls),
        renews_percent: *dice.pick(&[30, 50, 50, 80]),
        lock_delay_ms: *dice.pick(&[0, 1_000, 5_000, 15_000, 15_000]),
        ephemeral: dice.one_in(3),
        tie: *dice.pick(&[Tie::Nothing, Tie::Agent, Tie::Own]),
        hammers: dice.one_in(3),
        step_ms: (step / 4, step),
        patience_ms: (patience / 2, patience),
        mishaps_percent: *dice.pick(&[0, 2, 5, 20]),
        moves_percent: *dice.pick(&[0, 10, 40]),
    }
}

impl Mix {
    fn reads_only(self) -> Self {
        Self { put: 0, cas: 0, delete: 0, delete_tree: 0, get: 1, list: u32::from(self.list > 7), watch: 0, ..self }
    }
}
