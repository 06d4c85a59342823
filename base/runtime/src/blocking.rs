//! A few threads for calls that block: file-system metadata, and files where io_uring is not permitted.

use crate::limits;
use std::sync::{Condvar, Mutex, OnceLock};

type Job = Box<dyn FnOnce() + Send>;

struct Jobs {
    waiting: Mutex<std::collections::VecDeque<Job>>,
    arrived: Condvar,
}

fn jobs() -> &'static Jobs {
    static JOBS: OnceLock<&'static Jobs> = OnceLock::new();
    JOBS.get_or_init(|| {
        let jobs: &'static Jobs =
            Box::leak(Box::new(Jobs { waiting: Mutex::default(), arrived: Condvar::new() }));
        for index in 0..limits::BLOCKING_THREADS {
            std::thread::Builder::new()
                .name(format!("blocking-{index}"))
                .spawn(move || {
                    loop {
                        let mut waiting = jobs.waiting.lock().unwrap();
                        let job = loop {
                            match waiting.pop_front() {
                                Some(job) => break job,
                                None => waiting = jobs.arrived.wait(waiting).unwrap(),
                            }
                        };
                        drop(waiting);
                        job();
                    }
                })
                .expect("a thread for blocking calls");
        }
        jobs
    })
}

pub(crate) fn submit(job: Job) {
    let jobs = jobs();
    jobs.waiting.lock().unwrap().push_back(job);
    jobs.arrived.notify_one();
}

/// Runs `call` on one of [`limits::BLOCKING_THREADS`] threads; the core goes on meanwhile. Dropping the future does
/// not stop the call.
///
/// # Panics
/// If `call` panics.
pub async fn blocking<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = crate::sync::mailbox(1);
    submit(Box::new(move || {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call));
        // The one who asked may have gone.
        let _ = sender.try_send(result);
    }));
    let mut results = Vec::with_capacity(1);
    receiver.recv_batch(&mut results).await;
    match results.pop().expect("a blocking thread always answers") {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
