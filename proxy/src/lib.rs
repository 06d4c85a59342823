//! The load balancer and edge cache.
