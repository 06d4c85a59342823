//! The classic protocol's rules, one scenario each. Times are milliseconds from 0.

use std::collections::BTreeMap;

use super::*;

const LIMITS: Limits = Limits {
    bytes_max: 1 << 20,
    session_ms_min: 100,
    session_ms_max: 60_000,
    initial_delay_ms: 0,
    members_max: 4,
    groups_max: 2,
};

/// Groups, and the answers that came out of them by token.
struct Bench {
    groups: Groups,
    joins: BTreeMap<Token, JoinAnswer>,
    syncs: BTreeMap<Token, SyncAnswer>,
    next: Token,
}

fn text(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_owned())
}

fn request(member_id: &StrBytes, protocols: &[&str]) -> Join {
    Join {
        group: text("g"),
        member_id: member_id.clone(),
        instance_id: None,
        client_id: text("c"),
        client_host: text("/127.0.0.1"),
        session_ms: 1000,
        rebalance_ms: 3000,
        protocol_type: text("consumer"),
        protocols: protocols.iter().map(|p| (text(p), Bytes::copy_from_slice(p.as_bytes()))).collect(),
        needs_known_id: false,
        may_skip_assignment: false,
        fresh_id: StrBytes::new(),
    }
}

impl Bench {
    fn new(limits: Limits) -> Self {
        Self { groups: Groups::new(limits), joins: BTreeMap::new(), syncs: BTreeMap::new(), next: 0 }
    }

    fn collect(&mut self) {
        for answer in self.groups.take_answers() {
            let fresh = match answer {
                Answer::Join(token, answer) => self.joins.insert(token, answer).is_none(),
                Answer::Sync(token, answer) => self.syncs.insert(token, answer).is_none(),
            };
            assert!(fresh, "one answer per token");
        }
    }

    fn send_join(&mut self, now: Millis, mut join: Join) -> Token {
        self.next += 1;
        join.fresh_id = text(&self.next.to_string());
        self.groups.join(now, join, self.next);
        self.collect();
        self.next
    }

    fn send_sync(
        &mut self,
        now: Millis,
        id: &StrBytes,
        generation: i32,
        assign: &[(&StrBytes, &str)],
    ) -> Token {
        self.next += 1;
        let assignments =
            assign.iter().map(|(id, a)| ((*id).clone(), Bytes::copy_from_slice(a.as_bytes()))).collect();
        let request = SyncRequest {
            identity: identity(id, generation),
            protocol_type: None,
            protocol: None,
            assignments,
        };
        self.groups.sync(now, request, self.next);
        self.collect();
        self.next
    }

    fn tick(&mut self, now: Millis) {
        self.groups.tick(now);
        self.collect();
    }

    fn state(&self) -> State {
        self.groups.get("g").unwrap().state()
    }

    /// Two members, stable: the ids of the leader and the follower.
    fn pair(&mut self) -> (StrBytes, StrBytes) {
        let a = self.send_join(0, request(&StrBytes::new(), &["range", "sticky"]));
        let a = self.joins[&a].member_id.clone();
        let b = self.send_join(0, request(&StrBytes::new(), &["sticky"]));
        assert!(!self.joins.contains_key(&b), "the first has to join again");
        let again = self.send_join(0, request(&a, &["range", "sticky"]));
        let lead = self.joins[&again].clone();
        let b = self.joins[&b].member_id.clone();
        assert_eq!((lead.generation, lead.protocol.as_deref()), (2, Some("sticky")));
        assert_eq!((lead.leader.clone(), lead.members.len()), (a.clone(), 2));
        let waits = self.send_sync(0, &b, 2, &[]);
        assert!(!self.syncs.contains_key(&waits));
        let leads = self.send_sync(0, &a, 2, &[(&a, "A"), (&b, "B")]);
        assert_eq!(
            (&self.syncs[&leads].assignment[..], &self.syncs[&waits].assignment[..]),
            (&b"A"[..], &b"B"[..])
        );
        assert_eq!(self.state(), State::Stable);
        (a, b)
    }
}

fn identity(id: &StrBytes, generation: i32) -> Identity {
    Identity { group: text("g"), member_id: id.clone(), instance_id: None, generation }
}

#[test]
fn two_members_share_and_one_leaves() {
    let mut bench = Bench::new(LIMITS);
    let (a, b) = bench.pair();
    assert_eq!(bench.groups.heartbeat(10, &identity(&a, 2)), Ok(()));
    assert_eq!(bench.groups.heartbeat(10, &identity(&a, 1)), Err(ResponseError::IllegalGeneration));
    assert_eq!(bench.groups.heartbeat(10, &identity(&text("who"), 2)), Err(ResponseError::UnknownMemberId));
    assert_eq!(bench.groups.leave(10, "g", &b, None), Ok(()));
    assert_eq!(bench.groups.heartbeat(10, &identity(&a, 2)), Err(ResponseError::RebalanceInProgress));
    let again = bench.send_join(20, request(&a, &["range", "sticky"]));
    assert_eq!((bench.joins[&again].generation, bench.joins[&again].members.len()), (3, 1));
    assert_eq!(bench.joins[&again].protocol.as_deref(), Some("range"));
    assert_eq!(bench.groups.leave(30, "g", &a, None), Ok(()));
    assert_eq!(bench.state(), State::Empty);
    assert_eq!(bench.groups.leave(30, "g", &a, None), Err(ResponseError::UnknownMemberId));
    assert_eq!(bench.groups.delete("g"), Ok(()));
}

#[test]
fn silence_ends_a_session_and_moves_the_work() {
    let mut bench = Bench::new(LIMITS);
    let (a, b) = bench.pair();
    for now in (0..=1500).step_by(500) {
        let told = bench.groups.heartbeat(now, &identity(&b, 2));
        assert_eq!(told.is_ok(), now <= 1000, "at {now}");
        bench.tick(now);
    }
    assert!(bench.groups.get("g").unwrap().members().all(|m| m.id != a));
    let again = bench.send_join(1600, request(&b, &["sticky"]));
    assert_eq!((&bench.joins[&again].leader, bench.joins[&again].generation), (&b, 3));
}

#[test]
fn a_member_that_does_not_rejoin_is_out_after_the_rebalance_timeout() {
    let mut bench = Bench::new(LIMITS);
    let (a, b) = bench.pair();
    let mut changed = request(&b, &["sticky"]);
    changed.protocols[0].1 = Bytes::from_static(b"more topics");
    let waits = bench.send_join(100, changed);
    for now in (100..3100).step_by(500) {
        assert_eq!(bench.groups.heartbeat(now, &identity(&a, 2)), Err(ResponseError::RebalanceInProgress));
        bench.tick(now);
        assert!(!bench.joins.contains_key(&waits));
    }
    bench.tick(3100);
    assert_eq!((bench.joins[&waits].generation, &bench.joins[&waits].leader), (3, &b));
}

#[test]
fn an_assignment_that_never_comes_ends_the_leader() {
    let mut bench = Bench::new(LIMITS);
    let a = bench.send_join(0, request(&StrBytes::new(), &["range"]));
    let a = bench.joins[&a].member_id.clone();
    for now in (0..3000).step_by(500) {
        assert_eq!(bench.groups.heartbeat(now, &identity(&a, 1)), Ok(()));
        bench.tick(now);
    }
    bench.tick(3000);
    assert_eq!(bench.state(), State::Empty);
}

#[test]
fn a_rebalance_interrupts_waiting_syncs() {
    let mut bench = Bench::new(LIMITS);
    let (a, b) = bench.pair();
    let lead = bench.send_join(10, request(&a, &["range", "sticky"]));
    assert!(!bench.joins.contains_key(&lead), "a leader's join rebalances");
    bench.send_join(10, request(&b, &["sticky"]));
    let waits = bench.send_sync(20, &b, 3, &[]);
    bench.send_join(30, request(&StrBytes::new(), &["sticky"]));
    assert_eq!(bench.syncs[&waits].error, Some(ResponseError::RebalanceInProgress));
}

#[test]
fn new_members_are_first_told_their_id() {
    let mut bench = Bench::new(LIMITS);
    let new = || Join { needs_known_id: true, ..request(&StrBytes::new(), &["range"]) };
    let token = bench.send_join(0, new());
    let told = bench.joins[&token].clone();
    assert_eq!(told.error, Some(ResponseError::MemberIdRequired));
    let join = bench.send_join(10, Join { needs_known_id: true, ..request(&told.member_id, &["range"]) });
    assert_eq!((bench.joins[&join].error, bench.joins[&join].generation), (None, 1));
    let forgotten = bench.send_join(20, new());
    let forgotten = bench.joins[&forgotten].member_id.clone();
    bench.tick(1020);
    let late = bench.send_join(1030, request(&forgotten, &["range"]));
    assert_eq!(bench.joins[&late].error, Some(ResponseError::UnknownMemberId));
}

#[test]
fn the_first_rebalance_waits_for_more() {
    let mut bench = Bench::new(Limits { initial_delay_ms: 200, ..LIMITS });
    let a = bench.send_join(0, request(&StrBytes::new(), &["range"]));
    let b = bench.send_join(100, request(&StrBytes::new(), &["range"]));
    bench.tick(199);
    assert!(bench.joins.is_empty());
    bench.tick(200);
    assert_eq!((bench.joins[&a].generation, bench.joins[&b].generation), (1, 1));
    assert_eq!(bench.joins[&a].members.len(), 2);
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut bench = Bench::new(LIMITS);
    let mut refused = |join: Join| {
        let token = bench.send_join(0, join);
        bench.joins[&token].error
    };
    let new = || request(&StrBytes::new(), &["range"]);
    assert_eq!(refused(Join { group: StrBytes::new(), ..new() }), Some(ResponseError::InvalidGroupId));
    assert_eq!(refused(Join { session_ms: 99, ..new() }), Some(ResponseError::InvalidSessionTimeout));
    assert_eq!(refused(Join { session_ms: -1, ..new() }), Some(ResponseError::InvalidSessionTimeout));
    assert_eq!(refused(request(&text("ghost"), &["range"])), Some(ResponseError::UnknownMemberId));
    assert_eq!(refused(request(&StrBytes::new(), &[])), Some(ResponseError::InconsistentGroupProtocol));
    assert_eq!(refused(new()), None);
    assert_eq!(
        refused(request(&StrBytes::new(), &["sticky"])),
        Some(ResponseError::InconsistentGroupProtocol)
    );
    let other = Join { protocol_type: text("connect"), ..new() };
    assert_eq!(refused(other), Some(ResponseError::InconsistentGroupProtocol));
    for _ in 0..3 {
        bench.send_join(0, new());
    }
    let token = bench.send_join(0, new());
    assert_eq!(bench.joins[&token].error, Some(ResponseError::GroupMaxSizeReached));
    for (id, error) in [("h", None), ("i", Some(ResponseError::CoordinatorNotAvailable))] {
        let token = bench.send_join(0, Join { group: text(id), ..new() });
        assert_eq!(bench.joins[&token].error, error);
    }
}

#[test]
fn a_static_member_comes_back_without_a_rebalance() {
    let mut bench = Bench::new(LIMITS);
    let static_join = |id: &StrBytes| Join {
        instance_id: Some(text("i1")),
        may_skip_assignment: true,
        needs_known_id: true,
        ..request(id, &["range"])
    };
    let first = bench.send_join(0, static_join(&StrBytes::new()));
    let old = bench.joins[&first].member_id.clone();
    assert_eq!(bench.joins[&first].error, None, "static members are not asked to come twice");
    bench.send_sync(0, &old, 1, &[(&old, "A")]);
    let back = bench.send_join(500, static_join(&StrBytes::new()));
    let answer = bench.joins[&back].clone();
    assert_eq!((answer.error, answer.generation, answer.skip_assignment), (None, 1, true));
    assert_ne!(answer.member_id, old);
    assert_eq!(bench.state(), State::Stable);
    let sync = bench.send_sync(500, &answer.member_id, 1, &[]);
    assert_eq!(&bench.syncs[&sync].assignment[..], b"A");
    let fenced = Identity { instance_id: Some(text("i1")), ..identity(&old, 1) };
    assert_eq!(bench.groups.heartbeat(500, &fenced), Err(ResponseError::FencedInstanceId));
    let fenced = bench.send_join(500, static_join(&old));
    assert_eq!(bench.joins[&fenced].error, Some(ResponseError::FencedInstanceId));
    assert_eq!(bench.groups.leave(600, "g", &StrBytes::new(), Some(&text("i1"))), Ok(()));
    assert_eq!(bench.state(), State::Empty);
}

#[test]
fn only_members_of_the_generation_commit() {
    let mut bench = Bench::new(LIMITS);
    assert_eq!(bench.groups.may_commit(0, &identity(&StrBytes::new(), -1)), Ok(()), "no group, no members");
    let (a, b) = bench.pair();
    assert_eq!(bench.groups.may_commit(0, &identity(&a, 2)), Ok(()));
    assert_eq!(bench.groups.may_commit(0, &identity(&a, 1)), Err(ResponseError::IllegalGeneration));
    assert_eq!(
        bench.groups.may_commit(0, &identity(&StrBytes::new(), -1)),
        Err(ResponseError::UnknownMemberId)
    );
    bench.send_join(0, request(&StrBytes::new(), &["sticky"]));
    assert_eq!(
        bench.groups.may_commit(0, &identity(&b, 2)),
        Ok(()),
        "while preparing, the old generation commits"
    );
    assert_eq!(bench.groups.delete("g"), Err(ResponseError::NonEmptyGroup));
}
