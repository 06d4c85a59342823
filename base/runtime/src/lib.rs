//! Thread-per-core I/O: one thread, one ring, one share of the state per core.
//!
//! What always holds (the contract; `tests/` proves each line on every backend):
//! - **Dropping a pending [`Stream::recv`](net::Stream::recv) or [`Listener::accept`](net::Listener::accept) loses
//!   nothing.** The operation lives in the stream or listener, not in the future: the next call gets its result.
//! - `recv` yields a [`Lease`] on a pooled buffer. An idle connection holds no buffer.
//! - `send` takes owned [`Segment`]s; what one call took goes out whole and in call order, also if its future is dropped.
//! - A timeout never cancels a read half done.
//! - Every queue has a named maximum (in [`limits`]) and waits or refuses, as its item says, when full.
//! - [`turn_end`] resolves once after all that was ready in this turn has run.
//!
//! What it leaves out: what the bytes mean, TLS, and any decision about a peer.
//!
//! Two backends serve it, io_uring and epoll; nothing above can tell which. See docs/decisions/0001-runtime.md.
