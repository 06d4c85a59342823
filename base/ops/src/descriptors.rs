//! The limit of open files: a server needs one per connection, and the soft limit of a login shell is 1024.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the soft limit to the hard one, which needs no right. Refused, the daemon runs on with what it has.
pub(crate) fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let before = limit.current;
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, ?before, "the limit of open files could not be raised");
    }
}
