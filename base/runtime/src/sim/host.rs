//! What the runtime asks of its host besides I/O, answered by the simulator: cores, blocking calls, randomness, the end of
//! the process.

use super::driver::{Inbox, Twin, Wake};
use super::kernel::{Job, Kernel, Main, NodeId, ProcessExit, draw, kernel, try_kernel};
use super::{Faults, World};
use crate::buf::Pool;
use crate::driver::Driver;
use crate::exec::Core;
use crate::options::Options;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread;

/// Environment variable with the seed of a [`block_on`] without a world; 0 by default.
pub const SEED_VARIABLE: &str = "MILLRACE_SIM_SEED";

/// How long a [`block_on`] without a world may take, of virtual time, before it counts as hung.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// Puts a core on a node.
pub(super) fn start_core(kernel: &Rc<Kernel>, node: NodeId, options: &Options, main: Main, is_first: bool) {
    let wake = Arc::new(Wake::new());
    let id = wake.core;
    let started = kernel.on(node, None, || {
        let pool =
            Pool::new(options.recv_buffers, options.recv_buffer_bytes, false).expect("memory for buffers");
        let inbox = Rc::new(RefCell::new(Inbox::default()));
        let twin = Twin::new(id, pool.clone(), inbox.clone());
        let core = Core::new(Driver::twin(twin), pool, wake);
        (core, inbox)
    });
    let Ok((core, inbox)) = started else { unreachable!("no code of the node has run") };
    kernel.add_core(id, node, core, inbox, main, is_first);
}

/// Runs `main` as the process of the only node of a world of its own, without faults, until it is done. Worlds with more
/// in them are made by [`World`]. The seed is that of [`SEED_VARIABLE`].
///
/// # Errors
/// None here.
///
/// # Panics
/// As [`block_on_seed`].
pub fn block_on<F: Future>(options: &Options, main: F) -> io::Result<F::Output> {
    let seed = std::env::var(SEED_VARIABLE).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    Ok(block_on_seed(seed, options, main))
}

/// [`block_on`] with a seed.
///
/// # Panics
/// Inside another world; when `main` waits for something that never happens.
pub fn block_on_seed<F: Future>(seed: u64, options: &Options, main: F) -> F::Output {
    assert!(try_kernel().is_none(), "block_on inside a world: a node's main is its block_on");
    let output = Rc::new(RefCell::new(None));
    let run: Pin<Box<dyn Future<Output = ()> + '_>> = Box::pin({
        let output = output.clone();
        async move {
            let result = main.await;
            *output.borrow_mut() = Some(result);
        }
    });
    // SAFETY: only the lifetime changes. The world owns the future, nothing polls it once the world is gone, and it is
    // dropped with the world, before this function returns; a panic leaks it.
    let run: Main = unsafe { std::mem::transmute::<Pin<Box<dyn Future<Output = ()> + '_>>, Main>(run) };
    {
        let main = RefCell::new(Some(run));
        let mut world = World::new(seed, Faults::none());
        world.node_with(options, "main", IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), move || {
            main.borrow_mut().take().expect("started once")
        });
        let done = world.run_until(PATIENCE, || output.borrow().is_some());
        assert!(done, "main waits for something that never happens");
    }
    let result = output.borrow_mut().take();
    result.expect("main is done")
}

/// A core started by [`spawn_core`].
pub struct CoreHandle<T> {
    result: Arc<Mutex<Option<T>>>,
}

impl<T> CoreHandle<T> {
    /// What the core's future gave.
    ///
    /// # Errors
    /// None here: a panic on a core ends the run.
    ///
    /// # Panics
    /// If the core is not done: the simulator has one thread, so wait for its result by a mailbox first.
    pub fn join(self) -> thread::Result<io::Result<T>> {
        let result = self.result.lock().unwrap().take();
        Ok(Ok(
            result.expect("the core is still running: in the simulator, wait for it by a mailbox, then join")
        ))
    }

    /// Whether the core is done.
    pub fn is_finished(&self) -> bool {
        self.result.lock().unwrap().is_some()
    }
}

/// Starts another core of this node.
///
/// # Errors
/// None here.
///
/// # Panics
/// Outside of a node.
#[allow(clippy::needless_pass_by_value, reason = "the twin has the signatures of its original")]
pub fn spawn_core<F, Fut, T>(_name: &str, options: Options, make: F) -> io::Result<CoreHandle<T>>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let kernel = kernel();
    let node = kernel.here().expect("a core is started by a node");
    let result = Arc::new(Mutex::new(None));
    let handle = CoreHandle { result: result.clone() };
    let main = Box::pin(async move {
        let output = make().await;
        *result.lock().unwrap() = Some(output);
    });
    start_core(&kernel, node, &options, main, false);
    Ok(handle)
}

/// CPUs of a node.
pub fn cores() -> usize {
    2
}

/// Permitted: nobody above can tell.
///
/// # Errors
/// None here.
pub fn io_uring_permitted() -> io::Result<()> {
    Ok(())
}

pub(crate) fn submit_job(job: Job) {
    kernel().submit_job(job);
}

/// Ends the process of this node at once; the others go on.
///
/// # Panics
/// Outside of a node.
pub fn exit_process(code: i32) -> ! {
    let kernel = kernel();
    let node = kernel.here().expect("only a node's process can end");
    // From here on nothing that the process does has an effect, whatever its destructors try.
    kernel.disks.borrow_mut()[node].freeze();
    drop(kernel);
    std::panic::resume_unwind(Box::new(ProcessExit(code)))
}

thread_local! {
    static OUTSIDE: Cell<u64> = const { Cell::new(0) };
}

/// A random number from the world's seed, by a stream of the node's own.
pub fn random_u64() -> u64 {
    if let Some(kernel) = try_kernel()
        && let Some(node) = kernel.here()
    {
        return draw(&kernel.nodes.borrow()[node].random);
    }
    OUTSIDE.with(draw)
}

/// Fills `out` from the world's seed.
pub fn random_bytes(out: &mut [u8]) {
    for chunk in out.chunks_mut(8) {
        let bytes = random_u64().to_le_bytes();
        chunk.copy_from_slice(&bytes[..chunk.len()]);
    }
}
