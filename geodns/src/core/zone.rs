//! A zone: its records by name, read from a zone file and checked.
//!
//! What always holds of a [`Zone`]: one SOA and at least one NS at its apex; every owner lies in it; a name with a CNAME has
//! nothing else (RFC 1034 §3.6.2); a name bound to a pool has no addresses of its own and is not delegated; a delegation to
//! a server inside itself has that server's address. Left out: DNSSEC and DNAME, which are refused rather than half served.

use std::collections::BTreeMap;

use wire::dns::Name;
use wire::dns::code::rtype;
use wire::dns::name::suffixes;
use wire::dns::rdata::soa_minimum;
use wire::dns::zone_file::{Reader, Record};

/// Why zones are not served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("zone {zone} ({source_name}): {problem}")]
pub struct ZoneError {
    /// Its name.
    pub zone: String,
    /// The file it came from.
    pub source_name: String,
    /// What is wrong, with the line where there is one.
    pub problem: String,
}

/// The records of one name and type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSet {
    /// Their type.
    pub rtype: u16,
    /// The least of their TTLs (RFC 2181 §5.2 wants them equal).
    pub ttl: u32,
    /// Their data, uncompressed, without duplicates.
    pub data: Vec<Vec<u8>>,
}

/// What a zone says of one name.
#[derive(Debug, Clone)]
pub struct Owner {
    /// The name, in the case it was first written.
    pub name: Name,
    /// Its records by type.
    pub sets: Vec<RecordSet>,
    /// The pool that its addresses come from, by its place in the configuration's order.
    pub pool: Option<usize>,
}

/// A zone.
#[derive(Debug, Clone)]
pub struct Zone {
    apex: Name,
    source_name: String,
    owners: BTreeMap<Vec<u8>, Owner>,
}

const UNSERVED: [(u16, &str); 9] = [
    (rtype::DNAME, "DNAME"),
    (rtype::SIG, "SIG"),
    (rtype::KEY, "KEY"),
    (rtype::DS, "DS"),
    (rtype::RRSIG, "RRSIG"),
    (rtype::NSEC, "NSEC"),
    (rtype::DNSKEY, "DNSKEY"),
    (rtype::NSEC3, "NSEC3"),
    (rtype::NSEC3PARAM, "NSEC3PARAM"),
];

impl Zone {
    /// Reads the zone `apex` from `text`, which came from `source_name`, and binds `pools` (a name inside the zone, and which
    /// pool) to it.
    pub fn load(
        apex: &Name,
        text: &str,
        source_name: &str,
        pools: &[(Name, usize)],
    ) -> Result<Zone, ZoneError> {
        let mut zone =
            Zone { apex: apex.clone(), source_name: source_name.to_owned(), owners: BTreeMap::new() };
        for record in Reader::new(text, apex) {
            let record = record.map_err(|why| zone.error(why.to_string()))?;
            zone.add(record)?;
        }
        for (name, pool) in pools {
            zone.owner_mut(name).pool = Some(*pool);
        }
        zone.check_apex()?;
        for owner in zone.owners.values() {
            zone.check_owner(owner)?;
        }
        Ok(zone)
    }

    /// The name that the zone begins at.
    pub fn apex(&self) -> &Name {
        &self.apex
    }

    /// The file it came from.
    pub fn source_name(&self) -> &str {
        &self.source_name
    }

    /// All names that have records or a pool, those below a delegation too.
    pub fn owners(&self) -> impl Iterator<Item = &Owner> {
        self.owners.values()
    }

    /// What is known of exactly this name.
    pub fn owner(&self, name: &Name) -> Option<&Owner> {
        self.owners.get(name.to_lower().as_wire())
    }

    /// The SOA's TTL and data.
    pub fn soa(&self) -> (u32, &[u8]) {
        let set = self.owner(&self.apex).and_then(|apex| apex.set(rtype::SOA));
        let set = set.expect("a zone is only made with an SOA");
        (set.ttl, &set.data[0])
    }

    /// How long a negative answer may be kept, in seconds: the lesser of the SOA's TTL and its minimum (RFC 2308 §5).
    pub fn negative_ttl(&self) -> u32 {
        let (ttl, data) = self.soa();
        ttl.min(soa_minimum(data).unwrap_or(0)).min(i32::MAX as u32)
    }

    /// The topmost delegation at or above `name`, below the apex.
    pub fn delegation(&self, name: &Name) -> Option<&Owner> {
        let apex = self.apex.as_wire().len();
        let above = suffixes(name.as_wire()).take_while(|suffix| suffix.len() > apex);
        let owners = above.filter_map(|suffix| self.owners.get(&suffix.to_ascii_lowercase()));
        owners.filter(|owner| owner.set(rtype::NS).is_some()).last()
    }

    /// An error of this zone.
    pub fn error(&self, problem: impl Into<String>) -> ZoneError {
        ZoneError {
            zone: self.apex.to_string(),
            source_name: self.source_name.clone(),
            problem: problem.into(),
        }
    }

    fn owner_mut(&mut self, name: &Name) -> &mut Owner {
        let key = name.to_lower().as_wire().to_vec();
        self.owners.entry(key).or_insert_with(|| Owner { name: name.clone(), sets: Vec::new(), pool: None })
    }

    fn add(&mut self, record: Record) -> Result<(), ZoneError> {
        let at = |problem: String| format!("line {}: {problem}", record.line);
        if !record.owner.is_within(&self.apex) {
            return Err(self.error(at(format!("{} lies outside the zone", record.owner))));
        }
        if let Some((_, kind)) = UNSERVED.iter().find(|(number, _)| *number == record.rtype) {
            return Err(self.error(at(format!("{kind} records are not supported"))));
        }
        let owner = self.owner_mut(&record.owner);
        let Some(set) = owner.sets.iter_mut().find(|set| set.rtype == record.rtype) else {
            owner.sets.push(RecordSet { rtype: record.rtype, ttl: record.ttl, data: vec![record.rdata] });
            return Ok(());
        };
        set.ttl = set.ttl.min(record.ttl);
        if set.data.contains(&record.rdata) {
            return Ok(());
        }
        if matches!(record.rtype, rtype::SOA | rtype::CNAME) {
            let kind = if record.rtype == rtype::SOA { "SOA" } else { "CNAME" };
            return Err(self.error(at(format!("{} has a second {kind}", record.owner))));
        }
        set.data.push(record.rdata);
        Ok(())
    }

    fn check_apex(&self) -> Result<(), ZoneError> {
        let apex = self.owner(&self.apex);
        let has = |kind| apex.is_some_and(|apex| apex.set(kind).is_some());
        if !has(rtype::SOA) {
            return Err(self.error(format!("has no SOA record at {}", self.apex)));
        }
        if !has(rtype::NS) {
            return Err(self.error(format!("has no NS record at {}", self.apex)));
        }
        Ok(())
    }

    fn check_owner(&self, owner: &Owner) -> Result<(), ZoneError> {
        let name = &owner.name;
        let is_apex = *name == self.apex;
        let addresses = owner.set(rtype::A).is_some() || owner.set(rtype::AAAA).is_some();
        if owner.set(rtype::CNAME).is_some() && (owner.sets.len() > 1 || owner.pool.is_some()) {
            return Err(
                self.error(format!("{name} has a CNAME and something else besides (RFC 1034 §3.6.2)"))
            );
        }
        if owner.set(rtype::SOA).is_some() && !is_apex {
            return Err(self.error(format!("{name} has an SOA record but is not the zone's apex")));
        }
        if owner.set(rtype::NS).is_some() && name.is_wildcard() {
            return Err(self.error(format!("{name}: a wildcard can't be delegated (RFC 4592 §4.2)")));
        }
        if owner.pool.is_some() && addresses {
            return Err(self.error(format!("{name} is bound to a pool and has A or AAAA records of its own")));
        }
        if owner.pool.is_some() && self.delegation(name).is_some() {
            return Err(self.error(format!("{name} is bound to a pool but is delegated to another server")));
        }
        if !is_apex && let Some(servers) = owner.set(rtype::NS) {
            self.check_glue(owner, servers)?;
        }
        Ok(())
    }

    /// A server inside the delegation it serves can only be found by the address that the parent gives (RFC 9471).
    fn check_glue(&self, owner: &Owner, servers: &RecordSet) -> Result<(), ZoneError> {
        for server in servers.names() {
            if server.is_within(&owner.name) && self.addresses(&server).next().is_none() {
                return Err(self.error(format!(
                    "{} is delegated to {server}, which lies inside it and has no address record here",
                    owner.name
                )));
            }
        }
        Ok(())
    }

    /// The A and AAAA records that the zone file has for `name`.
    pub fn addresses(&self, name: &Name) -> impl Iterator<Item = &RecordSet> {
        let owner = self.owner(name);
        [rtype::A, rtype::AAAA].into_iter().filter_map(move |kind| owner.and_then(|owner| owner.set(kind)))
    }
}

impl Owner {
    /// The records of type `kind`.
    pub fn set(&self, kind: u16) -> Option<&RecordSet> {
        self.sets.iter().find(|set| set.rtype == kind)
    }
}

impl RecordSet {
    /// The names that the records of a set of NS or CNAME records consist of.
    pub fn names(&self) -> impl Iterator<Item = Name> {
        self.data.iter().map(|data| Name::from_wire(data).expect("checked when the zone file was read"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "$TTL 300\n@ SOA ns hostmaster 1 2 3 4 60\n@ NS ns\nns A 192.0.2.1\n";

    fn name(text: &str) -> Name {
        Name::from_absolute_text(text).unwrap()
    }

    fn load(text: &str, pools: &[(Name, usize)]) -> Result<Zone, String> {
        Zone::load(&name("example.com"), text, "z.zone", pools).map_err(|why| why.to_string())
    }

    fn error(more: &str) -> String {
        load(&format!("{HEAD}{more}"), &[]).unwrap_err()
    }

    #[test]
    fn rfc2308_5_negative_ttl_is_the_lesser_of_ttl_and_minimum() {
        assert_eq!(load(HEAD, &[]).unwrap().negative_ttl(), 60);
        assert_eq!(load("@ 30 SOA a b 1 2 3 4 60\n@ NS ns.example.org.\n", &[]).unwrap().negative_ttl(), 30);
    }

    #[test]
    fn rfc2181_5_sets_have_one_ttl_and_no_duplicates() {
        let zone = load(&format!("{HEAD}a 60 A 192.0.2.1\nA 30 A 192.0.2.2\na A 192.0.2.1\n"), &[]).unwrap();
        let set = zone.owner(&name("a.example.com")).unwrap().set(rtype::A).unwrap();
        assert_eq!((set.ttl, set.data.len()), (30, 2));
    }

    #[test]
    fn every_refusal_names_zone_file_and_reason() {
        let of = "zone example.com. (z.zone): ";
        assert_eq!(
            load("@ 1 NS ns.example.org.", &[]).unwrap_err(),
            format!("{of}has no SOA record at example.com.")
        );
        assert_eq!(
            load("@ SOA a b 1 2 3 4 5", &[]).unwrap_err(),
            format!("{of}has no NS record at example.com.")
        );
        assert_eq!(
            load("x y z", &[]).unwrap_err(),
            format!("{of}line 1: unknown type y (any type can be written as TYPEnnn \\# length hex)")
        );
        assert_eq!(
            error("a.example.org. A 192.0.2.1"),
            format!("{of}line 5: a.example.org. lies outside the zone")
        );
        assert_eq!(error("@ SOA a b 9 2 3 4 5"), format!("{of}line 5: example.com. has a second SOA"));
        assert_eq!(error("a CNAME b\na CNAME c"), format!("{of}line 6: a.example.com. has a second CNAME"));
        assert!(error("a CNAME b\na A 192.0.2.1").contains("a CNAME and something else besides"));
        assert!(error("a SOA a b 1 2 3 4 5").contains("not the zone's apex"));
        assert!(error("*.w NS ns").contains("a wildcard can't be delegated"));
        assert!(error("sub NS ns.sub").contains("delegated to ns.sub.example.com., which lies inside it"));
        assert!(error("a TYPE39 \\# 1 00").contains("DNAME records are not supported"));
        assert!(error("a TYPE46 \\# 1 00").contains("RRSIG records are not supported"));
    }

    #[test]
    fn pools_and_records_do_not_fight() {
        let bind = |more: &str, bound: &str| load(&format!("{HEAD}{more}"), &[(name(bound), 0)]);
        assert!(bind("www TXT x", "www.example.com").is_ok());
        assert!(bind("", "new.example.com").unwrap().owner(&name("NEW.example.com")).unwrap().pool.is_some());
        assert!(
            bind("www A 192.0.2.7", "www.example.com").unwrap_err().contains("A or AAAA records of its own")
        );
        assert!(bind("www CNAME ns", "www.example.com").unwrap_err().contains("CNAME"));
        assert!(bind("sub NS x.example.org.", "a.sub.example.com").unwrap_err().contains("delegated"));
    }

    #[test]
    fn the_topmost_delegation_counts() {
        let zone = load(&format!("{HEAD}sub NS x.example.org.\na.sub NS y.example.org.\n"), &[]).unwrap();
        let cut = |text: &str| zone.delegation(&name(text)).map(|owner| owner.name.to_string());
        assert_eq!(cut("b.a.sub.example.com").as_deref(), Some("sub.example.com."));
        assert_eq!(cut("sub.example.com").as_deref(), Some("sub.example.com."));
        assert_eq!(cut("example.com"), None, "the apex's own NS is no delegation");
    }
}
