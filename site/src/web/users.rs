//! `/users` and `/users/{id}`. Reads are cache-aside; `x-cache` tells what the cache had to do with the answer:
//! `hit`, `miss`, or `bypass` when it can't be reached.

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::Shared;
use super::body::{JSON_BYTES_MAX, expect_media_type, read};
use super::problem::Problem;
use crate::metrics::ResultLabel;
use crate::store::users::{CacheResult, Change};
use crate::user::{USER_ID_MAX, User};

/// Ids of a page unless `limit` says otherwise.
const PAGE_IDS: usize = 20;
/// The most that `limit` may say.
const PAGE_IDS_MAX: usize = 1000;

const X_CACHE: HeaderName = HeaderName::from_static("x-cache");
const PATCH_TYPES: [&str; 2] = ["application/merge-patch+json", "application/json"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    #[serde(default)]
    after: u32,
    limit: Option<usize>,
}

#[derive(Serialize)]
struct Page {
    ids: Vec<u32>,
    /// Where the next page is; none if this is the last.
    next: Option<String>,
}

/// `GET /users?after=ID&limit=N`: the first ids after `after`, ascending.
pub(super) async fn list(
    State(site): State<Shared>,
    query: Result<Query<PageQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|_| Problem::bad_request("the query knows `after=ID` and `limit=N`"))?;
    let limit = query.limit.unwrap_or(PAGE_IDS);
    if !(1..=PAGE_IDS_MAX).contains(&limit) {
        return Err(Problem::bad_request(format!("limit must be 1 to {PAGE_IDS_MAX}")));
    }
    let (ids, more) = site.users.ids(query.after, limit).await?;
    let next = ids.last().filter(|_| more).map(|last| format!("/users?after={last}&limit={limit}"));
    let page = serde_json::to_string(&Page { ids, next }).expect("a page is JSON");
    Ok(json(StatusCode::OK, page.into()))
}

/// `GET /users/{id}`.
pub(super) async fn get(State(site): State<Shared>, Path(id): Path<String>) -> Result<Response, Problem> {
    let id = user_id(&id)?;
    let (cached, found) = site.users.get(id).await;
    site.metrics.cache_lookups.get_or_create(&ResultLabel { result: cached.as_str() }).inc();
    let mut response = match found {
        Ok(Some(user)) => json(StatusCode::OK, user.into()),
        Ok(None) => no_user(id).into_response(),
        Err(error) => Problem::from(error).into_response(),
    };
    tell_cache(&mut response, cached);
    Ok(response)
}

/// `PUT /users/{id}`: makes the user (201) or replaces it (200).
pub(super) async fn put(
    State(site): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let id = user_id(&id)?;
    expect_media_type(&headers, &["application/json"])?;
    let user = User::parse(id, &read(&headers, body, JSON_BYTES_MAX).await?)?;
    let written = user.to_json();
    let existed = site.users.change(id, |before| (Change::Put(user), before.is_some())).await?;
    if existed {
        return Ok(json(StatusCode::OK, written.into()));
    }
    let mut response = json(StatusCode::CREATED, written.into());
    let location = HeaderValue::from_str(&format!("/users/{id}")).expect("digits");
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

/// `PATCH /users/{id}`: JSON merge patch (RFC 7396).
pub(super) async fn patch(
    State(site): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let id = user_id(&id)?;
    expect_media_type(&headers, &PATCH_TYPES).map_err(|problem| {
        problem.header(HeaderName::from_static("accept-patch"), HeaderValue::from_static(PATCH_TYPES[0]))
    })?;
    let patch = read(&headers, body, JSON_BYTES_MAX).await?;
    let decide = move |before: Option<User>| match before.map(|user| user.patched(&patch)) {
        None => (Change::Keep, Err(no_user(id))),
        Some(Err(invalid)) => (Change::Keep, Err(invalid.into())),
        Some(Ok(user)) => {
            let written = user.to_json();
            (Change::Put(user), Ok(written))
        }
    };
    let written = site.users.change(id, decide).await??;
    Ok(json(StatusCode::OK, written.into()))
}

/// `DELETE /users/{id}`. The user's password goes too.
pub(super) async fn delete(
    State(site): State<Shared>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let id = user_id(&id)?;
    let decide = |before: Option<User>| match before {
        None => (Change::Keep, false),
        Some(_) => (Change::Delete, true),
    };
    if site.users.change(id, decide).await? { Ok(StatusCode::NO_CONTENT) } else { Err(no_user(id)) }
}

/// The id of a path or a form.
pub(super) fn user_id(text: &str) -> Result<u32, Problem> {
    // Digits without a leading zero or sign, so that one user has one URL.
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse()
        .ok()
        .filter(|id| canonical && (1..=USER_ID_MAX).contains(id))
        .ok_or_else(|| Problem::bad_request(format!("a user's id is a number from 1 to {USER_ID_MAX}")))
}

fn no_user(id: u32) -> Problem {
    Problem::not_found(format!("there is no user {id}"))
}

pub(super) fn tell_cache(response: &mut Response, cached: CacheResult) {
    response.headers_mut().insert(X_CACHE, HeaderValue::from_static(cached.as_str()));
}

/// JSON that browsers and the edge cache must not keep: it changes without notice.
pub(super) fn json(status: StatusCode, body: Body) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")];
    (status, headers, body).into_response()
}
