//! `GET /healthz`, for the proxy's checks: 200, or 503 when the database has not answered for a while. It asks
//! nobody: the database is watched in the background.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::Shared;
use super::problem::Problem;

pub(super) async fn get(State(site): State<Shared>) -> Response {
    match site.database.check() {
        Ok(()) => ([(header::CACHE_CONTROL, "no-store")], "ok\n").into_response(),
        Err(reason) => Problem::busy(reason).into_response(),
    }
}
