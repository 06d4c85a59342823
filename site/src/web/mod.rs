//! The web tier: HTTP routes over the stores. Stateless: whatever outlives a request is in a store.
//!
//! | route | file |
//! |---|---|
//! | `GET /` | [`page`] |
//! | `GET /users`, `GET PUT PATCH DELETE /users/{id}` | [`users`] |
//! | `POST /login`, `GET /me`, `POST /logout` | [`sessions`] (passwords: [`password`]) |
//! | `POST /photos`, `GET DELETE /photos/{id}`, `GET /photos/{id}/original` | [`photos`] |
//! | `GET /healthz` | [`health`] |
//!
//! What always holds: every error is `application/problem+json` (RFC 9457); every answer names the server in
//! `x-served-by`; no request outlives its deadline, and no other site's page writes here by its reader's browser
//! ([`frame`]); a store that is away gives 503 with `Retry-After`, the cache aside, which is never missed.

mod body;
mod connections;
mod frame;
mod health;
mod page;
mod password;
mod photos;
mod problem;
mod sessions;
mod users;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::metrics::WebMetrics;
use crate::store::BackOff;
use crate::store::cache::Cache;
use crate::store::db::{self, Database};
use crate::store::photos::Photos;
use crate::store::queue::Queue;
use crate::store::sessions::Sessions;
use crate::store::users::Users;
use crate::{Error, WebConfig};
use problem::Problem;

/// What the routes share: handles on the stores, and limits. No state.
struct Site {
    name: String,
    database: Database,
    users: Users,
    sessions: Sessions,
    photos: Photos,
    queue: Queue,
    passwords: password::Passwords,
    /// Photos in memory at once, coming in or going out.
    photo_slots: Arc<Semaphore>,
    metrics: WebMetrics,
}

/// A running site's handle, as axum hands it to the routes.
type Shared = Arc<Site>;

/// Runs a web server until `service` is asked to stop and the running requests have ended, or
/// [`WebConfig::drain_s`] is over. Listens at once: until the stores can be reached, answers are 503.
pub fn run(config: WebConfig, service: &ops::Service) -> Result<(), Error> {
    config.validate()?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if config.threads > 0 {
        runtime.worker_threads(config.threads);
    }
    let runtime = runtime.thread_name("site-web").enable_all().build().map_err(Error::Runtime)?;
    let outcome = runtime.block_on(serve(config, service));
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn serve(config: WebConfig, service: &ops::Service) -> Result<(), Error> {
    let listener = listen(config.listen).await?;
    let site = start(&config)?;
    service.register(|registry| site.metrics.register(registry));
    service.add_check("database", {
        let database = site.database.clone();
        move || database.check()
    });
    let limits = connections::Limits {
        connections_max: config.connections_max,
        head_timeout: config.idle_timeout(),
        drain: config.drain(),
    };
    tracing::info!(name = config.name, address = %config.listen, "web server listens");
    let accept = connections::serve(listener, router(site.clone()), limits, service.stop().requested());
    let ready = async {
        wait_until_seeded(&site, config.seed).await;
        service.ready();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = accept => {}
        () = ready => {}
    }
    Ok(())
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

/// Makes the handles and starts what keeps them connected; must be called within a runtime.
fn start(config: &WebConfig) -> Result<Shared, Error> {
    let kafka = |source| Error::Kafka { bootstrap: config.stores.broker.clone(), source };
    let database = Database::new();
    tokio::spawn(db::watch(database.clone(), config.stores.dbshard.clone()));
    let (cache, retried_deletes) = Cache::new(&config.stores.cachesrv, config.cache_ttl_s);
    tokio::spawn(retried_deletes);
    let (queue, topic) = Queue::new(&config.stores).map_err(kafka)?;
    tokio::spawn(topic);
    Ok(Arc::new(Site {
        name: config.name.clone(),
        users: Users { db: database.clone(), cache },
        sessions: Sessions { db: database.clone(), ttl_s: config.session_ttl_s },
        photos: Photos { db: database.clone() },
        queue,
        passwords: password::Passwords::new(),
        photo_slots: Arc::new(Semaphore::new(photos::PHOTOS_AT_ONCE)),
        metrics: WebMetrics::new(),
        database,
    }))
}

fn router(site: Shared) -> Router {
    Router::new()
        .route("/", get(page::get))
        .route("/healthz", get(health::get))
        .route("/users", get(users::list))
        .route("/users/{id}", get(users::get).put(users::put).patch(users::patch).delete(users::delete))
        .route("/login", post(sessions::login))
        .route("/me", get(sessions::me))
        .route("/logout", post(sessions::logout))
        .route("/photos", post(photos::post))
        .route("/photos/{id}", get(photos::get).delete(photos::delete))
        .route("/photos/{id}/original", get(photos::original))
        .fallback(async || Problem::not_found("there is nothing under this path"))
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(axum::middleware::from_fn_with_state(site.clone(), frame::around))
        .with_state(site)
}

/// Returns once the database answers and the hundred users are in, seeding them where nobody has.
async fn wait_until_seeded(site: &Site, seed: bool) {
    let mut back_off = BackOff::new(Duration::from_millis(20), Duration::from_secs(1));
    loop {
        let seeded = match site.users.is_seeded().await {
            Ok(false) if seed => site.users.seed(&site.passwords.demo_hash().await).await,
            other => other.map(drop),
        };
        match seeded {
            Ok(()) => return,
            Err(error) => tracing::debug!(%error, "the database is not there yet"),
        }
        back_off.pause().await;
    }
}

#[cfg(test)]
mod tests;
