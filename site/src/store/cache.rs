//! The cache, aside of the database: a look-up, a fill, a delete on write.
//!
//! What always holds: the cache is never an error. When it can't be reached, look-ups say [`Lookup::Bypass`] at
//! once, and it is tried again after [`RETRY_AFTER`].
//!
//! A stale fill can't happen: a look-up that misses takes a lease (the meta command `mg` with `N`, which makes an
//! empty item for one winner), the fill names the lease's CAS, and a delete in between makes it fail ("Scaling
//! Memcache at Facebook", NSDI '13, section 3.2.1). A delete that does not get through is tried again for as long
//! as the value may live.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_memcached::{Client, Error, MetaProtocol, MetaValue, Status};
use deadpool::managed::{Manager, Metrics, Object, Pool, RecycleError, RecycleResult, Timeouts};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

/// The cache answers within this or is passed by.
const TIMEOUT: Duration = Duration::from_millis(150);
/// Connections of one web server to the cache; a request that finds none free within [`TIMEOUT`] passes it by.
const CONNECTIONS_MAX: usize = 32;
/// After a failure the cache is left alone for this long.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// The winner of a lease has this long to fill, in seconds, until another may.
const LEASE_S: u32 = 3;
/// Deletes that wait for the cache to come back; beyond, a stale value lives until its TTL.
const DELETES_WAITING_MAX: usize = 10_000;

/// What a look-up gives.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// The value.
    Hit(Vec<u8>),
    /// Nothing; with a lease, the caller is the one to fill it.
    Miss(Option<Lease>),
    /// The cache can't be asked.
    Bypass,
}

/// The right to fill a key once: its CAS.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lease(u64);

/// A handle on the cache; clones share it.
#[derive(Clone)]
pub(crate) struct Cache {
    pool: Pool<Connector>,
    ttl_s: u32,
    /// Until when it is left alone.
    down_until: Arc<Mutex<Option<Instant>>>,
    deletes: mpsc::Sender<(String, Instant)>,
}

impl Cache {
    /// A handle on the cache at `address`; nothing is connected yet. The future does the deletes that did not get
    /// through, for ever: spawn it.
    pub(crate) fn new(address: &str, ttl_s: u32) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let connector = Connector { dsn: format!("tcp://{address}") };
        let timeouts = Timeouts { wait: Some(TIMEOUT), create: Some(TIMEOUT), recycle: None };
        let pool = Pool::builder(connector)
            .max_size(CONNECTIONS_MAX)
            .timeouts(timeouts)
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .expect("a pool with a runtime and timeouts");
        let (deletes, waiting) = mpsc::channel(DELETES_WAITING_MAX);
        let cache = Self { pool, ttl_s, down_until: Arc::default(), deletes };
        (cache.clone(), retry_deletes(cache, waiting))
    }

    /// Looks `key` up; on a miss, asks for the lease.
    pub(crate) async fn lookup(&self, key: &str) -> Lookup {
        match self.ask(Command::Lookup { key }).await {
            Ok(Some(item)) => match (item.data, item.cas) {
                (Some(value), _) => Lookup::Hit(value),
                (None, Some(cas)) if item.is_recache_winner == Some(true) => Lookup::Miss(Some(Lease(cas))),
                _ => Lookup::Miss(None),
            },
            Ok(None) => Lookup::Miss(None),
            Err(Down) => Lookup::Bypass,
        }
    }

    /// Fills `key` unless it was deleted since the lease was given.
    pub(crate) async fn fill(&self, key: &str, lease: Lease, value: &[u8]) {
        // A failed fill is the next look-up's miss.
        let _ = self.ask(Command::Fill { key, lease, value, ttl_s: self.ttl_s }).await;
    }

    /// Deletes `key`, now or as soon as the cache can be reached again.
    pub(crate) async fn delete(&self, key: &str) {
        if self.delete_now(key).await.is_err() {
            let deadline = Instant::now() + Duration::from_secs(self.ttl_s.into());
            if self.deletes.try_send((key.to_string(), deadline)).is_err() {
                tracing::warn!(key, ttl_s = self.ttl_s, "the cache may serve an old value until its TTL");
            }
        }
    }

    async fn delete_now(&self, key: &str) -> Result<(), Down> {
        self.ask(Command::Delete { key }).await.map(drop)
    }

    /// Asks on a connection of the pool, once more on another if that one was cut: after a restart of the cache all
    /// pooled ones are.
    async fn ask(&self, command: Command<'_>) -> Result<Option<MetaValue>, Down> {
        if self.is_down() {
            return Err(Down);
        }
        let mut reason = String::new();
        for _ in 0..2 {
            let mut client = match self.pool.get().await {
                Ok(client) => client,
                Err(error) => {
                    reason = error.to_string();
                    break;
                }
            };
            match timeout(TIMEOUT, command.ask(&mut client)).await {
                Ok(Ok(answer)) => {
                    self.set_up();
                    return Ok(answer);
                }
                // NF, NS, EX, EN: an answer, though not the one hoped for.
                Ok(Err(Error::Protocol(status))) if !matches!(status, Status::Error(_)) => {
                    self.set_up();
                    return Ok(None);
                }
                Ok(Err(error)) => {
                    reason = error.to_string();
                    drop(Object::take(client));
                    self.pool.retain(|_, _| false);
                }
                Err(_) => {
                    // Trying again would double the wait.
                    reason = format!("no answer within {TIMEOUT:?}");
                    drop(Object::take(client));
                    break;
                }
            }
        }
        self.set_down(&reason);
        Err(Down)
    }

    fn is_down(&self) -> bool {
        self.down_until.lock().expect("no panic under this lock").is_some_and(|until| Instant::now() < until)
    }

    fn set_up(&self) {
        if self.down_until.lock().expect("no panic under this lock").take().is_some() {
            tracing::info!("the cache answers");
        }
    }

    fn set_down(&self, reason: &str) {
        let before =
            self.down_until.lock().expect("no panic under this lock").replace(Instant::now() + RETRY_AFTER);
        if before.is_none() {
            tracing::warn!(reason, "the cache can't be reached; serving from the database");
        }
    }
}

/// What the cache is asked.
enum Command<'a> {
    Lookup { key: &'a str },
    Fill { key: &'a str, lease: Lease, value: &'a [u8], ttl_s: u32 },
    Delete { key: &'a str },
}

impl Command<'_> {
    async fn ask(&self, client: &mut Client) -> Result<Option<MetaValue>, Error> {
        match self {
            Self::Lookup { key } => {
                let vivify = format!("N{LEASE_S}");
                client.meta_get(key, false, None, Some(&["v", "c", &vivify])).await
            }
            Self::Fill { key, lease, value, ttl_s } => {
                let (cas, ttl) = (format!("C{}", lease.0), format!("T{ttl_s}"));
                client.meta_set(key, *value, false, None, Some(&[&cas, &ttl])).await
            }
            Self::Delete { key } => client.meta_delete(key, false, None, None).await,
        }
    }
}

/// The cache could not be asked.
#[derive(Debug)]
struct Down;

async fn retry_deletes(cache: Cache, mut waiting: mpsc::Receiver<(String, Instant)>) {
    while let Some((key, deadline)) = waiting.recv().await {
        while cache.delete_now(&key).await.is_err() && Instant::now() < deadline {
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }
}

/// Makes the pool's connections.
struct Connector {
    dsn: String,
}

impl Manager for Connector {
    type Type = Client;
    type Error = Error;

    async fn create(&self) -> Result<Client, Error> {
        Client::new(&self.dsn).await
    }

    async fn recycle(&self, client: &mut Client, _: &Metrics) -> RecycleResult<Error> {
        if client.is_closed() { Err(RecycleError::message("closed")) } else { Ok(()) }
    }
}
