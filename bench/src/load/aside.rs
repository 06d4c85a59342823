//! Cache-aside over a trace: a `get` for each request, a `set` for each miss.
//!
//! What always holds: an object that missed is stored before it is asked for again. Requests for different objects go
//! together in a batch; a batch ends before an object that is in it already.

use super::memcached::{Answer, Answers, write_get, write_set};
use super::stream::{Spec, connect};
use super::trace::Request;
use super::{Counters, LoadCpu, Seen, Tally};
use crate::error::Error;
use runtime::Options;
use tls::Conn;

/// The most requests of a batch.
const BATCH: usize = 32;

/// Runs the trace on one connection; the first quarter fills the cache and is not counted.
///
/// # Errors
/// When the server can't be reached, closes, or answers wrongly. A refused `set` is counted, not an error: an item may be
/// too large for one server and not for the other.
pub(crate) fn run(spec: &Spec, trace: &[Request], counters: &dyn Fn() -> Counters) -> Result<Seen, Error> {
    let (filling, counted) = trace.split_at(trace.len() / 4);
    runtime::block_on(&Options { pin_to_core: Some(spec.cpu), ..Options::default() }, async {
        let mut aside = Aside { conn: connect(spec, 0).await?, answers: Answers::default() };
        aside.run(filling).await?;
        let (begun, before, load_cpu) = (runtime::time::now(), counters(), LoadCpu::now());
        let tally = aside.run(counted).await?;
        let after = counters();
        Ok(Seen::saturated(tally, begun.elapsed(), after.since(before), load_cpu.since()))
    })
    .map_err(Error::io("starting the load's thread"))?
}

struct Aside {
    conn: Conn,
    answers: Answers,
}

impl Aside {
    async fn run(&mut self, trace: &[Request]) -> Result<Tally, Error> {
        let mut tally = Tally::default();
        let mut rest = trace;
        while !rest.is_empty() {
            let mut length = 1;
            while length < rest.len().min(BATCH)
                && !rest[..length].iter().any(|request| request.object == rest[length].object)
            {
                length += 1;
            }
            let (batch, behind) = rest.split_at(length);
            self.batch(batch, &mut tally).await?;
            rest = behind;
        }
        Ok(tally)
    }

    async fn batch(&mut self, batch: &[Request], tally: &mut Tally) -> Result<(), Error> {
        let mut out = Vec::new();
        batch.iter().for_each(|request| write_get(request.object, &mut out));
        let found = self.exchange(out, batch.len(), tally).await?;
        let missed: Vec<&Request> = batch
            .iter()
            .zip(found)
            .filter(|(_, answer)| *answer != Answer::Done)
            .map(|(request, _)| request)
            .collect();
        tally.answers += batch.len() as u64;
        tally.misses += missed.len() as u64;
        if missed.is_empty() {
            return Ok(());
        }
        let mut out = Vec::new();
        missed.iter().for_each(|request| write_set(request.object, request.bytes, &mut out));
        let stored = self.exchange(out, missed.len(), tally).await?;
        tally.refused += stored.iter().filter(|answer| **answer == Answer::Refused).count() as u64;
        Ok(())
    }

    /// Sends, and waits for so many answers.
    async fn exchange(
        &mut self,
        out: Vec<u8>,
        count: usize,
        tally: &mut Tally,
    ) -> Result<Vec<Answer>, Error> {
        self.conn.send(out).await.map_err(Error::io("sending"))?;
        let mut answers = Vec::with_capacity(count);
        while answers.len() < count {
            let lease = self.conn.recv().await.map_err(Error::io("receiving"))?;
            if lease.is_empty() {
                return Err(Error::WrongAnswer("the server closed the connection".to_owned()));
            }
            tally.bytes += lease.len() as u64;
            self.answers.take(&lease, &mut |answer| answers.push(answer)).map_err(Error::WrongAnswer)?;
        }
        Ok(answers)
    }
}
