//! Every bound of the log, in one place, with what happens at it.

use std::time::Duration;

/// The unit of writing, in bytes: every write starts and ends on a multiple of it.
pub const BLOCK_BYTES: usize = 4096;

/// The unit that a disk writes whole or not at all, in bytes. Each carries its own stamp.
pub const SECTOR_BYTES: usize = 512;

/// The largest entry, in bytes, where segments are large enough ([`entry_bytes_max`]): a value of 16 MiB and the
/// command around it. Beyond: [`Error::TooLarge`](crate::Error::TooLarge).
pub const ENTRY_BYTES_MAX: usize = 16 * 1024 * 1024 + 64 * 1024;

/// Bytes proposed and not yet durable, and never more than there is a place for in segments that are ready. Beyond:
/// [`Error::Full`](crate::Error::Full); `Log::room` waits.
pub const PROPOSED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of records in one batch, save that one entry that is larger goes alone.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Groups in one log, where segments are large enough ([`groups_max`]).
/// Beyond: [`Error::TooManyGroups`](crate::Error::TooManyGroups).
pub const GROUPS_MAX: usize = 65_536;

/// The smallest segment, in bytes.
pub const SEGMENT_BYTES_MIN: u64 = 256 * 1024;

/// The largest segment, in bytes.
pub const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Blocks at the end of each segment that entries leave free, so that on a full disk a truncation can still be
/// written, which frees a segment, which makes room.
pub const RESERVED_BLOCKS: u32 = 16;

/// Emptied segments kept for reuse. Those beyond are deleted.
pub const SPARE_SEGMENTS_MAX: usize = 2;

/// How long no proposal must have come before the stream counts as idle and is sealed.
pub const SEAL_AFTER: Duration = Duration::from_millis(50);

/// How long to wait before another try to preallocate a segment on a full disk.
pub const SPACE_RETRY: Duration = Duration::from_secs(1);

/// Members of a group, learners among them.
pub const MEMBERS_MAX: usize = 16;

/// Entries in one message.
pub const MESSAGE_ENTRIES_MAX: usize = 65_536;

/// Bytes of entries in one message, save that one larger goes alone.
pub const APPEND_BYTES_MAX: usize = 1024 * 1024;

/// Messages with entries on their way to one member of a group. Beyond: its leader waits for an answer.
pub const APPENDS_IN_FLIGHT_MAX: usize = 64;

/// Bytes of committed entries given to a state machine at once, save that one larger goes alone.
pub const APPLY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of entries that a group keeps in memory, whoever may still need them. Beyond: who is behind gets a snapshot.
pub const GROUP_MEMORY_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Bytes of a frame's body: the largest entry, or all that is put together, and their heads.
pub const FRAME_BYTES_MAX: usize = ENTRY_BYTES_MAX + 2 * APPEND_BYTES_MAX;

/// Bytes of a frame above which nothing more is put into it.
pub const FRAME_BYTES_ENOUGH: usize = 256 * 1024;

/// Bytes that wait to be sent to one node by one stream. Beyond: messages are dropped, and the node is probed.
pub const PEER_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of a question. Beyond: the connection is closed.
pub const QUESTION_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of an answer. Beyond: whoever asked closes the connection.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long an answer may take. Beyond: whoever asked closes the connection.
pub const ANSWER_PATIENCE: Duration = Duration::from_secs(20);

/// Batches of items that wait for one core. Beyond: they are dropped, as if the network had lost them.
pub const INBOX_MAX: usize = 4096;

/// Connections from peers that a core serves at once. Beyond: closed.
pub const PEER_CONNECTIONS_MAX: usize = 1024;

/// Bytes of a piece of a snapshot.
pub const PIECE_BYTES: usize = 512 * 1024;

/// Snapshots on their way from one core at once. Beyond: later ones wait for another request.
pub const SNAPSHOTS_MAX: usize = 8;

/// How long a piece of a snapshot waits for its answer before it is sent again.
pub const PIECE_PATIENCE: Duration = Duration::from_secs(1);

/// How often a piece is sent before the snapshot is given up.
pub const PIECE_TRIES: u32 = 10;

/// How long a greeting, or a connection, may take.
pub const HELLO_PATIENCE: Duration = Duration::from_secs(5);

/// How long the kernel may take nothing of what is sent to a peer before the connection is given up.
pub const SEND_PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait before another try to connect to a peer: at first, and at most.
pub const RECONNECT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The largest entry, in bytes, in a log with segments of `segment_bytes`: half a segment at most.
pub fn entry_bytes_max(segment_bytes: u64) -> usize {
    let half = usize::try_from(segment_bytes / 2).unwrap_or(usize::MAX);
    half.min(ENTRY_BYTES_MAX)
}

/// The most groups in a log with segments of `segment_bytes`: each segment begins with the state of all groups,
/// and that may take an eighth of it. Replicated groups take more room than plain ones, by their members.
pub fn groups_max(segment_bytes: u64) -> usize {
    let fit = usize::try_from(segment_bytes / 8 / 84).unwrap_or(usize::MAX);
    fit.min(GROUPS_MAX)
}

// Half a segment for the largest entry, an eighth for the groups, the reserve: the rest must hold the stamps
// (16 bytes in 512), the heads and the segment's header, even in the smallest segment.
const _: () = {
    let blocks = SEGMENT_BYTES_MIN / BLOCK_BYTES as u64;
    let payload = 3968;
    let largest = (SEGMENT_BYTES_MIN / 2 + SEGMENT_BYTES_MIN / 8 + 1024) / payload + 1;
    assert!(1 + largest + 2 + RESERVED_BLOCKS as u64 <= blocks);
    assert!(SEGMENT_BYTES_MIN.is_multiple_of(BLOCK_BYTES as u64) && BLOCK_BYTES.is_multiple_of(SECTOR_BYTES));
    assert!(ENTRY_BYTES_MAX <= PROPOSED_BYTES_MAX);
};
