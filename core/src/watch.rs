//! Blocked calls by what they wait for: a key, all keys with a prefix, or what is found under a topic.
//!
//! Finding those whom a change of a key concerns costs two lookups and one more for each distinct length of the
//! watched prefixes, and one lookup for a subject, however many calls wait for other things. A watch says that a result may have changed;
//! whether it did is asked of the store.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::kv::{Key, Request};
use crate::id::Ticket;
use crate::store::{Question, Topic, Touch};

/// What a blocked call waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interest {
    /// A change of this key.
    Key(Key),
    /// A change of any key that begins with this; empty for all.
    Prefix(Key),
    /// A change of what is found under this topic.
    Topic(Topic),
    /// A user event. Those are not of the store.
    Event,
}

impl Interest {
    /// What could change the result of a read; `None` if the request is a write.
    #[must_use]
    pub fn of<'a>(question: impl Into<Question<'a>>) -> Option<Self> {
        match question.into() {
            Question::Kv(Request::Get { key, .. }) => Some(Self::Key(key.clone())),
            Question::Kv(Request::List { prefix, .. } | Request::Keys { prefix, .. }) => {
                Some(Self::Prefix(prefix.clone()))
            }
            Question::Kv(Request::Put { .. } | Request::Delete { .. } | Request::DeleteTree { .. }) => None,
            question => Topic::of(question).map(Self::Topic),
        }
    }
}

/// Who waits for what. Invariants:
///
/// - each call in `interests` stands in exactly one set of `keys`, `prefixes` or `topics`, or in `events`, and nobody else does;
/// - no set is empty, but for `events`;
/// - `lengths` counts the keys of `prefixes` by their length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watches {
    interests: BTreeMap<Ticket, Interest>,
    keys: BTreeMap<Key, BTreeSet<Ticket>>,
    prefixes: BTreeMap<Key, BTreeSet<Ticket>>,
    lengths: BTreeMap<usize, usize>,
    topics: BTreeMap<Topic, BTreeSet<Ticket>>,
    events: BTreeSet<Ticket>,
}

impl Watches {
    /// Lets `call` wait for `interest`, and for nothing else that it may have waited for.
    pub fn add(&mut self, call: Ticket, interest: Interest) {
        self.remove(call);
        match &interest {
            Interest::Key(key) => {
                self.keys.entry(key.clone()).or_default().insert(call);
            }
            Interest::Prefix(prefix) => {
                let calls = self.prefixes.entry(prefix.clone()).or_default();
                if calls.is_empty() {
                    *self.lengths.entry(prefix.len()).or_default() += 1;
                }
                calls.insert(call);
            }
            Interest::Topic(topic) => {
                self.topics.entry(topic.clone()).or_default().insert(call);
            }
            Interest::Event => {
                self.events.insert(call);
            }
        }
        self.interests.insert(call, interest);
    }

    /// Forgets what `call` waits for, if anything: it was answered, or its client has gone.
    pub fn remove(&mut self, call: Ticket) {
        match self.interests.remove(&call) {
            None => {}
            Some(Interest::Event) => {
                self.events.remove(&call);
            }
            Some(Interest::Key(key)) => {
                leave(&mut self.keys, &key, call);
            }
            Some(Interest::Topic(topic)) => {
                leave(&mut self.topics, &topic, call);
            }
            Some(Interest::Prefix(prefix)) => {
                let last = leave(&mut self.prefixes, &prefix, call);
                if last {
                    let count = self.lengths.get_mut(&prefix.len()).expect("each watched prefix is counted");
                    *count -= 1;
                    if *count == 0 {
                        self.lengths.remove(&prefix.len());
                    }
                }
            }
        }
    }

    /// Adds to `into` all calls that wait for what was touched.
    pub fn touched(&self, touch: &Touch, into: &mut BTreeSet<Ticket>) {
        let key = match touch {
            Touch::Key(key) => key,
            Touch::Topic(topic) => return into.extend(self.topics.get(topic).into_iter().flatten()),
            Touch::Everything => return into.extend(self.interests.keys()),
        };
        into.extend(self.keys.get(key).into_iter().flatten());
        for &length in self.lengths.range(..=key.len()).map(|(length, _)| length) {
            into.extend(self.prefixes.get(&key[..length]).into_iter().flatten());
        }
    }

    /// The calls that wait for a user event.
    pub fn for_events(&self) -> impl Iterator<Item = Ticket> {
        self.events.iter().copied()
    }

    /// How many calls wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.interests.len()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.interests.is_empty()
    }
}

/// Takes `call` out of the set under `key`, and says whether the set went with it.
fn leave<K: Ord>(sets: &mut BTreeMap<K, BTreeSet<Ticket>>, key: &K, call: Ticket) -> bool {
    let calls = sets.get_mut(key).expect("what a call waits for is watched");
    calls.remove(&call);
    let last = calls.is_empty();
    if last {
        sets.remove(key);
    }
    last
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::api::{ReadOptions, catalog, health};
    use crate::id::SessionId;
    use crate::store::Scope;
    use crate::store::catalog::{Name, Subject};

    #[derive(Clone, Debug)]
    enum Step {
        Add(u64, Interest),
        Remove(u64),
        Touch(Touch),
    }

    fn key() -> impl Strategy<Value = Key> {
        vec(prop::sample::select(&b"a/\xff"[..]), 0..5).prop_map(Key::from)
    }

    fn subject() -> impl Strategy<Value = Subject> {
        let name = || prop::sample::select(&["web", "db"][..]).prop_map(Name::of);
        prop_oneof![
            Just(Subject::Nodes),
            Just(Subject::ServiceNames),
            Just(Subject::Coordinates),
            Just(Subject::AnyState),
            name().prop_map(Subject::Node),
            name().prop_map(Subject::NodeChecks),
            name().prop_map(Subject::Service),
            name().prop_map(Subject::Health),
            name().prop_map(Subject::ServiceChecks),
            name().prop_map(|name| Subject::State(name.as_str().into())),
        ]
    }

    fn topic() -> impl Strategy<Value = Topic> {
        let id = || (0..3u128).prop_map(|n| SessionId(uuid::Uuid::from_u128(n)));
        prop_oneof![
            3 => subject().prop_map(Topic::Catalog),
            1 => Just(Topic::Sessions(Scope::All)),
            1 => prop::sample::select(&["a", "b"][..]).prop_map(|name| Topic::Sessions(Scope::Node(Name::of(name)))),
            1 => id().prop_map(|id| Topic::Sessions(Scope::One(id))),
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        let interest = prop_oneof![
            key().prop_map(Interest::Key),
            key().prop_map(Interest::Prefix),
            topic().prop_map(Interest::Topic),
            Just(Interest::Event),
        ];
        let touch = prop_oneof![
            10 => key().prop_map(Touch::Key),
            10 => topic().prop_map(Touch::Topic),
            1 => Just(Touch::Everything),
        ];
        prop_oneof![
            3 => (0..12u64, interest).prop_map(|(call, interest)| Step::Add(call, interest)),
            2 => (0..12u64).prop_map(Step::Remove),
            3 => touch.prop_map(Step::Touch),
        ]
    }

    fn concerns(interest: &Interest, touched: &Touch) -> bool {
        match (interest, touched) {
            (_, Touch::Everything) => true,
            (Interest::Key(key), Touch::Key(touched)) => key == touched,
            (Interest::Prefix(prefix), Touch::Key(touched)) => touched.starts_with(prefix),
            (Interest::Topic(topic), Touch::Topic(touched)) => topic == touched,
            (Interest::Key(_) | Interest::Prefix(_), Touch::Topic(_))
            | (Interest::Topic(_), Touch::Key(_))
            | (Interest::Event, _) => false,
        }
    }

    fn woken(watches: &Watches, touch: &Touch) -> BTreeSet<Ticket> {
        let mut into = BTreeSet::new();
        watches.touched(touch, &mut into);
        into
    }

    proptest! {
        #[test]
        fn a_touch_wakes_whom_a_scan_would(steps in vec(step(), 1..80)) {
            let mut watches = Watches::default();
            let mut all: BTreeMap<Ticket, Interest> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Add(call, interest) => {
                        watches.add(Ticket(call), interest.clone());
                        all.insert(Ticket(call), interest);
                    }
                    Step::Remove(call) => {
                        watches.remove(Ticket(call));
                        all.remove(&Ticket(call));
                    }
                    Step::Touch(touch) => {
                        let expected: BTreeSet<Ticket> =
                            all.iter().filter(|(_, i)| concerns(i, &touch)).map(|(call, _)| *call).collect();
                        prop_assert_eq!(woken(&watches, &touch), expected, "touched {:?}", touch);
                    }
                }
                let for_events = all.iter().filter(|(_, interest)| **interest == Interest::Event);
                prop_assert!(watches.for_events().eq(for_events.map(|(call, _)| *call)));
                prop_assert_eq!(watches.len(), all.len());
                prop_assert_eq!(watches.is_empty(), all.is_empty());
            }
            for call in 0..12 {
                watches.remove(Ticket(call));
            }
            prop_assert_eq!(watches, Watches::default(), "hang-ups leave nothing behind");
        }
    }

    #[test]
    fn reads_wait_for_what_they_read() {
        let (name, read) = (Key::from_static(b"a/"), ReadOptions::default());
        let get = Request::Get { key: name.clone(), read: read.clone() };
        let list = Request::List { prefix: name.clone(), read: read.clone() };
        let keys = Request::Keys { prefix: name.clone(), separator: Key::from_static(b"/"), read };
        assert_eq!(Interest::of(&get), Some(Interest::Key(name.clone())));
        assert_eq!(Interest::of(&list), Some(Interest::Prefix(name.clone())));
        assert_eq!(Interest::of(&keys), Some(Interest::Prefix(name.clone())));
        assert_eq!(Interest::of(&Request::Delete { key: name.clone(), cas: None }), None);
        assert_eq!(Interest::of(&Request::DeleteTree { prefix: name }), None);
    }

    #[test]
    fn reads_of_the_catalog_wait_for_its_subject_whatever_their_filter() {
        let (name, read) = ("Web".to_owned(), ReadOptions::default());
        let filter = catalog::Filter { near: Some("a".to_owned()), ..catalog::Filter::default() };
        let (tag, passing) = (Some("x".to_owned()), true);
        let of = health::Request::Service { name, tag, passing, filter, read };
        assert_eq!(Interest::of(&of), Some(Interest::Topic(Topic::Catalog(Subject::Health(Name::of("web"))))));
        assert_eq!(Interest::of(&catalog::Request::Datacenters), None);
        assert_eq!(Interest::of(&catalog::Request::Deregister(catalog::Deregistration::default())), None);
    }

    #[test]
    fn the_same_touch_twice_wakes_once_and_others_sleep_on() {
        let mut watches = Watches::default();
        watches.add(Ticket(1), Interest::Key(Key::from_static(b"a")));
        watches.add(Ticket(2), Interest::Prefix(Key::from_static(b"")));
        watches.add(Ticket(3), Interest::Prefix(Key::from_static(b"a/")));
        let mut into = BTreeSet::new();
        for name in [&b"a"[..], b"a", b"b"] {
            watches.touched(&Touch::Key(Key::from_static(name)), &mut into);
        }
        assert_eq!(into, BTreeSet::from([Ticket(1), Ticket(2)]));
        watches.touched(&Touch::Everything, &mut into);
        assert_eq!(into, BTreeSet::from([Ticket(1), Ticket(2), Ticket(3)]), "a restoration concerns everyone");
    }
}
