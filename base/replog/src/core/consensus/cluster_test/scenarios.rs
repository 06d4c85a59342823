//! What three nodes that have agreed on something do when one thing happens to them: leases, reads, votes, quiet, repairs.

use std::time::Duration;

use bytes::Bytes;

use super::*;

/// Three nodes that have agreed on something; gives the leader's place and those of the others.
fn calm(seed: u64) -> (World, usize, [usize; 2]) {
    let mut world = World::new(seed, 3);
    world.faults = false;
    world.calm = true;
    let leader = loop {
        world.step();
        if let Some(leader) = world.leader() {
            break leader;
        }
    };
    // The lease comes with the answers to a heartbeat.
    for _ in 0..6 * TICK {
        world.step();
    }
    assert!(world.reads_at_once(leader), "a leader in peace has a lease");
    let others = [0, 1, 2].into_iter().filter(|at| *at != leader).collect::<Vec<_>>();
    (world, leader, [others[0], others[1]])
}

const GROUP: GroupId = GroupId(1);

impl World {
    /// The node that leads and serves, not being `but`.
    fn leader_but(&self, but: usize) -> Option<usize> {
        let serves = |node: &Node| {
            node.paused_until <= self.now
                && node
                    .consensus
                    .as_ref()
                    .and_then(|consensus| consensus.role(GROUP))
                    .is_some_and(|role| role.serves)
        };
        (0..self.nodes.len()).find(|at| *at != but && serves(&self.nodes[*at]))
    }

    fn leader(&self) -> Option<usize> {
        self.leader_but(usize::MAX)
    }

    /// Whether a node answers a read at once; it must not be stale then.
    fn reads_at_once(&mut self, at: usize) -> bool {
        let newest = self.newest.get(&GROUP).copied().unwrap_or_default();
        let node = &mut self.nodes[at];
        let clock = node.clock(self.now);
        match node.consensus.as_mut().map(|consensus| consensus.read(GROUP, clock)) {
            Some(Ok(Read::At(index))) => {
                assert!(index >= newest, "a stale read under the lease: {index} of {newest}");
                true
            }
            Some(Ok(Read::Wait(ticket))) => {
                node.reads.insert((GROUP, ticket), newest);
                false
            }
            _ => false,
        }
    }

    /// Changes the members of the group, through a node that leads it all the time, and waits until that is over.
    fn change(&mut self, leader: usize, changes: &[Change]) {
        let mut changed = false;
        for _ in 0..100 * TICK {
            let consensus = self.nodes[leader].consensus.as_mut().expect("up");
            changed = changed || consensus.change(GROUP, changes).is_ok();
            self.step();
            let consensus = self.nodes[leader].consensus.as_ref().expect("up");
            let over = !consensus.members(GROUP).expect("there").is_joint();
            if changed && over && consensus.committed(GROUP) == consensus.last(GROUP) {
                return;
            }
        }
        panic!("{changes:?} is never over: {:?}", self.roles());
    }

    fn cut_both_ways(&mut self, a: usize, b: usize) {
        let (a, b) = (self.nodes[a].id, self.nodes[b].id);
        self.cut.extend([(a, b), (b, a)]);
    }

    /// Runs until another than `old` leads and has committed something of its own, then a while; `old` is asked to read
    /// all the time.
    fn until_replaced(&mut self, old: usize, asked: bool) {
        let mut replaced = 0;
        for _ in 0..3000 {
            self.step();
            if asked {
                self.reads_at_once(old);
            }
            if let Some(leader) = self.leader_but(old) {
                let consensus = self.nodes[leader].consensus.as_mut().expect("leads");
                let _ = consensus.propose(GROUP, Bytes::from_static(b"new"));
                replaced += 1;
                if replaced == 60 {
                    return;
                }
            }
        }
        panic!("nobody took over");
    }
}

#[test]
fn a_leader_that_was_stopped_does_not_answer_from_its_old_lease() {
    for seed in 0..40 {
        let (mut world, leader, _) = calm(seed);
        world.nodes[leader].paused_until = u64::MAX;
        world.until_replaced(leader, false);
        // It wakes up, and a read is the first that it does.
        assert!(!world.reads_at_once(leader));
    }
}

#[test]
fn a_leader_that_was_cut_off_loses_its_lease_before_another_has_it() {
    for seed in 0..40 {
        let (mut world, leader, others) = calm(seed);
        others.into_iter().for_each(|other| world.cut_both_ways(leader, other));
        world.until_replaced(leader, true);
    }
}

#[test]
fn a_follower_that_restarts_keeps_the_promise_it_has_given() {
    for seed in 0..40 {
        let (mut world, leader, [near, far]) = calm(seed);
        world.cut_both_ways(leader, far);
        // Long enough for the far one to campaign, again and again; the near one still hears its leader.
        for _ in 0..30 * TICK + seed {
            world.step();
            world.reads_at_once(leader);
        }
        assert!(world.reads_at_once(leader), "seed {seed}: the near one is enough for a lease");
        world.crash(near, 0);
        world.cut_both_ways(leader, near);
        world.until_replaced(leader, true);
    }
}

#[test]
fn a_leader_that_hands_over_reads_under_no_lease_any_more() {
    for seed in 0..40 {
        let (mut world, leader, others) = calm(seed);
        let to = world.nodes[others[0]].id;
        world.nodes[leader].consensus.as_mut().expect("leads").transfer(GROUP, to).expect("it leads");
        // The word has left; nothing comes back.
        world.run(leader);
        others.into_iter().for_each(|other| world.cut_both_ways(leader, other));
        world.until_replaced(leader, true);
    }
}

#[test]
fn a_quiet_group_sends_nothing_and_wakes_when_its_leader_is_lost() {
    let (mut world, leader, others) = calm(3);
    // Nothing but the clients' calls is left to keep them awake.
    for _ in 0..200 * TICK {
        world.step();
    }
    let consensus = world.nodes[leader].consensus.as_ref().expect("leads");
    assert_eq!(consensus.quiet(), GROUPS as usize, "{:?}", world.roles());
    let sent = world.sent;
    for _ in 0..200 * TICK {
        world.step();
    }
    assert_eq!(world.sent, sent, "not one message");
    assert_eq!(world.leader(), Some(leader));

    let id = world.nodes[leader].id;
    world.nodes[leader].paused_until = u64::MAX;
    for other in others {
        world.nodes[other].consensus.as_mut().expect("up").node_lost(id);
    }
    world.until_replaced(leader, false);
}

#[test]
fn a_leader_that_reckons_with_what_is_gone_stops_the_group() {
    let (mut world, leader, [near, _]) = calm(5);
    let consensus = world.nodes[leader].consensus.as_mut().expect("leads");
    consensus.propose(GROUP, Bytes::from_static(b"to be lost")).expect("it leads");
    for _ in 0..10 * TICK {
        world.step();
    }
    world.crash(near, 0);
    let disk = world.nodes[near].disks.get_mut(&GROUP).expect("there");
    // The disk comes back as it was before it acknowledged.
    disk.entries.clear();
    disk.saved = Machine { applied: disk.base.0, seen: Vec::new() };
    disk.hard_state.commit = disk.base.0;
    world.expect_faults = true;
    for _ in 0..40 * TICK {
        world.step();
    }
    assert!(world.faulty, "it noticed");
    let consensus = world.nodes[near].consensus.as_mut().expect("up");
    assert_eq!(consensus.propose(GROUP, Bytes::new()), Err(Refused::Faulty));
}

#[test]
fn a_node_that_was_repaired_votes_only_once_it_has_everything() {
    let mut regained = 0;
    for seed in 0..20 {
        let (mut world, leader, [near, far]) = calm(seed);
        // The far one misses an entry that the near one has acknowledged, and loses in a repair.
        world.cut_both_ways(leader, far);
        world.cut_both_ways(near, far);
        let consensus = world.nodes[leader].consensus.as_mut().expect("leads");
        consensus.propose(GROUP, Bytes::from_static(b"answered")).expect("it leads");
        for _ in 0..10 * TICK {
            world.step();
        }
        let answered = world.newest[&GROUP];
        world.crash(near, 0);
        world.expect_faults = true;
        let node = &mut world.nodes[near];
        node.voiceless = true;
        let disk = node.disks.get_mut(&GROUP).expect("there");
        disk.entries.retain(|entry| entry.index < answered);
        disk.hard_state.commit = Index(answered.0 - 1);
        disk.saved = Machine { applied: disk.base.0, seen: Vec::new() };
        // The leader is gone for a while; the two that are left must not agree on anything without it.
        world.nodes[leader].paused_until = world.now + 100 * TICK;
        world.cut.clear();
        for _ in 0..90 * TICK {
            world.step();
            assert_eq!(world.leader_but(leader), None, "seed {seed}: without what was answered");
        }
        if world.faulty {
            // A heartbeat of the old leader was still under way, and gave the loss away.
            continue;
        }
        regained += 1;
        // A leader of a new term shows everything, and then there are three again.
        world.crash(leader, 0);
        world.nodes[leader].paused_until = 0;
        for _ in 0..200 * TICK {
            world.step();
        }
        let first = world.leader().expect("one leads");
        let id = world.nodes[first].id;
        world.nodes[first].paused_until = u64::MAX;
        for node in world.nodes.iter_mut().filter(|node| node.id != id) {
            node.consensus.as_mut().expect("up").node_lost(id);
        }
        world.until_replaced(first, false);
    }
    assert!(regained > 10, "{regained}");
}

#[test]
fn a_leader_that_reckons_with_what_was_lost_makes_way_and_who_was_repaired_gets_it_back() {
    for seed in 0..20 {
        let (mut world, leader, [near, _]) = calm(seed);
        let consensus = world.nodes[leader].consensus.as_mut().expect("leads");
        consensus.propose(GROUP, Bytes::from_static(b"to be lost")).expect("it leads");
        // In every second life they all have fallen quiet before.
        let rest = if seed % 2 == 0 { 10 } else { 200 };
        for _ in 0..rest * TICK {
            world.step();
        }
        let answered = world.newest[&GROUP];
        world.crash(near, 0);
        let node = &mut world.nodes[near];
        node.voiceless = true;
        let disk = node.disks.get_mut(&GROUP).expect("there");
        disk.entries.retain(|entry| entry.index < answered);
        disk.hard_state.commit = Index(answered.0 - 1);
        disk.saved = Machine { applied: disk.base.0, seen: Vec::new() };
        for _ in 0..200 * TICK {
            world.step();
        }
        assert!(world.nodes[near].machines[&GROUP].applied >= answered, "seed {seed}: it is there again");
        let consensus = world.nodes[near].consensus.as_ref().expect("up");
        assert_eq!(consensus.voiceless(), 0, "seed {seed}: {:?}", world.roles());
        assert!(world.leader().is_some(), "seed {seed}");
    }
}

#[test]
fn who_has_forgotten_a_group_is_no_vote_for_those_that_were_left_behind() {
    for seed in 0..20 {
        let (mut world, leader, [near, far]) = calm(seed);
        let ids = world.nodes.iter().map(|node| node.id).collect::<Vec<_>>();
        (0..ids.len()).filter(|at| *at != far).for_each(|at| world.cut_both_ways(at, far));
        // The far one hears nothing of this: the group moves away from both.
        world.change(leader, &[Change::Learner(ids[3]), Change::Learner(ids[4])]);
        let moved = [3, 4].map(|at| Change::Voter(ids[at]));
        world.change(leader, &[&moved[..], &[Change::Out(ids[near]), Change::Out(ids[far])]].concat());
        while !world.nodes[near].flight.is_empty() {
            world.step();
        }
        let now = world.now;
        let node = &mut world.nodes[near];
        node.disks.insert(GROUP, Disk::default());
        node.machines.insert(GROUP, Machine::default());
        let clock = node.clock(now);
        let consensus = node.consensus.as_mut().expect("up");
        consensus.stop(GROUP);
        consensus.start(GROUP, &Start::default(), clock);
        // Both together were a majority once.
        world.cut.clear();
        [leader, 3, 4].into_iter().for_each(|at| world.cut_both_ways(at, far));
        for _ in 0..100 * TICK {
            world.step();
            let role = world.nodes[far].consensus.as_ref().expect("up").role(GROUP).expect("there");
            assert!(!role.leads, "seed {seed}: a second leader");
        }
        world.change(leader, &[Change::Learner(ids[near])]);
        world.change(leader, &[Change::Voter(ids[near])]);
        assert!(world.nodes[near].machines[&GROUP].applied.0 > 1, "seed {seed}: it follows again");
    }
}

#[test]
fn who_elects_itself_alone_tells_nobody_before_its_term_is_durable() {
    let mut consensus = Consensus::new(settings(NodeId(1), 1, 1));
    let base = (Index(1), Term(1));
    let members = Members { learners: vec![NodeId(2)], ..Members::voters([NodeId(1)]) };
    let hard_state = HardState { term: Term(1), vote: NodeId(0), commit: Index(1) };
    let start =
        Start { base, hard_state, members: (Index(1), members), applied: Index(1), ..Start::default() };
    consensus.start(GROUP, &start, Duration::ZERO);
    consensus.propose(GROUP, Bytes::from_static(b"early")).expect("it leads already");
    let batch = consensus.take(Duration::ZERO);
    assert!(batch.messages.is_empty(), "{:?}", batch.messages);
    let last = batch.persist.last().expect("its term, and its entries");
    assert_eq!(
        batch.persist.iter().filter_map(|persist| persist.hard_state).next().map(|state| state.term),
        Some(Term(2))
    );
    consensus.persisted(GROUP, last.number);
    let batch = consensus.take(Duration::ZERO);
    assert!(batch.messages.iter().any(|envelope| envelope.to == NodeId(2)));
}

#[test]
fn a_group_is_not_left_to_voters_that_have_nothing_of_it() {
    for seed in 0..20 {
        let mut world = World::new(seed, 3);
        world.faults = false;
        world.calm = true;
        // The third was named when the group was founded, and has not been there yet.
        world.nodes[2].disks.insert(GROUP, Disk::default());
        world.cut_both_ways(0, 2);
        world.cut_both_ways(1, 2);
        let leader = loop {
            world.step();
            if let Some(leader) = world.leader() {
                break leader;
            }
        };
        let leaves = [Change::Learner(world.nodes[1 - leader].id)];
        for _ in 0..20 * TICK {
            let consensus = world.nodes[leader].consensus.as_mut().expect("up");
            assert!(matches!(consensus.change(GROUP, &leaves), Err(Refused::NotReady(_))), "seed {seed}");
            world.step();
        }
        world.cut.clear();
        world.change(leader, &leaves);
        let before = world.newest.get(&GROUP).copied().unwrap_or_default();
        for _ in 0..30 * TICK {
            world.step();
            if let Some(leader) = world.leader() {
                let _ = world.nodes[leader]
                    .consensus
                    .as_mut()
                    .expect("leads")
                    .propose(GROUP, Bytes::from_static(b"new"));
            }
        }
        let newest = world.newest.get(&GROUP).copied().unwrap_or_default();
        assert!(newest > before, "seed {seed}: {:?}", world.roles());
    }
}
