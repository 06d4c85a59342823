//! A node's seat: which cluster it belongs to, and its number there, kept in its folder for good.
//!
//! Always holds: a token is drawn and durable before anybody is asked, so a node that dies while it joins gets the same
//! number when it asks again; a folder never changes its cluster, its number or its kind.

use std::path::PathBuf;
use std::sync::Arc;

use replog::{NodeCore, NodeId, NodeOptions, Question};
use runtime::net::Address;
use runtime::sync::{MailReceiver, MailSender, mailbox};
use runtime::{fs, time};

use super::options::Options;
use super::view::{Asked, Newer};
use crate::core::codec::{Coded, coded_struct};
use crate::core::request::{Joining, Outcome, Request};
use crate::core::wire::{self, Reply};
use crate::limits::{ASK_AGAIN, REQUESTS_WAITING_MAX};
use crate::{Error, limits};

const MAGIC: [u8; 8] = *b"MILLNODE";
const VERSION: u32 = 1;

/// What is kept. Node 0: it has no number yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) token: u64,
    pub(crate) cluster: u64,
    pub(crate) node: NodeId,
    pub(crate) kind: String,
    /// It is to found its cluster, and has not done so.
    pub(crate) founds: bool,
}

coded_struct!(Identity { token, cluster, node, kind, founds });

impl Identity {
    fn to_file(&self) -> Vec<u8> {
        let body = self.encoded();
        let mut out = MAGIC.to_vec();
        VERSION.put(&mut out);
        crc32fast::hash(&body).put(&mut out);
        out.extend_from_slice(&body);
        out
    }

    fn from_file(bytes: &[u8]) -> Result<Identity, &'static str> {
        let (magic, mut rest) = bytes.split_at_checked(8).ok_or("it is damaged")?;
        let version = u32::take(&mut rest);
        let checksum = u32::take(&mut rest);
        match () {
            () if magic != MAGIC => Err("it does not say which node this is"),
            () if version != Some(VERSION) => Err("it was written by another version of this program"),
            () if checksum != Some(crc32fast::hash(rest)) => Err("it is damaged"),
            () => Identity::from_all(rest).ok_or("it is damaged"),
        }
    }

    fn path(options: &Options) -> PathBuf {
        options.dir.join("node")
    }

    pub(crate) async fn save(&self, options: &Options) -> Result<(), Error> {
        let path = Identity::path(options);
        let written = fs::write_atomic(&path, self.to_file()).await;
        written.map_err(|error| Error::File { path, why: error.to_string() })
    }

    async fn load(options: &Options) -> Result<Option<Identity>, Error> {
        let path = Identity::path(options);
        match fs::read(&path).await {
            Ok(bytes) => match Identity::from_file(&bytes) {
                Ok(identity) => Ok(Some(identity)),
                Err(why) => Err(Error::File { path, why: why.to_owned() }),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::File { path, why: error.to_string() }),
        }
    }
}

/// A node's seat in its cluster.
pub struct Seat {
    options: Options,
    identity: Identity,
    boot: u64,
}

/// What one core of the node needs.
pub struct CoreSeat {
    pub(crate) options: Arc<Options>,
    pub(crate) identity: Identity,
    pub(crate) boot: u64,
    pub(crate) core: usize,
    pub(crate) cores: usize,
    /// Where peers find the node.
    pub(crate) peer: String,
    pub(crate) node_core: NodeCore,
    /// To core 0.
    pub(crate) requests: MailSender<Asked>,
    /// From core 0.
    pub(crate) newer: MailReceiver<Newer>,
    /// What core 0 has besides.
    pub(crate) hub: Option<HubSeat>,
}

/// What core 0 needs, for all.
pub(crate) struct HubSeat {
    pub(crate) questions: MailReceiver<Question>,
    pub(crate) requests: MailReceiver<Asked>,
    pub(crate) newer: Vec<MailSender<Newer>>,
}

impl Seat {
    /// Takes the node's seat: the one it had, or a new one, for which it founds a cluster or asks to be let in, as long as it
    /// takes.
    ///
    /// # Errors
    /// [`Error::Options`]; [`Error::File`]; [`Error::Join`] when it is not wanted.
    pub async fn take(options: Options) -> Result<Seat, Error> {
        options.check()?;
        let failed =
            |error: std::io::Error| Error::File { path: options.dir.clone(), why: error.to_string() };
        fs::create_dir_all(&options.dir).await.map_err(failed)?;
        let mut identity = match Identity::load(&options).await? {
            Some(identity) => identity,
            None => {
                let founds = options.founds();
                let identity = Identity {
                    token: runtime::random_u64(),
                    cluster: if founds { runtime::random_u64().max(1) } else { 0 },
                    node: NodeId(u64::from(founds)),
                    kind: options.kind.clone(),
                    founds,
                };
                identity.save(&options).await?;
                identity
            }
        };
        if identity.kind != options.kind {
            let why = format!("it belongs to a {} node, and this is a {} node", identity.kind, options.kind);
            return Err(Error::File { path: Identity::path(&options), why });
        }
        if identity.node == NodeId(0) {
            (identity.cluster, identity.node) = ask_in(&options, &identity).await?;
            identity.save(&options).await?;
            tracing::info!(
                node = %identity.node, cluster = format_args!("{:016x}", identity.cluster),
                "this node has joined"
            );
        }
        Ok(Seat { options, identity, boot: runtime::random_u64().max(1) })
    }

    /// The node's number.
    pub fn node(&self) -> NodeId {
        self.identity.node
    }

    /// The cluster's number.
    pub fn cluster(&self) -> u64 {
        self.identity.cluster
    }

    /// Where clients find the node, where that is known only now.
    pub fn set_clients(&mut self, clients: std::collections::BTreeMap<String, String>) {
        self.options.clients = clients;
    }

    /// Binds the node's address; gives each of so many cores its part.
    ///
    /// # Errors
    /// Those of [`NodeCore::bind`].
    pub fn bind(self, cores: usize) -> Result<Vec<CoreSeat>, Error> {
        let Seat { mut options, identity, boot } = self;
        options.groups = NodeOptions {
            node: identity.node,
            cluster: identity.cluster,
            listen: options.listen.clone(),
            ..options.groups
        };
        let mut bound = NodeCore::bind(&options.groups, cores)?;
        let (questions, questions_received) = mailbox(REQUESTS_WAITING_MAX);
        bound.iter_mut().for_each(|core| core.answer_with(questions.clone()));
        let (requests, requests_received) = mailbox(REQUESTS_WAITING_MAX);
        let (newer, newer_received): (Vec<_>, Vec<_>) = (0..cores).map(|_| mailbox(2)).unzip();
        let peer = options.announce.clone().or_else(|| bound.first().and_then(NodeCore::address));
        let peer = peer.map(|address| address.to_string()).unwrap_or_default();
        let hub = HubSeat { questions: questions_received, requests: requests_received, newer };
        let (options, mut hub) = (Arc::new(options), Some(hub));
        let parts = bound.into_iter().zip(newer_received).enumerate();
        let part = |(core, (node_core, newer))| CoreSeat {
            options: options.clone(),
            identity: identity.clone(),
            boot,
            core,
            cores,
            peer: peer.clone(),
            node_core,
            requests: requests.clone(),
            newer,
            hub: hub.take(),
        };
        Ok(parts.map(part).collect())
    }
}

impl CoreSeat {
    /// Where peers connect to; port 0 has become a port.
    pub fn peer(&self) -> &str {
        &self.peer
    }
}

/// Asks to be let in, again and again.
async fn ask_in(options: &Options, identity: &Identity) -> Result<(u64, NodeId), Error> {
    let joining = Joining { token: identity.token, name: options.name.clone(), kind: options.kind.clone() };
    let question = wire::Question::Do(Request::Join(joining)).encode();
    let (mut wait, mut said) = (ASK_AGAIN.0, String::new());
    loop {
        for seed in &options.join {
            match ask_one(options, seed, &question).await {
                Ok(joined) => return Ok(joined),
                Err(error @ Error::Join { .. }) => return Err(error),
                Err(error) if said != error.to_string() => {
                    said = error.to_string();
                    tracing::warn!(%error, "not let in yet");
                }
                Err(_) => {}
            }
        }
        time::sleep(wait).await;
        wait = (wait * 2).min(limits::ASK_AGAIN.1);
    }
}

/// Asks one node, or whom it names.
async fn ask_one(options: &Options, seed: &Address, question: &[u8]) -> Result<(u64, NodeId), Error> {
    let mut address = seed.clone();
    for _ in 0..3 {
        let never = |why: String| Error::Join { address: address.to_string(), why };
        let answer = match replog::ask(&address, options.groups.tls.as_ref(), 0, NodeId(0), question).await {
            Ok(answer) => answer,
            Err(replog::Error::Stranger { why, .. }) => return Err(never(why)),
            Err(error) => return Err(error.into()),
        };
        match Reply::decode(&answer.bytes).map_err(never)? {
            Reply::Done(Outcome::Joined(node)) => return Ok((answer.cluster, node)),
            Reply::Refused(refusal) => return Err(never(refusal.to_string())),
            Reply::Elsewhere(Some((_, other))) => match other.parse() {
                Ok(other) => address = other,
                Err(_) => break,
            },
            _ => break,
        }
    }
    Err(Error::Unavailable { why: format!("{address} names no leader") })
}
