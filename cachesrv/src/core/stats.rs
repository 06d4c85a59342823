//! What `stats` answers, under memcached's names. The store has one size class, number 1, whose pages are segments.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::atomic::Ordering;

use super::cache::{Cache, Commands};
use super::clock::{Now, START_MS};
use super::store::Counts;

/// The whole cache in figures.
#[derive(Debug, Default, Clone)]
pub struct Totals {
    /// What clients asked for.
    pub commands: Commands,
    /// `flush_all`.
    pub flushes: u64,
    /// Items now.
    pub items: u64,
    /// Bytes of these items.
    pub item_bytes: u64,
    /// Bytes taken from the allocator for items and index.
    pub used_bytes: u64,
    /// Bytes of the index.
    pub index_bytes: u64,
    /// Segments, and the length of a standard one.
    pub segments: (u64, u64),
    /// Items ever stored.
    pub total_items: u64,
    /// Live items removed for want of memory.
    pub evictions: u64,
    /// Expired items removed while looking for memory.
    pub reclaimed: u64,
    /// Bytes received and sent.
    pub traffic: (u64, u64),
    store: Counts,
    oldest_age_s: u64,
}

/// Adds up all shards.
pub fn totals(cache: &Cache, now: Now) -> Totals {
    let mut totals = Totals { flushes: cache.flushes.load(Ordering::Relaxed), ..Totals::default() };
    for shard in cache.shards(now) {
        let (store, counts) = (&shard.store, &shard.store.counts);
        totals.commands.add(&shard.commands);
        totals.items += store.items() as u64;
        totals.item_bytes += store.live_bytes() as u64;
        totals.used_bytes += store.used_bytes() as u64;
        totals.index_bytes += store.index_bytes() as u64;
        let (segments, segment_bytes) = store.segments();
        totals.segments = (totals.segments.0 + segments as u64, segment_bytes as u64);
        totals.oldest_age_s = totals.oldest_age_s.max(store.oldest_age_s(now));
        let sum = &mut totals.store;
        sum.total_items += counts.total_items;
        sum.evictions += counts.evictions;
        sum.evicted_unfetched += counts.evicted_unfetched;
        sum.evicted_nonzero += counts.evicted_nonzero;
        sum.evicted_time_s = sum.evicted_time_s.max(counts.evicted_time_s);
        sum.expired += counts.expired;
        sum.reclaimed += counts.reclaimed;
        sum.expired_unfetched += counts.expired_unfetched;
        sum.spared += counts.spared;
        sum.out_of_memory += counts.out_of_memory;
    }
    totals.total_items = totals.store.total_items;
    totals.evictions = totals.store.evictions;
    totals.reclaimed = totals.store.reclaimed;
    totals.traffic = cache.traffic_total();
    totals
}

/// The answer to `stats <arguments>`.
pub(crate) fn answer<'a>(
    cache: &Cache,
    mut arguments: impl Iterator<Item = &'a [u8]>,
    now: Now,
    out: &mut Vec<u8>,
) {
    let mut lines = Lines { text: String::new() };
    match arguments.next() {
        None => general(cache, now, &mut lines),
        Some(b"settings") => settings(cache, &mut lines),
        Some(b"items") => items(&totals(cache, now), &mut lines),
        Some(b"slabs") => slabs(&totals(cache, now), &mut lines),
        Some(b"sizes") => sizes(cache, now, &mut lines),
        Some(switch @ (b"sizes_enable" | b"sizes_disable")) => {
            let on = switch == b"sizes_enable";
            cache.track_sizes.store(on, Ordering::Relaxed);
            lines.put("sizes_status", if on { "enabled" } else { "disabled" });
        }
        Some(b"reset") => {
            reset(cache, now);
            out.extend_from_slice(b"RESET\r\n");
            return;
        }
        Some(b"cachedump") => {
            out.extend_from_slice(b"CLIENT_ERROR stats cachedump not allowed\r\n");
            return;
        }
        Some(_) => {
            out.extend_from_slice(b"ERROR\r\n");
            return;
        }
    }
    out.extend_from_slice(lines.text.as_bytes());
    out.extend_from_slice(b"END\r\n");
}

struct Lines {
    text: String,
}

impl Lines {
    fn put(&mut self, name: impl Display, value: impl Display) {
        let _ = write!(self.text, "STAT {name} {value}\r\n");
    }
}

fn reset(cache: &Cache, now: Now) {
    cache.flushes.store(0, Ordering::Relaxed);
    cache.connections_total.store(0, Ordering::Relaxed);
    cache.connections_rejected.store(0, Ordering::Relaxed);
    for mut shard in cache.shards(now) {
        shard.commands = Commands::default();
        shard.store.counts = Counts::default();
    }
    for core in 0..cache.options.cores {
        cache.traffic(core).bytes_read.store(0, Ordering::Relaxed);
        cache.traffic(core).bytes_written.store(0, Ordering::Relaxed);
    }
}

fn general(cache: &Cache, now: Now, lines: &mut Lines) {
    let totals = totals(cache, now);
    let (commands, store) = (&totals.commands, &totals.store);
    lines.put("pid", cache.options.pid);
    lines.put("uptime", (now.ms - START_MS) / 1000);
    lines.put("time", now.unix_ms / 1000);
    lines.put("version", &cache.options.version);
    lines.put("pointer_size", usize::BITS);
    lines.put("max_connections", setting(cache, "maxconns"));
    lines.put("curr_connections", cache.connections.load(Ordering::Relaxed));
    lines.put("total_connections", cache.connections_total.load(Ordering::Relaxed));
    lines.put("rejected_connections", cache.connections_rejected.load(Ordering::Relaxed));
    lines.put("cmd_get", commands.get);
    lines.put("cmd_set", commands.set);
    lines.put("cmd_flush", totals.flushes);
    lines.put("cmd_touch", commands.touch);
    lines.put("cmd_meta", commands.meta);
    lines.put("get_hits", commands.get_hits);
    lines.put("get_misses", commands.get_misses);
    lines.put("get_expired", commands.get_expired);
    lines.put("get_flushed", 0);
    lines.put("delete_misses", commands.delete_misses);
    lines.put("delete_hits", commands.delete_hits);
    lines.put("incr_misses", commands.incr_misses);
    lines.put("incr_hits", commands.incr_hits);
    lines.put("decr_misses", commands.decr_misses);
    lines.put("decr_hits", commands.decr_hits);
    lines.put("cas_misses", commands.cas_misses);
    lines.put("cas_hits", commands.cas_hits);
    lines.put("cas_badval", commands.cas_badval);
    lines.put("touch_hits", commands.touch_hits);
    lines.put("touch_misses", commands.touch_misses);
    lines.put("store_too_large", commands.store_too_large);
    lines.put("store_no_memory", commands.store_no_memory);
    lines.put("auth_cmds", 0);
    lines.put("auth_errors", 0);
    lines.put("bytes_read", totals.traffic.0);
    lines.put("bytes_written", totals.traffic.1);
    lines.put("limit_maxbytes", cache.memory_bytes.load(Ordering::Relaxed));
    lines.put("accepting_conns", 1);
    lines.put("listen_disabled_num", 0);
    lines.put("threads", cache.options.cores);
    lines.put("hash_bytes", totals.index_bytes);
    lines.put("hash_is_expanding", 0);
    lines.put("bytes", totals.item_bytes);
    lines.put("curr_items", totals.items);
    lines.put("total_items", totals.total_items);
    lines.put("expired_unfetched", store.expired_unfetched);
    lines.put("evicted_unfetched", store.evicted_unfetched);
    lines.put("evictions", totals.evictions);
    lines.put("reclaimed", totals.reclaimed);
}

fn setting(cache: &Cache, name: &str) -> String {
    cache
        .options
        .settings
        .iter()
        .find(|(key, _)| *key == name)
        .map_or_else(String::new, |(_, value)| value.clone())
}

fn on_off(on: bool) -> &'static str {
    if on { "yes" } else { "no" }
}

fn settings(cache: &Cache, lines: &mut Lines) {
    let options = &cache.options;
    lines.put("maxbytes", cache.memory_bytes.load(Ordering::Relaxed));
    for (name, value) in &options.settings {
        lines.put(name, value);
    }
    lines.put("verbosity", cache.verbosity.load(Ordering::Relaxed));
    lines.put("evictions", if options.evict { "on" } else { "off" });
    lines.put("num_threads", options.cores);
    lines.put("cas_enabled", on_off(options.cas));
    lines.put("auth_enabled_sasl", "no");
    lines.put("auth_enabled_ascii", "no");
    lines.put("item_size_max", options.item_bytes_max);
    lines.put("flush_enabled", on_off(options.flush_all));
    lines.put("dump_enabled", "no");
    lines.put("watch_enabled", "no");
    lines.put("hash_algorithm", "xxh3");
    lines.put("track_sizes", on_off(cache.track_sizes.load(Ordering::Relaxed)));
    lines.put("binding_protocol", "ascii");
    lines.put("shutdown_command", on_off(options.shutdown_command));
    lines.put("ssl_enabled", "no");
    lines.put("shards", cache.shard_count());
}

fn items(totals: &Totals, lines: &mut Lines) {
    if totals.items == 0 {
        return;
    }
    let store = &totals.store;
    let mut put = |name: &str, value: u64| lines.put(format_args!("items:1:{name}"), value);
    put("number", totals.items);
    put("age", totals.oldest_age_s);
    put("mem_requested", totals.item_bytes);
    put("evicted", store.evictions);
    put("evicted_nonzero", store.evicted_nonzero);
    put("evicted_time", store.evicted_time_s);
    put("outofmemory", store.out_of_memory);
    put("tailrepairs", 0);
    put("reclaimed", store.reclaimed);
    put("expired_unfetched", store.expired_unfetched);
    put("evicted_unfetched", store.evicted_unfetched);
    put("moves_within_lru", store.spared);
}

fn slabs(totals: &Totals, lines: &mut Lines) {
    let (segments, segment_bytes) = totals.segments;
    if segments > 0 {
        let commands = &totals.commands;
        let mut put = |name: &str, value: u64| lines.put(format_args!("1:{name}"), value);
        put("chunk_size", segment_bytes);
        put("chunks_per_page", 1);
        put("total_pages", segments);
        put("total_chunks", segments);
        put("used_chunks", segments);
        put("free_chunks", 0);
        put("free_chunks_end", 0);
        put("get_hits", commands.get_hits);
        put("cmd_set", commands.set);
        put("delete_hits", commands.delete_hits);
        put("incr_hits", commands.incr_hits);
        put("decr_hits", commands.decr_hits);
        put("cas_hits", commands.cas_hits);
        put("cas_badval", commands.cas_badval);
        put("touch_hits", commands.touch_hits);
    }
    lines.put("active_slabs", u64::from(segments > 0));
    lines.put("total_malloced", totals.used_bytes);
}

fn sizes(cache: &Cache, now: Now, lines: &mut Lines) {
    if !cache.track_sizes.load(Ordering::Relaxed) {
        return lines.put("sizes_status", "disabled");
    }
    let mut counts = BTreeMap::new();
    for shard in cache.shards(now) {
        shard.store.count_sizes(&mut counts);
    }
    for (size, count) in counts {
        lines.put(size, count);
    }
}
