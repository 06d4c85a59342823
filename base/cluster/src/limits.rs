//! Every bound of a cluster, in one place, with what happens at it.

use std::time::Duration;

/// Nodes, those that are out among them. Beyond: a join is refused.
pub const NODES_MAX: usize = 1024;

/// Groups. Beyond: none is created.
pub const GROUPS_MAX: usize = 100_000;

/// Replicas of a group. More can't be asked for.
pub const REPLICAS_MAX: u8 = 7;

/// Replicas of the metadata group.
pub const META_REPLICAS: u8 = 5;

/// Bytes of a name or an address. Longer ones are refused.
pub const NAME_BYTES_MAX: usize = 255;

/// Addresses for clients that a node announces. Beyond: the announcement is refused.
pub const CLIENT_ADDRESSES_MAX: usize = 2048;

/// Bytes of a group's payload, of a record's key and of its value. Beyond: the change is refused.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;

/// Records of the owner. Beyond: none is added.
pub const RECORDS_MAX: usize = 100_000;

/// Commands in one change, groups in one report. Beyond: refused; reports come in several.
pub const COMMANDS_MAX: usize = 4096;

/// Bytes of a request. Beyond: refused.
pub const REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// Requests that wait for the leader of the metadata group at once, on one node. Beyond: refused.
pub const REQUESTS_WAITING_MAX: usize = 1024;

/// Changes of placement that are decided at once. What else there is to decide follows.
pub const DECIDED_AT_ONCE_MAX: usize = 256;

/// Entries that a learner may be behind when it is made a voter: about what a follower is behind under load.
pub const CAUGHT_UP_ENTRIES: u64 = 1024;

/// Bytes of entries that a node keeps for those that follow the map. Whoever is behind them gets the whole map.
pub const RECENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long a node that asks for a newer map waits for one, at most.
pub const WATCH_PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait before a node is asked again: at first, and at most.
pub const ASK_AGAIN: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// How long a request is tried before it is given up.
pub const REQUEST_PATIENCE: Duration = Duration::from_secs(15);

/// How often the leader of the metadata group looks who is heard and what is to be moved, and each node what it is to do,
/// where nothing has changed.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long a group keeps a leader that another is preferred to, before the next try to hand it over.
pub const TRANSFER_EVERY: Duration = Duration::from_secs(3);

/// Entries of the metadata group after which its map is written to its file, and the log forgets them.
pub const SAVE_EVERY_ENTRIES: u64 = 1000;
