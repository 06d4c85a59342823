//! The router with no store behind it: what is answered without them, and that nothing hangs for want of them.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

use super::{router, start};
use crate::WebConfig;

/// A site whose stores are at a port where nobody listens: it was ours a moment ago.
fn lonely() -> Router {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut config = WebConfig { name: "web-under-test".into(), ..WebConfig::default() };
    config.stores.dbshard = vec![nobody.clone()];
    config.stores.cachesrv.clone_from(&nobody);
    config.stores.broker = nobody;
    router(start(&config).unwrap())
}

async fn ask(
    site: &Router,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Response<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from(body.to_string())).unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(20), site.clone().oneshot(request));
    answer.await.expect("no request hangs").unwrap()
}

async fn problem(response: Response<Body>) -> Value {
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert_eq!(response.headers()["x-served-by"], "web-under-test");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["status"], status);
    assert!(
        problem["title"].is_string() && problem["detail"].is_string() && problem["type"] == "about:blank"
    );
    problem
}

#[tokio::test]
async fn without_stores_all_is_503_with_a_word_on_when_to_come_back() {
    let site = lonely();
    let session = [("cookie", "session=0123456789abcdef0123456789abcdef")];
    let photo = "/photos/0123456789abcdef0123456789abcdef";
    let user = crate::seed::user(12).to_json();
    for (method, path, headers, body) in [
        ("GET", "/users", &[][..], ""),
        ("GET", "/users/12", &[], ""),
        ("PUT", "/users/12", &[], user.as_str()),
        ("PATCH", "/users/12", &[], "{}"),
        ("DELETE", "/users/12", &[], ""),
        ("POST", "/login", &[], r#"{"id":12,"password":"millrace"}"#),
        ("GET", "/me", &session, ""),
        ("POST", "/logout", &session, ""),
        ("GET", photo, &[], ""),
        ("DELETE", photo, &[], ""),
    ] {
        let response = ask(&site, method, path, headers, body).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{method} {path}");
        assert_eq!(response.headers()["retry-after"], "1");
        if (method, path) == ("GET", "/users/12") {
            assert_eq!(response.headers()["x-cache"], "bypass");
        }
        problem(response).await;
    }
}

#[tokio::test]
async fn what_the_client_did_wrong_is_told_before_any_store_is_asked() {
    let site = lonely();
    let form = [("content-type", "text/plain")];
    for (method, path, headers, body, status) in [
        ("GET", "/nothing", &[][..], "", 404),
        ("POST", "/users/12", &[], "", 405),
        ("GET", "/users/0", &[], "", 400),
        ("GET", "/users/012", &[], "", 400),
        ("GET", "/users/x%00", &[], "", 400),
        ("GET", "/users/%ff", &[], "", 400),
        ("GET", "/users/4294967297", &[], "", 400),
        ("GET", "/users?limit=0", &[], "", 400),
        ("GET", "/users?page=2", &[], "", 400),
        ("PUT", "/users/12", &[], "{", 400),
        ("PUT", "/users/12", &[], "{}", 422),
        ("PUT", "/users/12", &form, "{}", 415),
        ("PATCH", "/users/12", &form, "{}", 415),
        ("POST", "/login", &[], "{}", 400),
        ("POST", "/login", &form, "", 415),
        ("GET", "/me", &[], "", 401),
        ("GET", "/photos/12", &[], "", 404),
        ("POST", "/photos?ops=rotate:90", &[], "", 400),
        ("POST", "/photos?op=blur:1", &[], "", 400),
        ("POST", "/photos?ops=blur:1", &[], "no picture", 415),
        ("POST", "/logout", &[("sec-fetch-site", "cross-site")], "", 403),
    ] {
        let response = ask(&site, method, path, headers, body).await;
        assert_eq!(response.status().as_u16(), status, "{method} {path}");
        assert_eq!(response.headers().contains_key("allow"), status == 405, "{method} {path}");
        problem(response).await;
    }
    let huge = "x".repeat(super::body::JSON_BYTES_MAX + 1);
    assert_eq!(ask(&site, "PUT", "/users/12", &[], &huge).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn the_page_the_health_and_the_logout_of_nobody_need_no_store() {
    let site = lonely();
    let page = ask(&site, "GET", "/", &[], "").await;
    assert_eq!(page.status(), StatusCode::OK);
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    assert!(page.headers()["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
    // It has not been away for a while yet.
    assert_eq!(ask(&site, "GET", "/healthz", &[], "").await.status(), StatusCode::OK);
    let logout = ask(&site, "POST", "/logout", &[], "").await;
    assert_eq!(logout.status(), StatusCode::NO_CONTENT);
    assert!(logout.headers()["set-cookie"].to_str().unwrap().starts_with("session=; Path=/; Max-Age=0"));
}
