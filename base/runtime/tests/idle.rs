//! What an idle connection costs: counted at the allocator, 10,000 of them, a task waiting in `recv` on each.

#[cfg(sim)]
fn main() {}

#[cfg(not(sim))]
fn main() {
    measure::main();
}

#[cfg(not(sim))]
#[path = "backends/mod.rs"]
mod backends;

#[cfg(not(sim))]
mod measure {

    use super::backends::{any_port, on_each};
    use runtime::net::Stream;
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::process::{Command, Stdio};
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Counting;

    static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

    // SAFETY: every call is passed on to the system's allocator; only a number is kept beside it.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
            // SAFETY: the caller's promises are passed on.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
            ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
            // SAFETY: the caller's promises are passed on.
            unsafe { System.dealloc(start, layout) }
        }
    }

    #[global_allocator]
    static COUNTING: Counting = Counting;

    const CONNECTIONS: usize = 10_000;
    const BYTES_MAX: usize = 2 * 1024;

    /// The other ends, in a process of their own: each connection is used once, then idle until the input ends.
    fn be_clients(address: &str) {
        let mut streams = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"hello").unwrap();
            stream.read_exact(&mut [0; 5]).unwrap();
            streams.push(stream);
        }
        println!("connected");
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    }

    /// 10,000 connections, and what the program needs besides.
    fn raise_descriptor_limit() {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is writable, then readable.
        unsafe {
            libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
        assert!(limit.rlim_cur > CONNECTIONS as u64 + 100, "raise the hard limit of open files (ulimit -Hn)");
    }

    pub(super) fn main() {
        raise_descriptor_limit();
        if let Some(address) = std::env::args().nth(1).filter(|argument| argument.contains(':')) {
            return be_clients(&address);
        }
        on_each(|| async {
            let listener = any_port();
            let mut clients = Command::new(std::env::current_exe().unwrap())
                .arg(listener.local_addr().to_string())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let before = ALLOCATED.load(Ordering::Relaxed);
            for _ in 0..CONNECTIONS {
                let (stream, _) = listener.accept().await.unwrap();
                runtime::spawn(serve(stream));
            }
            let mut output = clients.stdout.take().unwrap();
            let connected = runtime::blocking(move || {
                let mut line = [0; 10];
                output.read_exact(&mut line).map(|()| line)
            });
            assert_eq!(&connected.await.expect("the clients connected"), b"connected\n");
            let each = (ALLOCATED.load(Ordering::Relaxed) - before) / CONNECTIONS;
            println!("{each} bytes for an idle connection, at most {BYTES_MAX} are allowed");
            assert!(each <= BYTES_MAX);
            drop(clients.stdin.take());
            assert!(runtime::blocking(move || clients.wait()).await.unwrap().success());
        });
    }

    async fn serve(stream: Stream) {
        while let Ok(lease) = stream.recv().await {
            if lease.is_empty() || stream.send(lease).await.is_err() {
                return;
            }
        }
    }
}
