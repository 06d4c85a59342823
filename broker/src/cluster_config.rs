//! The cluster that a broker belongs to, as its configuration names it.
//!
//! ```toml
//! [cluster]
//! name = "orders"
//! node = 1
//! nodes = [
//!     { id = 1, peer = "10.0.0.1:19092", host = "broker-1.internal", port = 9092 },
//!     { id = 2, peer = "10.0.0.2:19092", host = "broker-2.internal", port = 9092 },
//!     { id = 3, peer = "10.0.0.3:19092", host = "broker-3.internal", port = 9092 },
//! ]
//! ```

use std::collections::BTreeSet;

use runtime::net::Address;
use serde::{Deserialize, Serialize};

use crate::Error;

/// Nodes of one cluster: all of them keep the topic table.
pub const NODES_MAX: usize = 9;

/// What the ids of clusters of one begin with.
pub(crate) const LONE: &str = "millrace-";

/// See the module. It is the same on every node, save `node`, and stays as it was when the data folders were made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// The cluster's name, by which its nodes know each other; Kafka's cluster id.
    pub name: String,
    /// Which of the nodes this is.
    pub node: i32,
    /// All nodes, this one too.
    pub nodes: Vec<Node>,
}

/// A node of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its number, from 1 on; Kafka's broker id. It is never given to another, nor to one that has lost its data folder.
    pub id: i32,
    /// Address where its peers reach it. They believe whoever speaks there: it is to be on a network of their own.
    pub peer: String,
    /// Host where clients reach it, and the other nodes as clients.
    pub host: String,
    /// Port where clients reach it.
    pub port: u16,
}

impl Cluster {
    /// Whether it makes sense.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field.
    pub fn validate(&self) -> Result<(), Error> {
        let fail = |text: String| Err(Error::Config(text));
        if self.name.is_empty() || self.name.len() > 255 {
            return fail("cluster.name must have from 1 to 255 bytes".into());
        }
        if self.name.starts_with(LONE) {
            return fail(format!("cluster.name must not begin with {LONE:?}: that is for nodes alone"));
        }
        if self.nodes.is_empty() || self.nodes.len() > NODES_MAX {
            return fail(format!("cluster.nodes must be from 1 to {NODES_MAX}"));
        }
        let mut ids = BTreeSet::new();
        for node in &self.nodes {
            if node.id < 1 || !ids.insert(node.id) {
                return fail(format!("cluster.nodes: id {} must be 1 or more, and one node's only", node.id));
            }
            node.peer()?;
        }
        if !ids.contains(&self.node) {
            return fail(format!("cluster.node = {} is not among cluster.nodes", self.node));
        }
        Ok(())
    }
}

impl Node {
    /// Where its peers reach it.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn peer(&self) -> Result<Address, Error> {
        self.peer.parse().map_err(|e| {
            Error::Config(format!("cluster.nodes: peer = {:?} of node {}: {e}", self.peer, self.id))
        })
    }
}
