//! What systemd is told, where it asks (sd_notify(3)): without `NOTIFY_SOCKET` each of these does nothing.

use sd_notify::NotifyState;
use std::time::Duration;

pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Followed by [`ready`] when the reload is done.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "no monotonic clock for systemd"),
    }
}

/// Feeds the watchdog.
pub(crate) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often to feed the watchdog, half its time as the manual advises; `None` when there is none.
pub(crate) fn watchdog_every() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|within| within / 2).filter(|every| !every.is_zero())
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, ?states, "systemd could not be told");
    }
}
