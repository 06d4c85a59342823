//! `POST /login`, `GET /me`, `POST /logout`. The session is in the database; the client has a cookie.

use axum::Form;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::Shared;
use super::body::{JSON_BYTES_MAX, media_type, read};
use super::password::PASSWORD_BYTES_MAX;
use super::problem::Problem;
use super::users::{json, tell_cache};
use crate::store::sessions::{FAILURES_WINDOW_S, Token};
use crate::user::USER_ID_MAX;

const COOKIE: &str = "session";

/// The body of a log-in, as JSON or as a form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    #[serde(alias = "user")]
    id: u32,
    password: String,
}

/// `POST /login` with a user's id and password: 200 and a session cookie, or 401.
pub(super) async fn login(
    State(site): State<Shared>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body = read(&headers, body, JSON_BYTES_MAX).await?;
    let login: Login = match media_type(&headers).as_str() {
        "" | "application/json" => serde_json::from_slice(&body).map_err(|error| error.to_string()),
        "application/x-www-form-urlencoded" => from_form(body).await,
        _ => {
            return Err(Problem::unsupported_media_type(
                "application/json or application/x-www-form-urlencoded",
            ));
        }
    }
    .map_err(|error| Problem::bad_request(format!("a log-in has `id` and `password`: {error}")))?;
    if login.id > USER_ID_MAX || login.password.len() > PASSWORD_BYTES_MAX {
        return Err(Problem::unprocessable("no user has such an id or password"));
    }
    if !site.sessions.may_try(login.id).await? {
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many failed log-ins; wait a minute")
            .retry_after(FAILURES_WINDOW_S));
    }
    let credential = site.users.credential(login.id).await?;
    if !site.passwords.verify(login.password, credential).await? {
        return Err(unauthorized("no such user and password"));
    }
    site.sessions.forget_failures(login.id).await?;
    // A session that the browser had is not left behind.
    if let Some(old) = token(&headers) {
        site.sessions.end(&old).await?;
    }
    let token = site.sessions.start(login.id).await?;
    let mut response = json(StatusCode::OK, format!(r#"{{"id":{}}}"#, login.id).into());
    let cookie = set_cookie(token.as_str(), site.sessions.ttl_s, is_https(&headers));
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// `GET /me`: the user who is logged in, or 401.
pub(super) async fn me(State(site): State<Shared>, headers: HeaderMap) -> Result<Response, Problem> {
    let nobody = || unauthorized("nobody is logged in");
    let token = token(&headers).ok_or_else(nobody)?;
    let id = site.sessions.user(&token).await?.ok_or_else(nobody)?;
    let (cached, user) = site.users.get(id).await;
    let user = user?.ok_or_else(|| unauthorized("the user who was logged in is gone"))?;
    let mut response = json(StatusCode::OK, user.into());
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    tell_cache(&mut response, cached);
    Ok(response)
}

/// `POST /logout`: ends the session, if there is one; 204.
pub(super) async fn logout(State(site): State<Shared>, headers: HeaderMap) -> Result<Response, Problem> {
    if let Some(token) = token(&headers) {
        site.sessions.end(&token).await?;
    }
    let forget = set_cookie("", 0, is_https(&headers));
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, forget)]).into_response())
}

/// RFC 9110 section 11.6.1 wants a challenge; there is no registered scheme for cookies.
fn unauthorized(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, detail)
        .header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Cookie realm=\"/login\""))
}

async fn from_form(body: Bytes) -> Result<Login, String> {
    let form = Request::post("/")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from(body))
        .expect("a request of fixed parts");
    Form::from_request(form, &()).await.map(|Form(login)| login).map_err(|error| error.body_text())
}

/// The token of the cookie, if the client sent one.
fn token(headers: &HeaderMap) -> Option<Token> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == COOKIE)
        .find_map(|(_, value)| Token::parse(value))
}

fn set_cookie(value: &str, max_age_s: u32, secure: bool) -> HeaderValue {
    let secure = if secure { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Lax{secure}");
    HeaderValue::from_str(&cookie).expect("hexadecimal digits and fixed text")
}

/// Whether the client came by HTTPS, as the proxy says.
fn is_https(headers: &HeaderMap) -> bool {
    headers.get("x-forwarded-proto").is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let token_text = "0123456789abcdef0123456789abcdef";
        let lines = format!("theme=dark; session={token_text}; x=y");
        assert!(token(&headers(&[("cookie", &lines)])).is_some_and(|token| token.as_str() == token_text));
        assert!(token(&headers(&[("cookie", "session=short; sessions=x")])).is_none());
        assert!(token(&headers(&[])).is_none());
    }

    #[test]
    fn the_cookie_is_kept_from_scripts_and_other_sites() {
        assert_eq!(
            set_cookie("ab", 60, false).to_str().unwrap(),
            "session=ab; Path=/; Max-Age=60; HttpOnly; SameSite=Lax"
        );
        assert!(set_cookie("ab", 60, true).to_str().unwrap().ends_with("; Secure"));
        assert!(is_https(&headers(&[("x-forwarded-proto", "https")])));
        assert!(!is_https(&headers(&[("x-forwarded-proto", "http")])));
    }

    #[tokio::test]
    async fn a_login_may_be_a_form() {
        let login = from_form(Bytes::from_static(b"user=12&password=a+b%26c")).await.unwrap();
        assert_eq!((login.id, login.password.as_str()), (12, "a b&c"));
        assert!(from_form(Bytes::from_static(b"password=x")).await.is_err());
    }
}
