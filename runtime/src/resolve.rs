//! The addresses of hosts. The system's own lookup blocks its thread, and may do so for long.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Lookups at the same time, each of which has a thread.
const AT_ONCE: usize = 8;

/// Lookups that were asked for and have no answer yet.
const WAITING: usize = 256;

/// How long a lookup may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks the system for the addresses of hosts. Clones are cheap and share their limits.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    threads: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Resolver {
    pub(crate) fn new() -> Self {
        Self { threads: Arc::new(Semaphore::new(AT_ONCE)), waiting: Arc::new(Semaphore::new(WAITING)) }
    }

    /// The addresses of a host, each once, in the system's order: at least one.
    pub(crate) async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        if let Ok(address) = name.parse() {
            return Ok(vec![address]);
        }
        let Ok(_waiting) = self.waiting.try_acquire() else {
            return Err(io::Error::other("too many names are being looked up"));
        };
        let found = match timeout(PATIENCE, self.ask(name.to_owned())).await {
            Ok(found) => found?,
            Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "the lookup took too long")),
        };
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no such host"));
        }
        Ok(found)
    }

    /// Who does not wait any more leaves the thread to its end, and the thread counts until then.
    async fn ask(&self, name: String) -> io::Result<Vec<IpAddr>> {
        let thread = self.threads.clone().acquire_owned().await.expect("the semaphore is never closed");
        let asking = tokio::task::spawn_blocking(move || {
            let _thread = thread;
            let mut found = Vec::new();
            for address in (name.as_str(), 0).to_socket_addrs()? {
                let address = address.ip().to_canonical();
                if !found.contains(&address) {
                    found.push(address);
                }
            }
            Ok(found)
        });
        asking.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_have_addresses_and_addresses_are_their_own() {
        let resolver = Resolver::new();
        assert!(resolver.addresses("localhost").await.unwrap().iter().all(IpAddr::is_loopback));
        assert_eq!(resolver.addresses("::1").await.unwrap(), ["::1".parse::<IpAddr>().unwrap()]);
        // Such a name is never one of a host: there are no blanks in them.
        assert!(resolver.addresses("no such host").await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lookup_that_finds_no_thread_is_given_up() {
        let resolver = Resolver::new();
        let _all = resolver.threads.acquire_many(AT_ONCE as u32).await.unwrap();
        let error = resolver.addresses("localhost").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let _none = resolver.waiting.acquire_many(WAITING as u32).await.unwrap();
        assert!(resolver.addresses("localhost").await.unwrap_err().to_string().contains("too many"));
    }
}
