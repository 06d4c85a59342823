//! A pool: addresses among which each answer chooses by weight.
//!
//! What always holds: a member is chosen with the probability of its weight among those of its address family; weight 0 is
//! out. The pool alone decides who can be chosen, so that a member's health can come to bear here and nowhere else.

use std::net::IpAddr;

use wire::dns::code::rtype;

/// The most members that a pool may have.
pub const MEMBERS_MAX: usize = 1024;

/// One address of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// IPv4 for A answers, IPv6 for AAAA answers.
    pub address: IpAddr,
    /// Its share, relative to the other members' of its family; 0 takes it out.
    pub weight: u32,
}

/// Addresses behind one or more names.
#[derive(Debug, Clone)]
pub struct Pool {
    ttl: u32,
    v4: Family,
    v6: Family,
}

/// The members of one address family.
#[derive(Debug, Clone, Default)]
struct Family {
    /// Their addresses, those of IPv4 in the first four octets.
    octets: Vec<[u8; 16]>,
    /// The sum of the weights up to and with each member.
    ends: Vec<u64>,
}

impl Pool {
    /// A pool of `members`, whose answers may be kept for `ttl` seconds.
    ///
    /// # Panics
    /// When there are more than [`MEMBERS_MAX`] members; the configuration checks it.
    pub fn new(ttl: u32, members: &[Member]) -> Pool {
        assert!(members.len() <= MEMBERS_MAX, "a pool of {} members", members.len());
        let mut pool = Pool { ttl, v4: Family::default(), v6: Family::default() };
        for member in members {
            match member.address {
                IpAddr::V4(address) => {
                    let mut octets = [0; 16];
                    octets[..4].copy_from_slice(&address.octets());
                    pool.v4.add(octets, member.weight);
                }
                IpAddr::V6(address) => pool.v6.add(address.octets(), member.weight),
            }
        }
        pool
    }

    /// How long an answer may be kept, in seconds.
    pub fn ttl(&self) -> u32 {
        self.ttl
    }

    /// Whether answers of type `kind` (A or AAAA) come from this pool at all, be all of the members out or not.
    pub fn serves(&self, kind: u16) -> bool {
        self.family(kind).is_some_and(|family| !family.octets.is_empty())
    }

    /// The address that `random`, evenly distributed over all of u64, falls on, as the data of a record of type `kind` (A or
    /// AAAA); none when no member of that family is in.
    pub fn choose(&self, kind: u16, random: u64) -> Option<&[u8]> {
        let chosen = self.family(kind)?.choose(random)?;
        Some(if kind == rtype::A { &chosen[..4] } else { chosen })
    }

    fn family(&self, kind: u16) -> Option<&Family> {
        match kind {
            rtype::A => Some(&self.v4),
            rtype::AAAA => Some(&self.v6),
            _ => None,
        }
    }
}

impl Family {
    fn add(&mut self, octets: [u8; 16], weight: u32) {
        let total = self.ends.last().copied().unwrap_or(0);
        self.octets.push(octets);
        self.ends.push(total + u64::from(weight));
    }

    fn choose(&self, random: u64) -> Option<&[u8; 16]> {
        let total = self.ends.last().copied().unwrap_or(0);
        // Scales `random` to 0..total; the error of each share is below total / 2^64.
        let drawn = ((u128::from(random) * u128::from(total)) >> 64) as u64;
        self.octets.get(self.ends.partition_point(|&end| end <= drawn))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(address: &str, weight: u32) -> Member {
        Member { address: address.parse().unwrap(), weight }
    }

    /// SplitMix64: a fixed seed gives the same draws for ever.
    pub(crate) fn draws(mut seed: u64) -> impl Iterator<Item = u64> {
        std::iter::repeat_with(move || {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = seed;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        })
    }

    #[test]
    fn shares_follow_the_weights() {
        let pool = Pool::new(30, &[member("192.0.2.1", 70), member("192.0.2.2", 0), member("192.0.2.3", 30)]);
        let mut counts = [0u32; 4];
        for random in draws(7).take(100_000) {
            counts[usize::from(pool.choose(rtype::A, random).unwrap()[3])] += 1;
        }
        assert_eq!(counts[2], 0, "weight 0 is out");
        // Four standard deviations of a binomial of 100,000 at 0.7 are 580.
        assert!(counts[1].abs_diff(70_000) < 580, "{counts:?}");
        assert_eq!(counts[1] + counts[3], 100_000);
    }

    #[test]
    fn the_ends_of_the_range_fall_on_the_first_and_the_last_that_are_in() {
        let members = [("192.0.2.1", 0), ("192.0.2.2", 1), ("192.0.2.3", u32::MAX), ("192.0.2.4", 0)];
        let pool = Pool::new(30, &members.map(|(address, weight)| member(address, weight)));
        assert_eq!(pool.choose(rtype::A, 0), Some(&[192, 0, 2, 2][..]));
        assert_eq!(pool.choose(rtype::A, u64::MAX), Some(&[192, 0, 2, 3][..]));
    }

    #[test]
    fn families_are_apart() {
        let pool = Pool::new(30, &[member("192.0.2.1", 1), member("2001:db8::1", 0)]);
        assert!(pool.serves(rtype::A) && pool.serves(rtype::AAAA) && !pool.serves(rtype::MX));
        assert_eq!(pool.choose(rtype::A, 5), Some(&[192, 0, 2, 1][..]));
        assert_eq!(pool.choose(rtype::AAAA, 5), None, "all of the family are out");
        assert!(!Pool::new(30, &[member("192.0.2.1", 1)]).serves(rtype::AAAA));
    }
}
