//! The named maxima of this crate, and what happens at each.

use std::time::Duration;

/// A configuration file may be this large; a larger one is refused.
pub const CONFIG_BYTES_MAX: usize = 4 << 20;

/// A file that holds a secret may be this large; a larger one is refused.
pub const SECRET_BYTES_MAX: usize = 64 << 10;

/// A request head to the admin endpoint may be this large; a larger one is answered 431 and the connection closed.
pub const ADMIN_HEAD_BYTES_MAX: usize = 8 << 10;

/// Header fields in a request to the admin endpoint; more are answered 431 and the connection closed.
pub const ADMIN_HEADERS_MAX: usize = 64;

/// Connections to the admin endpoint at one time; the next waits in the listen backlog until one ends.
pub const ADMIN_CONNECTIONS_MAX: usize = 32;

/// A whole request head must arrive, and an idle connection must begin one, within this time; then it is closed.
pub const ADMIN_HEAD_DEADLINE: Duration = Duration::from_secs(10);

/// An answer must be taken by the peer within this time; then the connection is reset.
pub const ADMIN_SEND_DEADLINE: Duration = Duration::from_secs(10);

/// After the last answer on a connection, what the peer still sends is read and dropped for this long.
pub const ADMIN_LINGER: Duration = Duration::from_secs(1);

/// After the stop is complete, answers of the admin endpoint that are under way get this long.
pub const ADMIN_DRAIN: Duration = Duration::from_millis(500);

/// How often a core that keeps a [`Pulse`](crate::Pulse) says that it turns.
pub const PULSE_EVERY: Duration = Duration::from_secs(1);

/// A core that has not said so for this long is stuck: `/healthz` answers 503 and the watchdog is no longer fed.
pub const PULSE_STALE: Duration = Duration::from_secs(10);
