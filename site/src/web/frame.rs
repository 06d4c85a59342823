//! What is around every request: its deadline, its count, the server's name on its answer.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::{Instant, timeout};

use super::Shared;
use super::problem::Problem;
use crate::metrics::RequestLabels;

/// From a request's head to its answer's. Above the deadlines of all queries that an answer takes, so what is left
/// to hit it is a body that does not come.
const DEADLINE: Duration = Duration::from_secs(15);
/// The same where a photo is sent or fetched.
const PHOTO_DEADLINE: Duration = Duration::from_secs(60);

const SERVED_BY: HeaderName = HeaderName::from_static("x-served-by");

pub(super) async fn around(State(site): State<Shared>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let method = label(request.method());
    let deadline = if request.uri().path().starts_with("/photos") { PHOTO_DEADLINE } else { DEADLINE };
    let mut response = timeout(deadline, next.run(request)).await.unwrap_or_else(|_| {
        Problem::new(StatusCode::REQUEST_TIMEOUT, format!("the request was not there within {deadline:?}"))
            .into_response()
    });
    let name = HeaderValue::from_str(&site.name).expect("WebConfig::validate takes header-safe names only");
    response.headers_mut().insert(SERVED_BY, name);
    let labels = RequestLabels { method, status: response.status().as_u16() };
    site.metrics.requests.get_or_create(&labels).inc();
    site.metrics.request_seconds.observe(begun.elapsed().as_secs_f64());
    response
}

/// The method as a label: a client can't make new ones.
fn label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}
