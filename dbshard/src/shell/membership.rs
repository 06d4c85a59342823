//! A shard's replicas among each other: who is heard, who lags, who should lead; and how a node is filled that has lost
//! its folder.
//!
//! Each node asks the leader of each of its shards (`CLUSTER ADMIT`, on the leader's client port), again and again, until it hears
//! that it is a voter; what it knows itself may be old. The leader takes a node that has nothing out first, as it may still
//! reckon with what the node has confirmed; then adds it without a vote, which sends it a snapshot; then, when it has
//! caught up, with its vote. Each request brings it one step further, so nothing has to be remembered.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use replog::{Change, NodeId, Term};
use runtime::net::{Address, Stream};
use runtime::time;
use wire::resp::value::{self, Value};

use super::host::Host;
use crate::core::shard::Follower;

/// How often the other replicas are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A node that is not heard for so long counts as away.
const AWAY_AFTER: Duration = Duration::from_secs(1);
/// So long a replica leads that should not, and the one that should is there, before the leadership is handed over: who has
/// just come back has work to do, or may have lost its folder.
const HAND_OVER_AFTER: Duration = Duration::from_secs(5);
/// How often a node asks that does not know to be a voter.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// How often one asks that has heard so.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// How long an answer to that may take.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);
/// Entries that a replica may lack when it gets its vote, or the leadership.
const CAUGHT_UP_ENTRIES: u64 = 1000;

/// Looks at the other replicas, again and again.
pub(super) async fn watch(host: Rc<Host>) {
    let (mut leads_since, mut there_since) = (None, None);
    let mut tried = Term(0);
    loop {
        time::sleep(LOOK_EVERY).await;
        host.look_at_replicas();
        for (node, has_some) in host.shard.borrow_mut().take_applicants() {
            runtime::spawn(admit(Rc::clone(&host), NodeId(node), has_some));
        }
        let now = time::now();
        let to = should_lead(&host);
        let leads_since = kept_since(&mut leads_since, host.shard.borrow().leads(), now);
        let there_since = kept_since(&mut there_since, to.is_some(), now);
        let term = host.role.get().term;
        if leads_since.is_some_and(|since| now - since > HAND_OVER_AFTER)
            && there_since.is_some_and(|since| now - since > HAND_OVER_AFTER)
            && tried < term
            && let Some(to) = to
        {
            // Once in a term: the lease is forfeited with it.
            tried = term;
            tracing::info!(shard = host.shard.borrow().number, %to, "the leadership is handed over");
            if let Err(error) = host.replicas().transfer(host.group, to) {
                tracing::warn!(%error, "the leadership could not be handed over");
            }
        }
    }
}

/// Since when something holds without a break, as far as it was looked at.
fn kept_since(since: &mut Option<Instant>, holds: bool, now: Instant) -> Option<Instant> {
    *since = since.filter(|_| holds).or(holds.then_some(now));
    *since
}

/// The node that is to lead the shard where it can, if it is another, is there and has everything.
fn should_lead(host: &Host) -> Option<NodeId> {
    let shard = host.shard.borrow();
    let first = shard.home().replicas.first().map(|replica| NodeId(replica.number))?;
    if first == host.node || shard.topology.is_away(first.0) {
        return None;
    }
    let members = host.replicas().members(host.group)?;
    (members.voters.contains(&first) && has_caught_up(host, first)).then_some(first)
}

fn has_caught_up(host: &Host, node: NodeId) -> bool {
    let behind = host.replicas().behind(host.group).unwrap_or_default();
    behind.get(&node).is_some_and(|entries| *entries <= CAUGHT_UP_ENTRIES)
}

impl Host {
    /// Notes how the shard's other replicas stand.
    pub(super) fn look_at_replicas(&self) {
        if self.is_alone() {
            return;
        }
        let replicas = self.replicas();
        let bound = self.config.cluster.as_ref().map_or(0, |cluster| cluster.replica_lag_ms);
        let fresh = replicas.staleness(self.group).is_some_and(|lag| lag <= Duration::from_millis(bound));
        let fresh = fresh && !self.is_patchy();
        let silent_ms = |node| replicas.unheard(node).map(|silence| silence.as_millis() as u64);
        let last = replicas.group_stats(self.group).map_or(0, |stats| stats.last.0);
        let leader = self.role.get().leader;
        let mut shard = self.shard.borrow_mut();
        for replica in &shard.home().replicas {
            if let Some(silence) = replicas.unheard(NodeId(replica.number)) {
                shard.topology.set_away(replica.number, silence > AWAY_AFTER);
            }
        }
        shard.set_fresh(fresh);
        shard.replication.leader_silent_ms = leader.and_then(silent_ms);
        shard.replication.is_filling = last == 0;
        let members = replicas.members(self.group).unwrap_or_default();
        shard.replication.voters = members.voters.iter().map(|node| node.0).collect();
        shard.replication.followers = replicas
            .behind(self.group)
            .unwrap_or_default()
            .into_iter()
            .map(|(node, behind)| Follower {
                node: node.0,
                has: last.saturating_sub(behind),
                silent_ms: silent_ms(node).unwrap_or(0),
            })
            .collect();
    }
}

/// Brings a node that asks for it one step nearer to being a voter.
async fn admit(host: Rc<Host>, node: NodeId, has_some: bool) {
    let Some(members) = host.replicas().members(host.group) else { return };
    let (is_voter, is_learner) = (members.voters.contains(&node), members.learners.contains(&node));
    let shard = host.shard.borrow().number;
    let change = match has_some {
        false if is_voter => {
            tracing::warn!(shard, %node, "the node has lost its folder: it is taken out of the shard, to be filled anew");
            Change::Out(node)
        }
        _ if !is_voter && !is_learner => Change::Learner(node),
        true if is_learner && has_caught_up(&host, node) => {
            tracing::info!(shard, %node, "the node has been filled and has its vote again");
            Change::Voter(node)
        }
        _ => return,
    };
    if let Err(error) = host.replicas().change(host.group, &[change]).await {
        tracing::warn!(shard, %node, %error, "the members of the shard's group could not be changed");
    }
}

/// Asks the other replicas whether this node is a voter of the shard's group, and to be made one.
pub(super) async fn ask_for_vote(host: Rc<Host>) {
    let mut every = ASK_EVERY;
    loop {
        time::sleep(every).await;
        every = ASK_EVERY;
        if host.shard.borrow().leads() {
            continue;
        }
        let has_some =
            host.replicas().group_stats(host.group).is_some_and(|stats| stats.last > replog::Index(0));
        let stage = if has_some { "filled" } else { "fresh" };
        for address in others(&host) {
            match time::timeout(ANSWER_PATIENCE, ask(&host, address, stage)).await {
                // Only the leader takes it.
                Ok(Ok(Some(Value::Simple(said)))) => {
                    if said == "VOTER" {
                        every = ASK_AGAIN;
                    }
                    break;
                }
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::debug!(%address, %error, "cannot ask for the vote"),
                Err(_) => tracing::debug!(%address, "no answer to the question for the vote"),
            }
        }
    }
}

/// Where clients reach the shard's other replicas.
fn others(host: &Host) -> Vec<SocketAddr> {
    let (shard, Some(cluster)) = (host.shard.borrow(), &host.config.cluster) else { return Vec::new() };
    let others = cluster.nodes.iter().filter(|node| {
        node.id != cluster.node && shard.home().replicas.iter().any(|replica| replica.number == node.id)
    });
    let address = |node: &crate::config::ClusterNode| {
        let host = node.host.parse::<IpAddr>().unwrap_or(node.peer.ip());
        SocketAddr::new(host, node.port + shard.number as u16)
    };
    others.map(address).collect()
}

/// What the replica says; `None`: it has hung up.
async fn ask(host: &Host, address: SocketAddr, stage: &str) -> io::Result<Option<Value>> {
    let stream = Stream::connect(&Address::Ip(address)).await?;
    let mut request = Vec::new();
    if let Some(password) = &host.config.password {
        value::request(&mut request, &["AUTH", password.expose()]);
    }
    value::request(&mut request, &["CLUSTER", "ADMIT", &host.node.0.to_string(), stage]);
    let wanted = 1 + usize::from(host.config.password.is_some());
    stream.send(request).await?;
    let (mut received, mut replies) = (Vec::new(), Vec::new());
    while replies.len() < wanted {
        let lease = stream.recv().await?;
        if lease.is_empty() {
            return Ok(None);
        }
        received.extend_from_slice(&lease);
        while let Some((reply, taken)) = value::decode(&received).map_err(io::Error::other)? {
            replies.push(reply);
            received.drain(..taken);
        }
    }
    Ok(replies.pop())
}
