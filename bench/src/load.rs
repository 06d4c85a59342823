//! Closed-loop load: every connection sends a batch of requests, waits for all answers, sends the next. On CPU 1.

use crate::echo::{ANSWER, REQUEST};
use runtime::Options;
use runtime::net::{Address, Stream};
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// How many connections send, and how many requests each has under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) connections: usize,
    pub(crate) pipelined: usize,
}

/// What a run saw between its first and its last moment, the warm-up left out.
pub(crate) struct Seen {
    pub(crate) requests: u64,
    pub(crate) elapsed: Duration,
    pub(crate) cpu: Duration,
}

/// Loads `address` for `seconds` after half a second of warm-up; `cpu_time` reads the server's clock.
pub(crate) fn run(
    address: SocketAddr,
    shape: Shape,
    seconds: u64,
    cpu_time: impl Fn() -> io::Result<Duration>,
) -> io::Result<Seen> {
    let options = Options { pin_to_core: Some(1), ..Options::default() };
    runtime::block_on(&options, async {
        let answered = Rc::new(Cell::new(0));
        for _ in 0..shape.connections {
            let stream = Stream::connect(&Address::Ip(address)).await?;
            let answered = answered.clone();
            runtime::spawn(async move {
                let batch = runtime::Segment::from(REQUEST.repeat(shape.pipelined)).to_vec();
                loop {
                    stream.send(batch.clone()).await.expect("the server is there");
                    let mut left = ANSWER.len() * shape.pipelined;
                    while left > 0 {
                        let lease = stream.recv().await.expect("the server is there");
                        assert!(!lease.is_empty() && lease.len() <= left, "a wrong answer");
                        left -= lease.len();
                    }
                    answered.set(answered.get() + shape.pipelined as u64);
                }
            });
        }
        runtime::time::sleep(Duration::from_millis(500)).await;
        let (begun, cpu, before) = (runtime::time::now(), cpu_time()?, answered.get());
        runtime::time::sleep(Duration::from_secs(seconds)).await;
        Ok(Seen { requests: answered.get() - before, elapsed: begun.elapsed(), cpu: cpu_time()? - cpu })
    })?
}
