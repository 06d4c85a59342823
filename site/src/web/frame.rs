//! What is around every request: its deadline, its count, the server's name on its answer, every error as a problem;
//! and the guard against writes that another site's page makes a browser send.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::{Instant, timeout};

use super::Shared;
use super::problem::{self, Problem};
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
    let mut response = if is_forged(request.method(), request.headers()) {
        Problem::new(StatusCode::FORBIDDEN, "a page of another site asked for this").into_response()
    } else {
        timeout(deadline, next.run(request)).await.unwrap_or_else(|_| {
            let detail = format!("the request was not there within {deadline:?}");
            Problem::new(StatusCode::REQUEST_TIMEOUT, detail).into_response()
        })
    };
    if is_error_of_a_library(&response) {
        response = Problem::new(response.status(), "the request can't be read").into_response();
    }
    let name = HeaderValue::from_str(&site.name).expect("WebConfig::validate takes header-safe names only");
    response.headers_mut().insert(SERVED_BY, name);
    let labels = RequestLabels { method, status: response.status().as_u16() };
    site.metrics.requests.get_or_create(&labels).inc();
    site.metrics.request_seconds.observe(begun.elapsed().as_secs_f64());
    response
}

/// Whether a page of another origin made a browser send this write (CSRF; <https://owasp.org/www-community/attacks/csrf>).
/// Browsers say where a request comes from in Sec-Fetch-Site, those that do not say so (and all on plain HTTP) in Origin;
/// no script can change either. Clients that are no browsers send neither.
fn is_forged(method: &Method, headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if method.is_safe() {
        return false;
    }
    match text(HeaderName::from_static("sec-fetch-site")) {
        Some(from) => !matches!(from, "same-origin" | "none"),
        None => text(header::ORIGIN)
            .is_some_and(|origin| origin.split_once("://").map(|(_, host)| host) != text(header::HOST)),
    }
}

/// What axum itself answers is plain text.
fn is_error_of_a_library(response: &Response) -> bool {
    let status = response.status();
    (status.is_client_error() || status.is_server_error())
        && response.headers().get(header::CONTENT_TYPE).is_none_or(|kind| kind != problem::CONTENT_TYPE)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_from_pages_of_other_sites_are_forged() {
        let is_forged = |method: Method, fields: &[(&'static str, &'static str)]| {
            let field = |(name, value): &(&'static str, &'static str)| {
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            };
            is_forged(&method, &fields.iter().map(field).collect())
        };
        assert!(!is_forged(Method::POST, &[("host", "a:80")]), "curl");
        assert!(!is_forged(Method::POST, &[("sec-fetch-site", "same-origin"), ("origin", "http://x")]));
        assert!(!is_forged(Method::POST, &[("sec-fetch-site", "none")]));
        assert!(is_forged(Method::POST, &[("sec-fetch-site", "cross-site")]));
        assert!(
            is_forged(Method::DELETE, &[("sec-fetch-site", "same-site")]),
            "another port of this machine"
        );
        assert!(!is_forged(Method::GET, &[("sec-fetch-site", "cross-site")]), "a link");
        assert!(!is_forged(Method::PUT, &[("host", "a:8080"), ("origin", "http://a:8080")]));
        assert!(is_forged(Method::PUT, &[("host", "a:8080"), ("origin", "http://a:9000")]));
        assert!(is_forged(Method::PUT, &[("host", "a:8080"), ("origin", "null")]));
    }
}
