//! The reference site: the stateless web tier and the photo workers.
