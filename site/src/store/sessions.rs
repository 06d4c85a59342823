//! Sessions in the database under `session:{SHA-256 of the token}`, with a TTL; and the count of failed log-ins.
//!
//! What always holds: the token itself is nowhere but in the client's cookie, so a copy of the database lets
//! nobody in; no web server remembers a session, so every one serves all.

use super::db::Database;
use super::{Unavailable, secret_bytes, sha256_hex};

/// Failed log-ins of one user within [`FAILURES_WINDOW_S`] before more are refused.
pub(crate) const FAILURES_MAX: i64 = 10;
/// In seconds.
pub(crate) const FAILURES_WINDOW_S: u32 = 60;

/// The sessions.
#[derive(Clone)]
pub(crate) struct Sessions {
    pub(crate) db: Database,
    pub(crate) ttl_s: u32,
}

/// 128 random bits in hexadecimal, as the cookie carries them.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(String);

impl Token {
    fn new() -> Self {
        Self(format!("{:032x}", u128::from_ne_bytes(secret_bytes())))
    }

    /// The token of a cookie, if it is one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_token = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        is_token.then(|| Self(text.to_string()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    fn key(&self) -> String {
        format!("session:{}", sha256_hex(self.0.as_bytes()))
    }
}

impl Sessions {
    /// A new session of user `id`.
    pub(crate) async fn start(&self, id: u32) -> Result<Token, Unavailable> {
        let token = Token::new();
        self.db.query::<()>(redis::cmd("SET").arg(token.key()).arg(id).arg("EX").arg(self.ttl_s)).await?;
        Ok(token)
    }

    /// Whose session it is, if it is one.
    pub(crate) async fn user(&self, token: &Token) -> Result<Option<u32>, Unavailable> {
        self.db.query(redis::cmd("GET").arg(token.key())).await
    }

    /// Ends it; there need be none.
    pub(crate) async fn end(&self, token: &Token) -> Result<(), Unavailable> {
        self.db.query::<i64>(redis::cmd("DEL").arg(token.key())).await.map(drop)
    }

    /// Counts a try to log in as user `id` and says whether it may go on. Counted before the password is looked at,
    /// so that many at once don't pass the limit together.
    pub(crate) async fn may_try(&self, id: u32) -> Result<bool, Unavailable> {
        let key = failures_key(id);
        let tries: i64 = self.db.query(redis::cmd("INCR").arg(&key)).await?;
        // Where there is none yet: each try sees to it, so that no count stays for ever.
        let window = redis::cmd("EXPIRE").arg(&key).arg(FAILURES_WINDOW_S).arg("NX").to_owned();
        self.db.query::<i64>(&window).await?;
        Ok(tries <= FAILURES_MAX)
    }

    /// Forgets the failures of user `id`, who is in.
    pub(crate) async fn forget_failures(&self, id: u32) -> Result<(), Unavailable> {
        self.db.query::<i64>(redis::cmd("DEL").arg(failures_key(id))).await.map(drop)
    }
}

fn failures_key(id: u32) -> String {
    format!("login:failures:{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_random_and_its_key_does_not_tell_it() {
        let (one, other) = (Token::new(), Token::new());
        assert!(one != other);
        assert!(Token::parse(one.as_str()) == Some(one.clone()));
        assert!(!one.key().contains(one.as_str()));
        assert_eq!(one.key().len(), "session:".len() + 64);
        assert!(Token::parse("../../etc/passwd").is_none());
    }
}
