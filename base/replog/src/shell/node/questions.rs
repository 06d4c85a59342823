//! Questions to a node, and its answers, for who shares no group with it: over the peers' port, each a frame.
//!
//! Always holds: what a question or an answer may take is bounded, in bytes and in time; a connection has one question
//! open at a time; a question that is dropped unanswered ends its connection. What they mean is the owner's affair.

use std::fmt::Display;

use bytes::Bytes;
use runtime::net::Address;
use runtime::sync::{MailSender, mailbox};
use runtime::time;

use crate::core::peers::{self, Frames, Hello};
use crate::limits::{ANSWER_BYTES_MAX, ANSWER_PATIENCE, HELLO_PATIENCE, QUESTION_BYTES_MAX};
use crate::shell::node::link::{self, Link, Mutual};
use crate::shell::node::peer::read_hello;
use crate::{Error, NodeId};

/// What somebody asks of this node.
pub struct Question {
    /// Who: node 0 belongs to no cluster yet; any other number is of this cluster, as far as it says the truth.
    pub from: NodeId,
    /// What.
    pub bytes: Bytes,
    answer: MailSender<Bytes>,
}

impl Question {
    /// Answers it.
    pub fn answer(self, bytes: impl Into<Bytes>) {
        // Nobody waits any more: it was too late.
        let _ = self.answer.try_send(bytes.into());
    }
}

/// What [`ask`] gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The cluster that was met.
    pub cluster: u64,
    /// The node that was met.
    pub node: NodeId,
    /// What it says.
    pub bytes: Bytes,
}

/// Asks the node at `address`, by TLS if it is given, as node `from` of `cluster`; both 0: as one that belongs to none.
///
/// # Errors
/// [`Error::Unanswered`]; [`Error::Stranger`]: it speaks for another cluster or version.
pub async fn ask(
    address: &Address,
    mutual: Option<&Mutual>,
    cluster: u64,
    from: NodeId,
    question: &[u8],
) -> Result<Answer, Error> {
    let failed = |why: &dyn Display, asked| Error::Unanswered {
        address: address.to_string(),
        why: why.to_string(),
        asked,
    };
    let unanswered = |why: &dyn Display| failed(why, false);
    let hello = Hello::asking(cluster, from);
    let greet = async {
        let stream = link::connect(address, mutual).await.map_err(|why| unanswered(&why))?;
        stream.send(hello.encode().to_vec()).await.map_err(|error| unanswered(&error))?;
        let answer = read_hello(&stream).await.map_err(|why| unanswered(&why))?;
        let stranger = |stranger: peers::Stranger| Error::Stranger {
            address: address.to_string(),
            why: stranger.to_string(),
        };
        Ok((stream, peers::check_answer(&answer, &hello).map_err(stranger)?))
    };
    let (stream, (cluster, node)) =
        time::timeout(HELLO_PATIENCE, greet).await.map_err(|_| unanswered(&"no answer in time"))??;
    let talk = async {
        let mut frame = peers::begin_frame();
        frame.extend_from_slice(question);
        stream.send(peers::finish_frame(frame)).await.map_err(|error| failed(&error, true))?;
        match next_body(&stream, &mut Frames::default(), ANSWER_BYTES_MAX).await {
            Ok(Some(bytes)) => Ok(Answer { cluster, node, bytes }),
            Ok(None) => Err(failed(&"closed without an answer", true)),
            Err(why) => Err(failed(&why, true)),
        }
    };
    time::timeout(ANSWER_PATIENCE, talk).await.map_err(|_| failed(&"no answer in time", true))?
}

/// Takes questions, until who asks has no more.
pub(super) async fn serve(
    stream: &Link,
    questions: Option<&MailSender<Question>>,
    from: NodeId,
) -> Result<(), String> {
    let questions = questions.ok_or("it asks, and nobody answers here")?;
    let mut frames = Frames::default();
    loop {
        let question = time::timeout(HELLO_PATIENCE, next_body(stream, &mut frames, QUESTION_BYTES_MAX));
        let Some(bytes) = question.await.map_err(|_| "asks nothing".to_owned())?? else { return Ok(()) };
        let (answer, answers) = mailbox(1);
        if questions.try_send(Question { from, bytes, answer }).is_err() {
            return Err("too many questions wait".to_owned());
        }
        let mut answered = Vec::new();
        let answers = answers.recv_batch(&mut answered);
        if !time::timeout(ANSWER_PATIENCE, answers).await.map_err(|_| "not answered in time".to_owned())? {
            return Err("its question has no answer".to_owned());
        }
        for bytes in answered {
            let mut frame = peers::begin_frame();
            frame.extend_from_slice(&bytes);
            stream.send(peers::finish_frame(frame)).await.map_err(|error| error.to_string())?;
        }
    }
}

/// The next frame's body; `None`: the other end is done.
async fn next_body(stream: &Link, frames: &mut Frames, max: usize) -> Result<Option<Bytes>, String> {
    loop {
        if let Some(body) = frames.next_body(max).map_err(|malformed| malformed.to_string())? {
            return Ok(Some(body));
        }
        let lease = stream.recv().await.map_err(|error| error.to_string())?;
        if lease.is_empty() {
            return Ok(None);
        }
        frames.feed(&lease);
    }
}
