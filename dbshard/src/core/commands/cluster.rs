//! CLUSTER and what else only a cluster knows: who has which slots.

use crate::core::command::{Call, Reply, is_expired};
use crate::core::shard::Refusal;
use crate::core::table::Keyed;
use crate::core::topology::Node;
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

fn last(node: &Node) -> u16 {
    node.slots.end - 1
}

pub(crate) fn slots(call: &mut Call<'_>) -> Reply {
    let topology = call.shard.topology.clone();
    let out = &mut call.out;
    out.array(topology.nodes.len());
    for node in &topology.nodes {
        out.array(3);
        out.integer(i64::from(node.slots.start));
        out.integer(i64::from(last(node)));
        out.array(4);
        out.bulk(node.host.as_bytes());
        out.integer(i64::from(node.port));
        out.bulk(node.id.as_bytes());
        out.array(0);
    }
    Ok(())
}

pub(crate) fn shards(call: &mut Call<'_>) -> Reply {
    let topology = call.shard.topology.clone();
    let out = &mut call.out;
    out.array(topology.nodes.len());
    for node in &topology.nodes {
        out.map(2);
        out.bulk(b"slots");
        out.array(2);
        out.integer(i64::from(node.slots.start));
        out.integer(i64::from(last(node)));
        out.bulk(b"nodes");
        out.array(1);
        out.map(7);
        out.bulk(b"id");
        out.bulk(node.id.as_bytes());
        out.bulk(b"port");
        out.integer(i64::from(node.port));
        for (name, value) in [("ip", &node.host[..]), ("endpoint", &node.host), ("role", "master")] {
            out.bulk(name.as_bytes());
            out.bulk(value.as_bytes());
        }
        out.bulk(b"replication-offset");
        out.integer(0);
        out.bulk(b"health");
        out.bulk(b"online");
    }
    Ok(())
}

pub(crate) fn nodes(call: &mut Call<'_>) -> Reply {
    let mut text = String::new();
    for (number, node) in call.shard.topology.nodes.iter().enumerate() {
        let myself = if number == call.shard.number { "myself," } else { "" };
        let bus = u32::from(node.port) + BUS_PORT_OFFSET;
        let (id, host, port, from, to) = (&node.id, &node.host, node.port, node.slots.start, last(node));
        text.push_str(&format!(
            "{id} {host}:{port}@{bus} {myself}master - 0 0 {number} connected {from}-{to}\n"
        ));
    }
    call.out.verbatim(&text);
    Ok(())
}

pub(crate) fn links(call: &mut Call<'_>) -> Reply {
    call.out.array(0);
    Ok(())
}

pub(crate) fn info(call: &mut Call<'_>) -> Reply {
    let nodes = call.shard.topology.nodes.len();
    let text = format!(
        "cluster_state:ok\r\ncluster_slots_assigned:{slots}\r\ncluster_slots_ok:{slots}\r\ncluster_slots_pfail:0\r\n\
         cluster_slots_fail:0\r\ncluster_known_nodes:{nodes}\r\ncluster_size:{nodes}\r\ncluster_current_epoch:{epoch}\r\n\
         cluster_my_epoch:{mine}\r\ncluster_stats_messages_sent:0\r\ncluster_stats_messages_received:0\r\n\
         total_cluster_links_buffer_limit_exceeded:0\r\n",
        slots = slot::SLOTS,
        epoch = nodes - 1,
        mine = call.shard.number,
    );
    call.out.verbatim(&text);
    Ok(())
}

pub(crate) fn replicas(call: &mut Call<'_>) -> Reply {
    let id = &call.arguments[2];
    if !call.shard.topology.nodes.iter().any(|node| node.id.as_bytes() == id) {
        return Err(format!("ERR Unknown node {}", String::from_utf8_lossy(id)).into());
    }
    call.out.array(0);
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
    use crate::core::console::Console;
    use crate::core::shard::Settings;

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
}
