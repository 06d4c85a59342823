//! All zones' names in one table, and which of them a question meets (RFC 1034 §4.3.2, RFC 4592 §3.3).
//!
//! What always holds: the table has every name of every zone that exists, empty ones between others too (RFC 4592 §2.2.2), and
//! none that lies below a delegation or in a deeper zone of ours. So the longest ancestor of a name that the table has is its
//! closest encloser, and one that is a delegation is the one to refer to.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use wire::dns::Name;
use wire::dns::code::rtype;
use wire::dns::name::{LABELS_MAX, NAME_BYTES_MAX};

use super::prepared::{Prepared, PreparedId};
use super::zone::Zone;
use super::{Pool, ZoneError, prepare};

/// Every answer there is.
#[derive(Debug)]
pub struct Catalogue {
    pub(super) names: Names,
    pub(super) nodes: Vec<Node>,
    pub(super) zones: Vec<ZoneAnswers>,
    pub(super) prepared: Vec<Prepared>,
}

/// The answers of one name.
#[derive(Debug)]
pub(super) struct Node {
    /// By type; few, so looked through in order.
    pub(super) answers: Box<[(u16, PreparedId)]>,
    /// For the types that the name does not have.
    pub(super) otherwise: PreparedId,
    /// For ANY (RFC 8482).
    pub(super) any: PreparedId,
}

/// The answers that hang on no name of a zone.
#[derive(Debug)]
pub(super) struct ZoneAnswers {
    pub(super) no_such_name: PreparedId,
}

/// What a name met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Itself, or the wildcard that stands for it.
    Node(NodeId),
    /// A delegation above it.
    Below(NodeId),
    /// A zone that has no such name.
    Missing(ZoneId),
    /// None of our zones.
    Foreign,
}

/// A name's place in [`Catalogue::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct NodeId(pub(super) u32);

/// A zone's place in the order they were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ZoneId(pub(super) u32);

impl Catalogue {
    /// Prepares the answers of `zones`, whose names may be bound to `pools` by their place.
    pub fn build(zones: &[Zone], pools: &[Pool]) -> Result<Catalogue, ZoneError> {
        prepare::build(zones, pools)
    }

    /// How many names there are, empty ones between others included.
    pub fn names_count(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn get(&self, id: PreparedId) -> &Prepared {
        &self.prepared[id.0 as usize]
    }

    /// The answer to a question for `lower` (a wire name in lower case) and `kind`; none for a foreign name.
    pub(super) fn answer(&self, lower: &[u8], kind: u16) -> Option<&Prepared> {
        let id = match self.names.find(lower) {
            Found::Node(node) => self.nodes[node.0 as usize].answer(kind),
            Found::Below(node) => self.nodes[node.0 as usize].otherwise,
            Found::Missing(zone) => self.zones[zone.0 as usize].no_such_name,
            Found::Foreign => return None,
        };
        Some(self.get(id))
    }
}

impl Node {
    fn answer(&self, kind: u16) -> PreparedId {
        match self.answers.iter().find(|(have, _)| *have == kind) {
            Some((_, id)) => *id,
            None if kind == rtype::ANY => self.any,
            None => self.otherwise,
        }
    }
}

/// The names, in lower case and wire form.
#[derive(Debug, Default)]
pub(super) struct Names {
    table: HashMap<Box<[u8]>, Entry, BuildHasherDefault<NameHasher>>,
    /// The labels of the longest of them: longer names need not be looked for.
    labels_max: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    node: NodeId,
    zone: ZoneId,
    delegated: bool,
    wildcard: Option<NodeId>,
}

impl Names {
    /// Adds `name` of `zone`; `delegated` when the zone ends there.
    pub(super) fn insert(&mut self, name: &Name, node: NodeId, zone: ZoneId, delegated: bool) {
        self.labels_max = self.labels_max.max(name.labels());
        let key = name.to_lower().as_wire().into();
        self.table.insert(key, Entry { node, zone, delegated, wildcard: None });
    }

    /// Tells `parent`, which was inserted, of the wildcard right below it.
    pub(super) fn set_wildcard(&mut self, parent: &Name, wildcard: NodeId) {
        let entry = self.table.get_mut(parent.to_lower().as_wire());
        entry.expect("a zone's names are inserted with all that lie between").wildcard = Some(wildcard);
    }

    /// What `lower`, a valid wire name in lower case, meets.
    pub(super) fn find(&self, lower: &[u8]) -> Found {
        if let Some(entry) = self.table.get(lower) {
            return Found::Node(entry.node);
        }
        // Where each ancestor begins, the nearest first; then the root.
        let mut starts = [0u8; LABELS_MAX + 1];
        let mut count = 0;
        let mut at = 0;
        while lower[at] != 0 {
            at += 1 + usize::from(lower[at]);
            starts[count] = at as u8;
            count += 1;
        }
        let first = count.saturating_sub(self.labels_max + 1);
        for &start in &starts[first..count] {
            if let Some(entry) = self.table.get(&lower[usize::from(start)..]) {
                return match entry.wildcard {
                    _ if entry.delegated => Found::Below(entry.node),
                    Some(wildcard) => Found::Node(wildcard),
                    None => Found::Missing(entry.zone),
                };
            }
        }
        Found::Foreign
    }
}

const _: () = assert!(NAME_BYTES_MAX <= u8::MAX as usize, "a place in a name fits an octet");

/// Eight octets a step. The names in the table are the operator's own, so nobody can crowd a bucket.
#[derive(Debug, Default)]
pub(super) struct NameHasher(u64);

impl NameHasher {
    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.mix(u64::from_le_bytes(word.try_into().expect("eight octets")));
        }
        let rest = words.remainder();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.mix(u64::from_le_bytes(last));
    }

    fn write_usize(&mut self, value: usize) {
        self.mix(value as u64);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}
