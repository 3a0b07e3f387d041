//! Output that is collected elsewhere.

use super::*;
use crate::exec::outlet::DIRECT_CREDIT;

/// A job whose output is collected elsewhere, beyond so many bytes.
fn collected(direct_after: u64) -> Scene {
    let inbox =
        Inbox { id: uuid::Uuid::from_u128(4), peer: PeerId::numbered(9), address: ([127, 0, 0, 9], 8300).into() };
    let scene = Scene::new(config::Exec { direct_after, ..enabled() });
    Scene { inbox: Some(inbox), ..scene }.run(SECOND * 2)
}

impl Scene {
    /// What was sent: numbers and sizes.
    fn take_sent(&mut self) -> Vec<(u32, usize)> {
        let pieces = std::mem::take(&mut self.sent).into_iter().map(|message| match message {
            peer::Exec::Piece { number, bytes, source } => {
                assert_eq!((source.inbox, &*source.node, source.run), (self.inbox.unwrap().id, NODE, RunId(1)));
                (number, bytes.len())
            }
            other => panic!("{other:?}"),
        });
        pieces.collect()
    }

    fn taken(&mut self, taken: u32, have: u32, open: bool) {
        let (inbox, run, room) = (self.inbox.unwrap().id, RunId(1), 1 << 20);
        self.runner.handle_taken(self.now, &peer::Taken { inbox, run, open, taken, have, room });
        self.drain();
    }
}

#[test]
fn a_flood_goes_past_the_store_once_it_is_one() {
    let mut scene = collected(8192);
    scene.write(&[b'x'; 8192]);
    scene.accept();
    scene.accept();
    scene.take_actions();
    assert_eq!((scene.take_sent(), scene.asked(Matter::Work)), (vec![], None), "that is all so far");
    scene.write(&[b'y'; 50_000]);
    assert_eq!(scene.asked(Matter::Work), None);
    assert_eq!(scene.take_sent(), [(2, 32 << 10)], "one, until the other end says that it is there");
    let ahead: usize = CREDIT - 8192 + 8192;
    assert_eq!(scene.take_actions(), [read(DIRECT_CREDIT - ahead)], "the command may be further ahead now");
    scene.pass(SECOND / 2);
    scene.taken(2, 3, true);
    assert_eq!(scene.take_sent(), [(3, 50_000 - (32 << 10))]);
    assert_eq!(scene.take_actions(), [], "nobody has taken anything");
    scene.taken(3, 4, true);
    assert_eq!(scene.take_actions(), [read(32 << 10)]);
    scene.exit(Some(0));
    assert_eq!(scene.asked(Matter::Work), None, "the exit comes behind all that was written");
    scene.taken(4, 4, true);
    assert_eq!(scene.accept(), ("n1/exit".to_owned(), "0".into()));
}

#[test]
fn what_nobody_collects_goes_into_the_store_after_all() {
    for silent in [true, false] {
        let mut scene = collected(0);
        scene.write(&[b'a'; 40_000]);
        assert_eq!(scene.take_sent(), [(0, 32 << 10)]);
        match silent {
            true => {
                scene.pass(SECOND * 2 - Duration::from_millis(1));
                let again = scene.take_sent();
                assert!(!again.is_empty() && again.iter().all(|piece| *piece == (0, 32 << 10)), "{again:?}");
                assert_eq!(scene.asked(Matter::Work), None);
                scene.pass(Duration::from_millis(1));
                scene.sent.clear();
            }
            false => scene.taken(0, 0, false),
        }
        let (key, value) = scene.accept();
        assert_eq!((&*key, value.len()), ("n1/out/00000", 32 << 10), "with the same number the same bytes");
        let (key, value) = scene.accept();
        assert_eq!((&*key, value.len()), ("n1/out/00001", 4096));
        // For good, even if it is there again.
        scene.taken(1, 1, true);
        scene.exit(Some(1));
        let (key, value) = scene.accept();
        assert_eq!((&*key, value.len()), ("n1/out/00002", 40_000 - (32 << 10) - 4096));
        assert_eq!(scene.take_sent(), []);
        assert_eq!(scene.accept(), ("n1/exit".to_owned(), "1".into()));
    }
}

#[test]
fn who_is_silent_sends_heartbeats_past_the_store_too() {
    let mut scene = collected(0);
    scene.write(b"x");
    scene.pass(SECOND / 2);
    assert_eq!(scene.take_sent(), [(0, 1)]);
    scene.taken(1, 1, true);
    for number in 1..4 {
        scene.pass(SECOND * 2);
        assert_eq!(scene.take_sent(), [(number, 0)]);
        scene.taken(number + 1, number + 1, true);
    }
    assert_eq!(scene.asked(Matter::Work), None);
}

#[test]
fn who_is_not_heard_but_has_all_is_asked_how_far_it_is() {
    let mut scene = collected(0);
    scene.write(&[b'a'; 1 << 15]);
    scene.take_sent();
    scene.taken(0, 1, true);
    for _ in 0..60 {
        scene.pass(SECOND);
        let asked = std::mem::take(&mut scene.sent);
        assert!(!asked.is_empty() && asked.iter().all(|message| matches!(message, peer::Exec::HowFar(_))), "{asked:?}");
        scene.taken(0, 1, true);
    }
    assert_eq!(scene.asked(Matter::Work), None, "however slow its reader is, it is there");
}
