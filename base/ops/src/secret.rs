//! A value that no log, no page and no error shows.
//!
//! In TOML it is written as itself, `password = "…"`, or, so that the file can be public, as the file that holds it:
//! `password = { file = "/run/credentials/cache.service/password" }` (one trailing newline is dropped).

use crate::limits;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use std::fmt;
use std::io::Read;

/// Printed, logged or serialised it is `***`; only [`Secret::expose`] gives the value.
#[derive(Clone, Default)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Wraps a value.
    pub const fn new(value: T) -> Secret<T> {
        Secret(value)
    }

    /// The value; hand it to what needs it, never to a message.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<T> Serialize for Secret<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

impl<'de> Deserialize<'de> for Secret<String> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor).map(Secret)
    }
}

struct SecretVisitor;

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or { file = \"PATH\" }")
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<String, E> {
        Ok(value.to_owned())
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<String, E> {
        Ok(value)
    }

    // serde's own message would print the number or the boolean, which may be the secret.
    fn visit_i64<E: de::Error>(self, _: i64) -> Result<String, E> {
        Err(E::custom("expected a string in quotes or { file = \"PATH\" }"))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<String, E> {
        Err(E::custom("expected a string in quotes or { file = \"PATH\" }"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<String, A::Error> {
        let Some(key) = map.next_key::<String>()? else {
            return Err(de::Error::missing_field("file"));
        };
        if key != "file" {
            return Err(de::Error::unknown_field(&key, &["file"]));
        }
        let path: String = map.next_value()?;
        if let Some(key) = map.next_key::<String>()? {
            return Err(de::Error::unknown_field(&key, &["file"]));
        }
        read_secret(&path)
            .map_err(|error| de::Error::custom(format!("cannot read the secret {path}: {error}")))
    }
}

fn read_secret(path: &str) -> std::io::Result<String> {
    let mut value = String::new();
    std::fs::File::open(path)?.take(limits::SECRET_BYTES_MAX as u64 + 1).read_to_string(&mut value)?;
    if value.len() > limits::SECRET_BYTES_MAX {
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "larger than 64 KiB"));
    }
    let kept = value.strip_suffix('\n').map_or(value.len(), |line| line.trim_end_matches('\r').len());
    value.truncate(kept);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use std::io::Write;

    #[derive(Debug, serde::Deserialize, serde::Serialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        password: Secret<String>,
    }

    #[test]
    fn it_never_prints() {
        let config: Config = config::parse("password = 'tulip'", "x").unwrap();
        assert_eq!(config.password.expose(), "tulip");
        let printed = format!("{config:?} {config:#?} {} {}", config.password, config::render(&config));
        assert!(!printed.contains("tulip"), "{printed}");
        assert!(config::render(&config).contains("password = \"***\""));
    }

    #[test]
    fn it_comes_from_a_file() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"tu lip\r\n").unwrap();
        let text = format!("password = {{ file = '{}' }}", file.path().display());
        let config: Config = config::parse(&text, "x").unwrap();
        assert_eq!(config.password.expose(), "tu lip");
    }

    #[test]
    fn refusals_do_not_show_it() {
        let refusal = |text: &str| config::parse::<Config>(text, "x").unwrap_err().to_string();
        assert_eq!(
            refusal("password = { path = '/a' }"),
            "x:1:12: unknown key `path` in `password`, expected `file`"
        );
        assert!(
            refusal("password = { file = '/nowhere/at/all' }")
                .contains("cannot read the secret /nowhere/at/all")
        );
        assert!(refusal("password = {}").contains("missing key `file`"));
        let wrong = refusal("password = 8246121");
        assert!(wrong.contains("expected a string in quotes") && !wrong.contains("8246121"), "{wrong}");
    }
}
