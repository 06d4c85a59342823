//! Calls that block: file-system metadata, and files where io_uring is not permitted.

#[cfg(not(sim))]
mod threads;

#[cfg(sim)]
pub(crate) use crate::sim::host::submit_job as submit;
#[cfg(not(sim))]
pub(crate) use threads::submit;

/// Runs `call` on one of [`limits::BLOCKING_THREADS`](crate::limits::BLOCKING_THREADS) threads; the core goes on meanwhile. Dropping the future does
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
