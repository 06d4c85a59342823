//! Which connections a request may use, and what becomes of it when its server fails.
//!
//! What always holds: once a byte of an answer went to the client no other server is tried; a request that a server may
//! have begun to act on is repeated only if its method is idempotent (RFC 9110 section 9.2.2) and its body can be sent
//! again; one request makes at most `retries` further attempts, and one more if a connection used before closed under it.
//!
//! A server may close a kept connection for being idle just when a request comes. What can be repeated is sent again, over
//! a new connection. What cannot is sent over a kept connection only for a client whose own connection was kept: that one
//! is then closed without an answer, which its client must be ready for as we are (RFC 9112 section 9.3.1), and the client
//! decides. HAProxy does the same under `http-reuse safe`.

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection could be made.
    Connect,
    /// No connection came about in time.
    ConnectTimeout,
    /// The connection broke, or ended before the answer did.
    Closed,
    /// The server was silent for too long.
    Timeout,
    /// The answer is not HTTP as we read it.
    BadAnswer,
}

impl Failure {
    /// The status the client is told.
    pub fn status(self) -> u16 {
        match self {
            Failure::ConnectTimeout | Failure::Timeout => 504,
            Failure::Connect | Failure::Closed | Failure::BadAnswer => 502,
        }
    }
}

/// How far an attempt had come when it failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The connection had carried a request before: the server may just have closed it for being idle.
    pub reused: bool,
    /// Bytes of the final answer went to the client.
    pub forwarded: bool,
    /// Bytes of the request's body were read from the client and are kept nowhere.
    pub body_lost: bool,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Try again, on a server that has not failed the request yet.
    Retry,
    /// Answer with this status.
    Answer(u16),
    /// Close the client's connection without an answer, as if it had been closed for being idle.
    Unanswered,
    /// Cut the client off: it has a part of an answer, and must not take it for the whole.
    Abort,
}

/// The attempts of one request.
#[derive(Clone, Copy, Debug)]
pub struct Attempts {
    idempotent: bool,
    /// Kept connections may be used.
    reuses: bool,
    left: u32,
    /// Servers that failed it, a bit for each.
    failed: u128,
}

impl Attempts {
    /// Of a request with this method that may be tried again `retries` times; whether its body surely can be sent again,
    /// and whether it is its connection's first.
    pub fn new(method: &str, retries: u32, body_is_kept: bool, first: bool) -> Attempts {
        let idempotent = is_idempotent(method);
        Attempts { idempotent, reuses: idempotent && body_is_kept || !first, left: retries, failed: 0 }
    }

    /// Whether the request may be repeated once a server has got it: only then is its body worth keeping.
    pub fn is_idempotent(&self) -> bool {
        self.idempotent
    }

    /// Whether the next attempt may use a connection that has carried a request before.
    pub fn may_reuse(&self) -> bool {
        self.reuses
    }

    /// Whether `server` has not failed this request.
    pub fn may_use(&self, server: usize) -> bool {
        self.failed & 1 << server == 0
    }

    /// The attempt on `server` failed.
    pub fn after(&mut self, server: usize, failure: Failure, progress: Progress) -> Next {
        if progress.forwarded {
            return Next::Abort;
        }
        let never_arrived = matches!(failure, Failure::Connect | Failure::ConnectTimeout);
        let may_repeat =
            !progress.body_lost && (never_arrived || failure == Failure::Closed && self.idempotent);
        // A reused connection that broke says little about its server.
        if progress.reused && failure == Failure::Closed {
            self.reuses = false;
            return if may_repeat { Next::Retry } else { Next::Unanswered };
        }
        if self.left == 0 || !may_repeat {
            return Next::Answer(failure.status());
        }
        self.left -= 1;
        self.failed |= 1 << server;
        Next::Retry
    }
}

/// RFC 9110 section 9.2.2.
fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
}

/// Whether the failure counts against the server's health.
pub fn counts_against(failure: Failure, progress: Progress) -> bool {
    match failure {
        Failure::Connect | Failure::ConnectTimeout => true,
        Failure::Closed => !progress.reused || progress.forwarded,
        Failure::Timeout | Failure::BadAnswer => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLY: Progress = Progress { reused: false, forwarded: false, body_lost: false };

    #[test]
    fn a_failed_connect_moves_any_method_to_another_server() {
        for method in ["GET", "POST"] {
            let mut attempts = Attempts::new(method, 3, true, true);
            assert_eq!(attempts.after(1, Failure::Connect, EARLY), Next::Retry);
            assert!(attempts.may_use(0) && !attempts.may_use(1));
        }
    }

    #[test]
    fn only_idempotent_methods_are_repeated_once_sent() {
        for (method, next) in [
            ("GET", Next::Retry),
            ("HEAD", Next::Retry),
            ("PUT", Next::Retry),
            ("DELETE", Next::Retry),
            ("POST", Next::Answer(502)),
            ("PATCH", Next::Answer(502)),
            ("get", Next::Answer(502)),
        ] {
            assert_eq!(
                Attempts::new(method, 3, true, true).after(0, Failure::Closed, EARLY),
                next,
                "{method}"
            );
        }
    }

    #[test]
    fn nothing_is_repeated_after_bytes_went_to_the_client() {
        let progress = Progress { forwarded: true, ..EARLY };
        assert_eq!(Attempts::new("GET", 3, true, true).after(0, Failure::Closed, progress), Next::Abort);
        assert_eq!(Attempts::new("GET", 3, true, true).after(0, Failure::Timeout, progress), Next::Abort);
    }

    #[test]
    fn a_body_that_is_gone_is_not_sent_again() {
        let progress = Progress { body_lost: true, ..EARLY };
        assert_eq!(
            Attempts::new("PUT", 3, true, true).after(0, Failure::Closed, progress),
            Next::Answer(502)
        );
        assert_eq!(
            Attempts::new("PUT", 3, true, true).after(0, Failure::Connect, progress),
            Next::Answer(502)
        );
    }

    #[test]
    fn slow_and_wrong_answers_are_not_repeated() {
        assert_eq!(Attempts::new("GET", 3, true, true).after(0, Failure::Timeout, EARLY), Next::Answer(504));
        assert_eq!(
            Attempts::new("GET", 3, true, true).after(0, Failure::BadAnswer, EARLY),
            Next::Answer(502)
        );
    }

    #[test]
    fn what_cannot_be_repeated_is_left_to_a_client_that_was_kept() {
        let stale = Progress { reused: true, ..EARLY };
        for (method, body_is_kept, progress) in [
            ("POST", true, stale),
            ("PATCH", false, stale),
            ("PUT", false, Progress { body_lost: true, ..stale }),
        ] {
            assert!(!Attempts::new(method, 3, body_is_kept, true).may_reuse(), "{method}");
            let mut attempts = Attempts::new(method, 3, body_is_kept, false);
            assert!(attempts.may_reuse(), "{method}");
            assert_eq!(attempts.after(0, Failure::Closed, progress), Next::Unanswered, "{method}");
        }
    }

    #[test]
    fn attempts_end() {
        let mut attempts = Attempts::new("GET", 2, true, true);
        assert_eq!(attempts.after(0, Failure::Connect, EARLY), Next::Retry);
        assert_eq!(attempts.after(1, Failure::ConnectTimeout, EARLY), Next::Retry);
        assert_eq!(attempts.after(2, Failure::ConnectTimeout, EARLY), Next::Answer(504));
    }

    #[test]
    fn a_stale_connection_does_not_rule_its_server_out() {
        let mut attempts = Attempts::new("GET", 0, true, true);
        let progress = Progress { reused: true, ..EARLY };
        assert!(attempts.may_reuse());
        assert_eq!(attempts.after(0, Failure::Closed, progress), Next::Retry, "though none is left");
        assert!(attempts.may_use(0) && !attempts.may_reuse());
        assert_eq!(attempts.after(0, Failure::Closed, EARLY), Next::Answer(502));
        assert!(!counts_against(Failure::Closed, progress));
        assert!(counts_against(Failure::Closed, EARLY) && counts_against(Failure::Connect, EARLY));
        assert!(!counts_against(Failure::Timeout, EARLY));
    }
}
