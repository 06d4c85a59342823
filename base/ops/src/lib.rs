//! What every daemon needs to be operated: configuration, logs, metrics, admin endpoint, readiness, clean stop.
//!
//! A daemon's `main` is four lines: [`config::load`], [`logs::init`], [`Service::start`], `run(config, &service)`; its
//! `run` registers metrics and checks, calls [`Service::ready`] once it serves, and returns after [`Service::stop`].
//!
//! | module | what |
//! |---|---|
//! | [`config`] | TOML files: errors with file, line, column and key |
//! | [`secret`] | values that no log and no page shows |
//! | [`logs`] | `tracing` output: text, JSON or journal; panics |
//! | [`service`] | [`Service`]: the process as its operator sees it |
//! | [`stop`] | [`Stop`]: the request to end, awaited on every core |
//! | [`pulse`] | [`Pulse`]: whether the cores still turn |
//! | [`sockets`] | listeners handed over by systemd |
//! | `admin` | the endpoint: a pure `core` (request in, answer out) and its `shell` |
//! | `metrics`, `process` | the registry, and the process's own figures |
//! | `signals`, `systemd`, `descriptors` | signal thread, sd_notify, the limit of open files |
//!
//! What always holds: a secret never leaves through logs, `/config` or an error message; the admin endpoint never takes
//! more than its named limits and never makes a data core wait.
#![forbid(unsafe_code)]

mod admin;
pub mod config;
mod descriptors;
pub mod limits;
pub mod logs;
mod metrics;
mod process;
pub mod pulse;
pub mod secret;
pub mod service;
mod signals;
pub mod sockets;
pub mod stop;
mod systemd;

pub use pulse::Pulse;
pub use secret::Secret;
pub use service::{Error, Options, Service};
pub use stop::Stop;
