//! Runs the agent's checks: asks what the core wants to know, and says what was found. What that means for anybody's health
//! is the core's to decide.
//!
//! Each probe is an errand of its own. One that takes too long, is called off, or is overtaken by the agent's end is dropped,
//! and with it goes all that it holds: connections, and whole groups of processes.

mod docker;
mod exchange;
mod http;
mod script;
mod tail;
mod tcp;

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use lictor_core::id::ProbeId;
use lictor_core::io::{Finding, Input, Probe};
use lictor_core::probe::Question;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use crate::errands::Errands;
use crate::resolve::Resolver;
use docker::Docker;
use http::{Client, Request};

/// Probes at the same time. The agent has limits of its own, which are far below.
const AT_ONCE: usize = 4096;

/// No probe may take longer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The probes that are under way.
pub(crate) struct Probes {
    tools: Tools,
    under_way: HashMap<ProbeId, AbortHandle>,
}

/// What probes work with. Clones share it.
#[derive(Clone)]
struct Tools {
    errands: Errands,
    resolver: Resolver,
    client: Client,
    docker: Docker,
}

impl Probes {
    pub(crate) fn new(errands: Errands) -> Self {
        let resolver = Resolver::new();
        let client = Client::new(errands.clone(), resolver.clone());
        let docker = Docker::of_environment(errands.clone(), resolver.clone());
        Self { tools: Tools { errands, resolver, client, docker }, under_way: HashMap::new() }
    }

    /// Begins a probe. The agent is told what it finds.
    pub(crate) fn start(&mut self, probe: Probe) {
        let (id, tools) = (probe.id, self.tools.clone());
        if self.under_way.len() >= AT_ONCE {
            tracing::warn!("a check is not run: {AT_ONCE} others are running");
            let reason = format!("{AT_ONCE} other checks are running");
            return self.tools.errands.tell(Input::Probed { id, finding: Finding::Failed { reason } });
        }
        let handle = self.tools.errands.spawn(async move {
            let finding = tools.ask(probe).await;
            tools.errands.tell(Input::Probed { id, finding });
        });
        if let Some(older) = self.under_way.insert(id, handle) {
            older.abort();
        }
    }

    /// Ends a probe. What it may have found already is of no interest any more.
    pub(crate) fn cancel(&mut self, id: ProbeId) {
        if let Some(handle) = self.under_way.remove(&id) {
            handle.abort();
        }
    }

    /// Takes note that a probe has ended. Whether the agent still wants to know what it found.
    pub(crate) fn ended(&mut self, id: ProbeId) -> bool {
        self.under_way.remove(&id).is_some()
    }
}

impl Tools {
    async fn ask(&self, probe: Probe) -> Finding {
        let patience = probe.timeout.min(LONGEST);
        match probe.question {
            Question::Http { url, method, header, body, tls_skip_verify } => {
                let request = Request { url, method, header, body, tls_skip_verify };
                self.client.ask(request, Instant::now() + patience).await
            }
            Question::Tcp { address } => within(patience, tcp::ask(&self.resolver, &address)).await,
            Question::Command(command) => within(patience, script::run(&self.errands, &command)).await,
            Question::Docker { container, command, shell } => {
                within(patience, self.docker.run(&container, &command, &shell)).await
            }
        }
    }
}

async fn within(patience: Duration, asking: impl Future<Output = Finding>) -> Finding {
    timeout(patience, asking).await.unwrap_or(Finding::TimedOut)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Receiver;

    use lictor_core::probe::Command;

    use super::*;
    use crate::event::Event;
    use crate::process::testing::{PATIENCE, errands};

    fn probe(id: u64, line: &str, timeout: Duration) -> Probe {
        let question = Question::Command(Command::Shell(line.to_owned()));
        Probe { id: ProbeId(id), question, timeout }
    }

    fn finding(inbox: &Receiver<Event>) -> (ProbeId, Finding) {
        match inbox.recv_timeout(PATIENCE) {
            Ok(Event::Input(Input::Probed { id, finding })) => (id, finding),
            other => panic!("unexpected: {other:?}"),
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_probe_is_answered_once_and_one_that_was_called_off_not_at_all() {
        let (errands, end, inbox) = errands();
        let mut probes = Probes::new(errands);
        probes.start(probe(1, "sleep 1000", PATIENCE));
        probes.start(probe(2, "exit 3", PATIENCE));
        let (id, found) = finding(&inbox);
        assert!(matches!(found, Finding::Exited { code: Some(3), .. }) && id == ProbeId(2), "{found:?}");
        assert!(probes.ended(id) && !probes.ended(id));
        probes.cancel(ProbeId(1));
        assert!(!probes.ended(ProbeId(1)), "the agent is told of what it called off");
        probes.start(probe(3, "sleep 1000", Duration::from_millis(50)));
        assert_eq!(finding(&inbox), (ProbeId(3), Finding::TimedOut));
        drop(probes);
        end.end().await;
        assert!(inbox.try_recv().is_err());
    }
}
