//! A visitor of the reference site: looks at users, changes them, logs in and asks who is logged in.

use super::http::{Answer, Answers};
use super::keys::{Keys, Popularity};
use super::{Client, Tally};
use std::io::Write;

/// The host that visitors ask for.
pub(crate) const HOST: &str = "www.mysite.com";
/// Users of a fresh site, 1 to this, and the password of all of them.
pub(crate) const USERS: u64 = 100;
const PASSWORD: &str = "millrace";

/// What a visitor does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visit {
    /// Looks at users.
    Look,
    /// Changes users.
    Change,
    /// Asks again and again who is logged in; logs in first if need be.
    Stay,
    /// Logs in, asks who is logged in, and begins anew.
    ComeAndGo,
}

/// One connection, one request under way.
pub(crate) struct Visitor {
    visit: Visit,
    users: Keys,
    answers: Answers,
    /// The session's cookie, name and value, while logged in.
    session: Option<Vec<u8>>,
    is_logging_in: bool,
}

impl Visitor {
    /// The same seed asks for the same users. One who has a session need not log in.
    pub(crate) fn new(visit: Visit, seed: u64, session: Option<Vec<u8>>) -> Visitor {
        let users = Keys::new(USERS, Popularity::Uniform, seed);
        Visitor { visit, users, answers: Answers::default(), session, is_logging_in: false }
    }

    /// The session's cookie, while logged in.
    pub(crate) fn session(&self) -> Option<Vec<u8>> {
        self.session.clone()
    }
}

impl Client for Visitor {
    fn request(&mut self, out: &mut Vec<u8>) {
        let user = self.users.draw() + 1;
        let write = match (self.visit, &self.session) {
            (Visit::Look, _) => write!(out, "GET /users/{user} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
            (Visit::Change, _) => {
                let body = format!("{{\"phoneNumbers\":[\"212 555-01{:02}\"]}}", self.users.draw());
                let length = body.len();
                write!(
                    out,
                    "PATCH /users/{user} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/merge-patch+json\r\n\
                     Content-Length: {length}\r\n\r\n{body}"
                )
            }
            (Visit::Stay | Visit::ComeAndGo, None) => {
                self.is_logging_in = true;
                let body = format!("{{\"id\":{user},\"password\":\"{PASSWORD}\"}}");
                let length = body.len();
                write!(
                    out,
                    "POST /login HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n\
                     Content-Length: {length}\r\n\r\n{body}"
                )
            }
            (Visit::Stay | Visit::ComeAndGo, Some(session)) => {
                out.extend_from_slice(b"GET /me HTTP/1.1\r\nHost: ");
                out.extend_from_slice(HOST.as_bytes());
                out.extend_from_slice(b"\r\nCookie: ");
                out.extend_from_slice(session);
                write!(out, "\r\n\r\n")
            }
        };
        write.expect("a vector takes all");
    }

    fn receive(&mut self, bytes: &[u8], tally: &mut Tally) -> Result<(), String> {
        let Visitor { visit, answers, session, is_logging_in, .. } = self;
        answers.take(bytes, &mut |answer: Answer| {
            tally.answers += 1;
            tally.misses += u64::from(answer.is_miss);
            let was_login = std::mem::take(is_logging_in);
            if !(200..300).contains(&answer.status) {
                tally.refused += 1;
                return Ok(());
            }
            if answer.body_bytes == 0 {
                return Err(format!("{} without content", answer.status));
            }
            if was_login {
                let cookie = answer.cookie.ok_or("a log-in without a cookie")?;
                *session = cookie.split(|byte| *byte == b';').next().map(<[u8]>::to_vec);
            } else if *visit == Visit::ComeAndGo {
                *session = None;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(visitor: &mut Visitor) -> String {
        let mut out = Vec::new();
        visitor.request(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_session_is_kept_for_as_long_as_the_visit() {
        for (visit, after) in [(Visit::Stay, "GET /me"), (Visit::ComeAndGo, "POST /login")] {
            let (mut visitor, mut tally) = (Visitor::new(visit, 1, None), Tally::default());
            assert!(asked(&mut visitor).starts_with("POST /login"));
            // Refused: it tries again.
            visitor.receive(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", &mut tally).unwrap();
            assert!(asked(&mut visitor).starts_with("POST /login"));
            let login = b"HTTP/1.1 200 OK\r\nSet-Cookie: session=abc; Path=/\r\nContent-Length: 2\r\n\r\n{}";
            visitor.receive(login, &mut tally).unwrap();
            let me = asked(&mut visitor);
            assert!(me.starts_with("GET /me") && me.contains("\r\nCookie: session=abc\r\n"), "{me}");
            visitor.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", &mut tally).unwrap();
            assert!(asked(&mut visitor).starts_with(after));
            assert_eq!(tally, Tally { answers: 3, refused: 1, ..Tally::default() });
        }
    }

    #[test]
    fn a_log_in_without_a_cookie_is_an_error() {
        let mut visitor = Visitor::new(Visit::Stay, 1, None);
        asked(&mut visitor);
        let answer =
            visitor.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", &mut Tally::default());
        assert_eq!(answer, Err("a log-in without a cookie".to_owned()));
    }

    #[test]
    fn what_the_cache_did_not_have_is_a_miss() {
        let (mut visitor, mut tally) = (Visitor::new(Visit::Look, 1, None), Tally::default());
        for cached in ["miss", "hit"] {
            let answer = format!("HTTP/1.1 200 OK\r\nX-Cache: {cached}\r\nContent-Length: 2\r\n\r\n{{}}");
            visitor.receive(answer.as_bytes(), &mut tally).unwrap();
        }
        assert_eq!(tally, Tally { answers: 2, misses: 1, ..Tally::default() });
    }
}
