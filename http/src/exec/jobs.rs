//! `/v1/exec`: jobs that this agent carries out for its clients, and those that have ended.
//!
//! `PUT` begins one, and answers with one JSON object on each line until it is over. A client that goes away breaks it off. `GET`
//! lists those that have ended.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::stream;
use lictor_core::api::{Call, Reply};
use lictor_core::exec::initiator::{Answer, Initiator, News, Options, Outcome, Trouble};
use lictor_core::exec::layout::Order;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use warp::http::StatusCode;

use super::drive::drive;
use super::order;
use super::told::{Narrator, name, numbers, over};
use crate::ask::Form;
use crate::reply::{self, HttpResponse, Refusal};

/// The methods of this endpoint.
pub(crate) const METHODS: &str = "GET, PUT";

/// Jobs at a time.
const AT_A_TIME: usize = 16;
/// Jobs that are remembered after their end.
const REMEMBERED: usize = 64;
/// Lines that wait for a slow client. Then the job waits, too.
const WAITING_LINES: usize = 256;

/// The jobs of this agent's clients.
#[derive(Clone)]
pub(crate) struct Jobs {
    /// Whether there are any.
    enabled: bool,
    places: Arc<Semaphore>,
    /// What is told of those that have ended, the last one at the end. Never more than [`REMEMBERED`].
    ended: Arc<Mutex<VecDeque<Value>>>,
}

impl Jobs {
    pub(crate) fn new(enabled: bool) -> Self {
        Self { enabled, places: Arc::new(Semaphore::new(AT_A_TIME)), ended: Arc::default() }
    }

    /// Leave to carry out one more.
    pub(crate) fn enter(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        if !self.enabled {
            let text =
                "remote execution is disabled on this agent: its configuration must say \"disable_remote_exec\": false";
            return Err(Refusal::new(StatusCode::FORBIDDEN, text));
        }
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let text = format!("too many jobs are under way: the limit of {AT_A_TIME} is reached, try again later");
            Refusal::new(StatusCode::TOO_MANY_REQUESTS, text)
        })
    }

    /// Those that have ended, the last one first.
    pub(crate) fn ended(&self) -> Vec<Value> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }

    /// Begins a job, and answers with what is told of it.
    pub(crate) fn begin<F, Fut>(
        &self,
        body: &Bytes,
        form: Form<'_>,
        leave: OwnedSemaphorePermit,
        call: Arc<F>,
    ) -> Result<HttpResponse, Refusal>
    where
        F: Fn(Call) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Reply> + Send + 'static,
    {
        let (order, options) = order::read(body, form)?;
        let shown = order::shown(&order, &options);
        let initiator = new(order, options)?;
        let (lines, told) = mpsc::channel(WAITING_LINES);
        let ended = Arc::clone(&self.ended);
        tokio::spawn(async move {
            // Whoever has read the last line finds the job among those that have ended.
            let until_listed = lines.clone();
            let job = carry_out(initiator, shown, lines, call).await;
            let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
            if ended.len() == REMEMBERED {
                ended.pop_front();
            }
            ended.push_back(job);
            drop((leave, until_listed));
        });
        let lines = stream::unfold(told, |mut told| async move {
            let line: Bytes = told.recv().await?;
            Some((io::Result::Ok(line), told))
        });
        Ok(reply::lines(lines))
    }
}

fn new(order: Order, options: Options) -> Result<Initiator, Refusal> {
    Initiator::new(order, options).map_err(|wrong| Refusal::bad_request(wrong.to_string()))
}

/// Carries a job out to its end. Gives what a list is to tell of it.
async fn carry_out<F, Fut>(initiator: Initiator, mut job: Value, lines: mpsc::Sender<Bytes>, call: Arc<F>) -> Value
where
    F: Fn(Call) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Reply> + Send + 'static,
{
    job["Began"] = humantime::format_rfc3339_seconds(SystemTime::now()).to_string().into();
    let ask = |asked| {
        let answer = call(asked);
        async move { answer_of(answer.await) }
    };
    let (mut narrator, mut last) = (Narrator::default(), json!({}));
    let tell = |news: News| {
        match &news {
            News::Session(id) => last["ID"] = id.to_string().into(),
            News::Finished(summary) => last["Summary"] = numbers(summary),
            News::Failed(why) => last["Error"] = why.as_str().into(),
            _ => {}
        }
        send(lines.clone(), narrator.tell(&news))
    };
    let reader = lines.clone();
    let gone = async move { reader.closed().await };
    let outcome: Outcome = drive(initiator, ask, tell, gone).await;
    send(lines, vec![over(outcome)]).await;
    job["Outcome"] = name(outcome).into();
    for (field, value) in last.as_object_mut().into_iter().flatten() {
        job[field.as_str()] = value.take();
    }
    job
}

/// Sends objects to the client. Whether it has gone away is noticed elsewhere.
async fn send(lines: mpsc::Sender<Bytes>, values: Vec<Value>) {
    for value in values {
        let _ = lines.send(format!("{value}\n").into()).await;
    }
}

/// The answer to an initiator's question.
fn answer_of(reply: Reply) -> Answer {
    reply.map_err(|error| Trouble { may_pass: reply::may_pass(&error), text: error.to_string() })
}

#[cfg(test)]
mod tests {
    use lictor_core::api::Error;

    use super::*;

    /// As `lictor exec` judges it, which asks by HTTP.
    #[test]
    fn what_may_pass_is_waited_out() {
        let passes = |error| answer_of(Err(error)).unwrap_err().may_pass;
        for error in [Error::NoLeader, Error::NoServers, Error::NoAnswer, Error::ShuttingDown, Error::DiskFull] {
            assert!(passes(error.clone()), "{error}");
        }
        for error in [Error::PermissionDenied, Error::NotCollected, Error::NoSuchSession("x".to_owned())] {
            assert!(!passes(error.clone()), "{error}");
        }
    }
}
