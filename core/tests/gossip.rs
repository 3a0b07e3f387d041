//! Gossip as a whole: scripts in `testdata/gossip`, each of which opens with the claim that it proves, and pools of
//! machines on a network in memory that must agree whatever befalls them. `UPDATE_GOLDENFILES=1 cargo test -p lictor-core --test
//! gossip` writes the scripts' outputs anew; read the difference before you commit it.

mod pool;

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use goldenscript::{Command, Context, Runner};
use lictor_core::gossip::message::Message;
use lictor_core::gossip::{Gossip, Identity, Name, News, NoJoin, Options, Profile, Status, Tags, UserEvent, packet};
use lictor_core::id::{Incarnation, LamportTime};
use lictor_core::rng::Rng;
use lictor_core::time::{Duration, Instant};
use pool::{Pool, address};
use uuid::Uuid;

#[test]
fn scripts() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/gossip");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 8, "scripts are missing: {files:?}");
    for file in files {
        println!("{}", file.display());
        goldenscript::run(&mut Script { pool: Pool::new(1) }, &file).unwrap();
    }
}

struct Script {
    pool: Pool,
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let number = args.take_key("nodes").map(str::parse).transpose()?;
        let elsewhere: Option<usize> = args.take_key("at").map(str::parse).transpose()?;
        let incarnation: u64 = args.take_key("inc").map_or(Ok(1), str::parse)?;
        let from = args.take_key("from").map(str::to_owned);
        let restored = args.take_key("restored").is_some();
        let (id, named) = (args.take_key("id").map(str::to_owned), args.take_key("name").map(str::to_owned));
        let mut words: Vec<String> = Vec::new();
        while let Some(word) = args.next_pos() {
            words.push(word.to_owned());
        }
        args.reject_next()?;
        let word = |at: usize| words.get(at).map(String::as_str).ok_or("a word is missing");
        let pool = &mut self.pool;
        match command.name.as_str() {
            // pool nodes=N: a new pool of n1 … nN that know each other.
            "pool" => *pool = Pool::joined(1, number.ok_or("nodes=N is missing")?),
            // run MS: time passes.
            "run" => pool.run(Duration::from_millis(word(0)?.parse()?)),
            // trace: from now on, shows messages, but for pings, acks and full states.
            "trace" => pool.traced = true,
            // suspect NODE TARGET from=ACCUSER [inc=N]: NODE hears that ACCUSER suspects TARGET.
            "suspect" => {
                let (name, incarnation) = (Name::from(word(1)?), Incarnation(incarnation));
                let from = Name::from(from.ok_or("from=ACCUSER is missing")?.as_str());
                pool.inject(word(0)?, &Message::Suspect { name, incarnation, from });
            }
            // claim NODE NAME at=N [inc=N]: NODE hears that NAME is at another address.
            "claim" => {
                let (name, incarnation) = (Name::from(word(1)?), Incarnation(incarnation));
                let profile = Profile { address: address(elsewhere.ok_or("at=N is missing")?), tags: Arc::default() };
                pool.inject(word(0)?, &Message::Alive { name, incarnation, profile });
            }
            // start NODE [at=N] [restored=yes] [id=ID] [name=NAME]: it starts, at its address or another, with its old clocks or
            // without, with this ID or none, under its own name or another's.
            "start" => {
                let machine = word(0)?;
                let own: usize = machine.trim_start_matches('n').parse().unwrap_or(99);
                let name = named.as_deref().unwrap_or(machine);
                pool.start_as(machine, name, id.as_deref(), address(elsewhere.unwrap_or(own)), restored);
            }
            "kill" => words.iter().for_each(|name| pool.kill(name)),
            // deaf NODE...: datagrams do not reach these any more, only streams do.
            "deaf" => pool.deaf.extend(words.clone()),
            // separate NODE NODE: these two do not hear each other any more; reunite: they do.
            "separate" => drop(pool.separate.insert((word(0)?.to_owned(), word(1)?.to_owned()))),
            "reunite" => pool.separate.clear(),
            "join" => pool.join(word(0)?, word(1)?),
            "leave" => pool.with(word(0)?, |gossip, now| gossip.leave(now)),
            "force-leave" => {
                let name = word(1)?.to_owned();
                assert!(pool.with(word(0)?, |gossip, now| gossip.force_leave(now, &name, false)));
            }
            // tags NODE VALUE: changes its role.
            "tags" => {
                let tags = Tags::from([("role".to_owned(), word(1)?.to_owned())]);
                pool.with(word(0)?, |gossip, now| gossip.set_tags(now, tags))?;
            }
            "fire" => pool.fire(word(0)?, word(1)?),
            "partition" => pool.partition(&words),
            "heal" => pool.partition(&[]),
            "members" => words.iter().for_each(|name| pool.show_members(name)),
            name => return Err(format!("unknown command {name}").into()),
        }
        Ok(self.pool.take_output())
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn is_alarm(news: &News) -> bool {
    matches!(news, News::Suspected { .. } | News::Failed(_) | News::Refuted { .. } | News::Left(_))
}

#[test]
fn a_quiet_network_raises_no_alarm_and_its_queues_drain() {
    for (seed, count) in [(1, 3), (2, 10), (3, 50)] {
        let mut pool = Pool::joined(seed, count);
        pool.forget_news();
        pool.run(seconds(120));
        assert_eq!(pool.count(is_alarm), 0, "{count} machines: {}", pool.take_output());
        assert!(pool.up().all(|(_, gossip)| gossip.broadcasts().is_empty()), "something is broadcast for ever");
        assert!(pool.up().all(|(_, gossip)| gossip.health() == 0));
    }
}

#[test]
fn views_converge_on_a_bad_network() {
    for seed in 1..=5 {
        let mut pool = Pool::new(seed);
        pool.loss_percent = 15;
        pool.latency = (Duration::from_millis(1), Duration::from_millis(60));
        let count = 3 + 9 * seed as usize;
        for n in 1..=count {
            pool.start(&format!("n{n}"), address(n), false);
        }
        for n in 2..=count {
            // Each joins the one before it: a chain.
            pool.join(&format!("n{n}"), &format!("n{}", n - 1));
        }
        pool.run_until(seconds(60), Pool::agree);
    }
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let story = |seed| {
        let mut pool = Pool::joined(seed, 10);
        pool.loss_percent = 30;
        pool.traced = true;
        pool.kill("n3");
        pool.fire("n1", "deploy");
        pool.run(seconds(40));
        (pool.take_output(), pool.bytes_sent)
    };
    let (told, bytes) = story(31);
    assert_eq!((&told, bytes), (&story(31).0, story(31).1));
    assert_ne!(told, story(32).0);
}

#[test]
fn a_dead_machine_is_noticed_by_all_within_serfs_bounds() {
    for (seed, count) in [(1, 3), (2, 8), (3, 30), (4, 100)] {
        let mut pool = Pool::joined(seed, count);
        pool.forget_news();
        pool.kill("n2");
        // Each probes all in two rounds at most, but the others help: within a few intervals somebody meets it. Then a
        // suspicion lasts from its least to, if hardly anybody confirms it, its most time; and the news must spread.
        let (least, most) = pool.options.suspicion_bounds(count);
        let bound = seconds(4 + 2 * count.min(8) as u64) + if count < 4 { least } else { most } + seconds(2);
        let took = pool.run_until(bound, |pool| pool.all_see("n2", Status::Failed));
        assert!(took >= least, "{count} machines: {took:?} leaves no time to object");
        let wrongly = pool.count(|news| matches!(news, News::Failed(member) if member.name.as_str() != "n2"));
        assert_eq!(wrongly, 0, "somebody else was called dead");
        assert_eq!(pool.count(|news| matches!(news, News::Failed(_))), count - 1, "each notices it once");
    }
}

#[test]
fn lost_datagrams_alone_make_nobody_fail() {
    let mut pool = Pool::joined(7, 20);
    pool.loss_percent = 20;
    pool.run(seconds(300));
    assert_eq!(pool.count(|news| matches!(news, News::Failed(_))), 0, "{}", pool.take_output());
}

#[test]
fn a_machine_that_only_streams_reach_stays() {
    let mut pool = Pool::joined(8, 5);
    pool.forget_news();
    pool.deaf.insert("n3".to_owned());
    pool.run(seconds(60));
    let failed = pool.count(|news| matches!(news, News::Failed(member) if member.name.as_str() == "n3"));
    assert_eq!(failed, 0, "{}", pool.take_output());
}

#[test]
fn a_partition_heals() {
    for (seed, count, cut) in [(1, 5, 2), (2, 12, 6), (3, 30, 10)] {
        let mut pool = Pool::joined(seed, count);
        let names: Vec<String> = (1..=cut).map(|n| format!("n{n}")).collect();
        pool.partition(&names);
        pool.run_until(seconds(180), |pool| {
            pool.up().all(|(name, gossip)| {
                let own = if names.contains(name) { cut } else { count - cut };
                gossip.live() == own
            })
        });
        pool.fire("n1", "during");
        pool.run(seconds(5));
        pool.partition(&[]);
        pool.run_until(seconds(300), Pool::agree);
        pool.run(seconds(120));
        assert!(pool.agree(), "it does not last:\n{}", pool.views());
        assert_eq!(pool.count(|news| matches!(news, News::UserEvent(_))), count, "the event reached the other side");
    }
}

#[test]
fn events_reach_all_exactly_once() {
    for (seed, count, loss) in [(1, 3, 0), (2, 20, 10), (3, 60, 5)] {
        let mut pool = Pool::joined(seed, count);
        pool.loss_percent = loss;
        for n in 0..40 {
            let from = format!("n{}", 1 + n % count);
            pool.fire(&from, &format!("e{n}"));
            pool.run(Duration::from_millis(70));
        }
        let all = |pool: &Pool| pool.count(|news| matches!(news, News::UserEvent(_))) >= 40 * count;
        pool.run_until(seconds(180), all);
        pool.run(seconds(120));
        for (name, machine) in &pool.machines {
            let mut ids: Vec<Uuid> = (machine.news.iter())
                .filter_map(|(_, news)| match news {
                    News::UserEvent(timed) => Some(timed.event.id),
                    _ => None,
                })
                .collect();
            ids.sort();
            let heard = ids.len();
            ids.dedup();
            assert_eq!((heard, ids.len()), (40, 40), "{name} heard too few events, or one twice");
        }
    }
}

#[test]
fn an_event_spreads_within_a_second() {
    let mut pool = Pool::joined(5, 100);
    pool.forget_news();
    pool.fire("n50", "deploy");
    pool.run_until(seconds(1), |pool| pool.count(|news| matches!(news, News::UserEvent(_))) == 100);
}

#[test]
fn one_who_stalls_is_not_dead_and_does_not_call_others_dead() {
    let mut pool = Pool::joined(9, 12);
    pool.forget_news();
    for _ in 0..10 {
        pool.stall("n4", seconds(4));
        pool.run(seconds(6));
    }
    pool.run(seconds(30));
    assert_eq!(pool.count(|news| matches!(news, News::Failed(_))), 0, "{}", pool.take_output());
    assert!(pool.agree());
}

/// How often a sound machine was called dead while the packets of a few of 24 were held up for seconds, over and
/// over: the anomaly of the Lifeguard paper (section V-C).
fn wrongly_failed(options: &Options) -> usize {
    let mut pool = Pool::new(17);
    pool.options = options.clone();
    for n in 1..=24 {
        pool.start(&format!("n{n}"), address(n), false);
        if n > 1 {
            pool.join(&format!("n{n}"), "n1");
        }
    }
    pool.run(seconds(30));
    pool.forget_news();
    let mut rng = Rng::seeded(18);
    for _ in 0..20 {
        for n in 1..=4 {
            pool.block(&format!("n{n}"), rng.duration(seconds(8), seconds(16)));
        }
        pool.run(seconds(16) + Duration::from_millis(rng.below(200)));
    }
    let slow = ["n1", "n2", "n3", "n4"];
    pool.count(|news| matches!(news, News::Failed(member) if !slow.contains(&member.name.as_str())))
}

#[test]
fn lifeguard_spares_the_sound_where_plain_swim_does_not() {
    let lifeguard = Options::default();
    let plain = Options { awareness_max: 1, suspicion_max_mult: 1, buddy: false, ..lifeguard.clone() };
    let (with, without) = (wrongly_failed(&lifeguard), wrongly_failed(&plain));
    assert!(without >= 100, "too little trouble to tell: {without}");
    assert!(with * 20 <= without, "{with} with Lifeguard, {without} without");
}

#[test]
fn the_gone_are_forgotten_by_all_and_stay_so() {
    let mut pool = Pool::new(11);
    pool.options.reconnect_timeout = seconds(120);
    pool.options.tombstone_timeout = seconds(60);
    for n in 1..=6 {
        pool.start(&format!("n{n}"), address(n), false);
        if n > 1 {
            pool.join(&format!("n{n}"), "n1");
        }
    }
    pool.run(seconds(10));
    pool.kill("n5");
    pool.with("n6", |gossip, now| gossip.leave(now));
    pool.run(seconds(30));
    pool.kill("n6");
    assert!(pool.all_see("n5", Status::Failed) && pool.all_see("n6", Status::Left), "{}", pool.views());
    // One who joins later learns who is missing, and forgets them when the others do.
    pool.start("n7", address(7), false);
    pool.join("n7", "n2");
    pool.run(seconds(5));
    assert!(pool.all_see("n5", Status::Failed) && pool.all_see("n6", Status::Left), "{}", pool.views());
    pool.run(seconds(150));
    pool.forget_news();
    assert!(pool.up().all(|(_, gossip)| gossip.members().count() == 5), "{}", pool.views());
    pool.run(seconds(200));
    assert_eq!(pool.count(|news| !matches!(news, News::UserEvent(_))), 0, "{}", pool.take_output());
}

#[test]
fn coordinates_tell_the_near_from_the_far() {
    let mut pool = Pool::joined(12, 10);
    pool.latency = (Duration::from_millis(9), Duration::from_millis(11));
    pool.run(seconds(600));
    let machines: Vec<&Gossip> = pool.up().map(|(_, gossip)| gossip).collect();
    let (mut sum, mut pairs) = (0.0, 0.0);
    for a in &machines {
        for b in machines.iter().filter(|b| b.name() != a.name()) {
            sum += lictor_core::coordinate::distance(a.coordinate(), b.coordinate()).as_secs_f64();
            pairs += 1.0;
        }
    }
    let mean = sum / pairs;
    assert!((0.015..0.025).contains(&mean), "round trips of 20 ms are taken for {mean} s");
    assert!(machines[0].coordinate_of("n2").is_some());
}

#[test]
fn an_unreachable_address_fails_to_be_joined() {
    let mut pool = Pool::joined(13, 2);
    pool.forget_news();
    let nobody = address(77);
    pool.with("n1", |gossip, now| gossip.join(now, [nobody]));
    pool.run(seconds(1));
    let reason = NoJoin::Unreachable("connection refused".to_owned());
    assert_eq!(pool.count(|news| *news == News::JoinFailed { address: nobody, reason: reason.clone() }), 1);
    // Where nothing is refused, only time tells.
    pool.partition(&["n2".to_owned()]);
    pool.join("n1", "n2");
    pool.run(seconds(11));
    let failed = News::JoinFailed { address: address(2), reason: NoJoin::Silent };
    assert_eq!(pool.count(|news| *news == failed), 1);
}

#[test]
fn another_pool_and_another_version_are_dropped_and_counted() {
    let mut pool = Pool::joined(14, 2);
    pool.options.pool = "lan:dc2".to_owned();
    pool.start("x1", address(50), false);
    pool.with("x1", |gossip, now| gossip.join(now, [address(1)]));
    pool.run(seconds(1));
    let n1 = pool.machines["n1"].gossip.as_ref().unwrap();
    assert_eq!((n1.counters().strangers, n1.members().count()), (1, 2));
    let mut bytes = packet::Packer::new(Options::default().pool_tag(), 1400).finish().to_vec();
    bytes[4] = 9;
    pool.with("n1", |gossip, now| gossip.handle_datagram(now, address(2), &bytes));
    assert_eq!(pool.machines["n1"].gossip.as_ref().unwrap().counters().version, 1);
}

#[test]
fn events_that_are_too_large_are_refused_with_their_size() {
    let mut pool = Pool::joined(15, 1);
    let event = UserEvent { id: Uuid::nil(), name: "big".to_owned(), payload: vec![0; 510].into() };
    let error = pool.with("n1", |gossip, now| gossip.fire(now, event)).unwrap_err();
    assert_eq!(error.to_string(), "user event exceeds the limit of 512 bytes for name and payload, as it has 513");
    assert_eq!(pool.machines["n1"].gossip.as_ref().unwrap().event_clock(), LamportTime(0));
}

/// A machine in the middle of everything: a few members, one of them suspected, a probe under way.
fn busy() -> Gossip {
    let me = Identity { name: "n1".to_owned(), address: address(1), tags: Tags::new() };
    let options = Options { max_members: 7, ..Options::default() };
    Gossip::new(options, me, Rng::seeded(1), Instant::ZERO).unwrap()
}

/// Real packets of all kinds, as a pool exchanges them.
fn harvest() -> Vec<Vec<u8>> {
    let mut pool = Pool::new(21);
    let mut packets: Vec<Vec<u8>> = Vec::new();
    for n in 1..=5 {
        pool.start(&format!("n{n}"), address(n), false);
    }
    for n in 2..=5 {
        pool.join(&format!("n{n}"), "n1");
    }
    // From the beginning, as it is then that members are announced and full states exchanged.
    for millis in 0..25_000 {
        if millis == 5_000 {
            pool.fire("n2", "deploy");
            pool.kill("n5");
            pool.with("n4", |gossip, now| gossip.leave(now));
        }
        pool.run(Duration::from_millis(1));
        packets.extend(pool.in_flight());
    }
    packets
}

#[test]
fn a_million_random_and_mutated_packets_never_break_a_machine() {
    let sound = harvest();
    assert!(sound.len() > 30, "too few packets to mutate: {}", sound.len());
    let (mut machine, mut rng, mut now) = (busy(), Rng::seeded(22), Instant::ZERO);
    for round in 0..1_000_000 {
        let mut bytes = sound[rng.below(sound.len() as u64) as usize].clone();
        for _ in 0..rng.below(4) {
            let at = rng.below(bytes.len() as u64) as usize;
            match rng.below(4) {
                0 => bytes[at] = rng.below(256) as u8,
                1 => bytes[at] ^= 1 << rng.below(8),
                2 if bytes.len() > 20 => drop(bytes.remove(at)),
                _ => bytes.insert(at, rng.below(256) as u8),
            }
        }
        if rng.one_in(20) {
            bytes = (0..rng.below(100)).map(|_| rng.below(256) as u8).collect();
        } else if rng.below(10) < 9 && bytes.len() > packet::HEADER_BYTES {
            // Most get a right checksum, as damage that it catches goes no further.
            let sum = crc32c::crc32c(&bytes[packet::HEADER_BYTES..]);
            bytes[10..14].copy_from_slice(&sum.to_le_bytes());
        }
        now = now + Duration::from_millis(rng.below(40));
        match rng.below(3) {
            0 => machine.handle_stream(now, address(2), &bytes),
            _ => machine.handle_datagram(now, address(2), &bytes),
        }
        if machine.poll_timeout().is_some_and(|due| due <= now) {
            machine.tick(now);
        }
        while machine.poll_transmit().is_some() {}
        while machine.poll_news().is_some() {}
        if round % 64 == 0 {
            machine.assert_invariants();
        }
    }
    println!(
        "{:?} {} members, {} broadcasts",
        machine.counters(),
        machine.members().count(),
        machine.broadcasts().len()
    );
    assert!(machine.members().count() <= 7, "more members than are allowed");
    let counters = machine.counters();
    assert!(counters.malformed > 0 && counters.strangers > 0 && counters.version > 0, "{counters:?}");
    assert!(counters.unexpected > 0 && counters.members_refused > 0, "nothing got through: {counters:?}");
}

#[test]
fn through_loss_partition_death_and_return_all_agree_in_the_end() {
    for seed in 1000..1012_u64 {
        let count = 3 + (seed % 37) as usize;
        let mut pool = Pool::joined(seed, count);
        pool.loss_percent = seed % 25;
        pool.latency = (Duration::from_millis(1), Duration::from_millis(1 + seed % 80));
        let some: Vec<String> = (1..=1 + seed as usize % (count - 1)).map(|n| format!("n{n}")).collect();
        pool.partition(&some);
        pool.run(seconds(seed % 90));
        pool.fire("n1", "deploy");
        let victim = format!("n{count}");
        pool.kill(&victim);
        pool.run(seconds(20));
        pool.partition(&[]);
        pool.run_until(seconds(400), Pool::agree);
        // With its clocks it also hears the event that it missed, or had heard before it died: once.
        pool.start(&victim, address(count), true);
        pool.join(&victim, "n1");
        pool.run_until(seconds(120), Pool::agree);
        let heard = |pool: &Pool| pool.count(|news| matches!(news, News::UserEvent(_)));
        pool.run_until(seconds(300), |pool| heard(pool) == count);
        pool.run(seconds(100));
        assert_eq!(heard(&pool), count, "seed {seed}: somebody heard it twice");
    }
}
