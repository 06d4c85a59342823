//! A log-based message broker that speaks Kafka's protocol.
