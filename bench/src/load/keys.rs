//! Which keys are asked for, and how long their values are.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rand_distr::{Distribution, Zipf};

/// Bytes of a key: 16, as in the tables of peers.
pub(crate) const KEY_BYTES: usize = 16;

/// How often each key is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Popularity {
    Uniform,
    /// The n-th most popular key is asked for in proportion to n^-s.
    Zipf {
        s: f64,
    },
}

/// Draws keys out of `count`.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    count: u64,
    zipf: Option<Zipf<f64>>,
    random: SmallRng,
}

impl Keys {
    /// The same seed draws the same keys.
    pub(crate) fn new(count: u64, popularity: Popularity, seed: u64) -> Keys {
        let zipf = match popularity {
            Popularity::Uniform => None,
            Popularity::Zipf { s } => {
                Some(Zipf::new(count as f64, s).expect("a count and an exponent above 0"))
            }
        };
        Keys { count, zipf, random: SmallRng::seed_from_u64(seed) }
    }

    /// The number of the next key, below the count.
    pub(crate) fn draw(&mut self) -> u64 {
        match &self.zipf {
            None => self.random.random_range(0..self.count),
            Some(zipf) => (zipf.sample(&mut self.random) as u64).clamp(1, self.count) - 1,
        }
    }

    /// True in `share` of the calls.
    pub(crate) fn chance(&mut self, share: f64) -> bool {
        self.random.random_bool(share)
    }
}

/// Appends the key of a number: [`KEY_BYTES`] letters and digits, popular ones spread over the key space.
pub(crate) fn write_key(number: u64, out: &mut Vec<u8>) {
    // An odd factor makes this a permutation: no two numbers give one key.
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let digit = |at: usize| b"0123456789abcdef"[(mixed >> (60 - 4 * at)) as usize & 15];
    out.extend_from_slice(&std::array::from_fn::<u8, KEY_BYTES, _>(digit));
}

/// How long values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sizes {
    Fixed(usize),
    /// As a busy cache's small objects: most of some hundred bytes, some of several KiB (a generalized Pareto's shape as
    /// in Atikoglu et al., "Workload Analysis of a Large-Scale Key-Value Store", 2012, §3), from 1 byte to 8 KiB.
    Etc,
}

impl Sizes {
    /// The length of a key's value: always the same for the same key.
    pub(crate) fn of(self, number: u64) -> usize {
        match self {
            Sizes::Fixed(bytes) => bytes,
            Sizes::Etc => {
                let mixed = number
                    .wrapping_mul(0xd6e8_feb8_6659_fd93)
                    .rotate_left(29)
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let uniform = ((mixed >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
                // Generalized Pareto: scale 214.476, shape 0.348238, location 0.
                let bytes = 214.476 / 0.348_238 * (uniform.powf(-0.348_238) - 1.0);
                (bytes as usize).clamp(1, 8192)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn popular_keys_come_more_often() {
        let mut keys = Keys::new(1000, Popularity::Zipf { s: 1.0 }, 7);
        let mut counts = vec![0_u32; 1000];
        (0..100_000).for_each(|_| counts[keys.draw() as usize] += 1);
        // 1/H(1000) = 0.1336 of all for the first, half of that for the second.
        assert!((12_900..13_900).contains(&counts[0]), "{}", counts[0]);
        assert!((6_300..7_100).contains(&counts[1]), "{}", counts[1]);
    }

    #[test]
    fn keys_differ_and_have_one_length() {
        let mut seen = std::collections::HashSet::new();
        for number in 0..10_000 {
            let mut key = Vec::new();
            write_key(number, &mut key);
            let written = format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            assert_eq!(key, written.as_bytes());
            assert!(seen.insert(key));
        }
    }

    #[test]
    fn sizes_have_the_mean_of_their_distribution() {
        let sum: usize = (0..100_000).map(|number| Sizes::Etc.of(number)).sum();
        // Scale / (1 - shape) = 329, a little less by the bound.
        assert!((300..335).contains(&(sum / 100_000)), "{}", sum / 100_000);
    }
}
