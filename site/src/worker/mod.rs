//! The photo workers: members of one consumer group, each taking one job after another.
//!
//! What always holds: a job's place in the queue is given up only after its end, done or failed, is stored; so a
//! worker may die at any moment and another does its job. Doing a job twice gives the same result under the same
//! key. A job that can't be done is marked failed, with a reason for the one who sent it; one whose worker dies
//! over it again and again is marked failed after [`ATTEMPTS_MAX`]. A store that is away is waited for.

pub(crate) mod picture;

use std::time::Duration;

use rdkafka::Message;
use rdkafka::message::BorrowedMessage;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::metrics::{ResultLabel, WorkerMetrics};
use crate::operations::{Operations, PIXELS_MAX};
use crate::photo::{Job, PHOTO_BYTES_MAX, PhotoId, Record, State};
use crate::store::db::{self, Database};
use crate::store::photos::Photos;
use crate::store::queue::{self, JobsConsumer};
use crate::store::{BackOff, Unavailable, sha256_hex};
use crate::{Error, WorkerConfig};

/// How often a job is begun before it is given up: more than the restarts of a bad day, few enough that a picture
/// that kills its workers does not stop them for long.
const ATTEMPTS_MAX: u32 = 5;

/// About what a job takes at most, in bytes: the largest picture as 32-bit floats (four channels) while it is
/// resized, three times as bytes, and its encoded forms (491 MB were measured for the whole process).
pub const JOB_MEMORY_BYTES: u64 = PIXELS_MAX * (16 + 3 * 4) + 2 * PHOTO_BYTES_MAX as u64;

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done,
    Failed,
    /// Done before, deleted, or no job at all.
    Skipped,
}

/// Runs the workers until `service` is asked to stop and the jobs in hand have ended, or [`WorkerConfig::drain_s`]
/// is over. A job that is cut off is done by another worker.
pub fn run(config: WorkerConfig, service: &ops::Service) -> Result<(), Error> {
    config.validate()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(config.jobs_at_once + 4)
        .thread_name("site-worker")
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    let outcome = runtime.block_on(work(config, service));
    // A picture that is still being edited after the drain can't be stopped; its job is done again elsewhere.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn work(config: WorkerConfig, service: &ops::Service) -> Result<(), Error> {
    let kafka = |source| Error::Kafka { bootstrap: config.stores.broker.clone(), source };
    let database = Database::new();
    tokio::spawn(db::watch(database.clone(), config.stores.dbshard.clone()));
    let metrics = WorkerMetrics::new();
    service.register(|registry| metrics.register(registry));
    service.add_check("database", {
        let database = database.clone();
        move || database.check()
    });

    // A group that subscribes to a topic that is not there yet learns of it late.
    let topic = queue::ensure_topic(&config.stores).map_err(kafka)?;
    tokio::select! {
        () = service.stop().requested() => return Ok(()),
        () = topic => {}
    }
    let (stop, stopped) = watch::channel(false);
    let mut members = Vec::new();
    for _ in 0..config.jobs_at_once {
        let consumer = queue::consumer(&config).map_err(kafka)?;
        let worker = Worker { photos: Photos { db: database.clone() }, metrics: metrics.clone() };
        members.push(tokio::spawn(worker.take_jobs(consumer, stopped.clone())));
    }
    service.ready();
    tracing::info!(name = config.name, jobs_at_once = config.jobs_at_once, "taking photo jobs");
    service.stop().requested().await;
    stop.send_replace(true);
    let drained = timeout(config.drain(), futures_util::future::join_all(members)).await;
    if drained.is_err() {
        tracing::warn!(
            drain_s = config.drain_s,
            "a job in hand did not end in time; another worker does it again"
        );
    }
    Ok(())
}

struct Worker {
    photos: Photos,
    metrics: WorkerMetrics,
}

impl Worker {
    /// Takes jobs until stopped; ends between two jobs, then leaves the group.
    async fn take_jobs(self, consumer: JobsConsumer, mut stopped: watch::Receiver<bool>) {
        let mut trouble = false;
        loop {
            let message = tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped) => break,
                message = consumer.recv() => message,
            };
            match message {
                Ok(message) => {
                    trouble = false;
                    if !self.take(&message, &stopped).await {
                        break;
                    }
                    // Waits for the broker: a thread of its own, for the runtime has few.
                    let committed = tokio::task::block_in_place(|| queue::commit(&consumer, &message));
                    if let Err(error) = committed {
                        tracing::info!(%error, "the job's end is stored but its place was not; it comes again");
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut trouble, true) {
                        tracing::warn!(%error, "no jobs from the queue; trying again");
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        // Leaving the group waits for the broker.
        let _ = tokio::task::spawn_blocking(move || drop(consumer)).await;
    }

    /// Works on one message until its end is stored. False: stopped before that, so its place must stay.
    async fn take(&self, message: &BorrowedMessage<'_>, stopped: &watch::Receiver<bool>) -> bool {
        let begun = Instant::now();
        let Some(id) = photo_of(message.payload().unwrap_or_default()) else {
            tracing::warn!(
                partition = message.partition(),
                offset = message.offset(),
                "not a photo job; passed over"
            );
            self.count(End::Skipped);
            return true;
        };
        let mut back_off = BackOff::new(Duration::from_millis(100), Duration::from_secs(2));
        let mut attempt = None;
        loop {
            match self.finish(id, &mut attempt).await {
                Ok(end) => {
                    self.count(end);
                    self.metrics.job_seconds.observe(begun.elapsed().as_secs_f64());
                    tracing::info!(photo = %id, ?end, ms = begun.elapsed().as_millis(), "photo job ended");
                    return true;
                }
                Err(error) => {
                    tracing::warn!(photo = %id, %error, "photo job waits");
                    if *stopped.borrow() {
                        return false;
                    }
                    back_off.pause().await;
                }
            }
        }
    }

    fn count(&self, end: End) {
        let result = match end {
            End::Done => "done",
            End::Failed => "failed",
            End::Skipped => "skipped",
        };
        self.metrics.jobs.get_or_create(&ResultLabel { result }).inc();
    }

    /// Brings one photo to its end. `attempt` is counted once for each time that the job is handed out: a store
    /// that is away is not the picture's fault.
    async fn finish(&self, id: PhotoId, attempt: &mut Option<u32>) -> Result<End, Unavailable> {
        let Some(record) = self.photos.record(id).await? else {
            self.photos.delete(id).await?;
            return Ok(End::Skipped);
        };
        if record.state != State::Queued {
            return Ok(End::Skipped);
        }
        let attempt = match *attempt {
            Some(attempt) => attempt,
            None => *attempt.insert(self.photos.count_attempt(id).await?),
        };
        let outcome = if attempt > ATTEMPTS_MAX {
            Err(format!("given up: {ATTEMPTS_MAX} workers began on it and none came to its end"))
        } else {
            let Some(original) = self.photos.original(id).await? else {
                return self.fail(id, record, "its original is gone".into()).await;
            };
            edit(&record, original).await
        };
        match outcome {
            Ok((bytes, picture)) => {
                self.photos.set_result(id, &bytes).await?;
                let etag = sha256_hex(&bytes)[..32].to_string();
                let done = Record { state: State::Done { result: picture, etag }, ..record };
                self.end(id, &done, End::Done).await
            }
            Err(reason) => self.fail(id, record, reason).await,
        }
    }

    async fn fail(&self, id: PhotoId, record: Record, reason: String) -> Result<End, Unavailable> {
        tracing::info!(photo = %id, reason, "photo job failed");
        self.end(id, &Record { state: State::Failed { reason }, ..record }, End::Failed).await
    }

    async fn end(&self, id: PhotoId, record: &Record, end: End) -> Result<End, Unavailable> {
        // The web server that published the job may have died before it said so.
        self.photos.keep(id).await?;
        if !self.photos.update(id, record).await? {
            return Ok(End::Skipped);
        }
        self.photos.forget_attempts(id).await?;
        Ok(end)
    }
}

fn photo_of(payload: &[u8]) -> Option<PhotoId> {
    let job: Job = serde_json::from_slice(payload).ok()?;
    job.photo.parse().ok()
}

/// Does the work on a thread that may block. A reason is for the one who sent the picture.
async fn edit(record: &Record, original: Vec<u8>) -> Result<(Vec<u8>, crate::photo::Picture), String> {
    let operations: Operations = record.ops.parse().map_err(|error| format!("operations: {error}"))?;
    let edited = tokio::task::spawn_blocking(move || picture::edit(&original, &operations)).await;
    match edited {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        // The decoder panicked: it would again.
        Err(_) => Err("the picture broke its decoder".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_names_its_photo() {
        let id = PhotoId::from_random(7);
        let payload = serde_json::to_vec(&Job { photo: id.to_string() }).unwrap();
        assert_eq!(photo_of(&payload), Some(id));
        for payload in [&b""[..], b"{}", b"\xff", br#"{"photo":"7"}"#] {
            assert_eq!(photo_of(payload), None);
        }
    }
}
