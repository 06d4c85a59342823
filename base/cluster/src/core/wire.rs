//! What nodes ask each other over the peers' port, beside the groups' own messages.
//!
//! ```text
//! question = version (1): 1, kind (1), what belongs to it
//! answer   = version (1): 1, kind (1), what belongs to it
//! ```
//!
//! Always holds: another version is refused by name, and what is no question gets no answer.

use std::sync::Arc;

use bytes::Bytes;
use replog::NodeId;

use super::codec::{Coded, coded_enum};
use super::map::Map;
use super::request::{Outcome, Refusal, Request};

const VERSION: u8 = 1;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// Do this, if you lead the metadata group.
    Do(Request),
    /// A map newer than this version, as soon as there is one.
    Newer(u64),
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Done(Outcome),
    Refused(Refusal),
    /// Ask this node, at this address, if they are known.
    Elsewhere(Option<(NodeId, String)>),
    /// It is not done now: ask again.
    Again(String),
    /// Entries behind the version that was asked for, none if there were none in time.
    Entries(Vec<Bytes>),
    /// The whole of it.
    Whole(Arc<Map>),
    /// It can't be said whether it was done.
    Unknown(String),
}

coded_enum!(Question { 1 = Do(request), 2 = Newer(version) });
coded_enum!(Reply {
    1 = Done(outcome),
    2 = Refused(refusal),
    3 = Elsewhere(node),
    4 = Again(why),
    5 = Entries(entries),
    6 = Whole(map),
    7 = Unknown(why),
});

fn encode(what: &impl Coded) -> Vec<u8> {
    let mut out = vec![VERSION];
    what.put(&mut out);
    out
}

fn decode<T: Coded>(bytes: &[u8]) -> Result<T, String> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => T::from_all(rest).ok_or_else(|| "it makes no sense".to_owned()),
        Some((version, _)) => Err(format!(
            "it speaks version {version} of the cluster's protocol, and this program version {VERSION}: run one release \
             everywhere"
        )),
        None => Err("it is empty".to_owned()),
    }
}

impl Question {
    pub(crate) fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Question, String> {
        decode(bytes)
    }
}

impl Reply {
    pub(crate) fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Reply, String> {
        decode(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::map::Actual;
    use crate::core::request::{Announced, Changed, Command, Joining, Left, Report};
    use replog::{GroupId, Index, Term};

    #[test]
    fn questions_and_replies_come_back_and_other_versions_are_refused() {
        let text = || "x".to_owned();
        let bytes = Bytes::from_static(b"b");
        let actual = Actual { index: Index(3), voters: vec![NodeId(1)], learners: vec![] };
        let questions = [
            Question::Newer(4),
            Question::Do(Request::Join(Joining { token: 1, name: text(), kind: text() })),
            Question::Do(Request::Announce(Announced {
                node: NodeId(1),
                boot: 2,
                peer: text(),
                clients: [(text(), text())].into(),
                weight: 3,
            })),
            Question::Do(Request::Report(
                NodeId(1),
                vec![Report { group: GroupId(1), term: Term(2), actual }],
            )),
            Question::Do(Request::Left(Left { node: NodeId(1), version: 3, groups: vec![GroupId(2)] })),
            Question::Do(Request::Change(vec![
                Command::Create { replicas: 3, payload: bytes.clone() },
                Command::Delete(GroupId(1)),
                Command::Payload { group: GroupId(1), since: Some(1), payload: bytes.clone() },
                Command::Replicas { group: GroupId(1), replicas: 1 },
                Command::Record { key: bytes.clone(), since: None, value: Some(bytes.clone()) },
                Command::Drain(NodeId(1)),
                Command::Return(NodeId(1)),
                Command::Remove(NodeId(1)),
            ])),
        ];
        for question in questions {
            let bytes = question.encode();
            assert_eq!(Question::decode(&bytes).as_ref(), Ok(&question));
            assert!((0..bytes.len()).all(|len| Question::decode(&bytes[..len]).is_err()));
            let newer = [&[2], &bytes[1..]].concat();
            assert!(Question::decode(&newer).is_err_and(|why| why.contains("version 2")));
        }
        let replies = [
            Reply::Done(Outcome::Joined(NodeId(3))),
            Reply::Done(Outcome::Done(Changed { version: 1, created: vec![GroupId(1)] })),
            Reply::Refused(Refusal::Removed(NodeId(3))),
            Reply::Elsewhere(Some((NodeId(2), text()))),
            Reply::Again(text()),
            Reply::Unknown(text()),
            Reply::Entries(vec![bytes]),
            Reply::Whole(Arc::new(Map::default())),
        ];
        for reply in replies {
            assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
        }
    }
}
