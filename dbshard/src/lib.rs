//! A durable, sharded key-value store that speaks RESP and Redis Cluster.
