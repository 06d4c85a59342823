//! One request, on one server after another until it is answered.
//!
//! What always holds: the request's body and the answer move at the same time, each as fast as its receiver takes it; a
//! server's connection goes back only after both are whole; the client gets exactly one answer or is cut off.

use super::answer::{AnswerFault, Head, Relay};
use super::body::{BodyFault, Pump};
use super::input::Input;
use super::local::{Local, NoServer};
use super::request::{Job, Refused};
use super::tunnel;
use super::within::within;
use crate::core::attempt::{Failure, Next, Progress, counts_against};
use futures_util::future::{Either, select};
use runtime::Segment;
use std::cell::Cell;
use std::pin::{Pin, pin};
use std::rc::Rc;
use tls::Conn;

/// How a request ended, for the client's connection and the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Answered; the connection is kept.
    Kept,
    /// Answered; the connection is to be closed.
    Closing,
    /// Left to the client to repeat; the connection is to be closed.
    Unanswered,
    /// It became a tunnel, which has ended.
    Tunnelled,
    /// The client went away or stalled.
    ClientGone,
    /// The answer was cut short: the client is to be cut off.
    Cut(Failure),
}

/// What one attempt came to.
enum Attempt {
    Answered { status: u16, outcome: Outcome },
    Refuse(u16),
    ClientGone,
    Failed(Failure, Progress),
}

/// Answers `job`. `Err` is for the caller to answer.
pub(super) async fn run(
    local: &Rc<Local>,
    client: &Conn,
    input: &mut Input,
    job: &mut Job,
) -> Result<(u16, Outcome), Refused> {
    let mut last = 503;
    loop {
        let running = match local.choose(job.upstream, &job.attempts) {
            Ok(running) => running,
            Err(NoServer::AllDown) => return Err(Refused::of(job, 503)),
            Err(NoServer::AllFailed) => return Err(Refused::of(job, last)),
        };
        let server = running.server;
        job.server = Some(server);
        match attempt(local, client, input, job, server).await {
            Attempt::Answered { status, outcome } => {
                local.counts.servers[server].answered(status);
                local.report_answer(server);
                return Ok((status, outcome));
            }
            Attempt::Refuse(status) => return Err(Refused { keep: false, ..Refused::of(job, status) }),
            Attempt::ClientGone => return Ok((0, Outcome::ClientGone)),
            Attempt::Failed(failure, progress) => {
                tracing::debug!(
                    server = local.setup.servers[server].name,
                    ?failure,
                    ?progress,
                    "attempt failed"
                );
                if counts_against(failure, progress) {
                    local.report_failure(server);
                }
                match job.attempts.after(local.offset(server), failure, progress) {
                    Next::Retry => {
                        local.counts.servers[server].retries.add();
                        last = failure.status();
                    }
                    Next::Answer(status) => return Err(Refused::of(job, status)),
                    Next::Unanswered => {
                        local.counts.unanswered.add();
                        return Ok((0, Outcome::Unanswered));
                    }
                    Next::Abort => return Ok((0, Outcome::Cut(failure))),
                }
            }
        }
    }
}

async fn attempt(
    local: &Rc<Local>,
    client: &Conn,
    input: &mut Input,
    job: &mut Job,
    server: usize,
) -> Attempt {
    let failed = |failure, reused| Attempt::Failed(failure, Progress { reused, ..Progress::default() });
    let upconn = match local.connect(server, job.attempts.may_reuse()).await {
        Ok(upconn) => upconn,
        Err(failure) => return failed(failure, false),
    };
    let replayed = job.body.replay.clone().unwrap_or_default();
    let head = Segment::from(job.head.clone());
    let sent = if replayed.is_empty() {
        upconn.stream.send(head).await
    } else {
        upconn.stream.send_all([head, replayed.into()]).await
    };
    if sent.is_err() {
        return failed(Failure::Closed, upconn.reused);
    }
    let body_done = Cell::new(job.body.decoder.is_done());
    let sending = Cell::new(!body_done.get());
    let forwarded = Cell::new(false);
    let begun = Cell::new(false);
    let relay = Relay {
        local,
        client,
        server: &upconn.stream,
        asked: job.asked,
        body_done: &body_done,
        sending: &sending,
        forwarded: &forwarded,
        begun: &begun,
    };
    let mut answer = Input::default();
    let result = if body_done.get() {
        without_body(local, &relay, &mut answer).await
    } else {
        let pump = Pump { local, client, server: &upconn.stream, done: &body_done };
        // Boxed, as is all that few requests need: every idle connection has room for the largest of its futures.
        Box::pin(with_body(local, &relay, &pump, &mut answer, input, job)).await
    };
    match result {
        Ok(head) if head.upgraded => {
            Box::pin(tunnel::run(local, client, input, &upconn.stream, &mut answer, head.bytes)).await;
            Attempt::Answered { status: head.status, outcome: Outcome::Tunnelled }
        }
        Ok(head) => {
            let keep = head.plan.keep_client && body_done.get();
            if head.plan.keep_server && body_done.get() && answer.is_empty() {
                local.keep(server, upconn);
            }
            let outcome = if keep { Outcome::Kept } else { Outcome::Closing };
            Attempt::Answered { status: head.status, outcome }
        }
        Err(Fault::Answer(AnswerFault::ClientGone) | Fault::Body(BodyFault::ClientGone)) => {
            Attempt::ClientGone
        }
        Err(Fault::Body(BodyFault::Refuse(_))) if forwarded.get() => Attempt::ClientGone,
        Err(Fault::Body(BodyFault::Refuse(status))) => Attempt::Refuse(status),
        Err(fault) => {
            let failure = match fault {
                Fault::Answer(AnswerFault::Server(failure)) => failure,
                Fault::Body(BodyFault::ServerStuck) => Failure::Timeout,
                _ => Failure::Closed,
            };
            // What a server that was reused had begun to say shows that it was not merely closing.
            let reused = upconn.reused && !begun.get();
            let body_lost = job.body.is_lost();
            Attempt::Failed(failure, Progress { reused, forwarded: forwarded.get(), body_lost })
        }
    }
}

enum Fault {
    Answer(AnswerFault),
    Body(BodyFault),
}

impl From<AnswerFault> for Fault {
    fn from(fault: AnswerFault) -> Fault {
        Fault::Answer(fault)
    }
}

/// The answer to a request whose body, if it has one, is whole and sent.
async fn without_body(local: &Local, relay: &Relay<'_>, answer: &mut Input) -> Result<Head, Fault> {
    let head = first_byte(local, pin!(relay.head(answer))).await?;
    finish(relay, answer, head).await
}

/// Waits for a head as long as a server may take for its first byte. By reference: futures moved into futures are kept twice.
async fn first_byte(
    local: &Local,
    head: Pin<&mut impl Future<Output = Result<Head, AnswerFault>>>,
) -> Result<Head, AnswerFault> {
    match within(local.setup.timeouts.upstream_first_byte, head).await {
        Ok(head) => head,
        Err(_) => Err(Failure::Timeout.into()),
    }
}

/// Sends a head and its body on; a tunnel's head stays for the tunnel.
async fn finish(relay: &Relay<'_>, answer: &mut Input, head: Head) -> Result<Head, Fault> {
    if head.upgraded {
        return Ok(head);
    }
    let rest = Head { bytes: Vec::new(), ..head };
    relay.body(answer, head).await?;
    Ok(rest)
}

/// The answer to a request whose body is sent at the same time.
async fn with_body(
    local: &Local,
    relay: &Relay<'_>,
    pump: &Pump<'_>,
    answer: &mut Input,
    input: &mut Input,
    job: &mut Job,
) -> Result<Head, Fault> {
    let mut pumping = pin!(pump.run(input, &mut job.body));
    let mut pump_ended = false;
    let head = match select(pumping.as_mut(), pin!(relay.head(answer))).await {
        Either::Left((result, reading)) => {
            pump_ended = true;
            relay.sending.set(false);
            match result {
                // A server that answers early may close before it has read all: its answer may be there.
                Ok(()) | Err(BodyFault::ServerGone) => first_byte(local, reading).await?,
                Err(fault) => return Err(Fault::Body(fault)),
            }
        }
        Either::Right((head, _)) => head?,
    };
    if pump_ended {
        return finish(relay, answer, head).await;
    }
    // An early answer: the rest of the body goes on for as long as the answer does.
    match select(pin!(finish(relay, answer, head)), pumping).await {
        Either::Left((result, _)) => result,
        Either::Right((Err(BodyFault::ClientGone), _)) => Err(Fault::Body(BodyFault::ClientGone)),
        // Whatever else ended it, the client has a part of the answer and may get the rest.
        Either::Right((_, finishing)) => {
            relay.sending.set(false);
            finishing.await
        }
    }
}
