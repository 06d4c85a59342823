//! What moves bytes and carries out what is decided: a node's seat in the cluster, the metadata group's state machine, its
//! leader's work, what follows it, and the driver of each core.

pub(crate) mod drive;
pub(crate) mod follow;
pub(crate) mod hub;
pub(crate) mod lead;
pub(crate) mod machine;
pub(crate) mod options;
pub(crate) mod seat;
pub(crate) mod view;
pub(crate) mod watched;
