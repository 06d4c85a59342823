//! What the server tells of itself: INFO, TIME, LOLWUT, SLOWLOG.

use std::fmt::Write as _;

use crate::core::command::{Call, Reply, TABLE};
use crate::core::commands::connection::REDIS_VERSION;
use crate::core::shard::{Follower, Shard};
use crate::core::topology::Node;
use wire::resp::number;

pub(crate) fn time(call: &mut Call<'_>) -> Reply {
    call.out.array(2);
    call.out.bulk((call.now_ms / 1000).to_string().as_bytes());
    call.out.bulk((call.now_ms % 1000 * 1000).to_string().as_bytes());
    Ok(())
}

pub(crate) fn lolwut(call: &mut Call<'_>) -> Reply {
    call.out.verbatim(&format!("Millrace dbshard, Redis ver. {REDIS_VERSION}\n"));
    Ok(())
}

pub(crate) fn slowlog_get(call: &mut Call<'_>) -> Reply {
    if call.arguments.get(2).is_some_and(|count| number::integer(count).is_none_or(|count| count < -1)) {
        return Err("ERR count should be greater than or equal to -1".into());
    }
    call.out.array(0);
    Ok(())
}

pub(crate) fn slowlog_len(call: &mut Call<'_>) -> Reply {
    call.out.integer(0);
    Ok(())
}

pub(crate) fn slowlog_reset(call: &mut Call<'_>) -> Reply {
    call.out.ok();
    Ok(())
}

type Write = fn(&mut String, &Shard, u64);

const SECTIONS: [(&str, Write); 8] = [
    ("server", server),
    ("clients", clients),
    ("memory", memory),
    ("persistence", persistence),
    ("stats", stats),
    ("replication", replication),
    ("cluster", |text, _, _| text.push_str("cluster_enabled:1\r\n")),
    ("keyspace", keyspace),
];

pub(crate) fn info(call: &mut Call<'_>) -> Reply {
    let wanted: Vec<Vec<u8>> = (1..call.arguments.len()).map(|at| call.word(at)).collect();
    let has = |name: &str| wanted.iter().any(|word| word == name.as_bytes());
    let all = wanted.is_empty() || has("all") || has("default") || has("everything");
    let mut text = String::new();
    for (name, write) in SECTIONS {
        if all || has(name) {
            head(&mut text, name);
            write(&mut text, call.shard, call.now_ms);
        }
    }
    if has("commandstats") || has("all") || has("everything") {
        head(&mut text, "commandstats");
        for (command, calls) in
            TABLE.all().iter().zip(&call.shard.stats.calls).filter(|(_, calls)| **calls > 0)
        {
            let _ = write!(text, "cmdstat_{}:calls={calls}\r\n", command.name);
        }
    }
    call.rest_on_all();
    call.out.verbatim(&text);
    Ok(())
}

fn head(text: &mut String, name: &str) {
    if !text.is_empty() {
        text.push_str("\r\n");
    }
    let (first, rest) = name.split_at(1);
    let _ = write!(text, "# {}{rest}\r\n", first.to_ascii_uppercase());
}

fn server(text: &mut String, shard: &Shard, now_ms: u64) {
    let up_s = now_ms.saturating_sub(shard.started_ms) / 1000;
    let _ = write!(
        text,
        "redis_version:{REDIS_VERSION}\r\nredis_mode:cluster\r\nserver_name:millrace\r\nmillrace_version:{}\r\nos:Linux\r\n\
         arch_bits:64\r\nprocess_id:{}\r\nrun_id:{}\r\ntcp_port:{}\r\nserver_time_usec:{}\r\nuptime_in_seconds:{up_s}\r\n\
         uptime_in_days:{}\r\n",
        env!("CARGO_PKG_VERSION"),
        shard.settings.process_id,
        shard.node().id,
        shard.node().port,
        now_ms * 1000,
        up_s / 86400,
    );
}

fn clients(text: &mut String, shard: &Shard, _: u64) {
    let _ = write!(
        text,
        "connected_clients:{}\r\nmaxclients:{}\r\nblocked_clients:0\r\n",
        shard.clients.len(),
        shard.settings.clients_max
    );
}

fn memory(text: &mut String, shard: &Shard, _: u64) {
    let _ = write!(
        text,
        "used_memory:{}\r\nused_memory_dataset:{}\r\nmaxmemory:{}\r\nmaxmemory_policy:noeviction\r\n",
        shard.used_bytes(),
        shard.used_bytes(),
        shard.settings.maxmemory_bytes
    );
}

fn persistence(text: &mut String, shard: &Shard, _: u64) {
    let _ = write!(
        text,
        "loading:0\r\naof_enabled:1\r\naof_last_write_status:{}\r\nrdb_last_save_time:{}\r\nrdb_saves:{}\r\n\
         log_last_index:{}\r\n",
        if shard.is_read_only() { "err" } else { "ok" },
        shard.stats.checkpoint_at_s,
        shard.stats.checkpoints,
        shard.last_index(),
    );
}

fn stats(text: &mut String, shard: &Shard, _: u64) {
    let stats = &shard.stats;
    let _ = write!(
        text,
        "total_connections_received:{}\r\ntotal_commands_processed:{}\r\ntotal_net_input_bytes:{}\r\n\
         total_net_output_bytes:{}\r\nrejected_connections:{}\r\nexpired_keys:{}\r\nevicted_keys:0\r\n\
         keyspace_hits:{}\r\nkeyspace_misses:{}\r\ntotal_error_replies:{}\r\n",
        stats.connections,
        stats.commands,
        stats.bytes_in,
        stats.bytes_out,
        stats.connections_refused,
        stats.expired,
        stats.hits,
        stats.misses,
        stats.errors,
    );
}

fn replication(text: &mut String, shard: &Shard, _: u64) {
    let (known, offset) = (&shard.replication, shard.applied());
    if shard.leads() {
        let _ = write!(
            text,
            "role:master\r\nvoters:{}\r\nconnected_slaves:{}\r\n",
            known.voters.len(),
            followers(shard).count()
        );
        for (number, (node, follower)) in followers(shard).enumerate() {
            let _ = write!(
                text,
                "slave{number}:ip={},port={},state=online,offset={},lag={}\r\n",
                node.host,
                node.port,
                follower.has,
                follower.silent_ms / 1000
            );
        }
    } else {
        let master = shard.home().master();
        let _ = write!(
            text,
            "role:slave\r\nmaster_host:{}\r\nmaster_port:{}\r\nmaster_link_status:{}\r\nmaster_last_io_seconds_ago:{}\r\n\
             master_sync_in_progress:{}\r\nslave_read_repl_offset:{offset}\r\nslave_repl_offset:{offset}\r\n\
             slave_priority:100\r\nslave_read_only:1\r\nreplica_announced:1\r\nconnected_slaves:0\r\n",
            master.host,
            master.port,
            link(shard).0,
            known.leader_silent_ms.map_or(-1, |ms| (ms / 1000) as i64),
            u8::from(known.is_filling),
        );
    }
    let _ = write!(
        text,
        "master_replid:{}\r\nmaster_repl_offset:{}\r\n",
        shard.home().master().id,
        shard.last_index()
    );
}

/// The replicas that follow this one and are heard.
fn followers(shard: &Shard) -> impl Iterator<Item = (&Node, &Follower)> {
    let node = |number| shard.home().replicas.iter().find(move |node| node.number == number);
    let heard = |follower: &&Follower| !shard.topology.is_away(follower.node);
    shard.replication.followers.iter().filter(heard).filter_map(move |known| Some((node(known.node)?, known)))
}

/// The link to the leader, as INFO and as ROLE tell it.
fn link(shard: &Shard) -> (&'static str, &'static str) {
    match (shard.home().leader(), shard.replication.is_filling) {
        (None, _) => ("down", "connect"),
        (Some(_), true) => ("down", "sync"),
        (Some(_), false) => ("up", "connected"),
    }
}

pub(crate) fn role(call: &mut Call<'_>) -> Reply {
    let shard = &*call.shard;
    let out = &mut *call.out;
    out.array(if shard.leads() { 3 } else { 5 });
    if shard.leads() {
        out.bulk(b"master");
        out.integer(shard.applied() as i64);
        out.array(followers(shard).count());
        for (node, follower) in followers(shard) {
            out.array(3);
            for text in [node.host.clone(), node.port.to_string(), follower.has.to_string()] {
                out.bulk(text.as_bytes());
            }
        }
    } else {
        let master = shard.home().master();
        out.bulk(b"slave");
        out.bulk(master.host.as_bytes());
        out.integer(i64::from(master.port));
        out.bulk(link(shard).1.as_bytes());
        out.integer(shard.applied() as i64);
    }
    Ok(())
}

fn keyspace(text: &mut String, shard: &Shard, _: u64) {
    if !shard.keyspace.is_empty() {
        let (keys, expires) = (shard.keyspace.len(), shard.keyspace.expiring());
        let _ = write!(text, "db0:keys={keys},expires={expires},avg_ttl=0\r\n");
    }
}
