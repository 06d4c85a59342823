//! Web servers hold no state: a session made through one is good on the other.
#![forbid(unsafe_code)]

use e2e::client::{curl, try_curl};
use e2e::site::Site;
use e2e::wait_for;

#[test]
fn a_session_outlives_the_server_that_made_it() {
    let site = Site::start();
    let (web1, web2) = (site.address(9101), site.address(9102));
    let jar = tempfile::NamedTempFile::new().unwrap();
    let jar = jar.path().to_str().unwrap();
    let credentials = r#"{"id":12,"password":"millrace"}"#;
    let login = ["-X", "POST", "-H", "Content-Type: application/json", "-d", credentials, "-c", jar];
    let answer = curl(&format!("http://{web1}/login"), &login);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let cookie = answer.field("set-cookie").expect("a cookie").to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
    site.kill("web1");
    let me = curl(&format!("http://{web2}/me"), &["-b", jar]);
    assert_eq!(me.status, 200);
    assert!(me.text().contains("John"), "{}", me.text());

    // Also through the proxy, whoever answers, and after the database was killed too.
    site.kill("dbshard");
    wait_for("the session on the proxy", || {
        let me = try_curl(&site.url("/me"), &["-b", jar]).ok()?;
        (me.status == 200 && me.text().contains("John")).then_some(())
    });
    assert!(curl(&site.url("/logout"), &["-X", "POST", "-b", jar]).status < 300);
    assert_eq!(curl(&format!("http://{web2}/me"), &["-b", jar]).status, 401);
}
