//! Connections from peers: greeted, then read frame by frame, each item handed to the core that has its group; and from
//! those that come to ask.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use runtime::net::Listener;
use runtime::sync::MailSender;
use runtime::time;

use crate::core::peers::{self, Frames, Hello, Item};
use crate::limits::{HELLO_PATIENCE, PEER_CONNECTIONS_MAX};
use crate::shell::node::link::{self, Link, Mutual};
use crate::shell::node::peer::read_hello;
use crate::shell::node::questions::{self, Question};
use crate::{GroupId, NodeId};

/// What comes to a core.
pub(super) enum Inbound {
    Items(NodeId, Vec<(GroupId, Item)>),
    /// The node lives.
    Alive(NodeId),
}

/// Which core of the node has which group.
pub(super) struct Routes {
    pub(super) groups: RwLock<BTreeMap<GroupId, usize>>,
    pub(super) inboxes: Vec<MailSender<Inbound>>,
}

impl Routes {
    pub(super) fn set(&self, group: GroupId, core: usize) {
        self.groups.write().unwrap_or_else(PoisonError::into_inner).insert(group, core);
    }

    pub(super) fn remove(&self, group: GroupId) {
        self.groups.write().unwrap_or_else(PoisonError::into_inner).remove(&group);
    }

    /// Hands items to their cores. Those of unknown groups, and those for a full inbox, are dropped, as the network might.
    fn hand_over(&self, from: NodeId, items: Vec<(GroupId, Item)>) {
        let mut apart: BTreeMap<usize, Vec<(GroupId, Item)>> = BTreeMap::new();
        {
            let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
            for (group, item) in items {
                if let Some(core) = groups.get(&group) {
                    apart.entry(*core).or_default().push((group, item));
                }
            }
        }
        for (core, items) in apart {
            let _ = self.inboxes[core].try_send(Inbound::Items(from, items));
        }
    }

    fn alive(&self, from: NodeId) {
        for inbox in &self.inboxes {
            let _ = inbox.try_send(Inbound::Alive(from));
        }
    }
}

/// Who this node is, to those that connect.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) cluster: u64,
    pub(super) node: NodeId,
    pub(super) mutual: Option<Mutual>,
    pub(super) routes: Arc<Routes>,
    /// Who answers questions. Absent: nobody does.
    pub(super) questions: Option<MailSender<Question>>,
}

/// Accepts, until it is aborted.
pub(super) async fn accept(listener: Listener, door: Door) {
    let open = Rc::new(Cell::new(0));
    loop {
        match listener.accept().await {
            Ok((stream, address)) if open.get() < PEER_CONNECTIONS_MAX => {
                let (door, open) = (door.clone(), open.clone());
                open.set(open.get() + 1);
                runtime::spawn(async move {
                    let link =
                        time::timeout(HELLO_PATIENCE, link::accept(stream, door.mutual.as_ref())).await;
                    let served = match link.unwrap_or_else(|_| Err("no TLS handshake in time".to_owned())) {
                        Ok(link) => serve(&link, &door).await,
                        Err(why) => Err(why),
                    };
                    if let Err(why) = served {
                        tracing::warn!(peer = %address, %why, "a peer's connection is closed");
                    }
                    open.set(open.get() - 1);
                });
            }
            Ok((stream, _)) => stream.abort(),
            Err(error) => {
                tracing::warn!(%error, "can't accept a peer");
                time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(stream: &Link, door: &Door) -> Result<(), String> {
    let hello =
        time::timeout(HELLO_PATIENCE, read_hello(stream)).await.map_err(|_| "says nothing".to_owned())??;
    let hello = Hello::decode(&hello, door.cluster, door.node);
    let answer = peers::answer(&hello, door.cluster, door.node);
    stream.send(answer.to_vec()).await.map_err(|error| error.to_string())?;
    let hello = hello.map_err(|stranger| stranger.to_string())?;
    if hello.asks() {
        return questions::serve(stream, door.questions.as_ref(), hello.from).await;
    }
    let from = hello.from;
    let mut frames = Frames::default();
    loop {
        let lease = stream.recv().await.map_err(|error| error.to_string())?;
        if lease.is_empty() {
            return Ok(());
        }
        frames.feed(&lease);
        drop(lease);
        while let Some(items) = frames.next_frame().map_err(|malformed| malformed.to_string())? {
            if items.is_empty() {
                door.routes.alive(from);
            } else {
                door.routes.hand_over(from, items);
            }
        }
    }
}
