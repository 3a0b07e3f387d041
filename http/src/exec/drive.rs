//! Carries out what an initiator wants, whoever answers its questions and whoever hears its news.

use std::future::Future;
use std::pin::pin;
use std::time::Instant as Clock;

use futures_util::StreamExt as _;
use futures_util::future::{AbortHandle, abortable};
use futures_util::stream::FuturesUnordered;
use lictor_core::api::Call;
use lictor_core::exec::initiator::{Answer, AskId, Initiator, News, Outcome, Output};
use lictor_core::time::Instant;

/// Brings a job to its end. Each question is asked by `ask`, whose future is dropped when its answer is no longer waited for; each
/// piece of news goes to `tell`, and nothing goes on before it has been taken. Once `interrupted` comes, the job is broken off
/// and tidied up.
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
                Output::Tell(news) => tell(news).await,
            }
        }
        if let Some(outcome) = initiator.outcome() {
            return outcome;
        }
        let wakes = initiator.poll_timeout();
        let sleep = tokio::time::sleep(wakes.since(now()));
        tokio::select! {
            biased;
            () = &mut interrupted, if !is_interrupted => {
                is_interrupted = true;
                initiator.interrupt(now());
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
