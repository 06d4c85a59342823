//! The server with the fewest running requests for its weight; among equals, in turn.

use super::{Load, Policy};

/// Where the last choice was, so that equals take turns.
#[derive(Debug, Default)]
pub struct LeastConnections {
    last: usize,
}

impl Policy for LeastConnections {
    fn choose(&mut self, servers: &[Load]) -> Option<usize> {
        // What its share would be with this request: (in_flight + 1) / weight, compared without dividing.
        let lighter = |a: &Load, b: &Load| {
            (u64::from(a.in_flight) + 1) * u64::from(b.weight)
                < (u64::from(b.in_flight) + 1) * u64::from(a.weight)
        };
        let mut best: Option<usize> = None;
        for step in 1..=servers.len() {
            let index = (self.last + step) % servers.len();
            if servers[index].available && best.is_none_or(|best| lighter(&servers[index], &servers[best])) {
                best = Some(index);
            }
        }
        self.last = best?;
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(weight: u32, in_flight: u32) -> Load {
        Load { weight, in_flight, available: true }
    }

    #[test]
    fn the_least_loaded_is_chosen() {
        let mut policy = LeastConnections::default();
        assert_eq!(policy.choose(&[server(1, 3), server(1, 1), server(1, 2)]), Some(1));
        assert_eq!(policy.choose(&[server(4, 3), server(1, 1)]), Some(0), "by weight: 4/4 against 2/1");
    }

    #[test]
    fn equals_take_turns() {
        let mut policy = LeastConnections::default();
        let servers = [server(1, 0), server(1, 0), server(1, 0)];
        let mut picks: Vec<_> = (0..6).map(|_| policy.choose(&servers).unwrap()).collect();
        picks.sort_unstable();
        assert_eq!(picks, [0, 0, 1, 1, 2, 2]);
    }

    #[test]
    fn those_not_available_are_passed_over() {
        let mut policy = LeastConnections::default();
        let mut servers = [server(1, 0), server(1, 9)];
        servers[0].available = false;
        assert_eq!(policy.choose(&servers), Some(1));
        servers[1].available = false;
        assert_eq!(policy.choose(&servers), None);
        assert_eq!(policy.choose(&[]), None);
    }
}
