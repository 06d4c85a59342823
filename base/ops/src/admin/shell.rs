//! Sockets of the admin endpoint, and the watchdog of systemd: one core of its own, so that neither waits for the daemon
//! nor the daemon for them.

use super::core;
use crate::service::{Error, Shared};
use crate::{Stop, limits, systemd};
use futures_util::future::{Either, select};
use runtime::net::{self, Address, BoundListener, ListenOptions, Listener, Stream};
use runtime::sync::Notify;
use runtime::time;
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// The running endpoint.
pub(crate) struct Admin {
    closing: Stop,
    address: Option<SocketAddr>,
    thread: JoinHandle<io::Result<io::Result<()>>>,
}

impl Admin {
    /// Binds the address, then starts the thread; `None` when neither an address nor a watchdog asks for one.
    pub(crate) fn start(address: Option<SocketAddr>, shared: Arc<Shared>) -> Result<Option<Admin>, Error> {
        let watchdog = systemd::watchdog_every();
        if address.is_none() && watchdog.is_none() {
            return Ok(None);
        }
        let listener = address.map(bind).transpose()?;
        let address = match listener.as_ref().map(BoundListener::local_addr) {
            Some(Address::Ip(address)) => Some(address),
            _ => None,
        };
        let closing = Stop::new();
        let until = closing.clone();
        let options = runtime::Options { recv_buffers: 16, ..runtime::Options::default() };
        let run = move || async move {
            if let Some(every) = watchdog {
                runtime::spawn(feed(every, shared.clone()));
            }
            match listener {
                Some(listener) => serve(listener.open()?, shared, until).await,
                None => until.requested().await,
            }
            Ok::<(), io::Error>(())
        };
        let thread = runtime::spawn_core("ops", options, run).map_err(Error::Thread)?;
        Ok(Some(Admin { closing, address, thread }))
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Stops accepting, gives answers under way [`limits::ADMIN_DRAIN`], ends the thread.
    pub(crate) fn close(self) {
        self.closing.request();
        match self.thread.join() {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error)) | Err(error)) => tracing::warn!(%error, "the admin endpoint failed"),
            Err(_) => tracing::error!("the thread of the admin endpoint panicked"),
        }
    }
}

fn bind(address: SocketAddr) -> Result<BoundListener, Error> {
    let listeners = net::listen(&Address::from(address), 1, &ListenOptions::default());
    match listeners {
        Ok(mut listeners) => Ok(listeners.remove(0)),
        Err(source) => Err(Error::Admin { address, source }),
    }
}

/// Feeds the watchdog as long as every core turns.
async fn feed(every: Duration, shared: Arc<Shared>) {
    loop {
        if shared.is_alive() {
            systemd::alive();
        }
        time::sleep(every).await;
    }
}

/// Accepts until `closing`, then waits for the answers under way.
async fn serve(listener: Listener, shared: Arc<Shared>, closing: Stop) {
    let seats = Rc::new(Seats { taken: Cell::new(0), changed: Notify::new() });
    loop {
        let next = async {
            seats.at_most(limits::ADMIN_CONNECTIONS_MAX - 1).await;
            listener.accept().await
        };
        let stream = match select(pin!(next), pin!(closing.requested())).await {
            Either::Left((Ok((stream, _)), _)) => stream,
            Either::Left((Err(error), _)) => {
                tracing::warn!(%error, "the admin endpoint cannot accept, trying again");
                time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
            Either::Right(_) => break,
        };
        let (shared, closing, seat) = (shared.clone(), closing.clone(), Seat::take(&seats));
        runtime::spawn(async move {
            if let Err(error) = converse(&stream, &shared, &closing).await {
                tracing::debug!(%error, "a connection to the admin endpoint failed");
                stream.abort();
            }
            drop(seat);
        });
    }
    drop(listener);
    let _ = time::timeout(limits::ADMIN_DRAIN, seats.at_most(0)).await;
}

/// After a failed accept (no descriptor left, as a rule) this long passes.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Requests and answers in turn until either side ends it.
async fn converse(stream: &Stream, shared: &Shared, closing: &Stop) -> io::Result<()> {
    let mut input = Vec::new();
    let mut deadline = time::now() + limits::ADMIN_HEAD_DEADLINE;
    loop {
        match core::parse(&input) {
            Ok(Some(head)) => {
                input.drain(..head.bytes);
                answer(stream, shared.answer(&head.path).encode(&head)).await?;
                if !head.keep_alive || closing.is_requested() {
                    return finish(stream).await;
                }
                deadline = time::now() + limits::ADMIN_HEAD_DEADLINE;
            }
            Ok(None) => {
                let received = time::deadline(deadline, stream.recv());
                match select(pin!(received), pin!(closing.requested())).await {
                    Either::Left((Ok(lease), _)) => match lease? {
                        lease if lease.is_empty() => return Ok(()),
                        lease => input.extend_from_slice(&lease),
                    },
                    // Too slow, or the end: nothing that could still be answered.
                    Either::Left((Err(_), _)) | Either::Right(_) => return Ok(()),
                }
            }
            Err(refusal) => {
                answer(stream, refusal.encode()).await?;
                return finish(stream).await;
            }
        }
    }
}

async fn answer(stream: &Stream, bytes: Vec<u8>) -> io::Result<()> {
    let sent = async {
        stream.send(bytes).await?;
        stream.flush().await
    };
    match time::timeout(limits::ADMIN_SEND_DEADLINE, sent).await {
        Ok(sent) => sent,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Says that no more answers come, then reads what the peer still sends: closed with that unread, the kernel would send
/// a reset, which can overtake the answer.
async fn finish(stream: &Stream) -> io::Result<()> {
    stream.shutdown().await?;
    let rest = async { while stream.recv().await.is_ok_and(|lease| !lease.is_empty()) {} };
    let _ = time::timeout(limits::ADMIN_LINGER, rest).await;
    Ok(())
}

/// Counts connections.
struct Seats {
    taken: Cell<usize>,
    changed: Notify,
}

impl Seats {
    async fn at_most(&self, most: usize) {
        while self.taken.get() > most {
            self.changed.notified().await;
        }
    }
}

/// One connection's place, given back when dropped.
struct Seat(Rc<Seats>);

impl Seat {
    fn take(seats: &Rc<Seats>) -> Seat {
        seats.taken.set(seats.taken.get() + 1);
        Seat(seats.clone())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.taken.set(self.0.taken.get() - 1);
        self.0.changed.notify_all();
    }
}
