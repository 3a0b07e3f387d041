//! A lock: a key that one session at a time has acquired.

use std::pin::Pin;

use tokio::time::sleep;

use super::entry::{self, Entry, Reading};
use super::patience::Patience;
use super::{Error, KEY, Kind, PAUSE, Recipe, Sequencer, Taken, Terms, below};
use crate::client::{self, Client};

/// What the flags of a lock's key say, so that nobody takes another key for one.
pub const LOCK_FLAGS: u64 = 0x2ddc_cbc0_58a5_0c18;

/// A lock.
#[derive(Debug)]
pub struct Lock<'c> {
    client: &'c Client,
    key: String,
    terms: Terms,
}

impl<'c> Lock<'c> {
    /// The lock of a prefix.
    #[must_use]
    pub fn new(client: &'c Client, prefix: &str, terms: Terms) -> Self {
        Self { client, key: below(prefix, KEY), terms }
    }

    /// Where it is.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    async fn put(&self, how: &str, session: &str) -> Result<bool, client::Error> {
        let flags = LOCK_FLAGS.to_string();
        entry::put(self.client, &self.key, &[(how, session), ("flags", &flags)], Vec::new()).await
    }

    fn read_error(error: client::Error) -> Error {
        Error::Read { what: Kind::Lock, error }
    }

    /// What tells this tenure from others, once a quorum knows that we have it.
    async fn confirm(&self, session: &str) -> Result<Option<Sequencer>, client::Error> {
        let (entry, _) = entry::read_one(self.client, &self.key, Reading::Certain(0)).await?;
        let ours = entry.filter(|entry| entry.session == session);
        Ok(ours.map(|Entry { key, session, lock_index, modify_index, .. }| Sequencer {
            key,
            session,
            lock_index,
            index: modify_index,
        }))
    }

    /// One attempt to get it. `refused` says that the one before failed although nobody had it.
    async fn attempt(&self, session: &str, look: &mut Look) -> Result<Option<Sequencer>, Failure> {
        let reading = Reading::Newer(look.index);
        let (entry, index) = entry::read_one(self.client, &self.key, reading).await.map_err(Failure::Read)?;
        if entry.as_ref().is_some_and(|entry| entry.flags != LOCK_FLAGS) {
            return Err(Failure::Final(Error::Conflict(Kind::Lock)));
        }
        let holder = entry.map(|entry| entry.session).unwrap_or_default();
        if holder == session {
            // As it turns out, an earlier attempt had more success than its answer.
            look.index = 0;
            return self.confirm(session).await.map_err(Failure::Read);
        }
        if !holder.is_empty() {
            *look = Look { index, ..Look::default() };
            return Ok(None);
        }
        if look.refused {
            // Nobody holds it, but it is delayed: nothing will tell us when that ends.
            sleep(PAUSE).await;
        }
        *look = Look::default();
        look.acquiring = true;
        let acquired = self.put("acquire", session).await.map_err(Failure::Acquire)?;
        look.acquiring = false;
        if acquired {
            return self.confirm(session).await.map_err(Failure::Read);
        }
        look.refused = true;
        Ok(None)
    }
}

/// What is known from one attempt to the next.
#[derive(Debug, Default)]
struct Look {
    /// How new what we have seen was, if there is something to wait for.
    index: u64,
    /// Whether nobody had it, and we did not get it all the same.
    refused: bool,
    /// Whether an acquisition is under way.
    acquiring: bool,
}

/// Why an attempt failed.
enum Failure {
    Read(client::Error),
    Acquire(client::Error),
    Final(Error),
}

impl Recipe for Lock<'_> {
    fn client(&self) -> &Client {
        self.client
    }

    fn terms(&self) -> &Terms {
        &self.terms
    }

    async fn take(&self, session: &str, mut given_up: Pin<&mut impl Future<Output = ()>>) -> Result<Taken, Error> {
        let mut patience = Patience::new(self.terms.retries);
        let mut look = Look::default();
        loop {
            let attempt = async {
                match self.attempt(session, &mut look).await {
                    Ok(held) => {
                        patience.restore();
                        return Ok(held);
                    }
                    Err(Failure::Read(error)) => patience.ride_out(error).await.map_err(Self::read_error)?,
                    Err(Failure::Acquire(error)) => {
                        let failed = |error| Error::Write { doing: "acquire lock", error };
                        patience.ride_out(error).await.map_err(failed)?;
                    }
                    Err(Failure::Final(error)) => return Err(error),
                }
                look = Look::default();
                Ok(None)
            };
            tokio::select! {
                biased;
                held = attempt => if let Some(sequencer) = held? {
                    return Ok(Taken::Held(Some(sequencer)));
                },
                () = &mut given_up => {
                    // Were it left to the session's end, others would have to wait for the lock delay.
                    if look.acquiring {
                        let _ = self.put("release", session).await;
                    }
                    return Ok(Taken::GivenUp);
                }
            }
        }
    }

    async fn holds(&self, session: &str, index: u64) -> Result<(bool, u64), client::Error> {
        let (entry, index) = entry::read_one(self.client, &self.key, Reading::Certain(index)).await?;
        Ok((entry.is_some_and(|entry| entry.session == session), index))
    }

    async fn give_back(&self, session: &str) -> Result<(), Error> {
        let mut patience = Patience::new(self.terms.retries);
        while let Err(error) = self.put("release", session).await {
            let failed = |error| Error::Write { doing: "release lock", error };
            patience.ride_out(error).await.map_err(failed)?;
        }
        Ok(())
    }

    async fn clean_up(&self) -> Result<(), Error> {
        let (entry, _) = entry::read_one(self.client, &self.key, Reading::Newer(0)).await.map_err(Self::read_error)?;
        let Some(entry) = entry else { return Ok(()) };
        if entry.flags != LOCK_FLAGS {
            return Err(Error::Conflict(Kind::Lock));
        }
        if !entry.session.is_empty() {
            return Err(Error::InUse(Kind::Lock));
        }
        let index = entry.modify_index.to_string();
        let removed = entry::delete(self.client, &self.key, &[("cas", &index)]).await;
        match removed.map_err(|error| Error::Write { doing: "remove lock", error })? {
            true => Ok(()),
            false => Err(Error::InUse(Kind::Lock)),
        }
    }
}
