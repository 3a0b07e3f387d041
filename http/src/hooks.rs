//! What clients ask of the process and not of the agent in it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use tracing::Level;

/// A reload under way.
pub(crate) type Reloading = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;
/// The log from now on.
pub(crate) type Lines = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

type Reload = dyn Fn() -> Reloading + Send + Sync;
type Monitor = dyn Fn(Level) -> Lines + Send + Sync;

/// What the process does for its clients. What is missing is refused.
#[derive(Clone, Default)]
pub struct Hooks {
    reload: Option<Arc<Reload>>,
    monitor: Option<Arc<Monitor>>,
}

impl Hooks {
    /// Reads the configuration files again when `/v1/agent/reload` asks for it. The error is for the client, as text. It goes
    /// on to its end even if the client does not wait for that.
    #[must_use]
    pub fn on_reload<F, Fut>(mut self, reload: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.reload = Some(Arc::new(move || Box::pin(reload())));
        self
    }

    /// Gives the lines of the log, from this level on, to `/v1/agent/monitor`: each piece is sent as it is, so a line must
    /// bring its newline. The stream is dropped when the client goes away; it should leave lines out rather than keep many
    /// for a client that is slow.
    #[must_use]
    pub fn on_monitor<F, S>(mut self, monitor: F) -> Self
    where
        F: Fn(Level) -> S + Send + Sync + 'static,
        S: Stream<Item = Bytes> + Send + 'static,
    {
        self.monitor = Some(Arc::new(move |level| Box::pin(monitor(level))));
        self
    }

    pub(crate) fn reload(&self) -> Option<Reloading> {
        self.reload.as_ref().map(|reload| reload())
    }

    pub(crate) fn monitor(&self, level: Level) -> Option<Lines> {
        self.monitor.as_ref().map(|monitor| monitor(level))
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (reload, monitor) = (self.reload.is_some(), self.monitor.is_some());
        f.debug_struct("Hooks").field("reload", &reload).field("monitor", &monitor).finish()
    }
}
