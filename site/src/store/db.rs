//! The database: one connection of a Redis Cluster client, shared by all requests, watched and remade.
//!
//! What always holds: a query ends within its deadline; while no connection is to be had it fails at once.
//! [`watch`] makes the connection, asks it something every [`PROBE_INTERVAL`], and makes another when it does not
//! answer: the client finds moved slots and restarted nodes by itself, but not its way out of every outage. The old
//! one serves until there is another: with one shard away, the others' keys are still answered.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, FromRedisValue};
use tokio::time::{Instant, timeout};

use super::{BackOff, Unavailable};

/// A query of small values ends within this.
pub(crate) const SMALL_DEADLINE: Duration = Duration::from_secs(2);
/// A query that carries a photo ends within this.
pub(crate) const LARGE_DEADLINE: Duration = Duration::from_secs(10);
/// One connection to one node is made within this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The database is asked this often whether it answers.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// After so many probes in a row without an answer the connection is made anew.
const PROBES_FAILED_MAX: u32 = 3;
/// [`Database::unreachable_for`] beyond this is "a while": `/healthz` turns.
pub(crate) const UNREACHABLE_MAX: Duration = Duration::from_secs(4);
/// Tries of the client within one query, over redirections and broken connections.
const RETRIES: u32 = 4;
/// The pauses between those tries, in milliseconds.
const RETRY_WAIT_MS: (u64, u64) = (20, 200);

/// A handle on the database; clones share it.
#[derive(Clone)]
pub(crate) struct Database {
    shared: Arc<Shared>,
}

struct Shared {
    connection: RwLock<Option<ClusterConnection>>,
    /// When it last answered; when this handle was made, before the first time.
    answered: RwLock<Instant>,
}

impl Database {
    /// A handle without a connection: [`watch`] makes that.
    pub(crate) fn new() -> Self {
        let shared = Shared { connection: RwLock::new(None), answered: RwLock::new(Instant::now()) };
        Self { shared: Arc::new(shared) }
    }

    /// Asks and waits for at most [`SMALL_DEADLINE`].
    pub(crate) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Unavailable> {
        self.query_within(SMALL_DEADLINE, command).await
    }

    /// Asks and waits for at most `deadline`. A write whose answer did not come may have been done.
    pub(crate) async fn query_within<T: FromRedisValue>(
        &self,
        deadline: Duration,
        command: &Cmd,
    ) -> Result<T, Unavailable> {
        let connection = self.shared.connection.read().expect("no panic under this lock").clone();
        let mut connection = connection.ok_or_else(|| unavailable("not connected yet"))?;
        match timeout(deadline, command.query_async(&mut connection)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(unavailable(error)),
            Err(_) => Err(unavailable(format_args!("no answer within {deadline:?}"))),
        }
    }

    /// How long it has not answered.
    pub(crate) fn unreachable_for(&self) -> Duration {
        self.shared.answered.read().expect("no panic under this lock").elapsed()
    }

    /// For readiness checks.
    pub(crate) fn check(&self) -> Result<(), String> {
        let silent = self.unreachable_for();
        if silent <= UNREACHABLE_MAX {
            Ok(())
        } else {
            Err(format!("the database has not answered for {silent:?}"))
        }
    }

    fn set_connection(&self, connection: ClusterConnection) {
        *self.shared.connection.write().expect("no panic under this lock") = Some(connection);
    }

    fn set_answered(&self) {
        *self.shared.answered.write().expect("no panic under this lock") = Instant::now();
    }
}

fn unavailable(reason: impl std::fmt::Display) -> Unavailable {
    Unavailable { store: "database", reason: reason.to_string() }
}

/// Makes and keeps the connection of `database`, for ever: spawn it.
pub(crate) async fn watch(database: Database, nodes: Vec<String>) {
    // As if it had failed: there is no connection yet.
    let mut failed = PROBES_FAILED_MAX;
    let mut back_off = fresh_back_off();
    let mut is_told = false;
    for number in 0_u64.. {
        match probe_or_connect(&database, &nodes, number, failed).await {
            Ok(()) => {
                if is_told {
                    tracing::info!(nodes = nodes.join(","), "the database answers");
                }
                (failed, is_told, back_off) = (0, false, fresh_back_off());
                database.set_answered();
                tokio::time::sleep(PROBE_INTERVAL).await;
            }
            Err(error) => {
                failed += 1;
                if !is_told {
                    tracing::warn!(nodes = nodes.join(","), %error, "the database can't be reached; trying again");
                    is_told = true;
                }
                back_off.pause().await;
            }
        }
    }
}

fn fresh_back_off() -> BackOff {
    BackOff::new(Duration::from_millis(50), PROBE_INTERVAL)
}

async fn probe_or_connect(
    database: &Database,
    nodes: &[String],
    number: u64,
    failed: u32,
) -> Result<(), Unavailable> {
    if failed >= PROBES_FAILED_MAX {
        database.set_connection(connect(nodes).await?);
    }
    // A read of a key goes the way that requests go. Another key each time, hence another shard: the loss of one
    // shows in its own requests and must not take the web server out of the proxy's rotation.
    database.query::<i64>(redis::cmd("EXISTS").arg(format!("probe:{number}"))).await.map(drop)
}

async fn connect(nodes: &[String]) -> Result<ClusterConnection, Unavailable> {
    let client = ClusterClient::builder(nodes.iter().map(|node| format!("redis://{node}")))
        .connection_timeout(CONNECT_TIMEOUT)
        .response_timeout(LARGE_DEADLINE)
        .retries(RETRIES)
        .min_retry_wait(RETRY_WAIT_MS.0)
        .max_retry_wait(RETRY_WAIT_MS.1)
        .build()
        .map_err(unavailable)?;
    timeout(SMALL_DEADLINE, client.get_async_connection())
        .await
        .map_err(|_| unavailable("no node could be connected in time"))?
        .map_err(unavailable)
}
