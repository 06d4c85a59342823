//! Configuration files: TOML into a daemon's own types, and errors that an operator can act on.
//!
//! What always holds: an error names the source, and, where the text has one, line, column and key, on one line. A key
//! that nobody asked for is refused as long as the type says `#[serde(deny_unknown_fields)]`, on every table.
//!
//! What it leaves out: defaults and validation, which are the daemon's (`#[serde(default)]`, its own `validate`).

use crate::limits;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A configuration that can't be used. [`Display`](std::fmt::Display) is one line without a newline.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there, not readable or not UTF-8.
    #[error("{}: cannot read the configuration: {source}", path.display())]
    Read {
        /// The file as it was named.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The text is not TOML, or not what the daemon expects.
    #[error("{source_name}:{line}:{column}: {message}")]
    Invalid {
        /// The file as it was named, or what the caller of [`parse`] called its text.
        source_name: String,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What is wrong there, naming the key.
        message: String,
    },
}

/// Reads a file of at most [`limits::CONFIG_BYTES_MAX`] into `T`.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    parse(&read_text(path)?, &path.display().to_string())
}

/// The same from a text; `source_name` stands in errors where the file would.
pub fn parse<T: DeserializeOwned>(text: &str, source_name: &str) -> Result<T, ConfigError> {
    let invalid = |span: Option<Range<usize>>, message: String| {
        let (line, column) = position(text, span.map_or(0, |span| span.start));
        ConfigError::Invalid { source_name: source_name.to_owned(), line, column, message }
    };
    let document =
        toml::Deserializer::parse(text).map_err(|error| invalid(error.span(), one_line(error.message())))?;
    serde_path_to_error::deserialize(document).map_err(|error| {
        let key = error.path().to_string();
        invalid(error.inner().span(), explain(&key, error.inner().message()))
    })
}

/// A configuration as TOML, for [`Options::config`](crate::Options): secrets print as `***` by [`crate::Secret`].
pub fn render<T: Serialize>(config: &T) -> String {
    match toml::to_string_pretty(config) {
        Ok(text) => text,
        Err(error) => format!("# this configuration has no TOML form: {error}\n"),
    }
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    let limit = limits::CONFIG_BYTES_MAX as u64;
    let read = || {
        let mut text = String::new();
        std::fs::File::open(path)?.take(limit + 1).read_to_string(&mut text)?;
        match text.len() as u64 > limit {
            true => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes"))),
            false => Ok(text),
        }
    };
    read().map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

/// Line and column, from 1, of a byte offset.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text); // spans lie between characters
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// serde's words in the operator's: which key, what would be right. What was written is not repeated: the place is
/// named, and it may be a secret.
fn explain(path: &str, message: &str) -> String {
    let message = one_line(message);
    let table = |path: &str| match path {
        "" | "." => String::new(),
        path => format!(" in `{path}`"),
    };
    let (parent, _) = path.rsplit_once('.').unwrap_or(("", path));
    if let Some(rest) = message.strip_prefix("unknown field ") {
        // The path of an unknown key is its own on some routes and its table's on others; the message has the key.
        let key = rest.split('`').nth(1).unwrap_or_default();
        let within = if path == key || path.ends_with(&format!(".{key}")) { parent } else { path };
        let (_, expected) = rest.split_once(", ").unwrap_or((rest, "expected none"));
        let expected = if expected == "there are no fields" { "no key is expected here" } else { expected };
        return format!("unknown key `{key}`{}, {expected}", table(within));
    }
    if let Some(rest) = message.strip_prefix("missing field ") {
        return format!("missing key {rest}{}", table(path));
    }
    if let Some(rest) = message.strip_prefix("duplicate key") {
        return format!("duplicate key{rest}{}", table(path));
    }
    match path {
        "" | "." => message,
        _ => format!("key `{path}`: {message}"),
    }
}

fn one_line(message: &str) -> String {
    message.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::net::SocketAddr;

    #[derive(Debug, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        listen: SocketAddr,
        #[serde(default)]
        threads: u16,
        #[serde(default)]
        pool: Vec<Pool>,
        #[serde(default)]
        policy: Policy,
    }

    #[derive(Debug, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    struct Pool {
        name: String,
        weight: u8,
    }

    #[derive(Debug, Default, Deserialize, Serialize)]
    #[serde(rename_all = "kebab-case")]
    enum Policy {
        #[default]
        RoundRobin,
        LeastConnections,
    }

    fn refusal(text: &str) -> String {
        let line = parse::<Config>(text, "etc/proxy.toml").unwrap_err().to_string();
        assert!(!line.contains('\n'), "{line:?}");
        line
    }

    #[test]
    fn a_right_file_is_read_and_rendered() {
        let text = "listen = '127.0.0.1:80'\npolicy = 'least-connections'\n[[pool]]\nname='a'\nweight=3\n";
        let config: Config = parse(text, "x").unwrap();
        assert_eq!(config.pool[0].weight, 3);
        let again: Config = parse(&render(&config), "rendered").unwrap();
        assert_eq!(again.listen, config.listen);
    }

    #[test]
    fn unknown_keys_are_named_with_their_place_and_what_was_expected() {
        assert_eq!(
            refusal("listen = '127.0.0.1:80'\n\n  thread = 2\n"),
            "etc/proxy.toml:3:3: unknown key `thread`, expected one of `listen`, `threads`, `pool`, `policy`"
        );
        assert_eq!(
            refusal("listen = '127.0.0.1:80'\n[[pool]]\nname='a'\nweight=1\n[[pool]]\nwight = 1\n"),
            "etc/proxy.toml:6:1: unknown key `wight` in `pool[1]`, expected `name` or `weight`"
        );
    }

    #[test]
    fn type_errors_name_key_and_value() {
        assert_eq!(
            refusal("listen = '127.0.0.1:80'\nthreads = 'four'\n"),
            "etc/proxy.toml:2:11: key `threads`: invalid type: string \"four\", expected u16"
        );
        assert_eq!(
            refusal("listen = '127.0.0.1'\n"),
            "etc/proxy.toml:1:10: key `listen`: invalid socket address syntax"
        );
        assert_eq!(
            refusal("listen = '127.0.0.1:80'\npolicy = 'random'\n"),
            "etc/proxy.toml:2:10: key `policy`: unknown variant `random`, \
             expected `round-robin` or `least-connections`"
        );
        assert_eq!(
            refusal("listen = '127.0.0.1:80'\n[[pool]]\nname='a'\nweight=300\n"),
            "etc/proxy.toml:4:8: key `pool[0].weight`: invalid value: integer `300`, expected u8"
        );
    }

    #[test]
    fn missing_and_duplicate_keys_and_bad_syntax() {
        assert_eq!(refusal("threads = 1\n"), "etc/proxy.toml:1:1: missing key `listen`");
        assert_eq!(
            refusal("listen = '127.0.0.1:80'\n[[pool]]\nname='a'\n"),
            "etc/proxy.toml:2:1: missing key `weight` in `pool[0]`"
        );
        assert_eq!(refusal("threads = 1\nthreads = 2\n"), "etc/proxy.toml:2:1: duplicate key");
        let syntax = refusal("threads = 1\nlisten = \n");
        assert!(syntax.starts_with("etc/proxy.toml:2:"), "{syntax}");
    }

    #[test]
    fn columns_count_characters() {
        let line = refusal("listen = '127.0.0.1:80'\npool = [{ name = 'ü', weight = 'x' }]\n");
        assert!(line.starts_with("etc/proxy.toml:2:32: key `pool[0].weight`"), "{line}");
    }

    #[test]
    fn files_that_are_not_there_or_too_large_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none.toml");
        let line = load::<Config>(&path).unwrap_err().to_string();
        assert!(
            line.ends_with(
                "none.toml: cannot read the configuration: No such file or directory (os error 2)"
            )
        );

        let file = tempfile::NamedTempFile::new_in(folder.path()).unwrap();
        file.as_file().set_len(limits::CONFIG_BYTES_MAX as u64 + 1).unwrap();
        let line = load::<Config>(file.path()).unwrap_err().to_string();
        assert!(line.contains("larger than"), "{line}");
    }

    #[test]
    fn no_text_panics_it() {
        for text in ["", "\u{feff}", "[", "=", "\0\0", "a.b.c = {", "listen = \"\u{1F600}", &"[".repeat(5000)]
        {
            let _ = parse::<Config>(text, "x").map_err(|error| error.to_string());
        }
    }
}
