//! Photos in the database: the record, the original, the result (the keys are in [`crate::photo`]).
//!
//! What always holds: a photo exists as long as its record does. A deleted one is not brought back by a worker
//! that still has its job: it writes the record only where there is one, and clears away its result otherwise.
//! A new photo is kept for [`UNPUBLISHED_TTL_S`] only, until its job is in the queue: who dies in between leaves nothing.

use super::Unavailable;
use super::db::{Database, LARGE_DEADLINE};
use crate::photo::{PhotoId, Record};

/// How long a photo is there whose job is not known to be in the queue, in seconds: far longer than publishing takes.
const UNPUBLISHED_TTL_S: u32 = 3600;

/// The photos.
#[derive(Clone)]
pub(crate) struct Photos {
    pub(crate) db: Database,
}

impl Photos {
    /// A new photo, until its job is published: then [`Photos::keep`] it.
    pub(crate) async fn create(
        &self,
        id: PhotoId,
        record: &Record,
        original: &[u8],
    ) -> Result<(), Unavailable> {
        let mut command = redis::cmd("SET");
        command.arg(id.original_key()).arg(original).arg("EX").arg(UNPUBLISHED_TTL_S);
        self.db.query_within::<()>(LARGE_DEADLINE, &command).await?;
        let mut command = redis::cmd("SET");
        command.arg(id.record_key()).arg(to_json(record)).arg("EX").arg(UNPUBLISHED_TTL_S);
        self.db.query(&command).await
    }

    /// Keeps a photo whose job is published until it is deleted. There need be none.
    pub(crate) async fn keep(&self, id: PhotoId) -> Result<(), Unavailable> {
        for key in [id.original_key(), id.record_key()] {
            self.db.query::<i64>(redis::cmd("PERSIST").arg(key)).await?;
        }
        Ok(())
    }

    pub(crate) async fn record(&self, id: PhotoId) -> Result<Option<Record>, Unavailable> {
        let json: Option<Vec<u8>> = self.db.query(redis::cmd("GET").arg(id.record_key())).await?;
        // Who writes to the database besides us may have left anything there; that is no photo then.
        Ok(json.and_then(|json| {
            serde_json::from_slice(&json)
                .inspect_err(|error| tracing::warn!(%id, %error, "what is stored is no photo record"))
                .ok()
        }))
    }

    pub(crate) async fn original(&self, id: PhotoId) -> Result<Option<Vec<u8>>, Unavailable> {
        self.db.query_within(LARGE_DEADLINE, redis::cmd("GET").arg(id.original_key())).await
    }

    pub(crate) async fn result(&self, id: PhotoId) -> Result<Option<Vec<u8>>, Unavailable> {
        self.db.query_within(LARGE_DEADLINE, redis::cmd("GET").arg(id.result_key())).await
    }

    pub(crate) async fn set_result(&self, id: PhotoId, result: &[u8]) -> Result<(), Unavailable> {
        self.db.query_within(LARGE_DEADLINE, redis::cmd("SET").arg(id.result_key()).arg(result)).await
    }

    /// Writes the record of a photo that still exists. Else clears away what a worker left, and says false.
    pub(crate) async fn update(&self, id: PhotoId, record: &Record) -> Result<bool, Unavailable> {
        let mut command = redis::cmd("SET");
        command.arg(id.record_key()).arg(to_json(record)).arg("XX");
        let exists = self.db.query::<Option<String>>(&command).await?.is_some();
        if !exists {
            self.delete(id).await?;
        }
        Ok(exists)
    }

    /// Counts a beginning of its job and says which it is, from 1.
    pub(crate) async fn count_attempt(&self, id: PhotoId) -> Result<u32, Unavailable> {
        self.db.query(redis::cmd("INCR").arg(id.attempts_key())).await
    }

    /// Forgets the attempts of a job that has ended.
    pub(crate) async fn forget_attempts(&self, id: PhotoId) -> Result<(), Unavailable> {
        self.db.query::<i64>(redis::cmd("DEL").arg(id.attempts_key())).await.map(drop)
    }

    /// Deletes all of a photo; says whether there was one.
    pub(crate) async fn delete(&self, id: PhotoId) -> Result<bool, Unavailable> {
        let existed: i64 = self.db.query(redis::cmd("DEL").arg(id.record_key())).await?;
        for key in [id.original_key(), id.result_key(), id.attempts_key()] {
            self.db.query::<i64>(redis::cmd("DEL").arg(key)).await?;
        }
        Ok(existed > 0)
    }
}

fn to_json(record: &Record) -> String {
    serde_json::to_string(record).expect("a record is JSON")
}
