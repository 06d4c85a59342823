//! Load over byte streams: TCP, with TLS or without.
//!
//! What always holds: a wrong answer, a closed connection or silence ends the run with an error; nothing of the warm-up is
//! counted; what was due is never skipped, however late.

use super::measure::{self, Run, Shared, fail};
use super::{Client, Counters, LoadCpu, Pace, Seen, Tally};
use crate::error::Error;
use runtime::Options;
use runtime::net::{Address, Stream};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tls::Conn;
use tls::rustls::ClientConfig;

/// Connections opened at a time.
const OPENING: usize = 64;
/// After the load has ended, answers under way may still come for so long.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// A load.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) address: SocketAddr,
    /// Further addresses of the server: the connections go to all in turn, the first to `address`.
    pub(crate) others: Vec<SocketAddr>,
    pub(crate) connections: usize,
    pub(crate) pace: Pace,
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
    /// The CPU that the load has to itself.
    pub(crate) cpu: usize,
    /// Clients of TLS, which the connections have in turn, and the name they ask for.
    pub(crate) tls: Option<(Vec<Arc<ClientConfig>>, String)>,
    /// A connection for every request, which asks the server to close it; closed loop only, one request in flight. With
    /// TLS, the share of handshakes that resumed a session is counted too.
    pub(crate) reconnect: bool,
}

impl Spec {
    /// Where connection `number` goes.
    fn address_of(&self, number: usize) -> SocketAddr {
        match number % (self.others.len() + 1) {
            0 => self.address,
            at => self.others[at - 1],
        }
    }
}

/// Sends what `client` gives for each connection (by number) and counts what comes back; `counters` reads the server's.
///
/// # Errors
/// When the server can't be reached, closes, is silent throughout, or answers wrongly.
pub(crate) fn run<C: Client + 'static>(
    spec: &Spec,
    client: impl Fn(usize) -> C + 'static,
    counters: impl Fn() -> Counters,
) -> Result<Seen, Error> {
    let options = Options { pin_to_core: Some(spec.cpu), ..Options::default() };
    runtime::block_on(&options, async {
        let shared = Run::shared();
        begin(spec, Rc::new(client), &shared).await?;
        measure::counted(&shared, spec.warm_up, spec.duration, counters).await
    })
    .map_err(Error::io("starting the load's thread"))?
}

async fn begin<C: Client + 'static>(
    spec: &Spec,
    client: Rc<impl Fn(usize) -> C + 'static>,
    shared: &Shared,
) -> Result<(), Error> {
    match spec.pace {
        Pace::Saturate { .. } if spec.reconnect => {
            for number in 0..spec.connections {
                let (spec, shared, client) = (spec.clone(), shared.clone(), client.clone());
                runtime::spawn(async move {
                    if let Err(error) = one_each(&spec, &*client, number, &shared).await {
                        fail(&shared, error);
                    }
                });
            }
        }
        Pace::Saturate { in_flight } => {
            for (number, conn) in open(spec).await?.into_iter().enumerate() {
                let (shared, mut client) = (shared.clone(), client(number));
                runtime::spawn(async move {
                    if let Err(error) = closed(&conn, &mut client, in_flight, u64::MAX, &shared).await {
                        fail(&shared, error);
                    }
                });
            }
        }
        Pace::Rate { requests_per_second } => {
            let conns = open(spec).await?;
            let lanes: Vec<Rc<Lane<C>>> = conns
                .into_iter()
                .enumerate()
                .map(|(number, conn)| {
                    Rc::new(Lane { conn, due: RefCell::default(), client: RefCell::new(client(number)) })
                })
                .collect();
            for lane in &lanes {
                let (lane, shared) = (lane.clone(), shared.clone());
                runtime::spawn(async move {
                    if let Err(error) = take_answers(&lane, &shared).await {
                        fail(&shared, error);
                    }
                });
            }
            let shared = shared.clone();
            runtime::spawn(async move {
                if let Err(error) = pace(&lanes, requests_per_second, &shared).await {
                    fail(&shared, error);
                }
            });
        }
    }
    Ok(())
}

/// Opens all connections, some at a time.
async fn open(spec: &Spec) -> Result<Vec<Conn>, Error> {
    let mut conns = Vec::with_capacity(spec.connections);
    while conns.len() < spec.connections {
        let count = OPENING.min(spec.connections - conns.len());
        let opening: Vec<_> = (conns.len()..conns.len() + count)
            .map(|number| {
                let spec = spec.clone();
                runtime::spawn(async move { connect(&spec, number).await })
            })
            .collect();
        for conn in opening {
            conns.push(conn.await?);
        }
    }
    Ok(conns)
}

/// Opens connection `number`.
pub(super) async fn connect(spec: &Spec, number: usize) -> Result<Conn, Error> {
    let address = spec.address_of(number);
    let stream = Stream::connect(&Address::Ip(address)).await;
    let stream = stream.map_err(Error::io(format!("connecting to {address}")))?;
    let Some((configs, name)) = &spec.tls else { return Ok(Conn::Plain(stream)) };
    match tls::connect(stream, name, configs[number % configs.len()].clone()).await {
        Ok(stream) => Ok(Conn::Tls(stream)),
        Err(error) => Err(Error::WrongAnswer(format!("TLS handshake with {address}: {error}"))),
    }
}

/// Sends `count` requests, `in_flight` at a time.
async fn closed<C: Client>(
    conn: &Conn,
    client: &mut C,
    in_flight: usize,
    mut count: u64,
    shared: &Shared,
) -> Result<(), Error> {
    let mut batch = Vec::new();
    while count > 0 {
        let in_flight = count.min(in_flight as u64);
        count -= in_flight;
        for _ in 0..in_flight {
            client.request(&mut batch);
        }
        let bytes = batch.len();
        conn.send(std::mem::take(&mut batch)).await.map_err(Error::io("sending"))?;
        batch.reserve(bytes);
        let mut left = in_flight;
        while left > 0 {
            let answers = receive(conn, client, shared).await?;
            if answers > left {
                return Err(Error::WrongAnswer(format!("{answers} answers where {left} were under way")));
            }
            left -= answers;
        }
    }
    Ok(())
}

/// Receives once and counts; gives how many answers became whole.
async fn receive<C: Client>(conn: &Conn, client: &mut C, shared: &Shared) -> Result<u64, Error> {
    let lease = conn.recv().await.map_err(Error::io("receiving"))?;
    if lease.is_empty() {
        return Err(Error::WrongAnswer("the server closed the connection".to_owned()));
    }
    let mut tally = Tally { bytes: lease.len() as u64, ..Tally::default() };
    client.receive(&lease, &mut tally).map_err(Error::WrongAnswer)?;
    shared.0.borrow_mut().add(tally);
    Ok(tally.answers)
}

async fn one_each<C: Client>(
    spec: &Spec,
    client: &impl Fn(usize) -> C,
    number: usize,
    shared: &Shared,
) -> Result<(), Error> {
    let mut batch = Vec::new();
    loop {
        let (conn, mut client) = (connect(spec, number).await?, client(number));
        if let Conn::Tls(stream) = &conn {
            shared.0.borrow_mut().handshake(stream.is_resumed());
        }
        client.request(&mut batch);
        conn.send(std::mem::take(&mut batch)).await.map_err(Error::io("sending"))?;
        while receive(&conn, &mut client, shared).await? == 0 {}
        closed_by_server(&conn).await?;
    }
}

/// Waits for the end of a connection whose last answer was whole. A server may end it roughly by then.
async fn closed_by_server(conn: &Conn) -> Result<(), Error> {
    match runtime::time::timeout(LAST_ANSWERS, conn.recv()).await {
        Ok(Ok(lease)) if lease.is_empty() => Ok(()),
        Ok(Ok(_)) => Err(Error::WrongAnswer("bytes behind the last answer".to_owned())),
        Ok(Err(error)) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof) => {
            Ok(())
        }
        Ok(Err(error)) => Err(Error::io("waiting for the end of a connection")(error)),
        Err(_) => {
            Err(Error::WrongAnswer("the server did not close a connection that was to be closed".to_owned()))
        }
    }
}

/// One connection of an open loop.
struct Lane<C> {
    conn: Conn,
    /// When each request under way was due, the oldest first.
    due: RefCell<VecDeque<Instant>>,
    client: RefCell<C>,
}

/// Sends each request when it is due, on one connection after the other. The CPU is its own, so it looks at the clock in
/// every turn instead of sleeping: a timer's tick would show as latency.
async fn pace<C: Client>(
    lanes: &[Rc<Lane<C>>],
    requests_per_second: f64,
    shared: &Shared,
) -> Result<(), Error> {
    let begun = runtime::time::now();
    let mut sent = 0_u64;
    let mut batches: Vec<Vec<u8>> = vec![Vec::new(); lanes.len()];
    let mut touched = Vec::new();
    loop {
        let now = runtime::time::now();
        let due_by_now = (now.duration_since(begun).as_secs_f64() * requests_per_second) as u64;
        while sent < due_by_now {
            let due = begun + Duration::from_secs_f64(sent as f64 / requests_per_second);
            let number = (sent % lanes.len() as u64) as usize;
            let (lane, batch) = (&lanes[number], &mut batches[number]);
            if batch.is_empty() {
                touched.push(number);
            }
            lane.client.borrow_mut().request(batch);
            lane.due.borrow_mut().push_back(due);
            sent += 1;
            shared.0.borrow_mut().left(due, now);
        }
        for number in touched.drain(..) {
            let batch = std::mem::take(&mut batches[number]);
            lanes[number].conn.send(batch).await.map_err(Error::io("sending"))?;
        }
        runtime::yield_now().await;
    }
}

async fn take_answers<C: Client>(lane: &Lane<C>, shared: &Shared) -> Result<(), Error> {
    loop {
        let lease = match runtime::time::timeout(LAST_ANSWERS, lane.conn.recv()).await {
            Ok(lease) => lease.map_err(Error::io("receiving"))?,
            Err(_) if lane.due.borrow().is_empty() => continue,
            Err(_) => return Err(Error::WrongAnswer(format!("none for {} s", LAST_ANSWERS.as_secs()))),
        };
        if lease.is_empty() {
            return Err(Error::WrongAnswer("the server closed the connection".to_owned()));
        }
        let mut tally = Tally { bytes: lease.len() as u64, ..Tally::default() };
        lane.client.borrow_mut().receive(&lease, &mut tally).map_err(Error::WrongAnswer)?;
        let now = runtime::time::now();
        let mut run = shared.0.borrow_mut();
        run.add(tally);
        for _ in 0..tally.answers {
            let due = lane.due.borrow_mut().pop_front();
            let due = due.ok_or_else(|| Error::WrongAnswer("an answer that nobody asked for".to_owned()))?;
            run.answered(due, now);
        }
    }
}

/// Sends so many requests of each client, each on a connection of its own, and gives what was answered to all of them.
///
/// # Errors
/// As [`run`].
pub(crate) fn complete<C: Client + 'static>(spec: &Spec, clients: Vec<(C, u64)>) -> Result<Tally, Error> {
    Ok(complete_counted(spec, clients, Counters::default)?.tally)
}

/// The same, measured from when all connections are open to the last answer.
///
/// # Errors
/// As [`run`].
pub(crate) fn complete_counted<C: Client + 'static>(
    spec: &Spec,
    clients: Vec<(C, u64)>,
    counters: impl Fn() -> Counters,
) -> Result<Seen, Error> {
    let Pace::Saturate { in_flight } = spec.pace else {
        unreachable!("so many requests are sent at full speed")
    };
    let spec = Spec { connections: clients.len(), ..spec.clone() };
    runtime::block_on(&Options { pin_to_core: Some(spec.cpu), ..Options::default() }, async {
        let shared = Run::shared();
        let conns = open(&spec).await?;
        let (begun, before, load_before) = (runtime::time::now(), counters(), LoadCpu::now());
        let sending: Vec<_> = conns
            .into_iter()
            .zip(clients)
            .map(|(conn, (mut client, count))| {
                let shared = shared.clone();
                runtime::spawn(async move { closed(&conn, &mut client, in_flight, count, &shared).await })
            })
            .collect();
        for task in sending {
            task.await?;
        }
        let (elapsed, after, load_cpu) = (begun.elapsed(), counters(), load_before.since());
        let tally = shared.0.borrow().tally();
        Ok(Seen::saturated(tally, elapsed, after.since(before), load_cpu))
    })
    .map_err(Error::io("starting the load's thread"))?
}

/// Opens `count` connections, calls `then` while they are open and idle, and closes them.
///
/// # Errors
/// When one can't be opened.
pub(crate) fn with_idle<T>(spec: &Spec, count: usize, then: impl FnOnce() -> T) -> Result<T, Error> {
    let spec = Spec { connections: count, ..spec.clone() };
    runtime::block_on(&Options { pin_to_core: Some(spec.cpu), ..Options::default() }, async {
        let conns = open(&spec).await?;
        runtime::time::sleep(Duration::from_millis(500)).await;
        let result = then();
        conns.iter().for_each(Conn::abort);
        Ok(result)
    })
    .map_err(Error::io("starting the load's thread"))?
}
