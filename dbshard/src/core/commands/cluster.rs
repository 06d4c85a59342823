//! CLUSTER and what else only a cluster knows: who has which slots.

use crate::core::command::{Call, Reply, is_expired};
use crate::core::shard::{Refusal, Shard};
use crate::core::table::Keyed;
use crate::core::topology::{Node, Place};
use wire::resp::number;
use wire::resp::slot;

/// What a node's bus port would be; there is no bus.
const BUS_PORT_OFFSET: u32 = 10_000;

fn slot_number(text: &[u8]) -> Result<i64, Refusal> {
    number::integer(text).ok_or(Refusal::NOT_AN_INTEGER)
}

pub(crate) fn keyslot(call: &mut Call<'_>) -> Reply {
    call.out.integer(i64::from(slot::of(&call.arguments[2])));
    Ok(())
}

pub(crate) fn countkeysinslot(call: &mut Call<'_>) -> Reply {
    let slot = u16::try_from(slot_number(&call.arguments[2])?).ok().filter(|slot| *slot < slot::SLOTS);
    let slot = slot.ok_or("ERR Invalid slot")?;
    call.rest_on_all();
    call.out.integer(call.shard.keyspace.slot_len(slot) as i64);
    Ok(())
}

pub(crate) fn getkeysinslot(call: &mut Call<'_>) -> Reply {
    let slot = u16::try_from(slot_number(&call.arguments[2])?).ok().filter(|slot| *slot < slot::SLOTS);
    let most = usize::try_from(slot_number(&call.arguments[3])?).ok();
    let (Some(slot), Some(most)) = (slot, most) else {
        return Err("ERR Invalid slot or number of keys".into());
    };
    call.rest_on_all();
    let now_ms = call.now_ms;
    let entries =
        call.shard.keyspace.slot_entries(slot).filter(|entry| !is_expired(entry, now_ms)).take(most);
    let keys: Vec<&[u8]> = entries.map(Keyed::key).collect();
    call.out.array(keys.len());
    for key in keys {
        call.out.bulk(key);
    }
    Ok(())
}

pub(crate) fn myid(call: &mut Call<'_>) -> Reply {
    call.out.bulk(call.shard.node().id.as_bytes());
    Ok(())
}

fn last(place: &Place) -> u16 {
    place.slots.end - 1
}

pub(crate) fn slots(call: &mut Call<'_>) -> Reply {
    let topology = call.shard.topology.clone();
    let out = &mut call.out;
    out.array(topology.shards.len());
    for place in &topology.shards {
        // Followers that are away are left out: clients would ask them.
        let followers: Vec<&Node> = place.followers().filter(|node| !topology.is_away(node.number)).collect();
        out.array(3 + followers.len());
        out.integer(i64::from(place.slots.start));
        out.integer(i64::from(last(place)));
        for node in [place.master()].into_iter().chain(followers) {
            out.array(4);
            out.bulk(node.host.as_bytes());
            out.integer(i64::from(node.port));
            out.bulk(node.id.as_bytes());
            out.array(0);
        }
    }
    Ok(())
}

pub(crate) fn shards(call: &mut Call<'_>) -> Reply {
    let topology = call.shard.topology.clone();
    let own = call.shard.number;
    let offset = call.shard.last_index() as i64;
    let out = &mut call.out;
    out.array(topology.shards.len());
    for (number, place) in topology.shards.iter().enumerate() {
        out.map(2);
        out.bulk(b"slots");
        out.array(2);
        out.integer(i64::from(place.slots.start));
        out.integer(i64::from(last(place)));
        out.bulk(b"nodes");
        out.array(place.replicas.len());
        for (role, node) in with_roles(place) {
            out.map(7);
            out.bulk(b"id");
            out.bulk(node.id.as_bytes());
            out.bulk(b"port");
            out.integer(i64::from(node.port));
            for (name, value) in [("ip", &node.host[..]), ("endpoint", &node.host), ("role", role)] {
                out.bulk(name.as_bytes());
                out.bulk(value.as_bytes());
            }
            out.bulk(b"replication-offset");
            out.integer(if number == own { offset } else { 0 });
            out.bulk(b"health");
            out.bulk(if topology.is_away(node.number) { b"fail" } else { b"online" });
        }
    }
    Ok(())
}

/// The one that leads first.
fn with_roles(place: &Place) -> impl Iterator<Item = (&'static str, &Node)> {
    [("master", place.master())].into_iter().chain(place.followers().map(|node| ("replica", node)))
}

/// One line of `CLUSTER NODES`.
fn line(shard: &Shard, (number, place): (usize, &Place), node: &Node) -> String {
    let master = place.master();
    let leads = node.number == master.number;
    let myself = if node.number == shard.on && number == shard.number { "myself," } else { "" };
    let (away, link) = match shard.topology.is_away(node.number) {
        true => (",fail", "disconnected"),
        false => ("", "connected"),
    };
    let (role, of) = if leads { ("master", "-") } else { ("slave", &master.id[..]) };
    let (id, host, port) = (&node.id, &node.host, node.port);
    let bus = u32::from(port) + BUS_PORT_OFFSET;
    let slots = if leads { format!(" {}-{}", place.slots.start, last(place)) } else { String::new() };
    format!("{id} {host}:{port}@{bus} {myself}{role}{away} {of} 0 0 {number} {link}{slots}\n")
}

pub(crate) fn nodes(call: &mut Call<'_>) -> Reply {
    let shard = &call.shard;
    let places = shard.topology.shards.iter().enumerate();
    let text: String = places
        .flat_map(|(number, place)| {
            with_roles(place).map(move |(_, node)| line(shard, (number, place), node))
        })
        .collect();
    call.out.verbatim(&text);
    Ok(())
}

pub(crate) fn links(call: &mut Call<'_>) -> Reply {
    call.out.array(0);
    Ok(())
}

pub(crate) fn info(call: &mut Call<'_>) -> Reply {
    let shard = &call.shard;
    let topology = &shard.topology;
    let state = if shard.leads() || shard.home().leader().is_some() { "ok" } else { "fail" };
    let text = format!(
        "cluster_state:{state}\r\ncluster_slots_assigned:{slots}\r\ncluster_slots_ok:{slots}\r\ncluster_slots_pfail:0\r\n\
         cluster_slots_fail:0\r\ncluster_known_nodes:{nodes}\r\ncluster_size:{size}\r\ncluster_current_epoch:{epoch}\r\n\
         cluster_my_epoch:{mine}\r\ncluster_stats_messages_sent:0\r\ncluster_stats_messages_received:0\r\n\
         total_cluster_links_buffer_limit_exceeded:0\r\n",
        slots = slot::SLOTS,
        nodes = topology.replicas(),
        size = topology.shards.len(),
        epoch = topology.shards.len() - 1,
        mine = shard.number,
    );
    call.out.verbatim(&text);
    Ok(())
}

pub(crate) fn replicas(call: &mut Call<'_>) -> Reply {
    let id = &call.arguments[2];
    let shard = &call.shard;
    let mut places = shard.topology.shards.iter().enumerate();
    let known = |(_, place): &(usize, &Place)| place.replicas.iter().any(|node| node.id.as_bytes() == id);
    let Some((number, place)) = places.find(known) else {
        return Err(format!("ERR Unknown node {}", String::from_utf8_lossy(id)).into());
    };
    if place.master().id.as_bytes() != id {
        return Err("ERR The specified node is not a master".into());
    }
    let lines: Vec<String> =
        place.followers().map(|node| line(shard, (number, place), node).trim_end().to_owned()).collect();
    call.out.array(lines.len());
    for line in lines {
        call.out.bulk(line.as_bytes());
    }
    Ok(())
}

/// `CLUSTER ADMIT node fresh|filled`: what a node says, with whether it has anything, until it hears that it is a voter of the
/// shard's group.
pub(crate) fn admit(call: &mut Call<'_>) -> Reply {
    let node = number::integer(&call.arguments[2]).and_then(|node| u64::try_from(node).ok());
    let node = node.filter(|node| call.shard.home().replicas.iter().any(|replica| replica.number == *node));
    let (Some(node), stage) = (node, call.word(3)) else {
        return Err("ERR no node of that number has a replica of this shard".into());
    };
    let has_some = match &stage[..] {
        b"fresh" => false,
        b"filled" => true,
        _ => return Err(Refusal::SYNTAX),
    };
    if !call.shard.leads() {
        return Err(Refusal::REPLICA);
    }
    if has_some && call.shard.replication.voters.contains(&node) {
        call.out.simple("VOTER");
        return Ok(());
    }
    if node != call.shard.on && !call.shard.applicants.contains(&(node, has_some)) {
        call.shard.applicants.push((node, has_some));
    }
    call.out.ok();
    Ok(())
}

pub(crate) fn refused(call: &mut Call<'_>) -> Reply {
    let name = call.command.name.replace('|', " ").to_ascii_uppercase();
    Err(format!("ERR {name} is refused: slots are placed by the configuration of this node").into())
}

/// No slot is ever on the move while slots are placed by configuration, so there is nothing to be asked for.
pub(crate) fn asking(call: &mut Call<'_>) -> Reply {
    call.out.ok();
    Ok(())
}

pub(crate) fn readonly(call: &mut Call<'_>) -> Reply {
    call.session.readonly = true;
    call.out.ok();
    Ok(())
}

pub(crate) fn readwrite(call: &mut Call<'_>) -> Reply {
    call.session.readonly = false;
    call.out.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::core::console::{Console, replicated};
    use crate::core::shard::{Follower, Settings};

    #[test]
    fn a_cluster_of_three() {
        let mut console = Console::of(3, Settings::default());
        let id = |number: usize| format!("{number:040x}");
        console.script(
            "CLUSTER KEYSLOT foo -> (12182)
             GET foo -> MOVED 12182 127.0.0.1:7003
             SET foo bar -> MOVED 12182 127.0.0.1:7003
             MGET foo hello -> CROSSSLOT Keys in request don't hash to the same slot
             GET hello -> nil
             SET hello x -> OK
             CLUSTER COUNTKEYSINSLOT 866 -> (1)
             CLUSTER GETKEYSINSLOT 866 10 -> [hello]
             CLUSTER COUNTKEYSINSLOT 16384 -> ERR Invalid slot
             CLUSTER GETKEYSINSLOT 866 -1 -> ERR Invalid slot or number of keys
             CLUSTER COUNTKEYSINSLOT 12182 -> (0)
             CLUSTER RESET -> ERR CLUSTER RESET is refused: slots are placed by the configuration of this node
             CLUSTER REPLICAS x -> ERR Unknown node x
             CLUSTER FOO -> ERR unknown subcommand 'FOO'. Try CLUSTER HELP.
             MULTI -> OK
             GET foo -> MOVED 12182 127.0.0.1:7003
             EXEC -> EXECABORT Transaction discarded because of previous errors.
             ASKING -> OK
             READONLY -> OK
             READWRITE -> OK",
        );
        assert_eq!(console.ask("CLUSTER MYID"), id(0));
        assert_eq!(
            console.ask("CLUSTER SLOTS"),
            format!(
                "[[(0) (5460) [127.0.0.1 (7001) {} []]] [(5461) (10921) [127.0.0.1 (7002) {} []]] \
                 [(10922) (16383) [127.0.0.1 (7003) {} []]]]",
                id(0),
                id(1),
                id(2)
            )
        );
        let nodes = console.ask("CLUSTER NODES");
        assert!(nodes.starts_with(&format!(
            "{} 127.0.0.1:7001@17001 myself,master - 0 0 0 connected 0-5460\n{} 127.0.0.1:7002@17002 master",
            id(0),
            id(1)
        )));
        assert!(console.ask("CLUSTER SHARDS").starts_with("[[slots [(0) (5460)] nodes [[id 0000"));
        assert!(
            console.ask("CLUSTER INFO").starts_with("cluster_state:ok\r\ncluster_slots_assigned:16384\r\n")
        );
    }

    #[test]
    fn three_nodes_with_three_shards() {
        let topology = replicated(3, 3);
        let mut console = Console::on(topology.clone(), Settings::default());
        console.shard.replication.followers = vec![Follower { node: 2, has: 5, silent_ms: 20 }];
        let id = |node: usize, number: usize| format!("{:040x}", node * 100 + number);
        let all = console.ask("CLUSTER SLOTS");
        assert!(
            all.starts_with(&format!(
                "[[(0) (5460) [127.0.0.1 (7001) {} []] [127.0.0.1 (7011) {} []] [127.0.0.1 (7021) {} []]]",
                id(0, 0),
                id(1, 0),
                id(2, 0)
            )),
            "{all}"
        );
        console.script("SET hello x -> OK\nHELLO 3 -> {server:redis version:7.0.15 proto:(3) id:(1) mode:cluster role:master modules:[]}\nHELLO 2 -> [server redis version 7.0.15 proto (2) id (1) mode cluster role master modules []]");
        assert_eq!(console.ask("ROLE"), "[master (1) [[127.0.0.1 7011 5]]]");
        let info = console.ask("INFO replication");
        assert!(
            info.contains(
                "connected_slaves:1\r\nslave0:ip=127.0.0.1,port=7011,state=online,offset=5,lag=0\r\n"
            ),
            "{info}"
        );

        // Node 2 leads, and node 3 is away.
        topology.shards[0].set_leader(Some(2));
        topology.set_away(3, true);
        console.follow();
        console.shard.replication.leader_silent_ms = Some(1500);
        console.script(
            "GET hello -> MOVED 866 127.0.0.1:7011
             SET hello y -> MOVED 866 127.0.0.1:7011
             READONLY -> OK
             GET hello -> MOVED 866 127.0.0.1:7011
             FLUSHALL -> READONLY You can't write against a read only replica.
             CLUSTER ADMIT 3 fresh -> READONLY You can't write against a read only replica.
             ROLE -> [slave 127.0.0.1 (7011) connected (1)]",
        );
        console.shard.set_fresh(true);
        console.script(
            "GET hello -> x
             SET hello y -> MOVED 866 127.0.0.1:7011
             MULTI -> OK
             GET hello -> QUEUED
             FLUSHALL -> READONLY You can't write against a read only replica.
             EXEC -> EXECABORT Transaction discarded because of previous errors.
             READWRITE -> OK
             GET hello -> MOVED 866 127.0.0.1:7011",
        );
        let info = console.ask("INFO replication");
        assert!(info.contains("role:slave\r\nmaster_host:127.0.0.1\r\nmaster_port:7011\r\nmaster_link_status:up\r\nmaster_last_io_seconds_ago:1\r\n"), "{info}");
        let all = console.ask("CLUSTER SLOTS");
        assert!(
            all.starts_with(&format!(
                "[[(0) (5460) [127.0.0.1 (7011) {} []] [127.0.0.1 (7001) {} []]]",
                id(1, 0),
                id(0, 0)
            )),
            "{all}"
        );
        let nodes = console.ask("CLUSTER NODES");
        let first: Vec<&str> = nodes.lines().take(3).collect();
        assert_eq!(
            first,
            [
                format!("{} 127.0.0.1:7011@17011 master - 0 0 0 connected 0-5460", id(1, 0)),
                format!("{} 127.0.0.1:7001@17001 myself,slave {} 0 0 0 connected", id(0, 0), id(1, 0)),
                format!("{} 127.0.0.1:7021@17021 slave,fail {} 0 0 0 disconnected", id(2, 0), id(1, 0)),
            ]
        );
        assert_eq!(console.ask(&format!("CLUSTER REPLICAS {}", id(1, 0))).matches("slave").count(), 2);
        assert_eq!(
            console.ask(&format!("CLUSTER REPLICAS {}", id(0, 0))),
            "ERR The specified node is not a master"
        );
        assert!(console.ask("CLUSTER INFO").starts_with("cluster_state:ok"));
        // Nobody is known to lead.
        topology.shards[0].set_leader(None);
        console.follow();
        console.script("GET hello -> CLUSTERDOWN The cluster is down");
        assert!(console.ask("CLUSTER INFO").starts_with("cluster_state:fail"));
        topology.shards[0].set_leader(Some(1));
        console.shard.lead();
        console.script(
            "GET hello -> x
             CLUSTER ADMIT 3 fresh -> OK
             CLUSTER ADMIT 3 fresh -> OK
             CLUSTER ADMIT 4 fresh -> ERR no node of that number has a replica of this shard
             CLUSTER ADMIT 3 soon -> ERR syntax error",
        );
        console.shard.replication.voters = vec![1, 2];
        console.script("CLUSTER ADMIT 2 filled -> VOTER");
        assert_eq!(console.shard.take_applicants(), [(3, false)]);
    }
}
