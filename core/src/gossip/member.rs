//! Members, and who wins when two claims about one of them meet.
//!
//! Claims travel on many ways and arrive in any order, some twice, some never. So that all who have heard the same
//! claims believe the same, a belief is three independent things, each of which only ever grows:
//!
//! - the **state** with its incarnation: the higher incarnation wins, and within one, alive < suspect < dead < left
//!   (SWIM, section 4.2). Only the member itself raises its incarnation, so it has the last word;
//! - the **profile** (address and tags), of the highest incarnation heard;
//! - the **intent** of the latest Lamport time: to leave, or to be here after all. It tells leaving from failing, and
//!   holds for incarnations up to its own, so that who comes back is not taken for one who leaves.
//!
//! The maximum of any set of claims does not depend on their order: that is all there is to prove.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::id::{Incarnation, LamportTime};
use crate::time::{Duration, Instant};

/// The most bytes in a member's name.
pub const MAX_NAME_BYTES: usize = 128;
/// The most bytes in a member's tags, each key and value with two bytes beside it.
pub const MAX_TAG_BYTES: usize = 512;

/// The tag with an agent's ID, which is the same in all its lives: it outlives a restart, wherever the agent comes back.
pub const ID_TAG: &str = "id";

/// A member's name, unique in its pool. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Name {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a member says of itself.
pub type Tags = BTreeMap<String, String>;

/// Who an agent is when it comes to gossip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name, unique in the pool.
    pub name: String,
    /// Where it takes datagrams and streams.
    pub address: SocketAddr,
    /// Its role, its ports and the like.
    pub tags: Tags,
}

/// Why nobody can be called that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadIdentity {
    /// The name is empty or too long.
    #[error("a member's name must have 1 to {MAX_NAME_BYTES} bytes, not {0}")]
    Name(usize),
    /// The tags are too long to travel with each announcement.
    #[error("a member's tags may take {MAX_TAG_BYTES} bytes, not {0}: shorten or remove some")]
    Tags(usize),
}

/// Checks that tags are short enough to travel.
///
/// # Errors
/// If they are not.
pub(super) fn check_tags(tags: &Tags) -> Result<(), BadIdentity> {
    let bytes = tag_bytes(tags);
    if bytes > MAX_TAG_BYTES { Err(BadIdentity::Tags(bytes)) } else { Ok(()) }
}

/// How much of [`MAX_TAG_BYTES`] these tags take.
pub(super) fn tag_bytes(tags: &Tags) -> usize {
    tags.iter().map(|(key, value)| key.len() + value.len() + 4).sum()
}

impl Identity {
    /// Checks that others can take this member in.
    ///
    /// # Errors
    /// If its name or its tags are too long, or it has no name.
    pub fn check(&self) -> Result<(), BadIdentity> {
        if self.name.is_empty() || self.name.len() > MAX_NAME_BYTES {
            return Err(BadIdentity::Name(self.name.len()));
        }
        check_tags(&self.tags)
    }
}

/// What failure detection thinks of a member. Ordered: within one incarnation, the greater wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It answers.
    Alive,
    /// Somebody got no answer from it. It may object.
    Suspect,
    /// It did not object in time.
    Dead,
    /// It said farewell.
    Left,
}

impl State {
    /// Whether it counts as here: the suspected are innocent until their time is over.
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Alive | Self::Suspect)
    }
}

/// What the outside is told of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is here.
    Alive,
    /// It is here, and has said that it is about to leave.
    Leaving,
    /// It left on purpose, or was made to.
    Left,
    /// It is gone, and nobody knows why.
    Failed,
}

impl Status {
    /// Whether it is here.
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Alive | Self::Leaving)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Alive => "alive",
            Self::Leaving => "leaving",
            Self::Left => "left",
            Self::Failed => "failed",
        })
    }
}

/// What a member is about to do, in its own words or in those of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// It is here to stay.
    Stay,
    /// It is leaving; or, if it has failed, it will not come back.
    Leave,
    /// As [`Leave`](Self::Leave), and as soon as it is gone it is to be forgotten at once.
    Forget,
}

impl Purpose {
    /// Whether it is to be gone.
    #[must_use]
    pub const fn is_farewell(self) -> bool {
        matches!(self, Self::Leave | Self::Forget)
    }
}

/// An intent. Ordered: the greater wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Intent {
    /// When it was uttered.
    pub time: LamportTime,
    /// What it is.
    pub purpose: Purpose,
    /// Up to which incarnation it holds.
    pub incarnation: Incarnation,
}

/// Where a member is, and what it says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Where it takes datagrams and streams.
    pub address: SocketAddr,
    /// Its tags.
    pub tags: Arc<Tags>,
}

/// What somebody claims of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The member's incarnation.
    pub incarnation: Incarnation,
    /// What it is said to be.
    pub state: State,
    /// What goes with this incarnation, if the author knows.
    pub profile: Option<Profile>,
}

/// What a claim has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// The state or its incarnation: others should hear of it.
    pub state: bool,
    /// The address or the tags differ from before.
    pub profile: bool,
}

/// A member, as we believe it to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: Name,
    /// Where it takes datagrams and streams.
    pub address: SocketAddr,
    /// Its tags.
    pub tags: Arc<Tags>,
    /// The incarnation that `state` is about.
    pub incarnation: Incarnation,
    /// What failure detection thinks of it.
    pub state: State,
    /// Since when it is, or is not, here, as far as we have seen it ourselves.
    pub since: Instant,
    /// For how long it had been so when we first heard of it.
    pub aged: Duration,
    profile_incarnation: Incarnation,
    intent: Option<Intent>,
}

impl Member {
    /// A member that was first heard of by a claim.
    #[must_use]
    pub fn new(name: Name, profile: Profile, incarnation: Incarnation, state: State, since: Instant) -> Self {
        let Profile { address, tags } = profile;
        let (aged, profile_incarnation) = (Duration::ZERO, incarnation);
        Self { name, address, tags, incarnation, state, since, aged, profile_incarnation, intent: None }
    }

    /// For how long it is, or is not, here.
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        self.aged.saturating_add(now.since(self.since))
    }

    /// The member is us, and has the last word about itself: this incarnation, and these tags.
    pub(super) fn speak(&mut self, incarnation: Incarnation, state: State, tags: Arc<Tags>) {
        (self.incarnation, self.profile_incarnation) = (incarnation, incarnation);
        (self.state, self.tags) = (state, tags);
    }

    /// What the outside is told.
    #[must_use]
    pub fn status(&self) -> Status {
        match (self.state, self.is_leaving()) {
            (State::Alive | State::Suspect, false) => Status::Alive,
            (State::Alive | State::Suspect, true) => Status::Leaving,
            (State::Dead, false) => Status::Failed,
            (State::Dead, true) | (State::Left, _) => Status::Left,
        }
    }

    fn is_leaving(&self) -> bool {
        self.intent.is_some_and(|intent| intent.purpose.is_farewell() && intent.incarnation >= self.incarnation)
    }

    /// Whether it is gone, and nobody wants to hear of it any more.
    pub(super) fn is_to_be_forgotten(&self) -> bool {
        self.status() == Status::Left
            && self
                .intent
                .is_some_and(|intent| intent.purpose == Purpose::Forget && intent.incarnation >= self.incarnation)
    }

    /// The latest intent that was heard of it.
    #[must_use]
    pub const fn intent(&self) -> Option<Intent> {
        self.intent
    }

    /// Its address and tags.
    #[must_use]
    pub fn profile(&self) -> Profile {
        Profile { address: self.address, tags: Arc::clone(&self.tags) }
    }

    /// Whether a claim places it elsewhere while it is here: two machines have one name, or it moved before anybody
    /// noticed. The one that we know stays until it fails; unless both are lives of one agent, of which the later one counts.
    #[must_use]
    pub fn conflicts_with(&self, claim: &Claim) -> bool {
        self.state.is_live()
            && claim.state.is_live()
            && claim.profile.as_ref().is_some_and(|profile| {
                let one_is_later =
                    claim.incarnation != self.profile_incarnation && is_one_agent(&profile.tags, &self.tags);
                profile.address != self.address && !one_is_later
            })
    }

    /// Whether a claim is about a life of the same agent.
    pub(super) fn is_a_life_of(&self, claim: &Claim) -> bool {
        claim.profile.as_ref().is_some_and(|profile| is_one_agent(&profile.tags, &self.tags))
    }

    /// Takes over what is newer in a claim.
    pub fn merge(&mut self, claim: &Claim) -> Merged {
        let mut merged = Merged::default();
        if let Some(profile) = &claim.profile
            // One that is here keeps its address: see `conflicts_with`.
            && (profile.address == self.address || !self.state.is_live() || is_one_agent(&profile.tags, &self.tags))
            && (claim.incarnation, &profile.tags, &profile.address)
                > (self.profile_incarnation, &self.tags, &self.address)
        {
            merged.profile = (&profile.tags, profile.address) != (&self.tags, self.address);
            self.profile_incarnation = claim.incarnation;
            self.tags = Arc::clone(&profile.tags);
            self.address = profile.address;
        }
        if (claim.incarnation, claim.state) > (self.incarnation, self.state) {
            merged.state = true;
            self.incarnation = claim.incarnation;
            self.state = claim.state;
        }
        merged
    }

    /// Takes over an intent if it is newer. Whether it is.
    pub fn merge_intent(&mut self, intent: Intent) -> bool {
        let newer = self.intent.is_none_or(|known| known < intent);
        if newer {
            self.intent = Some(intent);
        }
        newer
    }
}

/// Whether members with these tags are lives of one agent.
fn is_one_agent(one: &Tags, other: &Tags) -> bool {
    one.get(ID_TAG).is_some_and(|id| !id.is_empty() && other.get(ID_TAG) == Some(id))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn profile(tag: u8) -> Profile {
        let tags = Tags::from([("role".to_owned(), tag.to_string())]);
        Profile { address: "127.0.0.1:8301".parse().unwrap(), tags: Arc::new(tags) }
    }

    fn member() -> Member {
        Member::new(Name::from("n1"), profile(0), Incarnation(0), State::Alive, Instant::ZERO)
    }

    fn states() -> impl Strategy<Value = State> {
        prop_oneof![Just(State::Alive), Just(State::Suspect), Just(State::Dead), Just(State::Left)]
    }

    #[derive(Clone, Debug)]
    enum Heard {
        Claim(Claim),
        Intent(Intent),
    }

    /// What an agent that has moved once says of itself: each of its lives has incarnations and an address of its own.
    fn life(tag: u8, incarnation: u64) -> Profile {
        let mut profile = profile(tag);
        Arc::make_mut(&mut profile.tags).insert(ID_TAG.to_owned(), "1".to_owned());
        if incarnation > 2 {
            profile.address = "127.0.0.2:8302".parse().unwrap();
        }
        profile
    }

    fn heard() -> impl Strategy<Value = Heard> {
        let claim = (0..5_u64, states(), prop::option::of(0..4_u8)).prop_map(|(incarnation, state, tag)| {
            let profile = tag.map(|tag| life(tag, incarnation));
            Heard::Claim(Claim { incarnation: Incarnation(incarnation), state, profile })
        });
        let intent = (1..5_u64, any::<bool>(), 0..5_u64).prop_map(|(time, leave, incarnation)| {
            Heard::Intent(Intent {
                time: LamportTime(time),
                purpose: if leave { Purpose::Leave } else { Purpose::Stay },
                incarnation: Incarnation(incarnation),
            })
        });
        prop_oneof![claim, intent]
    }

    fn believe(all: &[Heard]) -> Member {
        let name = Name::from("n1");
        let mut member = Member::new(name, life(0, 0), Incarnation(0), State::Alive, Instant::ZERO);
        for heard in all {
            match heard {
                Heard::Claim(claim) => {
                    assert!(!member.conflicts_with(claim));
                    member.merge(claim);
                }
                Heard::Intent(intent) => {
                    member.merge_intent(*intent);
                }
            }
        }
        member
    }

    proptest! {
        #[test]
        fn merges_in_any_order_and_any_number_agree(
            (all, shuffled) in prop::collection::vec(heard(), 0..12)
                .prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
            again in any::<prop::sample::Index>(),
        ) {
            let mut twice = shuffled;
            if !twice.is_empty() {
                twice.push(twice[again.index(twice.len())].clone());
            }
            prop_assert_eq!(believe(&all), believe(&twice));
        }
    }

    #[test]
    fn within_an_incarnation_the_worse_news_win_and_a_higher_one_clears_them() {
        let mut member = member();
        let claim = |incarnation, state| Claim { incarnation: Incarnation(incarnation), state, profile: None };
        assert!(member.merge(&claim(0, State::Suspect)).state);
        assert!(!member.merge(&claim(0, State::Alive)).state);
        assert!(member.merge(&claim(1, State::Alive)).state);
        assert!(!member.merge(&claim(0, State::Dead)).state);
        assert!(member.merge(&claim(1, State::Dead)).state);
        assert_eq!(member.status(), Status::Failed);
    }

    #[test]
    fn an_intent_to_leave_makes_the_difference_until_the_member_comes_back() {
        let mut member = member();
        let claim = |incarnation, state| Claim { incarnation: Incarnation(incarnation), state, profile: None };
        let leave = Intent { time: LamportTime(3), purpose: Purpose::Leave, incarnation: Incarnation(0) };
        assert!(member.merge_intent(leave));
        assert_eq!(member.status(), Status::Leaving);
        member.merge(&claim(0, State::Dead));
        assert_eq!(member.status(), Status::Left);
        member.merge(&claim(1, State::Alive));
        assert_eq!(member.status(), Status::Alive, "the intent was about an earlier life");
        assert!(!member.merge_intent(Intent { time: LamportTime(2), purpose: Purpose::Stay, ..leave }));
    }

    #[test]
    fn the_living_keep_their_address_the_dead_may_move() {
        let mut member = member();
        let elsewhere = Profile { address: "127.0.0.2:8301".parse().unwrap(), ..profile(0) };
        let claim = |incarnation, state| Claim {
            incarnation: Incarnation(incarnation),
            state,
            profile: Some(elsewhere.clone()),
        };
        assert!(member.conflicts_with(&claim(7, State::Alive)));
        member.merge(&Claim { incarnation: Incarnation(0), state: State::Dead, profile: None });
        assert!(!member.conflicts_with(&claim(1, State::Alive)));
        assert_eq!(member.merge(&claim(1, State::Alive)), Merged { state: true, profile: true });
        assert_eq!(member.address, elsewhere.address);
    }

    #[test]
    fn of_two_lives_of_one_agent_the_later_counts_at_once_and_neither_if_both_say_the_same() {
        let claim = |incarnation, profile: &Profile| Claim {
            incarnation: Incarnation(incarnation),
            state: State::Alive,
            profile: Some(profile.clone()),
        };
        let (old, new) = (life(0, 0), life(0, 3));
        let mut member = Member::new(Name::from("n1"), old.clone(), Incarnation(2), State::Alive, Instant::ZERO);
        assert!(member.conflicts_with(&claim(2, &new)), "a copy of its data, perhaps");
        assert!(!member.conflicts_with(&claim(1, &new)), "an earlier life is no matter of dispute");
        assert_eq!(member.merge(&claim(1, &new)), Merged::default());
        assert!(!member.conflicts_with(&claim(3, &new)));
        assert_eq!(member.merge(&claim(3, &new)), Merged { state: true, profile: true });
        assert_eq!(member.merge(&claim(2, &old)), Merged::default());
        assert_eq!(member.address, new.address);
    }

    #[test]
    fn names_and_tags_must_fit_into_an_announcement() {
        let identity = |name: &str, tag: usize| Identity {
            name: name.to_owned(),
            address: "127.0.0.1:1".parse().unwrap(),
            tags: Tags::from([("k".to_owned(), "v".repeat(tag))]),
        };
        assert_eq!(identity("n1", 507).check(), Ok(()));
        assert_eq!(identity("n1", 508).check(), Err(BadIdentity::Tags(513)));
        assert_eq!(identity("", 1).check(), Err(BadIdentity::Name(0)));
        assert_eq!(identity(&"n".repeat(129), 1).check(), Err(BadIdentity::Name(129)));
    }
}
