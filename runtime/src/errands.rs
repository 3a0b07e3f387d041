//! What is done for the agent beside its thread: tasks that come to an end with it, and that its end waits for.

use std::future::Future;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use lictor_core::io::Input;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::event::Event;
use crate::guard::Guard;

/// How long the agent's end waits for its errands'. They have nothing to do any more but to let go.
const PATIENCE: Duration = Duration::from_secs(5);

/// The owner's end of the line to all errands. Dropping it ends them, without waiting for the end.
#[derive(Debug)]
pub(crate) struct ErrandsEnd(watch::Sender<bool>);

impl ErrandsEnd {
    /// Ends all errands and waits until they are gone, as long as all that can begin new ones is gone already.
    pub(crate) async fn end(self) {
        self.0.send_replace(true);
        if timeout(PATIENCE, self.0.closed()).await.is_err() {
            tracing::warn!("something that the agent began has not ended for {PATIENCE:?}: it is not waited for");
        }
    }
}

/// A way to begin errands. Clones are cheap.
#[derive(Clone, Debug)]
pub(crate) struct Errands {
    runtime: Handle,
    events: Sender<Event>,
    end: watch::Receiver<bool>,
    guard: Option<Arc<Guard>>,
}

impl Errands {
    /// Errands are tasks on `runtime`, and tell the agent of their outcome through `events`.
    pub(crate) fn new(runtime: Handle, events: Sender<Event>) -> (Self, ErrandsEnd) {
        let (owner, end) = watch::channel(false);
        (Self { runtime, events, end, guard: None }, ErrandsEnd(owner))
    }

    /// The same, with a guard for each command.
    pub(crate) fn guarded(self, guard: Option<Guard>) -> Self {
        Self { guard: guard.map(Arc::new), ..self }
    }

    /// What guards commands, if anything does.
    pub(crate) fn guard(&self) -> Option<&Guard> {
        self.guard.as_deref()
    }

    /// Begins something that is dropped when the agent ends, if it has not ended by itself.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let mut end = self.end.clone();
        let task = async move {
            tokio::select! {
                biased;
                _ = end.wait_for(|end| *end) => {}
                () = work => {}
            }
        };
        self.runtime.spawn(task).abort_handle()
    }

    /// Begins something that goes on when the agent ends, and that its end waits for.
    pub(crate) fn spawn_last(&self, work: impl Future<Output = ()> + Send + 'static) {
        let end = self.end.clone();
        self.runtime.spawn(async move {
            work.await;
            drop(end);
        });
    }

    /// Tells the agent something.
    pub(crate) fn tell(&self, input: Input) {
        // An agent that is gone needs no answer.
        let _ = self.events.send(Event::Input(input));
    }

    /// The way to the agent's thread.
    pub(crate) fn events(&self) -> &Sender<Event> {
        &self.events
    }

    /// Where errands run.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc::channel;

    use super::*;

    /// Counts when it is dropped.
    struct Counted(Arc<AtomicU32>);

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn the_end_drops_what_goes_on_and_waits_for_what_must_be_done() {
        let (events, _inbox) = channel();
        let (errands, end) = Errands::new(Handle::current(), events);
        let gone = Arc::new(AtomicU32::new(0));
        let counted = Counted(gone.clone());
        errands.spawn(async move {
            let _counted = counted;
            std::future::pending::<()>().await;
        });
        let counted = Counted(gone.clone());
        errands.spawn_last(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(counted);
        });
        drop(errands);
        end.end().await;
        assert_eq!(gone.load(Ordering::SeqCst), 2);
    }
}
