//! Where `tracing` events go, and how they look: always to stderr (stdout belongs to the command), or to the journal.
//!
//! What always holds: a panic is logged once, with its place; without any setting the level is `info`; the variable
//! `RUST_LOG` (the syntax of tracing's `EnvFilter`) wins over the setting of the file; a stderr that nobody reads any more
//! costs log lines, nothing else.
//!
//! What it leaves out: rotation and shipping, which are the journal's and its friends'.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{IsTerminal, stderr};
use std::panic::PanicHookInfo;
use std::sync::Once;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// How a log looks. In a configuration file: `"auto"`, `"text"`, `"json"`, `"journald"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The journal when stderr is connected to it, text when stderr is a terminal, JSON otherwise.
    #[default]
    Auto,
    /// A line to read: time (UTC), level, where from, message, fields; coloured on a terminal.
    Text,
    /// One JSON object per line.
    Json,
    /// The journal's own protocol, fields kept.
    Journald,
}

/// The level without `RUST_LOG` and without a setting.
const LEVEL: &str = "info";

/// Starts logging at level `info`, or as `RUST_LOG` says. The first call of a process counts; later ones do nothing.
pub fn init(format: Format) {
    init_with_level(format, LEVEL);
}

/// The same with the level of a configuration file: `"debug"`, or a filter such as `"info,broker=debug"`. `RUST_LOG` wins.
pub fn init_with_level(format: Format, level: &str) {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        let (filter, complaint) = filter(std::env::var("RUST_LOG").ok().as_deref(), level);
        let (layer, failure) = layer(resolve(format, is_journal(), stderr().is_terminal()));
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(filter));
        if tracing::subscriber::set_global_default(subscriber).is_err() {
            return; // a test has one of its own
        }
        std::panic::set_hook(Box::new(log_panic));
        if let Some(complaint) = complaint {
            tracing::warn!("{complaint}");
        }
        if let Some(error) = failure {
            tracing::warn!(%error, "the journal cannot be reached, logging JSON to stderr");
        }
    });
}

/// `RUST_LOG` if it is set and right, else the setting if right, else [`LEVEL`]; and a line about what was wrong.
fn filter(variable: Option<&str>, setting: &str) -> (EnvFilter, Option<String>) {
    let mut complaint = None;
    let sources = [("RUST_LOG", variable.unwrap_or_default()), ("the log level", setting), ("", LEVEL)];
    for (name, text) in sources {
        if text.trim().is_empty() {
            continue;
        }
        match EnvFilter::try_new(text) {
            Ok(filter) => return (filter, complaint),
            Err(error) => complaint = Some(format!("{name} is ignored, `{text}` is no filter: {error}")),
        }
    }
    (EnvFilter::default(), complaint)
}

fn resolve(format: Format, is_journal: bool, is_terminal: bool) -> Format {
    match format {
        Format::Auto if is_journal => Format::Journald,
        Format::Auto if is_terminal => Format::Text,
        Format::Auto => Format::Json,
        format => format,
    }
}

type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

fn layer(format: Format) -> (BoxedLayer, Option<std::io::Error>) {
    match format {
        Format::Journald => match tracing_journald::layer() {
            Ok(layer) => (layer.boxed(), None),
            Err(error) => (json(), Some(error)),
        },
        Format::Text => {
            let is_coloured =
                stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
            (
                tracing_subscriber::fmt::layer()
                    .with_writer(stderr)
                    .with_ansi(is_coloured)
                    .log_internal_errors(false)
                    .boxed(),
                None,
            )
        }
        Format::Json | Format::Auto => (json(), None),
    }
}

fn json() -> BoxedLayer {
    tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_writer(stderr)
        .log_internal_errors(false)
        .boxed()
}

/// Whether stderr is the journal's stream: systemd names its device and inode in `JOURNAL_STREAM` (systemd.exec(5)), and
/// a redirected stderr is no longer that.
fn is_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(stderr()).is_ok_and(|stat| named == format!("{}:{}", stat.st_dev, stat.st_ino))
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let payload = info.payload();
    let message = payload.downcast_ref::<&str>().copied();
    let message = message.or(payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("not a text");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        tracing::error!(place, thread, %backtrace, "panic: {message}");
    } else {
        tracing::error!(place, thread, "panic: {message}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_asks_where_stderr_goes() {
        assert_eq!(resolve(Format::Auto, true, false), Format::Journald);
        assert_eq!(resolve(Format::Auto, false, true), Format::Text);
        assert_eq!(resolve(Format::Auto, false, false), Format::Json);
        assert_eq!(resolve(Format::Text, true, false), Format::Text);
    }

    #[test]
    fn the_variable_wins_and_a_wrong_one_is_named() {
        let (chosen, complaint) = filter(Some("warn"), "debug");
        assert_eq!((chosen.to_string().as_str(), complaint), ("warn", None));
        let (chosen, complaint) = filter(None, "debug");
        assert_eq!((chosen.to_string().as_str(), complaint), ("debug", None));
        let (chosen, complaint) = filter(Some("broker=loud"), "");
        assert_eq!(chosen.to_string(), "info");
        assert!(complaint.unwrap().starts_with("RUST_LOG is ignored, `broker=loud` is no filter"));
    }
}
