//! The agent: one value that holds all machines and is the only one that knows them.
//!
//! Its three doors are [`Agent::handle_input`], [`Agent::poll_output`] and [`Agent::poll_timeout`]; [`crate::io`]
//! has the contract with the owner. A call passes `route.rs` (where must this run?), then `propose.rs` for
//! writes or `query.rs` for reads; `apply.rs` brings what raft has committed to the store and to those who wait.
//! `calls.rs` knows each open call and the one stage it is in.

mod acl;
mod apply;
mod authorize;
mod calls;
mod errands;
mod events;
mod exec;
mod forward;
mod founding;
mod jobs;
mod joining;
mod keep;
mod leaving;
mod local;
mod lock_delay;
mod operator;
mod pool;
mod prepared;
mod propose;
mod query;
mod remembering;
mod route;
mod servers;
mod sessions;
mod snapshot;
#[cfg(test)]
mod tests;
mod timers;
mod txn;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use calls::{Caller, Calls};
use errands::Errands;
use forward::{Recent, Taken};
use founding::Founder;
use jobs::Jobs;
use lock_delay::LockDelays;
use pool::Pool;
use servers::Servers;
use snapshot::Snapshots;

use crate::api::Reply;
use crate::config::Config;
use crate::event;
use crate::exec::Runner;
use crate::exec::collector::Collector;
use crate::gossip::Gossip;
use crate::id::{PeerId, Term, Ticket};
use crate::io::{Input, Notice, Output};
use crate::leader::Duties;
use crate::local::Local;
use crate::peer::{Body, Envelope};
use crate::raft::{Entry, Kind, Payload, Raft, Start, Status};
use crate::recovery::Recovered;
use crate::rng::Rng;
use crate::store::Store;
use crate::time::Instant;
use crate::view::Figures;
pub use crate::view::View;
use crate::wal::Writer;
use crate::watch::Watches;
use crate::wire::{self, Malformed};

/// An agent: see [`crate::io`] for the contract with its owner.
///
/// Invariants, between batches: everything committed is applied; every open call is in exactly one stage; a call is
/// in `watches` if and only if its stage is `Blocked`; the published view is of the current store.
#[derive(Debug)]
pub struct Agent {
    config: Arc<Config>,
    rng: Rng,
    now: Instant,
    raft: Raft,
    gossip: Gossip,
    pool: Pool,
    servers: Servers,
    founder: Founder,
    /// The user events that were meant for us.
    heard: event::Buffer,
    writer: Writer,
    store: Store,
    watches: Watches,
    calls: Calls,
    /// Writes of other agents that we have taken on.
    taken: Taken,
    /// What clients' agents have handed to us as they might have to any server, and must not happen twice.
    taken_by_any: Recent,
    snapshots: Snapshots,
    jobs: Jobs,
    errands: Errands,
    local: Local,
    /// The commands that others have us run.
    exec: Runner,
    /// What commands elsewhere write, for our clients.
    collector: Collector,
    lock_delays: LockDelays,
    /// Where peers said they are, and where the members' list had them then: they may have moved since the log named them.
    addresses: BTreeMap<PeerId, (SocketAddr, Option<SocketAddr>)>,
    /// When to tell the members where we are, if we know no leader that would find us.
    next_announcement: Instant,
    /// The operator's order of who takes part lies on the disk.
    obeys_order: bool,
    /// What we do of our own accord, while we lead.
    duties: Option<Duties>,
    /// Drawn at the start, so that answers to an earlier life's forwarded calls are recognised.
    origin: u64,
    cluster: u32,
    /// Blocked calls whose result may have changed in this batch.
    woken: BTreeSet<Ticket>,
    /// Answers of this batch, to leave after the view is published.
    replies: Vec<(Caller, Reply)>,
    /// Term and leadership when the last batch was closed.
    office: Office,
    view: Arc<View>,
    /// The disk refused us room since then.
    full_since: Option<Instant>,
    /// Bytes that this batch has brought into the log: they need room on the disk, but are not written yet.
    batch_bytes: usize,
    /// Messages that were thrown away.
    dropped: u64,
    outputs: VecDeque<Output>,
    /// An input was handled since the last batch was closed.
    open_batch: bool,
}

/// Who led, and whether it was us: what calls in flight rely on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Office {
    term: Term,
    leader: Option<PeerId>,
    led: bool,
}

impl Agent {
    /// An agent that wakes up at `now` with what its disk had kept ([`Recovered::default`] if it is new).
    /// Everything random in it follows from `seed`.
    #[must_use]
    pub fn new(config: Config, seed: u64, mut recovered: Recovered, now: Instant) -> Self {
        if !config.server {
            // Whatever it may have been in an earlier life, it takes part in raft no more.
            let (files, kept) = (recovered.files, recovered.kept);
            recovered = Recovered { files, kept, ..Recovered::default() };
        }
        let founder = Founder::recovered(&recovered.files);
        let mut rng = Rng::seeded(seed);
        let writer = Writer::with_options(&recovered.log, config.wal.clone());
        let obeys_order = recovered.forced.is_some();
        let (meta, store) = match recovered.snapshot {
            Some(snapshot) => (Some(snapshot.meta), snapshot.store),
            None => (None, Store::default()),
        };
        let start = Start {
            hard_state: recovered.log.hard_state,
            snapshot: meta,
            entries: recovered.log.entries,
            last_seq: writer.last_seq(),
            bootstrap: config.bootstrap.clone().filter(|_| config.server),
            forced: recovered.forced,
        };
        let raft = Raft::new(config.id, config.raft.clone(), Rng::seeded(rng.u64()), start, now);
        let config = Arc::new(config);
        let gossip = pool::gossip(&config, Rng::seeded(rng.u64()), now);
        let local = Local::new(&config, &recovered.files, Rng::seeded(rng.u64()), now);
        let snapshots = Snapshots::new(recovered.kept);
        let figures = Figures { dropped: 0, snapshot: snapshots.newest(), registered: local.counts() };
        let origin = rng.u64();
        let pool = Pool::new(&config, &gossip, Rng::seeded(!origin), now);
        let view = Arc::new(View::new(&config, &raft, &store, pool.sight(), figures));
        let mut agent = Self {
            cluster: wire::cluster_tag(&config.datacenter),
            origin,
            servers: Servers::new(Rng::seeded(rng.u64())),
            founder,
            rng,
            now,
            gossip,
            pool,
            heard: event::Buffer::default(),
            raft,
            writer,
            store,
            watches: Watches::default(),
            calls: Calls::default(),
            taken: Taken::default(),
            taken_by_any: Recent::default(),
            snapshots,
            jobs: Jobs::default(),
            errands: Errands::default(),
            local,
            exec: Runner::new(config.exec.clone(), &config.name),
            collector: Collector::new(config.exec.inbox_bytes),
            lock_delays: LockDelays::default(),
            addresses: BTreeMap::new(),
            next_announcement: now,
            obeys_order,
            duties: None,
            woken: BTreeSet::new(),
            replies: Vec::new(),
            office: Office::default(),
            view,
            full_since: None,
            batch_bytes: 0,
            dropped: 0,
            outputs: VecDeque::new(),
            open_batch: true,
            config,
        };
        // A restarted server answers stale reads from all that it knew to be committed.
        agent.lock_delays.observe_all(now, &agent.store);
        agent.apply_committed();
        agent.remember_earlier_life(&recovered.files);
        agent
    }

    /// Tells the agent that something happened. Nothing comes back: see [`poll_output`](Self::poll_output).
    /// `now` never goes backwards.
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        self.now = self.now.max(now);
        self.open_batch = true;
        match input {
            Input::Call { id, call } => self.admit(Caller::Client(id), call, Term(0)),
            Input::Hangup { id } => self.hang_up(Caller::Client(id)),
            Input::Message(envelope) => self.handle_message(envelope),
            Input::Datagram { from, bytes } => self.gossip.handle_datagram(self.now, from, &bytes),
            Input::Stream { from, bytes } => self.gossip.handle_stream(self.now, from, &bytes),
            Input::Unreachable { to, reason } => self.gossip.handle_unreachable(self.now, to, &reason),
            Input::Resolved { name, addresses } => self.handle_resolved(&name, &addresses),
            Input::Probed { id, finding } => self.local.handle_probed(self.now, id, finding),
            Input::Child { id, event } => self.exec.handle_child(self.now, id, event),
            Input::Garbage { from, reason } => self.drop_message(from, reason),
            Input::Persisted(seq) => self.raft.persisted(self.now, seq),
            Input::Reserved { file, size, granted } => self.writer.handle_reserved(self.now, &file, size, granted),
            Input::JobDone { id, outcome } => self.job_done(id, outcome),
            Input::Timeout => {}
        }
        // Whatever it was that woke us, what is due is due.
        if self.raft.poll_timeout().is_some_and(|due| due <= self.now) {
            self.raft.tick(self.now);
        }
        if self.gossip.poll_timeout().is_some_and(|due| due <= self.now) {
            self.gossip.tick(self.now);
        }
        self.local.tick(self.now);
        self.exec.tick(self.now);
        self.collector.tick(self.now);
        self.tend_pool();
        self.tend_servers();
        while let Some(ticket) = self.calls.pop_due(self.now) {
            self.handle_deadline(ticket);
        }
        self.do_duties();
        self.maybe_announce();
        if self.raft.is_leader() {
            // Peers that moved say so to us; that we did ourselves, nobody else can tell.
            self.note_address(self.config.id, self.config.address);
        }
    }

    /// The next thing to be done. The first call after an input closes the batch. What comes of a batch may lead to another, which
    /// is closed once all of the first is taken: so whoever looks on sees each batch's outputs beside the state that they are of.
    pub fn poll_output(&mut self) -> Option<Output> {
        while self.outputs.is_empty() && self.open_batch {
            self.open_batch = false;
            self.close_batch();
            // A call may have been moved to where its patience is at an end already.
            while let Some(ticket) = self.calls.pop_due(self.now) {
                self.open_batch = true;
                self.handle_deadline(ticket);
            }
        }
        self.outputs.pop_front()
    }

    /// When to feed [`Input::Timeout`] if nothing else happens before; `None` for never.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        // Spelled out: owners ask after every batch, and `flatten().min()` over an array costs ten times as much.
        let mut next = self.raft.poll_timeout();
        let mut consider = |due: Option<Instant>| {
            if let Some(due) = due {
                next = Some(next.map_or(due, |next| next.min(due)));
            }
        };
        consider(self.gossip.poll_timeout());
        consider(self.pool.poll_timeout());
        consider(self.servers.poll_timeout());
        consider(self.founder.poll_timeout());
        consider(self.calls.next_deadline());
        consider(self.writer.poll_timeout());
        consider(self.local.poll_timeout());
        consider(self.exec.poll_timeout());
        consider(self.collector.poll_timeout());
        consider(self.duties.as_ref().and_then(|duties| duties.poll_timeout(&self.raft)));
        consider(self.lock_delays.poll_timeout().filter(|_| self.raft.is_leader()));
        consider(self.announces().then_some(self.next_announcement));
        next
    }

    /// The picture of the store that was last published.
    #[must_use]
    pub const fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// The consensus machine, for checkers and statistics.
    #[must_use]
    pub const fn raft(&self) -> &Raft {
        &self.raft
    }

    /// The replicated state, for checkers and statistics.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Blocked queries and other open calls.
    #[must_use]
    pub fn open_calls(&self) -> (usize, usize) {
        (self.watches.len(), self.calls.len() - self.watches.len())
    }

    /// Our view of the gossip pool, for checkers and statistics.
    #[must_use]
    pub const fn gossip(&self) -> &Gossip {
        &self.gossip
    }

    /// What is registered with this agent, for checkers and statistics.
    #[must_use]
    pub const fn local(&self) -> &Local {
        &self.local
    }

    /// The commands that others have this agent run, for checkers and statistics.
    #[must_use]
    pub const fn exec(&self) -> &Runner {
        &self.exec
    }

    /// What is collected here of the output of commands elsewhere, for checkers and statistics.
    #[must_use]
    pub const fn collector(&self) -> &Collector {
        &self.collector
    }

    /// What raft looks like from outside.
    #[must_use]
    pub fn raft_status(&self) -> Status {
        self.raft.status()
    }

    fn handle_message(&mut self, envelope: Envelope) {
        if envelope.cluster != self.cluster || envelope.to != self.config.id || envelope.from == self.config.id {
            self.drop_message(Some(envelope.address), Malformed::Stranger);
            return;
        }
        let (from, address) = (envelope.from, envelope.address);
        if self.config.server {
            self.note_address(from, address);
        } else {
            self.hear_server(from);
        }
        match envelope.body {
            // Who is no server neither votes nor keeps a log.
            Body::Raft(_) | Body::Moved { .. } if !self.config.server => {}
            Body::Raft(mut message) => {
                if let Kind::Append { entries, .. } = &mut message.kind {
                    let size = entries.iter().map(Entry::size).sum();
                    if !self.take_room(size) {
                        // Our disk has no room for them: all the message still says is who leads. But for a new
                        // leader's first entry there is always room, or it could not even answer reads.
                        let noops = entries.iter().take_while(|entry| matches!(entry.payload, Payload::Noop));
                        entries.truncate(noops.count());
                    }
                }
                self.raft.step(self.now, from, message);
            }
            Body::Forward(forward) => self.handle_forward(from, address, forward),
            Body::Answer { id, origin, outcome } => self.handle_answer(from, id, origin, outcome),
            Body::Announce => {}
            Body::Moved { id, address } => self.note_address(id, address),
            Body::Abandon { id, origin } => self.hang_up(Caller::Peer { peer: from, address, origin, id }),
            Body::WhoLeads => self.tell_who_leads(from, address),
            Body::Leads(leader) => self.hear_of_leader(from, leader),
            Body::Founding(message) => self.handle_founding(from, address, message),
            Body::Exec(message) => self.handle_exec(from, address, message),
        }
    }

    /// Counts entries of this size in with what this batch will write, if the disk has room for it.
    fn take_room(&mut self, size: usize) -> bool {
        let room = self.writer.has_room(self.batch_bytes + size);
        if room {
            self.batch_bytes += size;
        }
        room
    }

    fn drop_message(&mut self, from: Option<std::net::SocketAddr>, reason: Malformed) {
        self.dropped += 1;
        self.outputs.push_back(Output::Notice(Notice::Dropped { from, reason }));
    }

    /// Closes the batch: what was committed is applied, whoever waits for something that came is answered, and all
    /// that is to be written or sent leaves at once.
    fn close_batch(&mut self) {
        self.follow_office();
        self.tend_local();
        self.tend_exec();
        self.apply_committed();
        self.reconcile();
        self.tend_snapshots();
        if let Some(duties) = &mut self.duties {
            duties.observe(self.now, &self.raft, &self.store);
        }
        self.answer_woken();
        self.raft.begin_wanted_round();
        self.answer_confirmed();
        self.batch_bytes = 0;
        let seq = self.writer.last_seq().next();
        let flushed = self.raft.flush(seq);
        self.outputs.extend(flushed.news.into_iter().map(|news| Output::Notice(Notice::Raft(news))));
        self.look_at_pool();
        // Before anything leaves that others may act on: an older view may claim a lease that we have given up.
        self.publish();
        self.discard_needless();
        self.send_replies();
        self.say_goodbye();
        if let Some(unwritten) = flushed.write {
            let entries: Vec<_> = self.raft.log().from(unwritten.first).cloned().collect();
            let stable = self.raft.persisted_seq();
            let write = self.writer.write(stable, Some(unwritten.hard_state), unwritten.base, &entries);
            assert_eq!(write.seq, seq, "raft and the writer count writes alike");
            self.outputs.push_back(Output::Persist(write));
        }
        let messages: Vec<_> = self.raft.drain_messages().collect();
        for (to, message) in messages {
            self.send(to, Body::Raft(message));
        }
        if self.config.server {
            self.reserve();
        }
        self.welcome_errands();
    }

    /// A picture of the store as it is now.
    fn picture(&self) -> View {
        let registered = self.local.counts();
        let figures = Figures { dropped: self.dropped, snapshot: self.snapshots.newest(), registered };
        View::new(&self.config, &self.raft, &self.store, self.pool.sight(), figures)
    }

    fn publish(&mut self) {
        let view = self.picture();
        if !view.says_the_same_as(&self.view) {
            self.view = Arc::new(view);
            self.outputs.push_back(Output::Publish(Arc::clone(&self.view)));
        }
    }

    fn send_replies(&mut self) {
        for (caller, reply) in std::mem::take(&mut self.replies) {
            match caller {
                Caller::Client(id) => self.outputs.push_back(Output::Reply { id, reply }),
                Caller::Itself(id) => self.errand_answered(id, reply),
                Caller::Peer { peer, address, origin, id } => {
                    let reply = forward::fitting(reply);
                    self.send_to(
                        peer,
                        address,
                        Body::Answer { id, origin, outcome: crate::peer::Outcome::Reply(reply) },
                    );
                }
            }
        }
    }

    fn send(&mut self, to: PeerId, body: Body) {
        let listed = self.raft.address(to);
        // What it said counts as long as the list says nothing newer.
        let said = self.addresses.get(&to).filter(|(_, then)| *then == listed).map(|(said, _)| *said);
        if let Some(address) = said.or(listed).or_else(|| self.servers.address(to)) {
            self.send_to(to, address, body);
        }
    }

    /// Sends something to an agent that need not be a member of raft.
    fn send_to(&mut self, to: PeerId, address: SocketAddr, body: Body) {
        let envelope = Envelope { from: self.config.id, to, address: self.config.address, cluster: self.cluster, body };
        self.outputs.push_back(Output::Message { to: address, envelope });
    }

    /// Sets disk space aside ahead of need, and tells when there is none.
    fn reserve(&mut self) {
        if let Some((file, size)) = self.writer.poll_reserve(self.now) {
            self.outputs.push_back(Output::Reserve { file, size });
        }
        match (self.writer.is_full(), self.full_since) {
            (true, None) => {
                self.full_since = Some(self.now);
                self.outputs.push_back(Output::Notice(Notice::DiskFull));
            }
            (false, Some(since)) => {
                self.full_since = None;
                let after = self.now.since(since);
                self.outputs.push_back(Output::Notice(Notice::DiskHasRoom { after }));
            }
            _ => {}
        }
    }

    /// Compares who leads with the last batch, and moves the calls that relied on it.
    fn follow_office(&mut self) {
        let office = Office { term: self.raft.status().term, leader: self.raft.leader(), led: self.raft.is_leader() };
        let before = std::mem::replace(&mut self.office, office);
        if before == office {
            return;
        }
        // Even if we did not lead when the last batch was closed: an office may be won and lost in one.
        self.leave_office();
        self.duties = office.led.then(|| Duties::new(&self.config, self.now));
        if office.leader.is_some() {
            self.meet_leader();
        }
    }
}
