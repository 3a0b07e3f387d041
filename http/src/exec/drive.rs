//! Carries out what an initiator wants, whoever answers its questions and whoever hears its news.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{AbortHandle, abortable};
use futures_util::stream::FuturesUnordered;
use lictor_core::api::Call;
use lictor_core::exec::initiator::{Answer, AskId, Initiator, News, Outcome, Output};
use lictor_core::time::Instant;
use tokio::time::Instant as Clock;

/// How long somebody who has broken a job off is still told what there is to tell of it: he may not listen any more.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Brings a job to its end. Each question is asked by `ask`, whose future is dropped when its answer is no longer waited for. News
/// go to `tell`, one after another; however long that takes, the job is looked after meanwhile. Once `interrupted` comes, the
/// job is broken off and tidied up.
pub async fn drive<F, Answering, G, Telling>(
    mut initiator: Initiator,
    ask: F,
    mut tell: G,
    interrupted: impl Future<Output = ()>,
) -> Outcome
where
    F: Fn(Call) -> Answering,
    Answering: Future<Output = Answer>,
    G: FnMut(News) -> Telling,
    Telling: Future<Output = ()>,
{
    let clock = Clock::now();
    let now = || Instant::from_nanos(u64::try_from(clock.elapsed().as_nanos()).unwrap_or(u64::MAX));
    let mut asked = FuturesUnordered::new();
    let mut open: Vec<(AskId, AbortHandle)> = Vec::new();
    // What is told now, and what is to be told then. That is never much: nothing more is asked for as long as there is any.
    let (mut telling, mut to_tell) = (None, VecDeque::new());
    let mut interrupted = pin!(interrupted);
    let mut is_interrupted = false;
    loop {
        while let Some(output) = initiator.poll_output() {
            match output {
                Output::Ask { id, call } => {
                    let answer = ask(*call);
                    let (question, handle) = abortable(async move { (id, answer.await) });
                    open.push((id, handle));
                    asked.push(question);
                }
                Output::Forget(id) => {
                    open.retain(|(other, handle)| {
                        if *other == id {
                            handle.abort();
                        }
                        *other != id
                    });
                }
                Output::Tell(news) => to_tell.push_back(news),
            }
        }
        if telling.is_none() {
            telling = to_tell.pop_front().map(|news| Box::pin(tell(news)));
        }
        match (&mut telling, initiator.outcome()) {
            (None, Some(outcome)) => return outcome,
            (Some(last), Some(outcome)) if is_interrupted => {
                let rest = async {
                    last.await;
                    for news in to_tell {
                        tell(news).await;
                    }
                };
                let _ = tokio::time::timeout(LAST_WORDS, rest).await;
                return outcome;
            }
            _ => {}
        }
        let told = async {
            match &mut telling {
                Some(telling) => telling.await,
                None => std::future::pending().await,
            }
        };
        let wakes = initiator.poll_timeout();
        let sleep = tokio::time::sleep(wakes.since(now()));
        tokio::select! {
            biased;
            () = &mut interrupted, if !is_interrupted => {
                is_interrupted = true;
                initiator.interrupt(now());
            }
            () = told => {
                telling = None;
                initiator.told(now());
            }
            Some(answered) = asked.next(), if !asked.is_empty() => {
                // Nobody waits for what was broken off.
                if let Ok((id, answer)) = answered {
                    open.retain(|(other, _)| *other != id);
                    initiator.handle_answer(now(), id, answer);
                }
            }
            () = sleep, if wakes != Instant::NEVER => initiator.handle_timeout(now()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::sync::Arc;

    use lictor_core::api::agent::{Itself, Member, MemberStatus, Settings};
    use lictor_core::api::session::{DEFAULT_LOCK_DELAY, Session, Ttl};
    use lictor_core::api::{Read, ReadMeta, Request, Response, agent, kv, session};
    use lictor_core::coordinate::Coordinate;
    use lictor_core::exec::initiator::Options;
    use lictor_core::exec::layout::{Order, Place};
    use lictor_core::id::{Index, SessionId};

    use super::*;

    const SESSION: SessionId = SessionId(uuid::Uuid::from_u128(3));

    /// A cluster in which one node has acknowledged the job, and nothing more happens.
    struct Cluster {
        renewed: Cell<usize>,
        destroyed: Cell<bool>,
    }

    impl Cluster {
        async fn answer(&self, call: Call) -> Answer {
            Ok(match call.request {
                Request::Agent(agent::Request::Itself) => Response::Itself(Box::new(itself())),
                Request::Agent(_) => Response::Members(Vec::new()),
                Request::Session(session::Request::Create(_)) => Response::SessionCreated(SESSION),
                Request::Session(session::Request::Renew { .. }) => {
                    self.renewed.set(self.renewed.get() + 1);
                    Response::Renewed(Arc::new(renewed()))
                }
                Request::Session(_) => {
                    self.destroyed.set(true);
                    Response::Done(true)
                }
                Request::Kv(kv::Request::Keys { read, .. }) if read.index == Index(0) => {
                    let place = Place::new("_rexec", SESSION);
                    let meta = ReadMeta { index: Index(9), ..ReadMeta::default() };
                    Response::KvKeys(Read { meta, value: vec![place.job(), place.ack("a")] })
                }
                Request::Kv(kv::Request::Keys { .. }) => std::future::pending().await,
                Request::Kv(_) => Response::Done(true),
                Request::Event(lictor_core::api::event::Request::Fire(event)) => Response::Fired(event),
                other => panic!("nobody asks that: {other:?}"),
            })
        }
    }

    fn itself() -> Itself {
        let member = Member {
            name: "a".to_owned(),
            address: [127, 0, 0, 1].into(),
            port: 0,
            tags: Default::default(),
            status: MemberStatus::Alive,
        };
        let stats = Default::default();
        Itself { config: Settings::default(), member, coordinate: Coordinate::default(), stats }
    }

    fn renewed() -> Session {
        Session {
            id: SESSION,
            name: String::new(),
            node: String::new(),
            checks: Vec::new(),
            lock_delay: DEFAULT_LOCK_DELAY,
            behavior: session::Behavior::Delete,
            ttl: Ttl::default(),
            create_index: Index(0),
        }
    }

    /// Who does not listen (a terminal that is paused, a pipe that nobody reads) neither loses the session by that, nor is he held
    /// up when he breaks it off.
    #[tokio::test(start_paused = true)]
    async fn a_job_is_looked_after_while_nobody_listens() {
        let cluster = Cluster { renewed: Cell::new(0), destroyed: Cell::new(false) };
        let initiator = Initiator::new(Order::Command("x".to_owned()), Options::default()).unwrap();
        let heard = RefCell::new(Vec::new());
        let tell = |news: News| {
            let is_last = matches!(news, News::Acknowledged(_));
            heard.borrow_mut().push(news);
            async move {
                if is_last {
                    std::future::pending::<()>().await;
                }
            }
        };
        let interrupted = tokio::time::sleep(Duration::from_secs(100));
        let began = tokio::time::Instant::now();
        let outcome = drive(initiator, |call| cluster.answer(call), tell, interrupted).await;
        assert_eq!(outcome, Outcome::Interrupted);
        assert_eq!((cluster.renewed.get(), cluster.destroyed.get()), (13, true));
        assert!(began.elapsed() < Duration::from_secs(103), "{:?}", began.elapsed());
        assert_eq!(heard.borrow().last(), Some(&News::Acknowledged("a".to_owned())));
    }
}
