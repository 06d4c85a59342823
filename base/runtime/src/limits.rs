//! Every maximum of this crate, and what happens at it.

use std::time::Duration;

/// Bytes a stream queues for sending before [`Stream::send`](crate::net::Stream::send) waits. One larger segment is
/// still taken whole when the queue is empty.
pub const SEND_QUEUE_BYTES: usize = 256 * 1024;

/// Receives in a row that were small, with nothing more behind them, after which a stream is calm: it then receives again and
/// again from one request to the kernel, into small buffers, until something larger comes or its reader falls behind.
pub(crate) const CALM_RECEIVES: u8 = 8;

/// The small buffers of a core, a power of two, and their size. Their memory is touched only as they are used. When all are in
/// use, calm streams receive as others do.
#[cfg(not(sim))]
pub(crate) const SMALL_BUFFERS: u16 = 1024;
pub(crate) const SMALL_BUFFER_BYTES: usize = 2048;

/// Segments handed to the kernel in one send; the rest follows when it completes.
pub const SEND_SEGMENTS_MAX: usize = 64;

/// Accepted connections that wait in a listener for `accept`; beyond it the kernel's backlog holds them.
pub const ACCEPT_QUEUE_MAX: usize = 256;

/// How long a dropped stream goes on sending what it had taken; then the connection is reset.
pub const LINGER: Duration = Duration::from_secs(10);

/// How long binding goes on trying while an address is in use. The ring of a killed process is taken down by the kernel in the
/// background and holds its listeners for some milliseconds more, so that a daemon started again at once would be refused.
pub const BIND_PATIENCE: Duration = Duration::from_millis(500);

/// Tasks polled in one turn before I/O is looked at again.
pub const POLLS_PER_TURN: usize = 1024;

/// Datagrams moved by one system call.
pub const DATAGRAMS_PER_BATCH: usize = 64;

/// Batches a busy UDP socket gives in a row before other tasks run.
pub const DATAGRAM_BATCHES_IN_A_ROW: u32 = 16;

/// Threads of [`blocking`](crate::blocking()), shared by all cores; further calls queue.
pub const BLOCKING_THREADS: usize = 4;

/// Completions taken from the kernel at once.
pub(crate) const EVENTS_PER_WAIT: usize = 1024;

/// How long the end of a core waits for the kernel to give back memory that operations still use; after that the
/// memory is leaked rather than freed under the kernel.
pub(crate) const TEARDOWN: Duration = Duration::from_secs(5);
