//! How a core is set up.

/// How a core talks to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// What [`BACKEND_VARIABLE`] says; without it io_uring, or epoll with one warning where io_uring is not permitted.
    #[default]
    Auto,
    /// io_uring or an error.
    Ring,
    /// epoll, and threads for files.
    Epoll,
}

/// Environment variable that decides for [`Backend::Auto`]: `ring`, `epoll` or `auto`.
pub const BACKEND_VARIABLE: &str = "MILLRACE_IO";

/// How a core is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// How it talks to the kernel.
    pub backend: Backend,
    /// Size of a receive buffer, bytes (1 KiB to 1 MiB): what one `recv` gives at most.
    pub recv_buffer_bytes: usize,
    /// Number of receive buffers, a power of two. Their memory is touched only as they are used.
    pub recv_buffers: u16,
    /// Binds the thread to this CPU.
    pub pin_to_core: Option<usize>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            backend: Backend::Auto,
            recv_buffer_bytes: 16 * 1024,
            recv_buffers: 1024,
            pin_to_core: None,
        }
    }
}
