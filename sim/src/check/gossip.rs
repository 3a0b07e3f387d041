//! Gossip, once all is well: every agent sees every other, where it is and as what it says to be, and nobody else; and there
//! is nothing left to be told.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use lictor_core::gossip::{Gossip, Status};

use super::{Verdict, ensure};

/// The views of all agents agree with the world: these are the members, by their names and addresses.
pub(crate) fn agree<'a>(views: impl Iterator<Item = &'a Gossip>, world: &BTreeMap<String, SocketAddr>) -> Verdict {
    for view in views {
        view.assert_invariants();
        let me = view.name();
        for (name, address) in world {
            let Some(member) = view.member(name) else {
                return Err(format!("{me} does not know {name}"));
            };
            let status = member.status();
            ensure!(status == Status::Alive, "{me} takes {name} for {status}, which is there");
            ensure!(member.address == *address, "{me} looks for {name} at {}, and it is at {address}", member.address);
            ensure!(
                view.suspicion(name).is_none(),
                "{me} still suspects {name}, which is there, until {}",
                view.suspicion(name).map(lictor_core::gossip::Suspicion::deadline).unwrap_or_default()
            );
        }
        // The last event of all is fired when everybody sees everybody.
        let (members, intents) = (view.broadcasts().members.len(), view.broadcasts().intents.len());
        ensure!(
            members + intents == 0,
            "{me} still passes on news of {members} members and {intents} intents, when there have been none for long"
        );
        for member in view.members() {
            let is_there = world.contains_key(member.name.as_str());
            ensure!(is_there || !member.status().is_live(), "{me} takes {} for alive, which is gone", member.name);
        }
    }
    Ok(())
}
