//! The agent's log, in the form of Consul's: time, level in brackets, text.

use std::fmt;

use tracing::{Event, Level as Severity, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The lowest level that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Ok(match &*text.to_lowercase() {
            "trace" => Self::Trace,
            "debug" => Self::Debug,
            "info" => Self::Info,
            "warn" => Self::Warn,
            "err" | "error" => Self::Error,
            _ => return Err(format!("Invalid log level: {text}. Valid log levels are: TRACE, DEBUG, INFO, WARN, ERR")),
        })
    }

    /// What is let through: this level of our own, and of what we are built from only what is wrong.
    fn filter(self) -> EnvFilter {
        let (ours, others) = match self {
            Self::Trace => ("trace", "warn"),
            Self::Debug => ("debug", "warn"),
            Self::Info => ("info", "warn"),
            Self::Warn => ("warn", "warn"),
            Self::Error => ("error", "error"),
        };
        EnvFilter::new(format!("{others},lictor={ours}"))
    }
}

/// A way to change the level of a running agent.
pub(crate) struct Changer(Box<dyn Fn(Level) + Send>);

impl Changer {
    pub(crate) fn set(&self, level: Level) {
        (self.0)(level);
    }
}

/// Starts logging to standard output.
pub(crate) fn start(level: Level) -> Changer {
    let log = tracing_subscriber::fmt().event_format(Line).with_env_filter(level.filter()).with_filter_reloading();
    let reload = log.reload_handle();
    log.init();
    Changer(Box::new(move |level| {
        if let Err(error) = reload.reload(level.filter()) {
            tracing::warn!("cannot change the log level: {error}");
        }
    }))
}

/// One line of the log.
struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        line.write_str("    ")?;
        SystemTime.format_time(&mut line)?;
        let level = match *event.metadata().level() {
            Severity::TRACE => "TRACE",
            Severity::DEBUG => "DEBUG",
            Severity::INFO => "INFO",
            Severity::WARN => "WARN",
            Severity::ERROR => "ERR",
        };
        write!(line, " [{level}] ")?;
        context.field_format().format_fields(line.by_ref(), event)?;
        writeln!(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_in_any_case() {
        assert_eq!(Level::parse("WARN"), Ok(Level::Warn));
        assert_eq!(Level::parse("err"), Ok(Level::Error));
        assert!(Level::parse("verbose").unwrap_err().starts_with("Invalid log level: verbose."));
    }
}
