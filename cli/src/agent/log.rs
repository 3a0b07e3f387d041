//! The agent's log, in the form of Consul's: time, level in brackets, text. It goes to standard output, and to whoever
//! listens in (`lictor monitor`), to each at a level of its own.

mod listeners;

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use listeners::Listeners;
pub(crate) use listeners::Listening;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level as Severity, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::FormatFields as _;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::layer::{Context, SubscriberExt as _};

/// What our own crates' lines have in front of their targets.
const OURS: &str = "lictor";

/// The lowest level that is logged. Ordered: the greater says more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Error = 1,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Ok(match &*text.to_lowercase() {
            "trace" => Self::Trace,
            "debug" => Self::Debug,
            "info" => Self::Info,
            "warn" => Self::Warn,
            "err" | "error" => Self::Error,
            _ => {
                let name = text.to_uppercase();
                return Err(format!("Invalid log level: {name}. Valid log levels are: [TRACE DEBUG INFO WARN ERR]"));
            }
        })
    }

    pub(crate) fn of(severity: Severity) -> Self {
        match severity {
            Severity::TRACE => Self::Trace,
            Severity::DEBUG => Self::Debug,
            Severity::INFO => Self::Info,
            Severity::WARN => Self::Warn,
            Severity::ERROR => Self::Error,
        }
    }

    fn from_number(number: u8) -> Self {
        match number {
            0 | 1 => Self::Error,
            2 => Self::Warn,
            3 => Self::Info,
            4 => Self::Debug,
            _ => Self::Trace,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERR",
        }
    }

    fn filter(self) -> LevelFilter {
        match self {
            Self::Trace => LevelFilter::TRACE,
            Self::Debug => LevelFilter::DEBUG,
            Self::Info => LevelFilter::INFO,
            Self::Warn => LevelFilter::WARN,
            Self::Error => LevelFilter::ERROR,
        }
    }

    /// Whether a line is let through by this level: all of our own that is as grave, and of what we are built from only
    /// what is wrong.
    fn lets_through(self, line: &Metadata<'_>) -> bool {
        let most = if line.target().starts_with(OURS) { self } else { self.min(Self::Warn) };
        Self::of(*line.level()) <= most
    }
}

/// The log of this process. Clones are the same log.
#[derive(Clone, Debug)]
pub(crate) struct Log(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The level of standard output.
    console: AtomicU8,
    listeners: Listeners,
}

impl Log {
    fn new(level: Level) -> Self {
        Self(Arc::new(Shared { console: AtomicU8::new(level as u8), listeners: Listeners::default() }))
    }

    /// Starts logging to standard output. Not twice in one process.
    pub(crate) fn start(level: Level) -> Self {
        let log = Self::new(level);
        let subscriber = tracing_subscriber::registry().with(Printer(log.clone()));
        // Refused only where a log is there already.
        let _ = tracing::subscriber::set_global_default(subscriber);
        log
    }

    /// Changes the level of standard output.
    pub(crate) fn set_level(&self, level: Level) {
        self.0.console.store(level as u8, Ordering::Relaxed);
        tracing::callsite::rebuild_interest_cache();
    }

    /// Lines from now on, at a level of the listener's own. `None` if too many listen already.
    pub(crate) fn listen(&self, level: Level) -> Option<Listening> {
        let listening = self.0.listeners.add(level);
        tracing::callsite::rebuild_interest_cache();
        listening
    }

    fn console(&self) -> Level {
        Level::from_number(self.0.console.load(Ordering::Relaxed))
    }

    /// The level of whoever wants most.
    fn most(&self) -> Level {
        self.0.listeners.most().map_or(self.console(), |most| most.max(self.console()))
    }
}

/// Turns events into lines.
struct Printer(Log);

impl<S: Subscriber> Layer<S> for Printer {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Levels change: what nobody wants now is looked at again when the caches are built anew.
        if self.0.most().lets_through(metadata) { Interest::sometimes() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.0.most().lets_through(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0.most().filter())
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let Some(line) = line(event) else { return };
        let Log(shared) = &self.0;
        if self.0.console().lets_through(event.metadata()) {
            // That nobody reads the log is no reason to stop, nor one to log.
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
        }
        if shared.listeners.tell(event.metadata(), &line) {
            // Somebody has gone: what only that one wanted need not be looked at any more.
            tracing::callsite::rebuild_interest_cache();
        }
    }
}

/// One line of the log, with its end.
fn line(event: &Event<'_>) -> Option<String> {
    let mut line = String::from("    ");
    write_time(&mut line).ok()?;
    write!(line, " [{}] ", Level::of(*event.metadata().level()).name()).ok()?;
    DefaultFields::new().format_fields(Writer::new(&mut line), event).ok()?;
    line.push('\n');
    Some(line)
}

/// The time in Consul's form, `2016/12/21 10:30:00.123456`. It is UTC's, as in all other logs of a cluster.
fn write_time(line: &mut String) -> fmt::Result {
    let mut time = String::new();
    SystemTime.format_time(&mut Writer::new(&mut time))?;
    line.push_str(&time.trim_end_matches('Z').replace('-', "/").replace('T', " "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_in_any_case() {
        assert_eq!(Level::parse("WARN"), Ok(Level::Warn));
        assert_eq!(Level::parse("err"), Ok(Level::Error));
        assert_eq!(
            Level::parse("verbose").unwrap_err(),
            "Invalid log level: VERBOSE. Valid log levels are: [TRACE DEBUG INFO WARN ERR]"
        );
    }

    #[test]
    fn times_look_like_consul_s() {
        let mut time = String::new();
        write_time(&mut time).unwrap();
        let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
        assert!(shape.starts_with("9999/99/99 99:99:99."), "{time}");
    }

    #[test]
    fn listeners_hear_at_a_level_of_their_own_until_they_go() {
        // The console's level is such that nothing of this is printed.
        let log = Log::new(Level::Error);
        let subscriber = tracing_subscriber::registry().with(Printer(log.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let mut all = log.listen(Level::Debug).unwrap();
            let mut grave = log.listen(Level::Warn).unwrap();
            tracing::debug!(target: "lictor::test", n = 1, "small");
            tracing::warn!(target: "lictor::test", "grave");
            tracing::info!(target: "elsewhere", "of no interest");
            let heard = |listening: &mut Listening| {
                let lines = std::iter::from_fn(|| listening.try_next()).collect::<Vec<_>>();
                lines.iter().map(|line| line.split_once(" [").unwrap().1.to_owned()).collect::<Vec<_>>()
            };
            assert_eq!(heard(&mut all), ["DEBUG] small n=1\n", "WARN] grave\n"]);
            assert_eq!(heard(&mut grave), ["WARN] grave\n"]);
            drop(all);
            tracing::warn!(target: "lictor::test", "again");
            assert_eq!(log.most(), Level::Warn, "nobody wants more than warnings any more");
            assert_eq!(heard(&mut grave), ["WARN] again\n"]);
        });
    }
}
