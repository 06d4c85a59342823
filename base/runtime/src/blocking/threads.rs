//! A few threads that run what blocks, in the order in which it came.

use crate::limits;
use std::sync::{Condvar, Mutex, OnceLock};

pub(crate) type Job = Box<dyn FnOnce() + Send>;

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
