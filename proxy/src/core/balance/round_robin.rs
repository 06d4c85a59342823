//! In turn, by weight, the turns of a heavy server spread out (nginx calls it smooth weighted round robin).

use super::{Load, Policy};

/// Each server's credit: it earns its weight at every choice and pays the sum of the weights when chosen.
#[derive(Debug, Default)]
pub struct RoundRobin {
    credit: Vec<i64>,
}

impl Policy for RoundRobin {
    fn choose(&mut self, servers: &[Load]) -> Option<usize> {
        self.credit.resize(servers.len(), 0);
        let mut total = 0;
        let mut best: Option<usize> = None;
        for (index, server) in servers.iter().enumerate().filter(|(_, server)| server.available) {
            self.credit[index] += i64::from(server.weight);
            total += i64::from(server.weight);
            if best.is_none_or(|best| self.credit[index] > self.credit[best]) {
                best = Some(index);
            }
        }
        self.credit[best?] -= total;
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(weights: &[u32]) -> Vec<Load> {
        weights.iter().map(|&weight| Load { weight, in_flight: 0, available: true }).collect()
    }

    #[test]
    fn equal_servers_take_turns() {
        let mut policy = RoundRobin::default();
        let servers = servers(&[1, 1, 1]);
        let picks: Vec<_> = (0..6).map(|_| policy.choose(&servers).unwrap()).collect();
        assert_eq!(picks, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn weights_are_kept_and_spread() {
        let mut policy = RoundRobin::default();
        let servers = servers(&[5, 1, 1]);
        let picks: Vec<_> = (0..7).map(|_| policy.choose(&servers).unwrap()).collect();
        assert_eq!(picks, [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn those_not_available_are_passed_over() {
        let mut policy = RoundRobin::default();
        let mut servers = servers(&[1, 1]);
        servers[0].available = false;
        assert_eq!(policy.choose(&servers), Some(1));
        assert_eq!(policy.choose(&servers), Some(1));
        servers[1].available = false;
        assert_eq!(policy.choose(&servers), None);
        servers[0].available = true;
        assert_eq!(policy.choose(&servers), Some(0));
        assert_eq!(policy.choose(&[]), None);
    }
}
