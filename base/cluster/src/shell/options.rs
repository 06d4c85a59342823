//! How a node takes part in a cluster.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use replog::{GroupId, NodeOptions};
use runtime::net::Address;

use crate::limits::{META_REPLICAS, NAME_BYTES_MAX};
use crate::{Error, META};

/// How a node takes part in a cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder for what the node knows of the cluster; made if it is not there.
    pub dir: PathBuf,
    /// What the nodes are, as "dbshard": nodes of another kind are refused.
    pub kind: String,
    /// The node's name, for people.
    pub name: String,
    /// Where peers connect to. Absent: this node is alone, and stays so.
    pub listen: Option<Address>,
    /// What peers are told instead of `listen`.
    pub announce: Option<Address>,
    /// Nodes of the cluster, one of which is asked to let this one in, at its first start. Empty, or beginning with this
    /// node's own address: it founds a cluster.
    pub join: Vec<Address>,
    /// Where clients find the node, by what they want of it.
    pub clients: BTreeMap<String, String>,
    /// Its share of replicas, beside those of the others. 0: none.
    pub weight: u32,
    /// Replicas of the metadata group, as far as there are nodes. Counts where the cluster is founded.
    pub meta_replicas: u8,
    /// Groups on the move at once.
    pub moves_max: usize,
    /// A node that is not heard for so long is down: nothing is placed there.
    pub down_after: Duration,
    /// A node that is not heard for so long is dead: its replicas are made anew elsewhere. Absent: only when told to.
    pub replace_after: Option<Duration>,
    /// Which of so many cores has a group; the same at each start. [`META`] is on core 0 in any case.
    pub home: fn(GroupId, usize) -> usize,
    /// Ticks, elections and memory of the groups, and TLS between nodes. Its node, cluster and addresses are filled in.
    pub groups: NodeOptions,
}

impl Options {
    /// A node that founds a cluster and is alone in it; its groups are spread over its cores by their numbers.
    pub fn new(dir: impl Into<PathBuf>, kind: &str) -> Options {
        Options {
            dir: dir.into(),
            kind: kind.to_owned(),
            name: String::new(),
            listen: None,
            announce: None,
            join: Vec::new(),
            clients: BTreeMap::new(),
            weight: 100,
            meta_replicas: META_REPLICAS,
            moves_max: 4,
            down_after: Duration::from_secs(3),
            replace_after: None,
            home: |group, cores| (group.0 % cores as u64) as usize,
            groups: NodeOptions::new(replog::NodeId(1), 0),
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let wrong = match () {
            () if self.kind.is_empty() || self.kind.len() > NAME_BYTES_MAX => {
                "kind: say what the nodes are".to_owned()
            }
            () if self.name.len() > NAME_BYTES_MAX => format!("name: at most {NAME_BYTES_MAX} bytes"),
            () if !(1..=META_REPLICAS).contains(&self.meta_replicas) => {
                format!("meta_replicas: from 1 to {META_REPLICAS}")
            }
            () if self.moves_max == 0 => "moves_max: at least 1".to_owned(),
            () if self.down_after < 2 * self.groups.tick * self.groups.election_ticks => {
                "down_after: at least two election timeouts of the groups".to_owned()
            }
            () if self.replace_after.is_some_and(|limit| limit <= self.down_after) => {
                "replace_after: more than down_after".to_owned()
            }
            () if self.listen.is_none() && !self.join.is_empty() => {
                "join: a node that joins others has to listen for them".to_owned()
            }
            () => return Ok(()),
        };
        Err(Error::Options(wrong))
    }

    /// Which core has a group.
    pub(crate) fn core_of(&self, group: GroupId, cores: usize) -> usize {
        if group == META { 0 } else { (self.home)(group, cores).min(cores - 1) }
    }

    /// Whether this node is the one that founds the cluster.
    pub(crate) fn founds(&self) -> bool {
        let own = self.announce.as_ref().or(self.listen.as_ref());
        self.join.first().is_none_or(|first| Some(first) == own)
    }
}
