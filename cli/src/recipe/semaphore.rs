//! A semaphore: a record of at most so many holders, and a key for each contender.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;

use serde::{Deserialize, Serialize};

use super::entry::{self, Entry, Reading};
use super::patience::Patience;
use super::{Error, KEY, Kind, Recipe, Taken, Terms, below};
use crate::client::{self, Client};

/// What the flags of a semaphore's keys say, so that nobody takes other keys for them.
pub const SEMAPHORE_FLAGS: u64 = 0xe0f6_9a2b_aa41_4de0;

/// A semaphore.
#[derive(Debug)]
pub struct Semaphore<'c> {
    client: &'c Client,
    /// With a slash at its end, unless it is empty.
    folder: String,
    limit: u64,
    terms: Terms,
}

/// What its record holds.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Record {
    limit: u64,
    /// By session. That they are there is all that counts.
    holders: Option<BTreeMap<String, bool>>,
}

/// The record as it was found, and who is alive.
struct Found {
    /// 0 if there is none yet.
    modify_index: u64,
    limit: u64,
    /// Those who are alive.
    holders: BTreeSet<String>,
}

impl<'c> Semaphore<'c> {
    /// The semaphore of a prefix, with at most `limit` holders at a time.
    #[must_use]
    pub fn new(client: &'c Client, prefix: &str, limit: u64, terms: Terms) -> Self {
        // Of the record's key, all but its own name.
        let folder = below(prefix, KEY).trim_end_matches(KEY).to_owned();
        Self { client, folder, limit, terms }
    }

    /// The record's key.
    fn key(&self) -> String {
        format!("{}{KEY}", self.folder)
    }

    fn read_error(error: client::Error) -> Error {
        Error::Read { what: Kind::Semaphore, error }
    }

    fn update_error(error: client::Error) -> Error {
        Error::Write { doing: "update lock", error }
    }

    /// Reads all of it.
    async fn read(&self, reading: Reading) -> Result<(Vec<Entry>, u64), client::Error> {
        entry::read(self.client, &self.folder, true, reading).await
    }

    /// What the entries say.
    fn found(&self, entries: &[Entry]) -> Result<Found, Error> {
        let key = self.key();
        let Some(entry) = entries.iter().find(|entry| entry.key == key) else {
            return Ok(Found { modify_index: 0, limit: self.limit, holders: BTreeSet::new() });
        };
        if entry.flags != SEMAPHORE_FLAGS {
            return Err(Error::Conflict(Kind::Semaphore));
        }
        let value = entry.value().unwrap_or_default();
        let record = match value.is_empty() {
            true => Record { limit: self.limit, holders: None },
            false => serde_json::from_slice(&value).map_err(|error| Error::Decoding(error.to_string()))?,
        };
        let alive: BTreeSet<&str> =
            entries.iter().map(|entry| &*entry.session).filter(|session| !session.is_empty()).collect();
        let holders = record.holders.unwrap_or_default().into_keys().filter(|holder| alive.contains(&**holder));
        Ok(Found { modify_index: entry.modify_index, limit: record.limit, holders: holders.collect() })
    }

    /// Writes the record, if nobody was quicker.
    async fn write(&self, found: &Found) -> Result<bool, client::Error> {
        let holders = found.holders.iter().map(|holder| (holder.clone(), true)).collect();
        let record = Record { limit: found.limit, holders: Some(holders) };
        let value = serde_json::to_vec(&record).expect("a record is JSON");
        let (index, flags) = (found.modify_index.to_string(), SEMAPHORE_FLAGS.to_string());
        entry::put(self.client, &self.key(), &[("cas", &index), ("flags", &flags)], value).await
    }

    /// Removes the record, if nobody was quicker.
    async fn remove(&self, found: &Found) -> Result<bool, client::Error> {
        entry::delete(self.client, &self.key(), &[("cas", &found.modify_index.to_string())]).await
    }

    /// Makes the key that shows that we are alive.
    async fn contend(&self, session: &str) -> Result<(), Error> {
        let mut patience = Patience::new(self.terms.retries);
        let (key, flags) = (format!("{}{session}", self.folder), SEMAPHORE_FLAGS.to_string());
        loop {
            let query = [("acquire", session), ("flags", &*flags)];
            match entry::put(self.client, &key, &query, Vec::new()).await {
                Ok(true) => return Ok(()),
                Ok(false) => return Err(Error::NoContender),
                Err(error) => {
                    let failed = |error| Error::Write { doing: "make contender entry", error };
                    patience.ride_out(error).await.map_err(failed)?;
                }
            }
        }
    }

    /// One attempt to get a place.
    async fn attempt(&self, session: &str, index: &mut u64) -> Result<bool, Failure> {
        let (entries, at) = self.read(Reading::Newer(*index)).await.map_err(Failure::Read)?;
        let mut found = self.found(&entries).map_err(Failure::Final)?;
        if found.limit != self.limit {
            let limits = Error::Limit { theirs: found.limit, ours: self.limit };
            return Err(Failure::Final(limits));
        }
        *index = 0;
        if found.holders.contains(session) {
            // As it turns out, an earlier attempt had more success than its answer.
            return Ok(true);
        }
        if found.holders.len() as u64 >= found.limit {
            *index = at;
            return Ok(false);
        }
        found.holders.insert(session.to_owned());
        // If somebody was quicker, what is there now decides.
        self.write(&found).await.map_err(Failure::Update)
    }

    /// Takes a session out of the record. Who is the last removes the record with it, so that nothing is left over even
    /// if nobody cleans up.
    async fn withdraw(&self, session: &str) -> Result<(), Error> {
        let mut patience = Patience::new(self.terms.retries);
        loop {
            let entries = match self.read(Reading::Newer(0)).await {
                Ok((entries, _)) => entries,
                Err(error) => {
                    patience.ride_out(error).await.map_err(Self::read_error)?;
                    continue;
                }
            };
            let mut found = self.found(&entries)?;
            if !found.holders.remove(session) {
                return Ok(());
            }
            let written = match found.holders.is_empty() {
                true => self.remove(&found).await,
                false => self.write(&found).await,
            };
            match written {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => patience.ride_out(error).await.map_err(Self::update_error)?,
            }
        }
    }
}

/// Why an attempt failed.
enum Failure {
    Read(client::Error),
    Update(client::Error),
    Final(Error),
}

impl Recipe for Semaphore<'_> {
    fn client(&self) -> &Client {
        self.client
    }

    fn terms(&self) -> &Terms {
        &self.terms
    }

    async fn take(&self, session: &str, mut given_up: Pin<&mut impl Future<Output = ()>>) -> Result<Taken, Error> {
        tokio::select! {
            made = self.contend(session) => made?,
            () = &mut given_up => return Ok(Taken::GivenUp),
        }
        let mut patience = Patience::new(self.terms.retries);
        let mut index = 0;
        loop {
            let attempt = async {
                match self.attempt(session, &mut index).await {
                    Ok(held) => {
                        patience.restore();
                        return Ok(held);
                    }
                    Err(Failure::Read(error)) => patience.ride_out(error).await.map_err(Self::read_error)?,
                    Err(Failure::Update(error)) => patience.ride_out(error).await.map_err(Self::update_error)?,
                    Err(Failure::Final(error)) => return Err(error),
                }
                index = 0;
                Ok(false)
            };
            let held = tokio::select! {
                biased;
                held = attempt => held,
                () = &mut given_up => return Ok(self.give_up(session).await),
            };
            match held {
                Ok(true) => return Ok(Taken::Held(None)),
                Ok(false) => {}
                Err(error) => {
                    self.give_up(session).await;
                    return Err(error);
                }
            }
        }
    }

    async fn holds(&self, session: &str, index: u64) -> Result<(bool, u64), client::Error> {
        let (entries, index) = self.read(Reading::Certain(index)).await?;
        // A record that makes no sense any more names no holders.
        Ok((self.found(&entries).is_ok_and(|found| found.holders.contains(session)), index))
    }

    async fn give_back(&self, session: &str) -> Result<(), Error> {
        self.withdraw(session).await?;
        let key = format!("{}{session}", self.folder);
        let removed = entry::delete(self.client, &key, &[]).await;
        removed.map(drop).map_err(|error| Error::Write { doing: "remove contender entry", error })
    }

    async fn clean_up(&self) -> Result<(), Error> {
        let (entries, _) = self.read(Reading::Newer(0)).await.map_err(Self::read_error)?;
        let found = self.found(&entries)?;
        if found.modify_index == 0 {
            return Ok(());
        }
        if !found.holders.is_empty() {
            return Err(Error::InUse(Kind::Semaphore));
        }
        match self.remove(&found).await.map_err(|error| Error::Write { doing: "remove semaphore", error })? {
            true => Ok(()),
            false => Err(Error::InUse(Kind::Semaphore)),
        }
    }
}

impl Semaphore<'_> {
    /// Leaves nothing behind of an attempt that is given up: the contender's key would stay after its session.
    async fn give_up(&self, session: &str) -> Taken {
        // What fails here does no harm, as the session ends anyway.
        let _ = self.give_back(session).await;
        Taken::GivenUp
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    use super::*;

    fn entry(key: &str, flags: u64, value: &str, session: &str) -> Entry {
        let value = if value.is_empty() { None } else { Some(STANDARD.encode(value)) };
        let mut entry = json!({
            "Key": key, "Flags": flags, "Value": value, "LockIndex": 1, "CreateIndex": 3, "ModifyIndex": 7
        });
        if !session.is_empty() {
            entry["Session"] = session.into();
        }
        serde_json::from_value(entry).unwrap()
    }

    #[test]
    fn holders_without_a_session_do_not_count() {
        let client = Client::at("127.0.0.1:1");
        let semaphore = Semaphore::new(&client, "/s/", 2, Terms::default());
        let record = r#"{"Limit":2,"Holders":{"a":true,"b":true}}"#;
        let entries = [
            entry("s/.lock", SEMAPHORE_FLAGS, record, ""),
            entry("s/b", SEMAPHORE_FLAGS, "", "b"),
            entry("s/c", 0, "", "c"),
        ];
        let found = semaphore.found(&entries).unwrap();
        assert_eq!((found.modify_index, found.limit), (7, 2));
        assert_eq!(found.holders.into_iter().collect::<Vec<_>>(), ["b"]);
        let nothing = semaphore.found(&entries[1..]).unwrap();
        assert_eq!((nothing.modify_index, nothing.limit, nothing.holders.len()), (0, 2, 0));
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let client = Client::at("127.0.0.1:1");
        let semaphore = Semaphore::new(&client, "s", 2, Terms::default());
        let told = |flags, value| semaphore.found(&[entry("s/.lock", flags, value, "")]).err().unwrap().to_string();
        assert_eq!(told(super::super::LOCK_FLAGS, ""), "Existing key does not match semaphore use");
        assert!(told(SEMAPHORE_FLAGS, "x").starts_with("lock decoding failed: "));
        assert!(semaphore.found(&[entry("s/.lock", SEMAPHORE_FLAGS, r#"{"Limit":3,"Holders":null}"#, "")]).is_ok());
    }
}
