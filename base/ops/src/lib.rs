//! What every daemon needs to be operated: configuration, logs, metrics, admin endpoint, readiness, clean stop.
