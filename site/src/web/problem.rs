//! Errors as problem details for HTTP APIs ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)): `type` is
//! `about:blank`, so `title` is the status's phrase, and `detail` says what was wrong with this request.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::store::Unavailable;
use crate::user::InvalidUser;

/// The media type of a problem (RFC 9457, section 3).
pub(super) const CONTENT_TYPE: &str = "application/problem+json";
/// How long a client should wait for a store to come back, in seconds.
const RETRY_AFTER_S: u32 = 1;

/// An error answer.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    members: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// Its body.
#[derive(Serialize)]
struct Document {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(flatten)]
    members: Map<String, Value>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), members: Map::new(), headers: Vec::new() }
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(super) fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// The router adds `Allow`.
    pub(super) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not know this method; see `allow`")
    }

    pub(super) fn unsupported_media_type(expected: &str) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("the content type must be {expected}"))
    }

    pub(super) fn too_large(bytes_max: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body may have {bytes_max} bytes"))
    }

    pub(super) fn busy(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(RETRY_AFTER_S)
    }

    pub(super) fn retry_after(self, seconds: u32) -> Self {
        self.header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// An extension member ([section 3.2](https://www.rfc-editor.org/rfc/rfc9457#section-3.2)).
    pub(super) fn member(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.into(), value.into());
        self
    }
}

impl From<Unavailable> for Problem {
    fn from(error: Unavailable) -> Self {
        // The reason is the operator's; the client learns which tier.
        tracing::debug!(%error, "answered 503");
        Self::busy(format!("the {} can't be reached", error.store))
    }
}

impl From<InvalidUser> for Problem {
    fn from(error: InvalidUser) -> Self {
        let detail = error.to_string();
        match error {
            InvalidUser::NotJson(_) => Self::bad_request(detail),
            InvalidUser::Shape(_) => Self::unprocessable(detail),
            InvalidUser::Field { field, .. } => Self::unprocessable(detail).member("field", field),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = Document {
            kind: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: self.detail,
            members: self.members,
        };
        let document = serde_json::to_string(&document).expect("a problem is JSON");
        let fixed = [(header::CONTENT_TYPE, CONTENT_TYPE), (header::CACHE_CONTROL, "no-store")];
        let mut response = (self.status, fixed, document).into_response();
        response.headers_mut().extend(self.headers);
        response
    }
}
