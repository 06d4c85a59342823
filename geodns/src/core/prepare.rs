//! Prepares the answer to each name and type of all zones.
//!
//! What always holds: an answer is what RFC 1034 §4.3.2 gives, with RFC 2308's negative answers, RFC 4592's wildcards and
//! RFC 8482's for ANY. Aliases are followed within their zone, at most [`CHAIN_MAX`] of them; a chain that is longer or runs
//! in a circle refuses the zone. NXDOMAIN at the end of a chain is the answer's code (RFC 6604).

use std::collections::HashMap;

use wire::dns::Name;
use wire::dns::code::{class, rcode, rtype};
use wire::dns::sections::{Owner as Whose, Section, Sections, TooLong};

use super::catalogue::{Catalogue, Found, Names, Node, NodeId, ZoneAnswers, ZoneId};
use super::prepared::{Pick, Prepared, PreparedId};
use super::zone::{Owner, RecordSet, Zone};
use super::{Pool, ZoneError};

/// The most aliases in a row.
pub(super) const CHAIN_MAX: usize = 16;
/// How long the answer to ANY may be kept, in seconds: long enough that one asker does not come again at once.
const ANY_TTL_SECONDS: u32 = 3600;
/// RFC 8482 §4.2: CPU "RFC8482", OS "".
const ANY_HINFO: &[u8] = b"\x07RFC8482\x00";

/// A name of the table with what its zone says of it.
struct Site<'z> {
    zone: ZoneId,
    name: Name,
    /// None for an empty name between others.
    owner: Option<&'z Owner>,
    delegated: bool,
}

struct Preparer<'z> {
    zones: &'z [Zone],
    pools: &'z [Pool],
    names: Names,
    sites: Vec<Site<'z>>,
    prepared: Vec<Prepared>,
}

pub(super) fn build(zones: &[Zone], pools: &[Pool]) -> Result<Catalogue, ZoneError> {
    let mut preparer =
        Preparer { zones, pools, names: Names::default(), sites: Vec::new(), prepared: Vec::new() };
    preparer.place_names()?;
    preparer.check_servers()?;

    let any = preparer.keep(any_answer());
    let mut zone_answers = Vec::new();
    let mut no_data = Vec::new();
    for zone in zones {
        no_data.push(preparer.negative(zone, rcode::NOERROR)?);
        zone_answers.push(ZoneAnswers { no_such_name: preparer.negative(zone, rcode::NXDOMAIN)? });
    }
    let mut nodes = Vec::with_capacity(preparer.sites.len());
    for node in 0..preparer.sites.len() {
        nodes.push(preparer.node(NodeId(node as u32), &no_data, any)?);
    }
    Ok(Catalogue { names: preparer.names, nodes, zones: zone_answers, prepared: preparer.prepared })
}

/// RFC 8482 §4.2.
fn any_answer() -> Prepared {
    let root = Name::root();
    let mut sections = Sections::new(&root, true);
    let pushed =
        sections.push(Section::Answer, Whose::Question, rtype::HINFO, class::IN, ANY_TTL_SECONDS, ANY_HINFO);
    pushed.expect("one short record fits a message");
    Prepared::new(sections.finish(), root.as_wire().len())
}

impl<'z> Preparer<'z> {
    /// Puts all names into the table, with those that lie between an owner and its apex.
    fn place_names(&mut self) -> Result<(), ZoneError> {
        let mut apexes: HashMap<Vec<u8>, usize> = HashMap::new();
        for (i, zone) in self.zones.iter().enumerate() {
            if apexes.insert(zone.apex().to_lower().as_wire().to_vec(), i).is_some() {
                return Err(zone.error("is configured twice"));
            }
        }
        let mut placed: HashMap<Vec<u8>, NodeId> = HashMap::new();
        for (i, zone) in self.zones.iter().enumerate() {
            for owner in zone.owners() {
                let cut = zone.delegation(&owner.name);
                if cut.is_none_or(|cut| cut.name == owner.name) {
                    self.place(ZoneId(i as u32), owner, cut.is_some(), &apexes, &mut placed);
                }
            }
        }
        for node in 0..self.sites.len() {
            let site = &self.sites[node];
            if site.name.is_wildcard() && site.name != *self.zones[site.zone.0 as usize].apex() {
                let parent = site.name.parent().expect("a wildcard has a parent");
                self.names.set_wildcard(&parent, NodeId(node as u32));
            }
        }
        Ok(())
    }

    fn place(
        &mut self,
        zone: ZoneId,
        owner: &'z Owner,
        delegated: bool,
        apexes: &HashMap<Vec<u8>, usize>,
        placed: &mut HashMap<Vec<u8>, NodeId>,
    ) {
        let apex = self.zones[zone.0 as usize].apex();
        let mut between = Vec::new();
        let mut name = owner.name.clone();
        while name != *apex {
            if apexes.contains_key(name.to_lower().as_wire()) {
                return; // A deeper zone of ours has it.
            }
            let parent = name.parent().expect("an owner lies within its zone");
            between.push(std::mem::replace(&mut name, parent));
        }
        between.push(name);
        for name in between.into_iter().rev() {
            let is_owner = name == owner.name;
            let key = name.to_lower().as_wire().to_vec();
            if let Some(node) = placed.get(&key) {
                if is_owner {
                    // It was placed as an empty name above another.
                    let site = &mut self.sites[node.0 as usize];
                    (site.owner, site.delegated) = (Some(owner), delegated);
                    self.names.insert(&name, *node, zone, delegated);
                }
                continue;
            }
            let node = NodeId(self.sites.len() as u32);
            self.names.insert(&name, node, zone, is_owner && delegated);
            placed.insert(key, node);
            self.sites.push(Site {
                zone,
                name,
                owner: is_owner.then_some(owner),
                delegated: is_owner && delegated,
            });
        }
    }

    /// A zone's own servers, where they are named inside it, must have an address.
    fn check_servers(&self) -> Result<(), ZoneError> {
        for (i, zone) in self.zones.iter().enumerate() {
            let servers = zone.owner(zone.apex()).and_then(|apex| apex.set(rtype::NS));
            for server in servers.into_iter().flat_map(RecordSet::names) {
                let found = self.names.find(server.to_lower().as_wire());
                let lacks = match found {
                    Found::Node(node) => {
                        let site = &self.sites[node.0 as usize];
                        site.zone == ZoneId(i as u32) && !site.delegated && !site.has_address()
                    }
                    Found::Missing(zone) => zone == ZoneId(i as u32),
                    Found::Below(_) | Found::Foreign => false,
                };
                if lacks {
                    return Err(zone.error(format!("its server {server} has no A or AAAA record")));
                }
            }
        }
        Ok(())
    }

    fn keep(&mut self, prepared: Prepared) -> PreparedId {
        self.prepared.push(prepared);
        PreparedId((self.prepared.len() - 1) as u32)
    }

    /// NODATA or NXDOMAIN of a zone, for whatever name below its apex.
    fn negative(&mut self, zone: &Zone, code: u16) -> Result<PreparedId, ZoneError> {
        let mut sections = Sections::new(zone.apex(), false);
        push_soa(&mut sections, zone).map_err(|why| zone.error(why.to_string()))?;
        let mut prepared = Prepared::new(sections.finish(), zone.apex().as_wire().len());
        prepared.rcode = code;
        Ok(self.keep(prepared))
    }

    fn node(&mut self, id: NodeId, no_data: &[PreparedId], any: PreparedId) -> Result<Node, ZoneError> {
        let site = &self.sites[id.0 as usize];
        let zone = &self.zones[site.zone.0 as usize];
        let zone_no_data = no_data[site.zone.0 as usize];
        let Some(owner) = site.owner else {
            return Ok(Node { answers: Box::default(), otherwise: zone_no_data, any: zone_no_data });
        };
        if site.delegated {
            let referral = self.answer(id, None, None)?;
            let referral = self.keep(referral);
            // The parent answers for DS at the delegation (RFC 4035 §3.1.4.1).
            let answers = Box::new([(rtype::DS, zone_no_data)]);
            return Ok(Node { answers, otherwise: referral, any: referral });
        }

        let parent = if site.name == *zone.apex() { self.hosted_parent(zone) } else { None };
        let mut kinds = Vec::new();
        let alias = owner.set(rtype::CNAME).is_some();
        let mut otherwise = zone_no_data;
        if alias {
            kinds.push(rtype::CNAME);
            let end = self.chain_end(id)?;
            let prepared = self.answer(id, None, None)?;
            otherwise = self.keep(prepared);
            kinds.extend(end.into_iter().flat_map(|end| self.kinds(end)));
        } else {
            kinds.extend(self.kinds(id));
        }

        let mut answers = Vec::with_capacity(kinds.len() + 1);
        for kind in kinds {
            let prepared = self.answer(id, Some(kind), Some(otherwise))?;
            answers.push((kind, self.keep(prepared)));
        }
        let any = if alias { answers[0].1 } else { any };
        if let Some(parent) = parent {
            answers.push((rtype::DS, no_data[parent]));
        }
        Ok(Node { answers: answers.into_boxed_slice(), otherwise, any })
    }

    /// The types that a name has, be it by records or by a pool.
    fn kinds(&self, id: NodeId) -> Vec<u16> {
        let Some(owner) = self.sites[id.0 as usize].owner else { return Vec::new() };
        let mut kinds: Vec<u16> = owner.sets.iter().map(|set| set.rtype).collect();
        if let Some(pool) = owner.pool {
            kinds.extend([rtype::A, rtype::AAAA].iter().filter(|kind| self.pools[pool].serves(**kind)));
        }
        // Asked for most, found first.
        kinds.sort_by_key(|kind| (*kind != rtype::A, *kind != rtype::AAAA, *kind));
        kinds
    }

    /// For a zone whose parent zone is ours too, that one: it is asked for the DS of the child's apex.
    fn hosted_parent(&self, zone: &Zone) -> Option<usize> {
        let above = zone.apex().parent()?;
        let within = |other: &&Zone| above.is_within(other.apex());
        let parent = self.zones.iter().filter(within).max_by_key(|other| other.apex().labels())?;
        self.zones.iter().position(|other| std::ptr::eq(other, parent))
    }

    /// Where the chain of aliases from `id` ends inside its zone; none when it leads out or to nothing.
    fn chain_end(&self, id: NodeId) -> Result<Option<NodeId>, ZoneError> {
        let zone_id = self.sites[id.0 as usize].zone;
        let zone = &self.zones[zone_id.0 as usize];
        let first = &self.sites[id.0 as usize].name;
        let mut seen: Vec<Name> = Vec::new();
        let mut at = id;
        loop {
            let site = &self.sites[at.0 as usize];
            if site.zone != zone_id || site.delegated {
                return Ok(None);
            }
            let Some(target) = site.alias() else { return Ok(Some(at)) };
            if seen.contains(&target) || target == *first {
                return Err(zone.error(format!("the CNAME at {first} leads in a circle")));
            }
            if seen.len() == CHAIN_MAX {
                return Err(
                    zone.error(format!("the CNAME at {first} leads through more than {CHAIN_MAX} others"))
                );
            }
            let found = self.names.find(target.to_lower().as_wire());
            seen.push(target);
            match found {
                Found::Node(node) => at = node,
                Found::Below(_) | Found::Missing(_) | Found::Foreign => return Ok(None),
            }
        }
    }

    /// The answer to a question for the name `id` and `kind`; with no kind, for a type that it does not have. `no_member`
    /// is the answer when a pool has none to give.
    fn answer(
        &self,
        id: NodeId,
        kind: Option<u16>,
        no_member: Option<PreparedId>,
    ) -> Result<Prepared, ZoneError> {
        let site = &self.sites[id.0 as usize];
        let zone = &self.zones[site.zone.0 as usize];
        let draft = self.draft(id, kind, no_member);
        draft.map_err(|why| zone.error(format!("{}: {why}", site.name)))
    }

    fn draft(
        &self,
        id: NodeId,
        kind: Option<u16>,
        no_member: Option<PreparedId>,
    ) -> Result<Prepared, TooLong> {
        let start = &self.sites[id.0 as usize];
        let zone = &self.zones[start.zone.0 as usize];
        let name_bytes = start.name.as_wire().len();
        let mut sections = Sections::new(&start.name, start.name.is_wildcard());
        let done = |sections: Sections| Prepared::new(sections.finish(), name_bytes);

        if start.delegated {
            let needs_additional = push_referral(&mut sections, zone, start)?;
            let mut referral = done(sections);
            (referral.authoritative, referral.needs_additional) = (false, needs_additional);
            return Ok(referral);
        }
        let mut alias_target: Option<Name> = None;
        let mut site = start;
        while kind != Some(rtype::CNAME)
            && let Some(target) = site.alias()
        {
            let set = site.owner.and_then(|owner| owner.set(rtype::CNAME)).expect("it has an alias");
            push_set(&mut sections, Section::Answer, whose(&alias_target), set)?;
            let found = self.names.find(target.to_lower().as_wire());
            alias_target = Some(target);
            match found {
                Found::Node(node) | Found::Below(node) if self.sites[node.0 as usize].zone == start.zone => {
                    site = &self.sites[node.0 as usize];
                    if site.delegated {
                        let needs_additional = push_referral(&mut sections, zone, site)?;
                        let mut chain = done(sections);
                        chain.needs_additional = needs_additional;
                        return Ok(chain);
                    }
                }
                Found::Missing(missing) if missing == start.zone => {
                    push_soa(&mut sections, zone)?;
                    let mut chain = done(sections);
                    chain.rcode = rcode::NXDOMAIN;
                    return Ok(chain);
                }
                _ => return Ok(done(sections)),
            }
        }

        let (Some(kind), Some(owner)) = (kind, site.owner) else {
            push_soa(&mut sections, zone)?;
            return Ok(done(sections));
        };
        if let Some(set) = owner.set(kind) {
            push_set(&mut sections, Section::Answer, whose(&alias_target), set)?;
            if kind == rtype::NS {
                push_addresses(&mut sections, zone, set)?;
            }
            return Ok(done(sections));
        }
        let pool = owner.pool.expect("a name's types come from its records or its pool");
        let blank = if kind == rtype::A { &[0; 4][..] } else { &[0; 16][..] };
        let ttl = self.pools[pool].ttl();
        let at = sections.push(Section::Answer, whose(&alias_target), kind, class::IN, ttl, blank)?;
        let otherwise = no_member.expect("a pool's answer has another for when no member is in");
        let mut prepared = done(sections);
        prepared.pick = Some(Pick { pool, rtype: kind, at, otherwise });
        Ok(prepared)
    }
}

impl Site<'_> {
    fn alias(&self) -> Option<Name> {
        self.owner.and_then(|owner| owner.set(rtype::CNAME)).and_then(|set| set.names().next())
    }

    fn has_address(&self) -> bool {
        let has = |owner: &Owner| {
            owner.pool.is_some() || owner.set(rtype::A).is_some() || owner.set(rtype::AAAA).is_some()
        };
        self.owner.is_some_and(has)
    }
}

fn whose(alias_target: &Option<Name>) -> Whose<'_> {
    alias_target.as_ref().map_or(Whose::Question, Whose::Name)
}

fn push_set(
    sections: &mut Sections,
    section: Section,
    owner: Whose<'_>,
    set: &RecordSet,
) -> Result<(), TooLong> {
    for data in &set.data {
        sections.push(section, owner, set.rtype, class::IN, set.ttl, data)?;
    }
    Ok(())
}

/// The SOA that makes an answer a negative one (RFC 2308 §3, §5).
fn push_soa(sections: &mut Sections, zone: &Zone) -> Result<(), TooLong> {
    let (_, data) = zone.soa();
    let owner = Whose::Name(zone.apex());
    sections.push(Section::Authority, owner, rtype::SOA, class::IN, zone.negative_ttl(), data)?;
    Ok(())
}

/// The delegation's servers and their addresses; gives whether some of these are needed to reach them at all.
fn push_referral(sections: &mut Sections, zone: &Zone, cut: &Site<'_>) -> Result<bool, TooLong> {
    let servers = cut.owner.and_then(|owner| owner.set(rtype::NS)).expect("a delegation has servers");
    push_set(sections, Section::Authority, Whose::Name(&cut.name), servers)?;
    push_addresses(sections, zone, servers)?;
    Ok(servers.names().any(|server| server.is_within(&cut.name)))
}

/// The addresses that the zone file has for `servers`.
fn push_addresses(sections: &mut Sections, zone: &Zone, servers: &RecordSet) -> Result<(), TooLong> {
    for server in servers.names() {
        for set in zone.addresses(&server) {
            push_set(sections, Section::Additional, Whose::Name(&server), set)?;
        }
    }
    Ok(())
}
