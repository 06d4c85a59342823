//! Load over datagrams: many sockets, each with requests under way that are told apart by a number.
//!
//! What always holds: a lost datagram holds up nothing but its own place for [`LOST_AFTER`], and is counted; an answer that
//! comes after that is not; a wrong answer ends the run with an error.

use super::measure::{self, Run, Shared, fail};
use super::{Counters, Pace, Seen, Tally};
use crate::error::Error;
use runtime::Options;
use runtime::net::{DatagramBatch, UdpSocket, bind_udp};
use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A request that has had no answer for so long is lost.
const LOST_AFTER: Duration = Duration::from_secs(1);
/// How often a closed loop looks for losses.
const LOOK_FOR_LOSSES: Duration = Duration::from_millis(250);
/// Requests that one socket of an open loop may have under way: a power of two. The oldest is lost when there is one more.
const UNDER_WAY_MAX: usize = 4096;
/// The longest answer that is read whole.
const DATAGRAM_BYTES: usize = 1232;

/// One socket's half of a protocol: pure.
pub(crate) trait DatagramClient {
    /// Writes request `number`, and gives what its answer must be about.
    fn request(&mut self, number: u16, out: &mut Vec<u8>) -> u32;

    /// Reads an answer.
    ///
    /// # Errors
    /// What can't be right, in words.
    fn answer(&self, bytes: &[u8]) -> Result<Answer, String>;
}

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The number of its request.
    pub(crate) number: u16,
    pub(crate) found: Found,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// What was to be found, or that there is nothing where there is to be nothing; and what it is about.
    Right(u32),
    Refused,
}

/// A load.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) address: SocketAddr,
    pub(crate) sockets: usize,
    /// In a closed loop, the requests under way of each socket: a power of two.
    pub(crate) pace: Pace,
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
    /// The CPU that the load has to itself.
    pub(crate) cpu: usize,
}

/// Sends what `client` gives for each socket (by number) and counts what comes back; `counters` reads the server's.
///
/// # Errors
/// When no answer comes at all, or a wrong one.
pub(crate) fn run<C: DatagramClient + 'static>(
    spec: &Spec,
    client: impl Fn(usize) -> C,
    counters: impl Fn() -> Counters,
) -> Result<Seen, Error> {
    let any = match spec.address.ip() {
        IpAddr::V4(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        IpAddr::V6(_) => SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
    };
    let bound = (0..spec.sockets).map(|_| Ok(bind_udp(any, 1)?.remove(0)));
    let bound: Vec<_> = bound.collect::<Result<_, _>>().map_err(Error::io("binding a UDP socket"))?;
    let options = Options { pin_to_core: Some(spec.cpu), ..Options::default() };
    runtime::block_on(&options, async {
        let shared = Run::shared();
        let under_way = match spec.pace {
            Pace::Saturate { in_flight } => in_flight,
            Pace::Rate { .. } => UNDER_WAY_MAX,
        };
        let lanes = bound.into_iter().enumerate().map(|(number, bound)| {
            let window = RefCell::new(Window::new(client(number), under_way));
            Ok(Lane { socket: bound.open()?, window })
        });
        let lanes: Result<Vec<Lane<C>>, _> = lanes.collect();
        begin(spec, Rc::new(lanes.map_err(Error::io("opening a UDP socket"))?), &shared);
        measure::counted(&shared, spec.warm_up, spec.duration, counters).await
    })
    .map_err(Error::io("starting the load's thread"))?
}

fn begin<C: DatagramClient + 'static>(spec: &Spec, lanes: Rc<Vec<Lane<C>>>, shared: &Shared) {
    let again = matches!(spec.pace, Pace::Saturate { .. });
    for number in 0..lanes.len() {
        let (lanes, shared) = (lanes.clone(), shared.clone());
        runtime::spawn(async move {
            if let Err(error) = take_answers(&lanes[number], again, &shared).await {
                fail(&shared, error);
            }
        });
    }
    let (address, pace, shared) = (spec.address, spec.pace, shared.clone());
    runtime::spawn(async move {
        let result = match pace {
            Pace::Saturate { .. } => keep_asking(&lanes, address, &shared).await,
            Pace::Rate { requests_per_second } => {
                keep_pace(&lanes, address, requests_per_second, &shared).await
            }
        };
        if let Err(error) = result {
            fail(&shared, error);
        }
    });
}

/// One socket and what it has under way.
struct Lane<C> {
    socket: UdpSocket,
    window: RefCell<Window<C>>,
}

impl<C> Lane<C> {
    async fn send(&self, batch: &mut DatagramBatch) -> Result<(), Error> {
        self.socket.send_batch(batch).await.map_err(Error::io("sending"))?;
        batch.clear();
        Ok(())
    }
}

/// Takes what arrives; in a closed loop, `again`, the next request leaves in the place of each that was answered.
async fn take_answers<C: DatagramClient>(lane: &Lane<C>, again: bool, shared: &Shared) -> Result<(), Error> {
    let mut batch = DatagramBatch::new(DATAGRAM_BYTES);
    loop {
        lane.socket.recv_batch(&mut batch).await.map_err(Error::io("receiving"))?;
        let now = runtime::time::now();
        {
            let mut window = lane.window.borrow_mut();
            let mut run = shared.0.borrow_mut();
            let mut tally = Tally::default();
            for index in 0..batch.len() {
                let (bytes, _, out) = batch.exchange(index);
                let Some((place, due)) = window.take(bytes, &mut tally).map_err(Error::WrongAnswer)? else {
                    continue;
                };
                if again {
                    window.ask(place, now, out);
                } else {
                    run.answered(due, now);
                }
            }
            run.add(tally);
        }
        if again {
            lane.socket.send_batch(&mut batch).await.map_err(Error::io("sending"))?;
        }
    }
}

/// Closed loop: asks in every place at first, then again in those whose request was lost.
async fn keep_asking<C: DatagramClient>(
    lanes: &[Lane<C>],
    address: SocketAddr,
    shared: &Shared,
) -> Result<(), Error> {
    let mut batch = DatagramBatch::new(0);
    loop {
        for lane in lanes {
            let (idle, lost) = lane.window.borrow_mut().idle(runtime::time::now());
            shared.0.borrow_mut().add(Tally { lost, ..Tally::default() });
            for place in idle {
                lane.window.borrow_mut().ask(place, runtime::time::now(), batch.push(address));
                if batch.is_full() {
                    lane.send(&mut batch).await?;
                }
            }
            lane.send(&mut batch).await?;
        }
        runtime::time::sleep(LOOK_FOR_LOSSES).await;
    }
}

/// Open loop: sends each request when it is due, on one socket after the other. The CPU is its own, so it looks at the clock
/// in every turn instead of sleeping: a timer's tick would show as latency.
async fn keep_pace<C: DatagramClient>(
    lanes: &[Lane<C>],
    address: SocketAddr,
    requests_per_second: f64,
    shared: &Shared,
) -> Result<(), Error> {
    let begun = runtime::time::now();
    let mut sent = 0_u64;
    let mut batches: Vec<DatagramBatch> = lanes.iter().map(|_| DatagramBatch::new(0)).collect();
    loop {
        let now = runtime::time::now();
        let due_by_now = (now.duration_since(begun).as_secs_f64() * requests_per_second) as u64;
        while sent < due_by_now && !batches.iter().any(DatagramBatch::is_full) {
            let due = begun + Duration::from_secs_f64(sent as f64 / requests_per_second);
            let number = (sent % lanes.len() as u64) as usize;
            let place = (sent / lanes.len() as u64) as usize % UNDER_WAY_MAX;
            let is_lost = lanes[number].window.borrow_mut().ask(place, due, batches[number].push(address));
            let mut run = shared.0.borrow_mut();
            run.add(Tally { lost: u64::from(is_lost), ..Tally::default() });
            run.left(due, now);
            sent += 1;
        }
        for (lane, batch) in lanes.iter().zip(&mut batches) {
            if !batch.is_empty() {
                lane.send(batch).await?;
            }
        }
        runtime::yield_now().await;
    }
}

/// The requests of a socket that are under way, each in its place.
struct Window<C> {
    client: C,
    places: Vec<Place>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    /// Of the last request; the place by the window's size is its remainder, so that an answer names its place.
    number: u16,
    /// What its answer must be about.
    about: u32,
    /// When it was due, while it is under way.
    due: Option<Instant>,
}

impl<C: DatagramClient> Window<C> {
    fn new(client: C, places: usize) -> Window<C> {
        assert!(places.is_power_of_two() && places <= 1 << 15, "{places} places share the numbers evenly");
        let place = |number: usize| Place { number: number as u16, about: 0, due: None };
        Window { client, places: (0..places).map(place).collect() }
    }

    /// Writes the next request of a place. True when the one before was never answered.
    fn ask(&mut self, place: usize, due: Instant, out: &mut Vec<u8>) -> bool {
        let places = self.places.len();
        let place = &mut self.places[place];
        place.number = place.number.wrapping_add(places as u16);
        place.about = self.client.request(place.number, out);
        place.due.replace(due).is_some()
    }

    /// Reads an answer, counts it, and gives its place and when its request was due; none when that one is over.
    fn take(&mut self, bytes: &[u8], tally: &mut Tally) -> Result<Option<(usize, Instant)>, String> {
        let answer = self.client.answer(bytes)?;
        let index = usize::from(answer.number) % self.places.len();
        let place = &mut self.places[index];
        if place.number != answer.number {
            return Ok(None);
        }
        let Some(due) = place.due.take() else { return Ok(None) };
        tally.answers += 1;
        tally.bytes += bytes.len() as u64;
        match answer.found {
            Found::Right(about) if about != place.about => {
                Err(format!("one about {about} to a request about {}", place.about))
            }
            Found::Right(_) => Ok(Some((index, due))),
            Found::Refused => {
                tally.refused += 1;
                Ok(Some((index, due)))
            }
        }
    }

    /// The places that have nothing under way, or what was lost; and how many were lost.
    fn idle(&mut self, now: Instant) -> (Vec<usize>, u64) {
        let mut lost = 0;
        let idle = self.places.iter_mut().enumerate().filter_map(|(index, place)| {
            if place.due.is_some_and(|due| now.saturating_duration_since(due) < LOST_AFTER) {
                return None;
            }
            lost += u64::from(place.due.take().is_some());
            Some(index)
        });
        let idle = idle.collect();
        (idle, lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers are the number and what it is about: ten times the requests so far.
    struct Numbers(u32);

    impl DatagramClient for Numbers {
        fn request(&mut self, number: u16, out: &mut Vec<u8>) -> u32 {
            self.0 += 10;
            out.extend_from_slice(&number.to_be_bytes());
            out.extend_from_slice(&self.0.to_be_bytes());
            self.0
        }

        fn answer(&self, bytes: &[u8]) -> Result<Answer, String> {
            let number = u16::from_be_bytes([bytes[0], bytes[1]]);
            let about = u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]);
            Ok(Answer { number, found: Found::Right(about) })
        }
    }

    #[test]
    fn an_answer_counts_once_and_only_in_its_time() {
        let (mut window, mut tally) = (Window::new(Numbers(0), 4), Tally::default());
        let begun = Instant::now();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        assert!(!window.ask(2, begun, &mut first));
        assert_eq!(window.take(&first, &mut tally), Ok(Some((2, begun))));
        assert_eq!(window.take(&first, &mut tally), Ok(None));
        assert!(!window.ask(2, begun, &mut second));
        assert_eq!(window.take(&first, &mut tally), Ok(None));
        // A third request in that place: the second is given up.
        assert!(window.ask(2, begun, &mut Vec::new()));
        assert_eq!(window.take(&second, &mut tally), Ok(None));
        assert_eq!(tally.answers, 1);
    }

    #[test]
    fn a_lost_datagram_does_not_stall_a_closed_loop() {
        let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let spec = Spec {
            address: server.local_addr().unwrap(),
            sockets: 1,
            pace: Pace::Saturate { in_flight: 1 },
            warm_up: Duration::ZERO,
            duration: Duration::from_millis(100),
            cpu: 0,
        };
        server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let echo = move || {
            let mut bytes = [0; 64];
            // The first request has no answer; the next ones have.
            server.recv_from(&mut bytes).unwrap();
            while let Ok((length, from)) = server.recv_from(&mut bytes) {
                if length == 1 {
                    return;
                }
                server.send_to(&bytes[..length], from).unwrap();
            }
        };
        let echo = std::thread::Builder::new().spawn(echo).unwrap();
        let seen = run(&spec, |_| Numbers(0), Counters::default).unwrap();
        assert_eq!(seen.tally.lost, 1);
        assert!(seen.tally.answers > 0);
        std::net::UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", spec.address).unwrap();
        echo.join().unwrap();
    }

    #[test]
    fn an_answer_about_something_else_is_an_error() {
        let (mut window, mut request) = (Window::new(Numbers(0), 1), Vec::new());
        window.ask(0, Instant::now(), &mut request);
        request[5] = 77;
        assert_eq!(
            window.take(&request, &mut Tally::default()),
            Err("one about 77 to a request about 10".to_owned())
        );
    }

    #[test]
    fn what_is_lost_is_counted_once() {
        let mut window = Window::new(Numbers(0), 4);
        let begun = Instant::now();
        assert_eq!(window.idle(begun), (vec![0, 1, 2, 3], 0));
        window.ask(1, begun, &mut Vec::new());
        window.ask(3, begun + LOST_AFTER, &mut Vec::new());
        assert_eq!(window.idle(begun), (vec![0, 2], 0));
        assert_eq!(window.idle(begun + LOST_AFTER), (vec![0, 1, 2], 1));
        assert_eq!(window.idle(begun + LOST_AFTER), (vec![0, 1, 2], 0));
    }
}
