//! `/photos`: a photo comes in with what to do to it, a worker does it, the result goes out.
//!
//! `POST /photos?ops=…` (the grammar is in [`crate::operations`]) takes the picture as its body, or as the one file
//! of a multipart form, and answers 202 with the photo's path. `GET` on that path answers 202 with the state while
//! the job waits, 422 with the reason when it failed, and then the picture, which never changes.

use std::str::FromStr;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

use super::Shared;
use super::body::{media_type, read};
use super::problem::Problem;
use crate::operations::Operations;
use crate::photo::{PHOTO_BYTES_MAX, PhotoId, Picture, Record, State as PhotoState};
use crate::store::secret_bytes;
use crate::worker::picture::{self, PictureError};

/// Photos in memory at once, coming in or going out: together at most this many times [`PHOTO_BYTES_MAX`], twice
/// that while a store takes or gives them. One more is answered 503.
pub(super) const PHOTOS_AT_ONCE: usize = 24;
/// What a multipart form may have around its file, in bytes.
const FORM_ROOM: usize = 64 << 10;
/// How long browsers and the edge cache may keep a result, which never changes, in seconds: a year.
const MAX_AGE_S: u32 = 31_536_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PostQuery {
    #[serde(default)]
    ops: String,
}

/// What is told of a photo that is not done.
#[derive(Serialize)]
struct Status<'a> {
    id: String,
    #[serde(flatten)]
    record: &'a Record,
}

/// `POST /photos?ops=…`.
pub(super) async fn post(
    State(site): State<Shared>,
    query: Result<Query<PostQuery>, axum::extract::rejection::QueryRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|_| Problem::bad_request("the query knows `ops=…`"))?;
    let operations =
        Operations::from_str(&query.ops).map_err(|error| Problem::bad_request(format!("ops: {error}")))?;
    let _slot = slot(&site)?;
    let original = original_of(request).await?;
    let (original, inspected) = tokio::task::spawn_blocking(move || {
        let inspected = picture::inspect(&original);
        (original, inspected)
    })
    .await
    .map_err(|_| Problem::unprocessable("the picture broke its decoder"))?;
    let record = Record {
        ops: operations.to_string(),
        original: inspected.map_err(refuse)?,
        state: PhotoState::Queued,
    };
    let id = PhotoId::from_random(u128::from_ne_bytes(secret_bytes()));
    site.photos.create(id, &record, &original).await?;
    let published = async {
        site.queue.publish(id).await?;
        site.photos.keep(id).await
    };
    if let Err(error) = published.await {
        // Nobody was told of it. Should its job be in the queue all the same, the worker finds no photo.
        let _ = site.photos.delete(id).await;
        return Err(error.into());
    }
    let location = HeaderValue::from_str(&format!("/photos/{id}")).expect("hexadecimal digits");
    let mut response = status(StatusCode::ACCEPTED, id, &record);
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

/// `GET /photos/{id}`.
pub(super) async fn get(
    State(site): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = photo_id(&id)?;
    let record = site.photos.record(id).await?.ok_or_else(|| no_photo(id))?;
    match &record.state {
        PhotoState::Queued => {
            let mut response = status(StatusCode::ACCEPTED, id, &record);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(1));
            Ok(response)
        }
        PhotoState::Failed { reason } => {
            Err(Problem::unprocessable(format!("the photo can't be done: {reason}"))
                .member("state", "failed")
                .member("reason", reason.as_str())
                .member("id", id.to_string()))
        }
        PhotoState::Done { etag, .. } if matches(&headers, etag) => {
            let mut response = StatusCode::NOT_MODIFIED.into_response();
            immutable(&mut response, etag);
            Ok(response)
        }
        PhotoState::Done { result, etag } => {
            let slot = slot(&site)?;
            let bytes = site.photos.result(id).await?.ok_or_else(|| no_photo(id))?;
            let mut response = picture_response(result, bytes, slot);
            immutable(&mut response, etag);
            Ok(response)
        }
    }
}

/// `GET /photos/{id}/original`.
pub(super) async fn original(
    State(site): State<Shared>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let id = photo_id(&id)?;
    let record = site.photos.record(id).await?.ok_or_else(|| no_photo(id))?;
    let slot = slot(&site)?;
    let bytes = site.photos.original(id).await?.ok_or_else(|| no_photo(id))?;
    let mut response = picture_response(&record.original, bytes, slot);
    // It carries all that the camera wrote into it, and goes with the photo: no shared cache keeps it.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    Ok(response)
}

/// `DELETE /photos/{id}`. Caches may go on showing a result that they have.
pub(super) async fn delete(
    State(site): State<Shared>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let id = photo_id(&id)?;
    if site.photos.delete(id).await? { Ok(StatusCode::NO_CONTENT) } else { Err(no_photo(id)) }
}

/// The picture's bytes: the body, or the first file of a multipart form.
async fn original_of(request: Request) -> Result<Bytes, Problem> {
    if media_type(request.headers()) != "multipart/form-data" {
        let (parts, body) = request.into_parts();
        return read(&parts.headers, body, PHOTO_BYTES_MAX).await;
    }
    let (parts, body) = request.into_parts();
    let form = read(&parts.headers, body, PHOTO_BYTES_MAX + FORM_ROOM).await?;
    let mut request = Request::from_parts(parts, Body::from(form));
    // The limit is ours, above; axum's own is 2 MB.
    DefaultBodyLimit::disable().apply(&mut request);
    let bad_form = |error: String| Problem::bad_request(format!("the form can't be read: {error}"));
    let mut form =
        Multipart::from_request(request, &()).await.map_err(|error| bad_form(error.body_text()))?;
    while let Some(field) = form.next_field().await.map_err(|error| bad_form(error.body_text()))? {
        if field.file_name().is_some() {
            let bytes = field.bytes().await.map_err(|error| bad_form(error.body_text()))?;
            return if bytes.len() <= PHOTO_BYTES_MAX {
                Ok(bytes)
            } else {
                Err(Problem::too_large(PHOTO_BYTES_MAX))
            };
        }
    }
    Err(Problem::bad_request("the form has no file"))
}

fn refuse(error: PictureError) -> Problem {
    match error {
        PictureError::Format => Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error.to_string()),
        other => Problem::unprocessable(other.to_string()),
    }
}

fn slot(site: &Shared) -> Result<OwnedSemaphorePermit, Problem> {
    site.photo_slots.clone().try_acquire_owned().map_err(|_| Problem::busy("too many photos are under way"))
}

fn photo_id(text: &str) -> Result<PhotoId, Problem> {
    text.parse().map_err(|_| Problem::not_found("a photo's id is 32 hexadecimal digits"))
}

fn no_photo(id: PhotoId) -> Problem {
    Problem::not_found(format!("there is no photo {id}"))
}

fn status(code: StatusCode, id: PhotoId, record: &Record) -> Response {
    let status = serde_json::to_string(&Status { id: id.to_string(), record }).expect("a status is JSON");
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (code, headers, status).into_response()
}

/// The picture as it was described when it was stored, never as a page: `nosniff`.
fn picture_response(picture: &Picture, bytes: Vec<u8>, slot: OwnedSemaphorePermit) -> Response {
    let body = Bytes::from_owner(Held { bytes, _slot: slot });
    let mut response = Body::from(body).into_response();
    let content_type = HeaderValue::from_str(&picture.content_type)
        .unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Bytes of an answer that keep their slot until they are sent.
struct Held {
    bytes: Vec<u8>,
    _slot: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn immutable(response: &mut Response, etag: &str) {
    let cache_control = format!("public, max-age={MAX_AGE_S}, immutable");
    let headers = response.headers_mut();
    headers
        .insert(header::CACHE_CONTROL, HeaderValue::from_str(&cache_control).expect("digits and fixed text"));
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{etag}\"")) {
        headers.insert(header::ETAG, etag);
    }
}

/// If-None-Match (RFC 9110 section 13.1.2), which compares weakly.
fn matches(headers: &HeaderMap, etag: &str) -> bool {
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(|candidate| candidate.trim().trim_start_matches("W/"))
        .any(|candidate| candidate == "*" || candidate.trim_matches('"') == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_none_match_compares_weakly_among_many() {
        let headers = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, value.parse().unwrap());
            headers
        };
        assert!(matches(&headers("\"x\", W/\"abc\""), "abc"));
        assert!(matches(&headers("*"), "abc"));
        assert!(!matches(&headers("\"abcd\""), "abc"));
        assert!(!matches(&HeaderMap::new(), "abc"));
    }

    #[tokio::test]
    async fn a_form_gives_its_first_file() {
        let form = "--b\r\ncontent-disposition: form-data; name=\"note\"\r\n\r\nhello\r\n\
            --b\r\ncontent-disposition: form-data; name=\"photo\"; filename=\"a.png\"\r\n\r\nPNG!\r\n--b--\r\n";
        let request = |body: &'static str| {
            Request::post("/photos")
                .header(header::CONTENT_TYPE, "multipart/form-data; boundary=b")
                .body(Body::from(body))
                .unwrap()
        };
        assert_eq!(original_of(request(form)).await.unwrap(), "PNG!");
        assert!(original_of(request("--b--\r\n")).await.is_err());
        assert!(original_of(request("no form")).await.is_err());
    }

    #[tokio::test]
    async fn a_large_form_is_taken_and_a_larger_one_refused() {
        for (len, is_taken) in [(3 << 20, true), (PHOTO_BYTES_MAX + 1, false)] {
            let mut form =
                b"--b\r\ncontent-disposition: form-data; name=\"f\"; filename=\"a\"\r\n\r\n".to_vec();
            form.resize(form.len() + len, b'x');
            form.extend_from_slice(b"\r\n--b--\r\n");
            let request = Request::post("/photos")
                .header(header::CONTENT_TYPE, "multipart/form-data; boundary=b")
                .body(Body::from(form))
                .unwrap();
            assert_eq!(original_of(request).await.is_ok(), is_taken, "{len}");
        }
    }
}
