//! What the agent itself asks of its cluster: calls like any client's, with itself as the caller.

use std::collections::BTreeMap;

use super::Agent;
use super::calls::Caller;
use crate::api::{Call, Reply};
use crate::exec::Asked;
use crate::id::{ErrandId, Term};

/// What an errand is for. What comes of it is told to whoever sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    /// The servers are told where in the network we are.
    Place,
    /// Anti-entropy's question of this number.
    Local(u64),
    /// What a job of remote execution has asked.
    Exec(Asked),
}

/// The errands that have not come back.
#[derive(Debug, Default)]
pub(super) struct Errands {
    last: ErrandId,
    away: BTreeMap<ErrandId, Errand>,
    /// Those that came back in this batch.
    back: Vec<(ErrandId, Reply)>,
}

impl Agent {
    /// Asks something of the cluster.
    pub(super) fn send_errand(&mut self, errand: Errand, call: Call) -> ErrandId {
        let id = self.errands.last.next();
        self.errands.last = id;
        self.errands.away.insert(id, errand);
        self.open_batch = true;
        self.admit(Caller::Itself(id), call, Term(0));
        id
    }

    /// Gives up an errand that is away. What it asks for may still happen.
    pub(super) fn give_up_errand(&mut self, errand: &Errand) {
        let found = self.errands.away.iter().find(|(_, other)| *other == errand).map(|(id, _)| *id);
        if let Some(id) = found {
            self.errands.away.remove(&id);
            self.hang_up(Caller::Itself(id));
        }
    }

    /// Gives up all that anti-entropy has asked for: what was not sent yet stays unsaid.
    pub(super) fn give_up_anti_entropy(&mut self) {
        let local = |(id, errand): (&ErrandId, &Errand)| matches!(errand, Errand::Local(_)).then_some(*id);
        for id in self.errands.away.iter().filter_map(local).collect::<Vec<_>>() {
            self.errands.away.remove(&id);
            self.hang_up(Caller::Itself(id));
        }
    }

    /// An errand comes back. What it brought is looked at once all else of the batch is done.
    pub(super) fn errand_answered(&mut self, id: ErrandId, reply: Reply) {
        self.errands.back.push((id, reply));
    }

    /// Looks at what the errands of this batch brought, which may lead to more: then another batch follows.
    pub(super) fn welcome_errands(&mut self) {
        for (id, reply) in std::mem::take(&mut self.errands.back) {
            let Some(errand) = self.errands.away.remove(&id) else { continue };
            self.open_batch = true;
            match errand {
                Errand::Place if reply.is_err() => self.place_unheard(),
                Errand::Place => {}
                Errand::Local(number) => self.local.handle_answer(self.now, number, reply),
                Errand::Exec(asked) => self.exec.handle_answer(self.now, asked, reply),
            }
        }
    }
}
