//! The network: which bytes arrive where and when. It knows nothing of what they say.

use bytes::Bytes;
use lictor_core::rng::Rng;
use lictor_core::time::{Duration, Instant};

use crate::dice::Dice as _;
use crate::plan::NetworkPlan;

/// However large a message is and however narrow its way: at some time it arrives.
const LONGEST: Duration = Duration::from_secs(2);

/// The links between all pairs of hosts.
#[derive(Debug)]
pub(crate) struct Net {
    hosts: usize,
    plan: NetworkPlan,
    dice: Rng,
    links: Vec<Link>,
    weather: Vec<Weather>,
    narrow: Vec<Narrow>,
    /// All that is sent arrives a second time, so much later.
    echoes: Vec<Duration>,
}

/// What is large gets through badly from one host.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Narrow {
    pub(crate) from: usize,
    /// Larger messages are large.
    pub(crate) above: usize,
    pub(crate) loss_ppm: u32,
    /// What each byte takes.
    pub(crate) byte: Duration,
}

/// One direction between two hosts.
#[derive(Clone, Debug)]
struct Link {
    latency: Duration,
    /// How many faults block it.
    blocked: u32,
    /// What faults add to its latency.
    extra: Duration,
    /// When the last message that keeps its order arrives.
    last: Instant,
}

/// A phase of bad weather.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Weather {
    pub(crate) loss_ppm: u32,
    pub(crate) duplicate_ppm: u32,
    pub(crate) held_ppm: u32,
    pub(crate) held_ms: u64,
}

/// What became of a message.
#[derive(Debug, Default)]
pub(crate) struct Fate {
    /// When it arrives: never, once or twice.
    pub(crate) arrivals: [Option<Instant>; 2],
    /// Whether it arrives damaged.
    pub(crate) damaged: bool,
}

impl Net {
    pub(crate) fn new(plan: &NetworkPlan, hosts: usize, mut dice: Rng) -> Self {
        let links = (0..hosts * hosts)
            .map(|_| Link {
                latency: dice.micros(plan.latency_us),
                blocked: 0,
                extra: Duration::ZERO,
                last: Instant::ZERO,
            })
            .collect();
        Self { hosts, plan: plan.clone(), dice, links, weather: Vec::new(), narrow: Vec::new(), echoes: Vec::new() }
    }

    /// Whether messages can pass at all.
    pub(crate) fn is_open(&self, from: usize, to: usize) -> bool {
        self.links[from * self.hosts + to].blocked == 0
    }

    /// What it takes to hear that nobody is there.
    pub(crate) fn round_trip(&mut self) -> Duration {
        self.dice.micros(self.plan.latency_us) * 2
    }

    /// A message of so many bytes is sent now.
    pub(crate) fn send(&mut self, now: Instant, from: usize, to: usize, bytes: usize) -> Fate {
        let sum = |base: u32, of: fn(&Weather) -> u32, weather: &[Weather]| {
            weather.iter().map(of).fold(base, u32::saturating_add)
        };
        let loss = sum(self.plan.loss_ppm, |w| w.loss_ppm, &self.weather);
        if !self.is_open(from, to) || self.dice.chance_ppm(loss) {
            return Fate::default();
        }
        let mut slower = Duration::ZERO;
        for narrow in self.narrow.iter().filter(|narrow| narrow.from == from && bytes > narrow.above) {
            if self.dice.chance_ppm(narrow.loss_ppm) {
                return Fate::default();
            }
            slower += narrow.byte * u32::try_from(bytes).unwrap_or(u32::MAX);
        }
        let now = now + slower.min(LONGEST);
        let duplicate = sum(self.plan.duplicate_ppm, |w| w.duplicate_ppm, &self.weather);
        let first = Some(self.arrival(now, from, to));
        let mut second = self.dice.chance_ppm(duplicate).then(|| self.arrival(now, from, to));
        if let Some(after) = self.echoes.first() {
            second = first.map(|first| first + *after);
        }
        Fate { arrivals: [first, second], damaged: self.dice.chance_ppm(self.plan.damage_ppm) }
    }

    fn arrival(&mut self, now: Instant, from: usize, to: usize) -> Instant {
        let link = &mut self.links[from * self.hosts + to];
        let jitter = Duration::from_nanos(self.dice.below(self.plan.jitter_us * 1_000 + 1));
        let mut at = now + link.latency + link.extra + jitter;
        let mut held = false;
        for weather in &self.weather {
            if self.dice.chance_ppm(weather.held_ppm) {
                held = true;
                at = at + Duration::from_nanos(self.dice.below(weather.held_ms * 1_000_000 + 1));
            }
        }
        if self.plan.in_order && !held {
            at = at.max(link.last);
            link.last = at;
        }
        at
    }

    /// One bit of a message turns round on its way.
    pub(crate) fn damage(&mut self, frame: &Bytes) -> Bytes {
        let mut bytes = frame.to_vec();
        let bit = self.dice.below(bytes.len() as u64 * 8);
        bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        bytes.into()
    }

    pub(crate) fn block(&mut self, links: &[(usize, usize)]) {
        for (from, to) in links {
            self.links[from * self.hosts + to].blocked += 1;
        }
    }

    pub(crate) fn unblock(&mut self, links: &[(usize, usize)]) {
        for (from, to) in links {
            let link = &mut self.links[from * self.hosts + to];
            link.blocked = link.blocked.saturating_sub(1);
        }
    }

    /// From now on all that `from` sends takes this much longer.
    pub(crate) fn slow_down(&mut self, from: usize, extra: Duration) {
        for to in 0..self.hosts {
            self.links[from * self.hosts + to].extra = extra;
        }
    }

    pub(crate) fn worsen(&mut self, weather: Weather) {
        self.weather.push(weather);
    }

    pub(crate) fn improve(&mut self, weather: &Weather) {
        if let Some(at) = self.weather.iter().position(|w| w == weather) {
            self.weather.swap_remove(at);
        }
    }

    pub(crate) fn narrow(&mut self, narrow: Narrow) {
        self.narrow.push(narrow);
    }

    pub(crate) fn widen(&mut self, narrow: &Narrow) {
        if let Some(at) = self.narrow.iter().position(|n| n == narrow) {
            self.narrow.swap_remove(at);
        }
    }

    pub(crate) fn begin_echo(&mut self, after: Duration) {
        self.echoes.push(after);
    }

    pub(crate) fn end_echo(&mut self, after: Duration) {
        if let Some(at) = self.echoes.iter().position(|echo| *echo == after) {
            self.echoes.swap_remove(at);
        }
    }

    /// Whether any link is cut.
    pub(crate) fn is_cut(&self) -> bool {
        self.links.iter().any(|link| link.blocked > 0)
    }

    /// Everything works: no cuts, no weather, and no losses or damage of the plan either.
    pub(crate) fn heal(&mut self) {
        for link in &mut self.links {
            link.blocked = 0;
            link.extra = Duration::ZERO;
        }
        self.weather.clear();
        self.narrow.clear();
        self.echoes.clear();
        self.plan.loss_ppm = 0;
        self.plan.damage_ppm = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> NetworkPlan {
        NetworkPlan {
            latency_us: (100, 200),
            jitter_us: 500,
            in_order: false,
            loss_ppm: 0,
            duplicate_ppm: 0,
            damage_ppm: 0,
        }
    }

    fn arrivals(net: &mut Net, count: u64) -> Vec<Instant> {
        (0..count).flat_map(|n| net.send(Instant::from_nanos(n * 1_000), 0, 1, 100).arrivals).flatten().collect()
    }

    #[test]
    fn jitter_reorders_unless_the_link_keeps_order() {
        let mut net = Net::new(&plan(), 2, Rng::seeded(1));
        assert!(!arrivals(&mut net, 200).is_sorted());
        let mut net = Net::new(&NetworkPlan { in_order: true, ..plan() }, 2, Rng::seeded(1));
        assert!(arrivals(&mut net, 200).is_sorted());
    }

    #[test]
    fn weather_loses_and_doubles_and_passes() {
        let mut net = Net::new(&plan(), 2, Rng::seeded(2));
        let weather = Weather { loss_ppm: 500_000, duplicate_ppm: 0, held_ppm: 0, held_ms: 0 };
        net.worsen(weather.clone());
        assert!((300..700).contains(&arrivals(&mut net, 1000).len()));
        net.improve(&weather);
        assert_eq!(arrivals(&mut net, 1000).len(), 1000);
        net.worsen(Weather { loss_ppm: 0, duplicate_ppm: 1_000_000, held_ppm: 0, held_ms: 0 });
        assert_eq!(arrivals(&mut net, 100).len(), 200);
    }

    #[test]
    fn what_is_large_gets_lost_on_a_narrow_way() {
        let mut net = Net::new(&plan(), 2, Rng::seeded(4));
        let narrow = Narrow { from: 0, above: 99, loss_ppm: 500_000, byte: Duration::from_millis(1) };
        net.narrow(narrow.clone());
        let got: Vec<_> = (0..1000).filter_map(|_| net.send(Instant::ZERO, 0, 1, 100).arrivals[0]).collect();
        assert!((300..700).contains(&got.len()));
        assert!(got.iter().all(|at| *at >= Instant::from_millis(100)));
        assert!((0..100).all(|_| net.send(Instant::ZERO, 0, 1, 99).arrivals[0].is_some()));
        net.widen(&narrow);
        assert_eq!(arrivals(&mut net, 100).len(), 100);
    }

    #[test]
    fn an_echo_brings_everything_once_more_in_its_order() {
        let mut net = Net::new(&NetworkPlan { in_order: true, ..plan() }, 2, Rng::seeded(5));
        let after = Duration::from_secs(1);
        net.begin_echo(after);
        let fates: Vec<_> = (0..100).map(|n| net.send(Instant::from_nanos(n * 1_000), 0, 1, 9).arrivals).collect();
        assert!(fates.iter().all(|[first, second]| first.map(|first| first + after) == *second));
        net.end_echo(after);
        assert_eq!(arrivals(&mut net, 100).len(), 100);
    }

    #[test]
    fn a_blocked_link_opens_when_the_last_fault_ends() {
        let mut net = Net::new(&plan(), 2, Rng::seeded(3));
        net.block(&[(0, 1)]);
        net.block(&[(0, 1)]);
        net.unblock(&[(0, 1)]);
        assert!(!net.is_open(0, 1));
        assert!(net.is_open(1, 0));
        net.unblock(&[(0, 1)]);
        assert!(net.is_open(0, 1));
    }
}
