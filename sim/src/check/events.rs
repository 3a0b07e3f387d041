//! User events as one agent heard them: none comes twice, restarts included, as long as the agent keeps its disk.

use std::collections::BTreeMap;

use lictor_core::api::event::Listed;

use super::ensure;

/// The events that came to an agent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    /// In which life each came, and what it is called.
    events: BTreeMap<u128, (u64, String)>,
}

impl Heard {
    /// An agent has listed the events of this life of its. How many are new to us.
    pub(crate) fn listed(&mut self, life: u64, listed: &Listed) -> Result<u64, String> {
        let mut fresh = 0;
        for (place, event) in listed.events.iter().enumerate() {
            ensure!(
                listed.events[..place].iter().all(|other| other.id != event.id),
                "has heard of event {} ({}) twice",
                event.id,
                event.name
            );
            let (came, _) = self.events.entry(event.id.as_u128()).or_insert_with(|| {
                fresh += 1;
                (life, event.name.clone())
            });
            ensure!(
                *came == life,
                "hears in its life {life} of event {} ({}), which came in its life {came}",
                event.id,
                event.name
            );
        }
        Ok(fresh)
    }

    /// Whether an event of this name came.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.events.values().any(|(_, known)| known == name)
    }
}

#[cfg(test)]
mod tests {
    use lictor_core::api::event::Event;
    use lictor_core::id::PeerId;

    use super::*;

    fn listed(ids: &[u128]) -> Listed {
        let event =
            |id: &u128| Event { id: PeerId::numbered(*id as u64).0, name: format!("e{id}"), ..Event::default() };
        Listed { index: 1, events: ids.iter().map(event).collect() }
    }

    #[test]
    fn an_event_comes_once_in_all_lives() {
        let mut heard = Heard::default();
        assert_eq!(heard.listed(1, &listed(&[1, 2])), Ok(2));
        assert_eq!(heard.listed(1, &listed(&[1, 2, 3])), Ok(1));
        assert_eq!(heard.listed(2, &listed(&[4])), Ok(1));
        assert!(heard.has("e3") && !heard.has("e5"));
        assert!(heard.listed(2, &listed(&[4, 2])).unwrap_err().contains("which came in its life 1"));
        assert!(heard.listed(3, &listed(&[5, 5])).unwrap_err().contains("twice"));
    }
}
