//! The initiator: who wants something run on many nodes, and hears what comes of it.
//!
//! It asks whatever agent it is given, in the terms of [`api`], by HTTP or directly: it does not know. Its owner asks what
//! it wants asked ([`Output::Ask`]), brings the answers ([`Initiator::handle_answer`]), wakes it when it wants to be woken, and
//! shows the user what there is to tell ([`Output::Tell`]). The steps are Consul's, so that agents of either kind take part:
//!
//! 1. Who is asked, and where is that? Who will answer (`expected.rs`)?
//! 2. A session with a time to live and the behaviour "delete": with it go all keys of the job. It lives on the asked agent's node, or,
//!    if another datacenter is meant, on a server there. It is renewed as long as the job lasts.
//! 3. The job is written under a key that is locked with the session, and gets a moment to reach all servers. If the asked agent can collect
//!    what is written on the nodes, past the servers' log, then the job says where (`collecting.rs`).
//! 4. The event `_rexec` tells the agents of it: all at once, or some at a time (`rollout.rs`).
//! 5. The keys are watched, and what is new among them is read and told (`nodes.rs`).
//! 6. It is over when all who are expected have ended; or, if it is not certain that nobody else is to come, when nobody has said
//!    anything for a while: for twice as long if somebody is known to be at work.
//! 7. The session is destroyed, and what may be left is deleted. That is done in any case: after a failure, after an interruption.
//!
//! Trouble that may pass, such as an election, is waited out, and nobody's silence counts meanwhile.

mod asking;
mod closing;
mod collecting;
mod ending;
mod expected;
mod lines;
mod news;
mod nodes;
mod options;
mod rollout;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::api::event::Event;
use crate::api::exec::Inbox;
use crate::api::kv::PutMode;
use crate::api::session::{Behavior, Ttl, Wanted as WantedSession};
use crate::api::{self, Consistency, ReadOptions, Request, Response};
use crate::exec::layout::{EVENT, Order, Place, Spec};
use crate::id::{Index, SessionId};
use crate::time::{Duration, Instant};

use closing::Closing;
use collecting::Collecting;
use expected::{Expected, Lookup, Question};
pub use lines::Lines;
pub use news::{Answer, AskId, News, Outcome, Output, Summary, Trouble};
use nodes::{Nodes, Wanted};
pub use options::{Canary, DEFAULT_WAIT, DEFAULT_WAIT_REPL, LONGEST_WAIT, Options, Wrong};
use rollout::{Rollout, exactly};

/// The session's time to live, as text and as time.
const TTL: (&str, Duration) = ("15s", Duration::from_secs(15));
/// How often the session is renewed.
const RENEW_INTERVAL: Duration = Duration::from_millis(7500);
/// How long to wait after trouble that may pass.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// How long trouble may last.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long to go on listening once all who were expected have ended: for somebody whom the list of members did not have yet.
const SETTLE: Duration = Duration::from_millis(100);
/// Why a job fails whose keys are gone: they are deleted with its session, and with nothing else.
const GONE: &str = "The job's session has ended before the job: what it wrote is gone";
/// How long a listing may block. Shorter than what proxies bear.
const LISTING_WAIT: Duration = Duration::from_secs(30);

/// What an open question is about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Purpose {
    Itself,
    Lookup(Question),
    /// Servers of another datacenter, for the session to live on one of them.
    Servers,
    Create,
    Upload,
    Fire(Vec<String>),
    List,
    /// Whether the last one to say whether it exists must be sure.
    Read(Wanted, Consistency),
    Renew,
    /// Whether and where the output can be collected.
    Open,
    Collect,
    /// That nothing is to be collected any more.
    Uncollect,
    Destroy,
    Sweep,
}

/// How far it has come.
#[derive(Debug)]
enum Stage {
    /// Finding out who is asked, and who will answer.
    Looking,
    /// Until the session is there, and the job.
    Preparing,
    /// Until all servers should have the job.
    Replicating(Instant),
    /// Listening.
    Working,
    /// Tidying up.
    Closing(Closing),
    Over,
}

/// The state machine. See the [module](self) for what it does.
#[derive(Debug)]
pub struct Initiator {
    order: Order,
    options: Options,
    stage: Stage,
    open: BTreeMap<AskId, Purpose>,
    last_id: u64,
    out: VecDeque<Output>,
    outcome: Option<Outcome>,
    /// Name and datacenter of the agent that is asked.
    asked: Option<(String, String)>,
    /// Whether that one collects output.
    can_collect: bool,
    collecting: Option<Collecting>,
    /// How much news the user has not been told yet, and since when there is any.
    owed: usize,
    owed_since: Option<Instant>,
    lookup: Lookup,
    expected: Expected,
    place: Option<Place>,
    nodes: Nodes,
    rollout: Option<Rollout>,
    /// Where the next listing goes on.
    index: Index,
    has_seen_job: bool,
    /// When the event was fired.
    began: Instant,
    /// Since when nobody has said anything.
    quiet_since: Instant,
    /// Since when everybody could be heard who said something.
    listening_since: Instant,
    /// When it is over, as all have ended.
    settles: Option<Instant>,
    renews: Instant,
    /// Since when there has been trouble.
    troubled: Option<Instant>,
    /// What is asked again, and when.
    again: Vec<(Instant, Purpose)>,
}

impl Initiator {
    /// One that is about to ask its first question.
    ///
    /// # Errors
    /// If the order makes no sense. Nobody has been asked anything then.
    pub fn new(order: Order, options: Options) -> Result<Self, Wrong> {
        options.check(&order)?;
        let read = ReadOptions { consistency: consistency(&options), ..ReadOptions::default() };
        let lookup = Lookup::new(options.audience()?, !options.service.is_empty(), options.is_rolling(), read);
        let mut initiator = Self {
            order,
            options,
            stage: Stage::Looking,
            open: BTreeMap::new(),
            last_id: 0,
            out: VecDeque::new(),
            outcome: None,
            asked: None,
            can_collect: false,
            collecting: None,
            owed: 0,
            owed_since: None,
            lookup,
            expected: Expected::default(),
            place: None,
            nodes: Nodes::default(),
            rollout: None,
            index: Index(0),
            has_seen_job: false,
            began: Instant::ZERO,
            quiet_since: Instant::ZERO,
            listening_since: Instant::ZERO,
            settles: None,
            renews: Instant::NEVER,
            troubled: None,
            again: Vec::new(),
        };
        initiator.ask_here(Purpose::Itself, api::agent::Request::Itself);
        Ok(initiator)
    }

    /// What is wanted next. To be called until there is nothing, after each input and at the beginning.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called; never, if this is [`Instant::NEVER`].
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        let again = self.again.iter().map(|(at, _)| *at).min().unwrap_or(Instant::NEVER);
        let stage = match &self.stage {
            Stage::Looking | Stage::Preparing => self.renews,
            Stage::Replicating(until) => (*until).min(self.renews),
            Stage::Working if self.can_hear() => self.renews.min(self.next_end()),
            // An answer comes first, or the user.
            Stage::Working => self.renews.min(self.keeps_at().unwrap_or(Instant::NEVER)),
            Stage::Closing(closing) => closing.deadline,
            Stage::Over => return Instant::NEVER,
        };
        stage.min(again)
    }

    /// How it ended, once it is over and nothing more is wanted.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        if matches!(self.stage, Stage::Over) && self.out.is_empty() { self.outcome } else { None }
    }

    /// Takes the answer to a question. One that is not waited for is ignored.
    pub fn handle_answer(&mut self, now: Instant, id: AskId, answer: Answer) {
        let Some(purpose) = self.open.remove(&id) else { return };
        match answer {
            Ok(response) => {
                if matches!(purpose, Purpose::List | Purpose::Read(..)) && self.troubled.take().is_some() {
                    self.hear_again(now);
                }
                self.handle_response(now, purpose, response);
            }
            Err(trouble) => self.handle_trouble(now, purpose, &trouble),
        }
        self.advance(now);
    }

    /// The user has been told a piece of news, the first of those that were not told yet.
    pub fn told(&mut self, now: Instant) {
        self.owed = self.owed.saturating_sub(1);
        if self.owed > 0 {
            return;
        }
        if self.owed_since.take().is_some_and(|since| now.since(since) > SETTLE) {
            self.hear_again(now);
        }
        self.advance(now);
    }

    /// Who could not be heard was not silent.
    const fn hear_again(&mut self, now: Instant) {
        self.quiet_since = now;
        self.listening_since = now;
    }

    /// Takes note of the time.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due: Vec<Purpose> = self.again.extract_if(.., |(at, _)| *at <= now).map(|(_, purpose)| purpose).collect();
        for purpose in due {
            self.ask_again(purpose);
        }
        if now >= self.renews && !matches!(self.stage, Stage::Closing(_) | Stage::Over) {
            self.renews = now + RENEW_INTERVAL;
            self.ask_again(Purpose::Renew);
        }
        self.advance(now);
    }

    /// Breaks it off, and tidies up.
    pub fn interrupt(&mut self, now: Instant) {
        self.close(now, Outcome::Interrupted);
        self.advance(now);
    }

    fn handle_response(&mut self, now: Instant, purpose: Purpose, response: Response) {
        if self.take_closing(&purpose, &response) {
            return;
        }
        match (purpose, response) {
            (Purpose::Itself, Response::Itself(itself)) => {
                self.asked = Some((itself.config.node_name.clone(), itself.config.datacenter.clone()));
                self.lookup.introduced(&itself, self.is_elsewhere());
                let collects = itself.stats.get("exec").and_then(|exec| exec.get("collects"));
                self.can_collect = collects.is_some_and(|collects| collects == "true") && !self.is_elsewhere();
            }
            (Purpose::Lookup(question), response) => self.lookup.take(question, Some(response)),
            (Purpose::Servers, Response::HealthOf(read)) => match read.value.first() {
                Some(server) => {
                    let (node, datacenter) = (server.node.name.clone(), self.datacenter().to_owned());
                    self.tell(News::Bound { node: node.clone(), datacenter });
                    self.create_session(Some(node));
                }
                None => {
                    self.fail(
                        now,
                        "Failed to create session: Failed to find Consul server in remote datacenter".into(),
                    );
                }
            },
            (Purpose::Create, Response::SessionCreated(id)) => self.session_created(now, id),
            (Purpose::Upload, Response::Done(true)) => {
                self.tell(News::JobWritten);
                self.stage = Stage::Replicating(now + self.options.wait_repl);
            }
            (Purpose::Upload, Response::Done(false)) => {
                let key = self.place.as_ref().map(|place| String::from_utf8_lossy(&place.job()).into_owned());
                let key = key.unwrap_or_default();
                self.fail(now, format!("Failed to create job file: failed to acquire key {key:?}"));
            }
            (Purpose::Fire(nodes), Response::Fired(event)) => {
                self.quiet_since = now;
                self.tell(News::Fired { event: event.id, nodes });
            }
            (Purpose::List, Response::KvKeys(read)) => self.listed(now, read.meta.index, &read.value),
            (Purpose::Read(wanted, consistency), Response::KvEntries(read)) => {
                let Some(entry) = read.value.first() else {
                    // It was listed: whoever does not have it may be behind.
                    let is_sure = consistency == Consistency::Consistent;
                    let again = Purpose::Read(wanted, Consistency::Consistent);
                    return if is_sure { self.fail(now, GONE.into()) } else { self.ask_again(again) };
                };
                let news = self.nodes.take(now, &wanted, &entry.value);
                self.hear(now, news);
            }
            (Purpose::Open, Response::Inbox(inbox)) => self.collector_known(now, Some(inbox)),
            (Purpose::Collect, Response::Collected(pieces)) => self.collected(now, pieces),
            (Purpose::Renew | Purpose::Uncollect, _) => {}
            (purpose, response) => self.fail(now, format!("Unexpected answer to {purpose:?}: {response:?}")),
        }
    }

    fn handle_trouble(&mut self, now: Instant, purpose: Purpose, trouble: &Trouble) {
        if self.trouble_closing(now, &purpose, trouble) {
            return;
        }
        match purpose {
            Purpose::Lookup(question) => return self.lookup.take(question, None),
            // It goes without.
            Purpose::Open => return self.collector_known(now, None),
            Purpose::Collect => return self.trouble_collecting(now, trouble),
            _ => {}
        }
        let doing = match &purpose {
            Purpose::Itself => "Error querying Consul agent",
            Purpose::Servers => "Failed to create session: Failed to find Consul server in remote datacenter",
            Purpose::Create => "Failed to create session",
            Purpose::Upload => "Failed to create job file",
            Purpose::Fire(_) => "Failed to fire event",
            Purpose::List => "Failed to list results",
            Purpose::Read(..) => "Failed to read results",
            Purpose::Renew => "Failed to renew session",
            Purpose::Lookup(_)
            | Purpose::Open
            | Purpose::Collect
            | Purpose::Uncollect
            | Purpose::Destroy
            | Purpose::Sweep => return,
        };
        // Before there is a job the user had better know at once; and nothing is written twice.
        let lasting = match purpose {
            // If it comes to the worst, the session ends, which is seen.
            Purpose::Renew => !trouble.may_pass,
            Purpose::List | Purpose::Read(..) => {
                let since = *self.troubled.get_or_insert(now);
                !trouble.may_pass || now.since(since) >= PATIENCE
            }
            _ => true,
        };
        match lasting {
            true => self.fail(now, format!("{doing}: {trouble}")),
            false => self.again.push((now + RETRY_INTERVAL, purpose)),
        }
    }

    /// Does what can be done now.
    fn advance(&mut self, now: Instant) {
        if self.owed > 0 {
            self.owed_since.get_or_insert(now);
        }
        match self.stage {
            Stage::Looking => self.look(now),
            Stage::Replicating(until) if now >= until => self.begin(now),
            Stage::Working => self.work(now),
            _ => {}
        }
        // Any of these may have been the end.
        self.close_further(now);
    }

    fn look(&mut self, now: Instant) {
        if self.asked.is_none() {
            return;
        }
        while let Some((question, request)) = self.lookup.next() {
            match request {
                Request::Agent(_) => self.ask_here(Purpose::Lookup(question), request),
                _ => self.ask(Purpose::Lookup(question), request),
            }
        }
        let Some(found) = self.lookup.result() else { return };
        let looking_up = |purpose: &Purpose| matches!(purpose, Purpose::Lookup(_));
        for (id, _) in self.open.extract_if(.., |_, purpose| looking_up(purpose)) {
            self.out.push_back(Output::Forget(id));
        }
        if self.options.is_rolling() {
            let Some(found) = &found else {
                return self.fail(now, "cannot find out which nodes there are, to tell them one after another".into());
            };
            self.rollout = Some(Rollout::new(found.nodes.iter().cloned(), &self.options));
        }
        if let Some(found) = found {
            self.tell(News::Expected { nodes: found.nodes.iter().cloned().collect(), certain: found.certain });
            self.expected = found;
        }
        self.stage = Stage::Preparing;
        if self.is_elsewhere() {
            let (name, filter) = (api::health::SERVER_SERVICE.to_owned(), api::catalog::Filter::default());
            let read = self.read();
            self.ask(Purpose::Servers, api::health::Request::Service { name, tag: None, passing: true, filter, read });
        } else {
            self.create_session(None);
        }
    }

    fn create_session(&mut self, node: Option<String>) {
        let (name, checks) = match (&node, &self.asked) {
            // No check of that node has anything to do with this job.
            (Some(_), Some((asked, home))) => (format!("Remote Exec via {asked}@{home}"), Some(Vec::new())),
            _ => ("Remote Exec".to_owned(), None),
        };
        let nanos = i64::try_from(TTL.1.as_nanos()).unwrap_or(i64::MAX);
        let ttl = Ttl { text: TTL.0.to_owned(), nanos };
        let behavior = Behavior::Delete.to_string();
        let wanted = WantedSession { name, node, checks, behavior, ttl, ..WantedSession::default() };
        self.ask(Purpose::Create, api::session::Request::Create(wanted));
    }

    fn session_created(&mut self, now: Instant, id: SessionId) {
        let place = Place::new(&self.options.prefix, id);
        self.tell(News::Session(id));
        self.renews = now + RENEW_INTERVAL;
        self.place = Some(place);
        match self.can_collect {
            true => self.ask_again(Purpose::Open),
            false => self.upload(None),
        }
    }

    /// Writes the job.
    fn upload(&mut self, inbox: Option<Inbox>) {
        let Some(place) = &self.place else { return };
        let spec = Spec { order: self.order.clone(), wait: self.options.wait, inbox };
        let mode = PutMode::Acquire(place.session().to_string());
        let put = api::kv::Request::Put { key: place.job(), value: spec.encode(), flags: 0, mode };
        self.ask(Purpose::Upload, put);
    }

    /// Tells the agents, and listens.
    fn begin(&mut self, now: Instant) {
        self.stage = Stage::Working;
        self.began = now;
        self.quiet_since = now;
        self.listening_since = now;
        if self.rollout.is_none() {
            self.fire(Vec::new());
        }
        self.ask_again(Purpose::List);
        self.work(now);
    }

    fn fire(&mut self, nodes: Vec<String>) {
        let Some(place) = &self.place else { return };
        let mut event = Event { name: EVENT.to_owned(), payload: place.summons(), ..self.options.event() };
        if !nodes.is_empty() {
            event.node_filter = exactly(&nodes);
        }
        self.ask(Purpose::Fire(nodes), api::event::Request::Fire(event));
    }

    fn listed(&mut self, now: Instant, index: Index, keys: &[Bytes]) {
        let Some(place) = &self.place else { return };
        let (has_job, news) = self.nodes.take_keys(now, place, keys);
        // An index that ran backwards is another history's.
        self.index = if index < self.index { Index(0) } else { index };
        if !has_job && (self.has_seen_job || !self.options.stale) {
            return self.fail(now, GONE.into());
        }
        self.has_seen_job |= has_job;
        if index == Index(0) {
            // There is nothing to wait for, as somebody on the way has taken it out of the answer: the next one would come at once.
            self.again.push((now + RETRY_INTERVAL, Purpose::List));
        }
        self.hear(now, news);
    }

    /// Tells what nodes have said.
    fn hear(&mut self, now: Instant, news: Vec<News>) {
        for news in news {
            self.quiet_since = now;
            let ended = match &news {
                News::Ended { node, code } => Some((node.clone(), *code == 0)),
                _ => None,
            };
            self.tell(news);
            if let Some((node, success)) = ended {
                self.node_ended(node, success);
            }
        }
    }

    fn node_ended(&mut self, node: String, success: bool) {
        if self.rollout.as_mut().is_some_and(|rollout| rollout.ended(&node, success)) {
            self.tell(News::Stopped { node });
        }
    }

    /// Reads what is new, tells who is next, and sees whether it is over.
    fn work(&mut self, now: Instant) {
        self.collect_on(now);
        if self.owed > 0 {
            // Whoever is told slowly does not want more yet. What is asked about already is little.
            return;
        }
        while let Some(wanted) = self.nodes.next_to_read() {
            self.ask_again(Purpose::Read(wanted, consistency(&self.options)));
        }
        let listing = |purpose: &Purpose| *purpose == Purpose::List;
        let is_listing = self.open.values().any(listing) || self.again.iter().any(|(_, purpose)| listing(purpose));
        if !is_listing && self.nodes.is_idle() {
            // Not before all is read: so a flood of output is listed rarely, and does not pile up here.
            self.ask_again(Purpose::List);
        }
        self.give_up_the_silent(now);
        self.tell_the_next(now);
        let all_ended = self.have_all_ended();
        self.settles = if all_ended { self.settles.or(Some(now + SETTLE.min(self.options.wait))) } else { None };
        let rolled_out = self.rollout.as_ref().is_none_or(Rollout::is_over);
        if rolled_out && self.can_hear() && now >= self.next_end() {
            self.finish(now);
        }
    }

    fn tell(&mut self, news: News) {
        self.owed += 1;
        self.out.push_back(Output::Tell(news));
    }

    fn read(&self) -> ReadOptions {
        ReadOptions { consistency: consistency(&self.options), ..ReadOptions::default() }
    }

    /// The datacenter that is meant.
    fn datacenter(&self) -> &str {
        self.options.datacenter.as_deref().unwrap_or(self.home())
    }

    /// The datacenter of the agent that is asked.
    fn home(&self) -> &str {
        self.asked.as_ref().map_or("", |(_, datacenter)| datacenter)
    }

    fn is_elsewhere(&self) -> bool {
        self.datacenter() != self.home()
    }
}

const fn consistency(options: &Options) -> Consistency {
    if options.stale { Consistency::Stale } else { Consistency::Default }
}
