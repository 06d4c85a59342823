//! Cores on threads: the backend is chosen, the thread becomes a core and ends as one.

use crate::buf::Pool;
use crate::driver::{Driver, Wake};
use crate::exec::Core;
use crate::limits;
use crate::options::{BACKEND_VARIABLE, Backend, Options};
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Once};
use std::task::{Context, Poll};
use std::thread;

/// What [`Backend::Auto`] stands for in this process.
fn backend_of_environment() -> Backend {
    match std::env::var(BACKEND_VARIABLE).as_deref() {
        Ok("ring") => Backend::Ring,
        Ok("epoll") => Backend::Epoll,
        Ok("auto" | "") | Err(_) => Backend::Auto,
        Ok(other) => {
            static WARNED: Once = Once::new();
            WARNED.call_once(|| {
                tracing::warn!("{BACKEND_VARIABLE}={other} is none of ring, epoll, auto; taken for auto");
            });
            Backend::Auto
        }
    }
}

/// CPUs that this process may run on.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Whether this host permits io_uring as the ring backend needs it (Linux 6.1 and later, not forbidden by seccomp or
/// sysctl `kernel.io_uring_disabled`); otherwise why not.
///
/// # Errors
/// What the kernel answered.
pub fn io_uring_permitted() -> io::Result<()> {
    let pool = || Pool::new(1, 1024, true);
    Driver::ring(pool()?, pool()?, &Arc::new(Wake::new()?)).map(|_| ())
}

fn warn_once(error: &io::Error) {
    static WARNED: Once = Once::new();
    WARNED.call_once(|| {
        tracing::warn!(
            "io_uring is not permitted here ({error}); running on epoll, slower. It needs Linux 6.1 or later, sysctl \
             kernel.io_uring_disabled=0 and a container profile that allows io_uring_setup"
        );
    });
}

/// Clears the thread's core, also when a panic unwinds.
struct Entered(Rc<Core>);

impl Drop for Entered {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.0.end();
        }
        Core::leave();
    }
}

/// A core over the backend that `options` ask for.
fn set_up(options: &Options) -> io::Result<Rc<Core>> {
    let wake = Arc::new(Wake::new()?);
    let pool = |kernel| Pool::new(options.recv_buffers, options.recv_buffer_bytes, kernel);
    let ring = || {
        let small = Pool::new(limits::SMALL_BUFFERS, limits::SMALL_BUFFER_BYTES, true)?;
        let pool = pool(true)?;
        Ok((Driver::ring(pool.clone(), small, &wake)?, pool))
    };
    let epoll =
        || pool(false).and_then(|pool| Driver::epoll(pool.clone(), &wake).map(|driver| (driver, pool)));
    let backend = match options.backend {
        Backend::Auto => backend_of_environment(),
        other => other,
    };
    let (driver, pool) = match backend {
        Backend::Ring => ring()?,
        Backend::Epoll => epoll()?,
        Backend::Auto => ring().or_else(|error: io::Error| {
            warn_once(&error);
            epoll()
        })?,
    };
    Ok(Core::new(driver, pool, wake))
}

/// Runs a core on this thread until `main` is done; the tasks still there are dropped then.
///
/// # Errors
/// When the backend can't be set up or the kernel refuses to wait for events.
///
/// # Panics
/// Inside another core.
pub fn block_on<F: Future>(options: &Options, main: F) -> io::Result<F::Output> {
    assert!(!Core::is_entered(), "block_on inside a core");
    if let Some(cpu) = options.pin_to_core {
        pin(cpu)?;
    }
    let core = set_up(options)?;
    core.enter();
    let entered = Entered(core);
    let core = &entered.0;
    let waker = core.main_waker();
    let mut context = Context::from_waker(&waker);
    // On the heap, so that it can be dropped before the core ends.
    let mut main = Box::pin(main);
    let (mut told, mut fired) = (Vec::new(), Vec::new());
    loop {
        if core.take_main_woken()
            && let Poll::Ready(output) = main.as_mut().poll(&mut context)
        {
            drop(main);
            return Ok(output);
        }
        let timeout = core.run_turn();
        core.wait(timeout, &mut told)?;
        core.begin_turn(&mut fired);
    }
}

fn pin(cpu: usize) -> io::Result<()> {
    // SAFETY: all zeros is an empty set; CPU_SET checks its bound itself.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        set
    };
    // SAFETY: `set` is readable and of the size given.
    if unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A core started by [`spawn_core`], to join.
pub type CoreHandle<T> = thread::JoinHandle<io::Result<T>>;

/// Starts a thread called `name` that runs a core until the future of `make` is done. A panic on it ends the process:
/// a core less would mean lost state, not a slower server.
///
/// # Errors
/// When the thread can't be started; what [`block_on`] gives comes from `join`.
pub fn spawn_core<F, Fut, T>(name: &str, options: Options, make: F) -> io::Result<CoreHandle<T>>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
    T: Send + 'static,
{
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let run = || block_on(&options, async move { make().await });
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
            Ok(result) => result,
            Err(_) => {
                let name = thread::current().name().unwrap_or("core").to_owned();
                tracing::error!("core {name} panicked; the process ends rather than go on without its state");
                std::process::abort();
            }
        }
    })
}
