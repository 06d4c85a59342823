//! Users in the database under `user:{id}` as JSON, cache-aside; and the index of their ids.
//!
//! What always holds: a write is done under a lock of its user, so a patch never loses another write; the index
//! has every id that has a user (a crash between the two writes may leave it an id too many, never one too few).

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::Instant;

use super::cache::{Cache, Lookup};
use super::db::Database;
use super::{BackOff, Unavailable, secret_bytes, sha256_hex};
use crate::seed;
use crate::user::User;

/// Ids per hash of the index.
const BUCKET_IDS: u32 = 1000;
/// A lock goes by itself after this: longer than the writes under it may take.
const LOCK_TTL: Duration = Duration::from_secs(10);
/// Who waits longer for a lock is told that the user is busy.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// That the seed is in.
const SEEDED_KEY: &str = "seed:users";
const BUCKETS_KEY: &str = "users:buckets";

/// What the cache had to do with an answer: the value of `x-cache`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CacheResult {
    Hit,
    Miss,
    Bypass,
}

impl CacheResult {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
        }
    }
}

/// What a change asks for.
pub(crate) enum Change {
    /// Nothing: leave it.
    Keep,
    Put(User),
    Delete,
}

/// The users.
#[derive(Clone)]
pub(crate) struct Users {
    pub(crate) db: Database,
    pub(crate) cache: Cache,
}

impl Users {
    /// The user's JSON, from the cache or the database.
    pub(crate) async fn get(&self, id: u32) -> (CacheResult, Result<Option<Vec<u8>>, Unavailable>) {
        let key = user_key(id);
        let (cached, lease) = match self.cache.lookup(&key).await {
            Lookup::Hit(json) => return (CacheResult::Hit, Ok(Some(json))),
            Lookup::Miss(lease) => (CacheResult::Miss, lease),
            Lookup::Bypass => (CacheResult::Bypass, None),
        };
        let json = self.read(id).await;
        if let (Some(lease), Ok(Some(json))) = (lease, &json) {
            self.cache.fill(&key, lease, json).await;
        }
        (cached, json)
    }

    async fn read(&self, id: u32) -> Result<Option<Vec<u8>>, Unavailable> {
        self.db.query(redis::cmd("GET").arg(user_key(id))).await
    }

    /// Lets `decide` see the user as it is and does what it says, with nobody else writing in between. Goes on to
    /// its end when the caller goes away: a write that is done must reach the cache and give back the lock.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        id: u32,
        decide: impl FnOnce(Option<User>) -> (Change, T) + Send + 'static,
    ) -> Result<T, Unavailable> {
        let users = self.clone();
        let work = async move {
            let lock = Lock::take(&users.db, id).await?;
            let outcome = users.change_locked(id, decide).await;
            // A write whose answer did not come may have been done, so the cache forgets in any case.
            users.cache.delete(&user_key(id)).await;
            lock.release(&users.db).await;
            outcome
        };
        match tokio::spawn(work).await {
            Ok(outcome) => outcome,
            Err(ended) => std::panic::resume_unwind(ended.into_panic()),
        }
    }

    async fn change_locked<T>(
        &self,
        id: u32,
        decide: impl FnOnce(Option<User>) -> (Change, T),
    ) -> Result<T, Unavailable> {
        let before = self.read(id).await?.and_then(|json| parse_stored(id, &json));
        let existed = before.is_some();
        let (change, outcome) = decide(before);
        match change {
            Change::Keep => {}
            Change::Put(user) => {
                if !existed {
                    self.index(id).await?;
                }
                self.db.query::<()>(redis::cmd("SET").arg(user_key(id)).arg(user.to_json())).await?;
            }
            Change::Delete => {
                self.db.query::<i64>(redis::cmd("DEL").arg(user_key(id))).await?;
                self.db.query::<i64>(redis::cmd("DEL").arg(credential_key(id))).await?;
                self.db.query::<i64>(redis::cmd("HDEL").arg(bucket_key(id / BUCKET_IDS)).arg(id)).await?;
            }
        }
        Ok(outcome)
    }

    async fn index(&self, id: u32) -> Result<(), Unavailable> {
        let bucket = id / BUCKET_IDS;
        self.db.query::<i64>(redis::cmd("HSET").arg(BUCKETS_KEY).arg(bucket).arg(1)).await?;
        self.db.query::<i64>(redis::cmd("HSET").arg(bucket_key(bucket)).arg(id).arg(1)).await.map(drop)
    }

    /// The first `limit` ids after `after`, ascending, and whether there are more.
    pub(crate) async fn ids(&self, after: u32, limit: usize) -> Result<(Vec<u32>, bool), Unavailable> {
        let mut ids = Vec::new();
        for bucket in self.sorted_fields(BUCKETS_KEY).await? {
            if bucket >= after / BUCKET_IDS {
                let bucket_ids = self.sorted_fields(&bucket_key(bucket)).await?;
                ids.extend(bucket_ids.into_iter().filter(|id| *id > after));
            }
            if ids.len() > limit {
                ids.truncate(limit);
                return Ok((ids, true));
            }
        }
        Ok((ids, false))
    }

    async fn sorted_fields(&self, key: &str) -> Result<Vec<u32>, Unavailable> {
        let fields: HashMap<u32, String> = self.db.query(redis::cmd("HGETALL").arg(key)).await?;
        let mut fields: Vec<u32> = fields.into_keys().collect();
        fields.sort_unstable();
        Ok(fields)
    }

    /// The user's password hash.
    pub(crate) async fn credential(&self, id: u32) -> Result<Option<String>, Unavailable> {
        self.db.query(redis::cmd("GET").arg(credential_key(id))).await
    }

    /// Whether a fresh site's users are in, now or once before.
    pub(crate) async fn is_seeded(&self) -> Result<bool, Unavailable> {
        self.db.query(redis::cmd("EXISTS").arg(SEEDED_KEY)).await
    }

    /// Puts a fresh site's users in, all with this password hash, and remembers that. Nothing that is there is
    /// overwritten, so any number of web servers may do it at once, and a crash in the middle does no harm.
    pub(crate) async fn seed(&self, credential: &str) -> Result<(), Unavailable> {
        try_join_all((1..=seed::USERS).map(async |id| {
            self.index(id).await?;
            self.set_new(&user_key(id), &seed::user(id).to_json()).await?;
            self.set_new(&credential_key(id), credential).await
        }))
        .await?;
        self.set_new(SEEDED_KEY, "1").await
    }

    async fn set_new(&self, key: &str, value: &str) -> Result<(), Unavailable> {
        self.db.query::<Option<String>>(redis::cmd("SET").arg(key).arg(value).arg("NX")).await.map(drop)
    }
}

fn user_key(id: u32) -> String {
    format!("user:{id}")
}

fn credential_key(id: u32) -> String {
    format!("credential:{{user:{id}}}")
}

fn bucket_key(bucket: u32) -> String {
    format!("users:bucket:{bucket}")
}

/// Who writes to the database besides us may have left anything under a user's key; that is no user then.
fn parse_stored(id: u32, json: &[u8]) -> Option<User> {
    User::parse(id, json).inspect_err(|error| tracing::warn!(id, %error, "what is stored is no user")).ok()
}

/// The right to write one user.
struct Lock {
    key: String,
    token: String,
    taken: Instant,
}

impl Lock {
    async fn take(db: &Database, id: u32) -> Result<Self, Unavailable> {
        let lock = Self {
            key: format!("lock:{{user:{id}}}"),
            token: sha256_hex(&secret_bytes::<16>()),
            taken: Instant::now(),
        };
        let mut back_off = BackOff::new(Duration::from_millis(5), Duration::from_millis(50));
        let millis = u64::try_from(LOCK_TTL.as_millis()).expect("a few seconds");
        loop {
            let asked = Instant::now();
            let mut command = redis::cmd("SET");
            command.arg(&lock.key).arg(&lock.token).arg("NX").arg("PX").arg(millis);
            if db.query::<Option<String>>(&command).await?.is_some() {
                return Ok(Self { taken: asked, ..lock });
            }
            if lock.taken.elapsed() > LOCK_WAIT {
                return Err(Unavailable { store: "database", reason: format!("user {id} is being written") });
            }
            back_off.pause().await;
        }
    }

    /// Gives it back, if it is still surely ours: else it goes by itself.
    async fn release(self, db: &Database) {
        if self.taken.elapsed() < LOCK_TTL / 2 {
            let _ = db.query::<i64>(redis::cmd("DEL").arg(&self.key)).await;
        }
    }
}
