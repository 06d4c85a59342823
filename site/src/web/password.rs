//! Passwords: salted and hashed with Argon2id, kept as PHC strings, which name their own parameters; so
//! [`parameters`] can be raised and old hashes still verify.

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::problem::Problem;
use crate::seed;

/// Hashes at once: what log-ins may take of the machine.
const HASHES_AT_ONCE: usize = 2;
/// A log-in waits for its turn this long.
const TURN_WAIT: Duration = Duration::from_secs(2);
/// Longer passwords are refused before they are hashed, in bytes.
pub(super) const PASSWORD_BYTES_MAX: usize = 1024;

/// Light on purpose (4 MiB, two passes: 4 ms of a core): log-ins share their cores with all else. A site with secrets
/// to keep takes OWASP's 19 MiB.
fn parameters() -> Argon2<'static> {
    let params = Params::new(4 << 10, 2, 1, None).expect("within Argon2's bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// Hashes and verifies, a few at a time, off the threads that serve.
#[derive(Clone)]
pub(super) struct Passwords {
    turns: Arc<Semaphore>,
    /// Of nobody's password: what an unknown user's is verified against, so that both take the same time.
    decoy: Arc<str>,
}

impl Passwords {
    pub(super) fn new() -> Self {
        Self { turns: Arc::new(Semaphore::new(HASHES_AT_ONCE)), decoy: hash("nobody").into() }
    }

    /// Whether `password` is the one of `credential`; without one it is not, after as long a time.
    pub(super) async fn verify(&self, password: String, credential: Option<String>) -> Result<bool, Problem> {
        let turn = timeout(TURN_WAIT, self.turns.clone().acquire_owned())
            .await
            .map_err(|_| Problem::busy("too many are logging in"))?
            .expect("never closed");
        let decoy = self.decoy.clone();
        let verified = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let known = credential.is_some();
            verify(&password, credential.as_deref().unwrap_or(&decoy)) && known
        });
        Ok(verified.await.expect("hashing does not panic"))
    }

    /// The demo password, hashed. The seeded users share it and its salt: it is public.
    pub(super) async fn demo_hash(&self) -> String {
        tokio::task::spawn_blocking(|| hash(seed::DEMO_PASSWORD)).await.expect("hashing does not panic")
    }
}

fn hash(password: &str) -> String {
    parameters().hash_password(password.as_bytes()).expect("a salt from the operating system").to_string()
}

/// Compares in constant time.
fn verify(password: &str, credential: &str) -> bool {
    PasswordHash::new(credential)
        .is_ok_and(|hash| parameters().verify_password(password.as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_salted_and_verifies_its_password_only() {
        let (one, other) = (hash("millrace"), hash("millrace"));
        assert_ne!(one, other);
        assert!(one.starts_with("$argon2id$v=19$"));
        assert!(verify("millrace", &one) && verify("millrace", &other));
        assert!(!verify("Millrace", &one) && !verify("", &one));
        assert!(!verify("millrace", "no hash"));
    }

    #[tokio::test]
    async fn nobody_has_no_password() {
        let passwords = Passwords::new();
        assert!(!passwords.verify("nobody".into(), None).await.unwrap());
        assert!(passwords.verify("x".into(), Some(hash("x"))).await.unwrap());
    }
}
