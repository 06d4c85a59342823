//! The log under the database and the broker.
