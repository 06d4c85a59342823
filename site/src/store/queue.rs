//! The queue of photo jobs: the topic, the producer of the web tier, the consumer of the workers.
//!
//! What always holds: a job that [`Queue::publish`] says is published is on the brokers' disks (`acks=all`); a
//! worker's place in the topic moves on only by [`commit`], after the job's end is stored. librdkafka reconnects by
//! itself, with its own back-off.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{CommitMode, Consumer, ConsumerContext, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::time::Instant;

use super::{BackOff, Unavailable};
use crate::config::{StoresConfig, WorkerConfig};
use crate::photo::{JOBS_TOPIC, Job, PhotoId, WORKERS_GROUP};

/// A published job is on disk within this, or the request fails.
const PUBLISH_DEADLINE_MS: u32 = 5000;
/// An answer of a broker comes within this.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The queue of messages on their way, in librdkafka: far more than uploads at once.
const MESSAGES_WAITING_MAX: u32 = 10_000;
/// That a broker is away is told this often.
const REPEAT_AFTER: Duration = Duration::from_secs(30);
/// A worker that has its job for longer than this is taken for dead: well above what the limits of
/// [`crate::operations`] allow a job.
const JOB_TIME_MAX: Duration = Duration::from_secs(300);

/// The web tier's end.
#[derive(Clone)]
pub(crate) struct Queue {
    producer: FutureProducer<Logging>,
    has_topic: Arc<AtomicBool>,
}

impl Queue {
    /// A producer, and the future that sees to the topic: spawn it. The broker need not be up.
    pub(crate) fn new(stores: &StoresConfig) -> KafkaResult<(Self, impl Future<Output = ()> + Send + use<>)> {
        let producer = client_config(stores, "web")
            .set("acks", "all")
            .set("message.timeout.ms", PUBLISH_DEADLINE_MS.to_string())
            .set("queue.buffering.max.messages", MESSAGES_WAITING_MAX.to_string())
            .set("linger.ms", "0")
            .create_with_context(Logging::default())?;
        let queue = Self { producer, has_topic: Arc::default() };
        let (has_topic, topic) = (queue.has_topic.clone(), ensure_topic(stores)?);
        let see_to_it = async move {
            topic.await;
            has_topic.store(true, Ordering::Release);
        };
        Ok((queue, see_to_it))
    }

    /// Puts the job of photo `id` on the brokers' disks. After an error it may be there all the same.
    pub(crate) async fn publish(&self, id: PhotoId) -> Result<(), Unavailable> {
        let unavailable = |reason: String| Unavailable { store: "queue", reason };
        if !self.has_topic.load(Ordering::Acquire) {
            return Err(unavailable(format!("topic {JOBS_TOPIC} is not there yet")));
        }
        let key = id.to_string();
        let job = serde_json::to_string(&Job { photo: key.clone() }).expect("a job is JSON");
        let record = FutureRecord::to(JOBS_TOPIC).key(&key).payload(&job);
        match self.producer.send(record, Duration::ZERO).await {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(unavailable(error.to_string())),
        }
    }
}

/// A member of the workers' group. Make it when the topic is there.
pub(crate) fn consumer(config: &WorkerConfig) -> KafkaResult<JobsConsumer> {
    let consumer: JobsConsumer = client_config(&config.stores, &config.name)
        .set("group.id", WORKERS_GROUP)
        .set("session.timeout.ms", config.session_timeout_ms.to_string())
        .set("heartbeat.interval.ms", (config.session_timeout_ms / 3).to_string())
        .set(
            "max.poll.interval.ms",
            JOB_TIME_MAX.as_millis().max(config.session_timeout_ms.into()).to_string(),
        )
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // Jobs that were published before the group's first worker came are jobs too.
        .set("auto.offset.reset", "earliest")
        .create_with_context(Logging::default())?;
    consumer.subscribe(&[JOBS_TOPIC])?;
    Ok(consumer)
}

/// What workers read from.
pub(crate) type JobsConsumer = StreamConsumer<Logging>;

/// Moves the group's place past `message`. Fails when the partition is another worker's by now, who does the job
/// again: it does no harm.
pub(crate) fn commit(consumer: &JobsConsumer, message: &BorrowedMessage<'_>) -> KafkaResult<()> {
    consumer.commit_message(message, CommitMode::Sync)
}

/// Sees that [`JOBS_TOPIC`] is there, creating it with the partitions of the configuration where it is not; trying
/// again until it is.
pub(crate) fn ensure_topic(stores: &StoresConfig) -> KafkaResult<impl Future<Output = ()> + Send + use<>> {
    let admin: AdminClient<Logging> =
        client_config(stores, "topic").create_with_context(Logging::default())?;
    let admin = Arc::new(admin);
    let partitions = i32::from(stores.photo_partitions);
    Ok(async move {
        let mut back_off = BackOff::new(Duration::from_millis(100), Duration::from_secs(2));
        loop {
            match has_topic_or_create(&admin, partitions).await {
                Ok(()) => return,
                Err(error) => tracing::debug!(topic = JOBS_TOPIC, %error, "no topic yet; trying again"),
            }
            back_off.pause().await;
        }
    })
}

async fn has_topic_or_create(admin: &Arc<AdminClient<Logging>>, partitions: i32) -> KafkaResult<()> {
    let asking = admin.clone();
    // All topics: asking for one by name might create it, with the broker's number of partitions.
    let listed = tokio::task::spawn_blocking(move || asking.inner().fetch_metadata(None, REQUEST_TIMEOUT));
    let listed = listed.await.expect("librdkafka does not panic")?;
    if listed.topics().iter().any(|topic| topic.name() == JOBS_TOPIC) {
        return Ok(());
    }
    let topic = NewTopic::new(JOBS_TOPIC, partitions, TopicReplication::Fixed(1));
    let options =
        AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT));
    match admin.create_topics([&topic], &options).await?.pop() {
        Some(Err((_, code))) if code != RDKafkaErrorCode::TopicAlreadyExists => {
            Err(KafkaError::AdminOp(code))
        }
        _ => Ok(()),
    }
}

fn client_config(stores: &StoresConfig, name: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &stores.broker)
        .set("client.id", name)
        .set("socket.timeout.ms", REQUEST_TIMEOUT.as_millis().to_string())
        .set("socket.connection.setup.timeout.ms", "2000")
        .set("socket.keepalive.enable", "true")
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000")
        .set_log_level(RDKafkaLogLevel::Warning);
    config
}

/// librdkafka's log lines as ours. It says on every try that a broker is away; we say it every [`REPEAT_AFTER`].
#[derive(Default)]
pub(crate) struct Logging {
    told: Mutex<Option<Instant>>,
}

impl Logging {
    fn is_time_to_tell(&self) -> bool {
        let mut told = self.told.lock().expect("no panic under this lock");
        let is_time = told.is_none_or(|told| told.elapsed() >= REPEAT_AFTER);
        if is_time {
            *told = Some(Instant::now());
        }
        is_time
    }
}

impl ClientContext for Logging {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(facility, "librdkafka: {message}");
            }
            _ => tracing::debug!(facility, "librdkafka: {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) if self.is_time_to_tell() => {
                tracing::warn!("the broker can't be reached; trying again");
            }
            Some(RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::BrokerTransportFailure) => {
                tracing::debug!("librdkafka: {reason}");
            }
            _ => tracing::warn!(%error, "librdkafka: {reason}"),
        }
    }
}

impl ConsumerContext for Logging {}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::Message;
    use rdkafka::mocking::MockCluster;
    use tokio::time::timeout;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// librdkafka's own broker, in this process.
    fn broker() -> (MockCluster<'static, rdkafka::producer::DefaultProducerContext>, WorkerConfig) {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(JOBS_TOPIC, 2, 1).unwrap();
        let mut config = WorkerConfig::default();
        config.stores.broker = cluster.bootstrap_servers();
        (cluster, config)
    }

    async fn next_job(consumer: &JobsConsumer) -> (String, BorrowedMessage<'_>) {
        loop {
            // What is no message is news of the group forming.
            if let Ok(message) = timeout(PATIENCE, consumer.recv()).await.expect("a job comes") {
                let job: Job = serde_json::from_slice(message.payload().unwrap()).unwrap();
                assert_eq!(message.key(), Some(job.photo.as_bytes()));
                return (job.photo, message);
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_job_comes_again_until_it_is_committed() {
        let (_broker, config) = broker();
        let (queue, topic) = Queue::new(&config.stores).unwrap();
        let first = PhotoId::from_random(1);
        assert!(queue.publish(first).await.is_err(), "not before the topic is seen to");
        timeout(PATIENCE, topic).await.unwrap();
        queue.publish(first).await.unwrap();

        let dies = consumer(&config).unwrap();
        let (photo, message) = next_job(&dies).await;
        assert_eq!(photo, first.to_string());
        drop(message);
        drop(dies);

        let lives = consumer(&config).unwrap();
        let (photo, message) = next_job(&lives).await;
        assert_eq!(photo, first.to_string(), "uncommitted, it comes again");
        commit(&lives, &message).unwrap();
        drop(message);
        drop(lives);

        let second = PhotoId::from_random(2);
        queue.publish(second).await.unwrap();
        let last = consumer(&config).unwrap();
        let (photo, _) = next_job(&last).await;
        assert_eq!(photo, second.to_string(), "committed, it does not");
    }
}
