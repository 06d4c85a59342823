//! From one generation to the next: who takes part, which protocol, who leads, and what time brings about.

use wire::kafka::{ResponseError, StrBytes};

use super::{Answer, Group, JoinAnswer, Member, Millis, State, SyncAnswer};

impl Group {
    /// Begins a rebalance, or goes on with one; an empty group's first waits `initial_delay_ms` for more members.
    pub(super) fn rebalance(&mut self, now: Millis, initial_delay_ms: u32) {
        if self.state != State::PreparingRebalance {
            if self.state == State::CompletingRebalance {
                self.interrupt_syncs();
            }
            let delay = if self.state == State::Empty { initial_delay_ms } else { 0 };
            self.state = State::PreparingRebalance;
            self.join_opens = now + Millis::from(delay);
            self.rebalance_deadline = self.join_opens.max(now + self.rebalance_ms_max());
        }
        self.complete_join_if_ready(now);
    }

    fn rebalance_ms_max(&self) -> Millis {
        self.members.values().map(|m| Millis::from(m.rebalance_ms)).max().unwrap_or(0)
    }

    fn interrupt_syncs(&mut self) {
        let answer = SyncAnswer::failed(ResponseError::RebalanceInProgress);
        for member in self.members.values_mut() {
            member.assignment.clear();
            if let Some(token) = member.syncing.take() {
                self.answers.push(Answer::Sync(token, answer.clone()));
            }
        }
    }

    pub(super) fn complete_join_if_ready(&mut self, now: Millis) {
        if self.state != State::PreparingRebalance || now < self.join_opens {
            return;
        }
        let all_here = self.pending.is_empty() && self.members.values().all(|m| m.joining.is_some());
        if all_here || now >= self.rebalance_deadline {
            self.complete_join(now);
        }
    }

    /// The next generation begins: with who has joined, and static members that may still come.
    fn complete_join(&mut self, now: Millis) {
        let absent: Vec<StrBytes> = self
            .members
            .values()
            .filter(|m| m.joining.is_none() && m.instance_id.is_none())
            .map(|m| m.id.clone())
            .collect();
        for id in absent {
            self.members.remove(&id);
        }
        if self.members.is_empty() {
            self.become_empty();
            return;
        }
        let Some(first) = self.members.values().filter(|m| m.joining.is_some()).min_by_key(|m| m.joined_at)
        else {
            self.rebalance_deadline = now + self.rebalance_ms_max();
            return;
        };
        let first = first.id.clone();
        let led =
            self.leader.as_ref().and_then(|id| self.members.get(id)).is_some_and(|m| m.joining.is_some());
        if !led {
            self.leader = Some(first);
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.protocol = self.vote();
        self.state = State::CompletingRebalance;
        self.rebalance_deadline = now + self.rebalance_ms_max();
        let joined: Vec<StrBytes> =
            self.members.values().filter(|m| m.joining.is_some()).map(|m| m.id.clone()).collect();
        for id in joined {
            let answer = self.join_answer(&id);
            let member = self.members.get_mut(&id).expect("it has just been listed");
            member.touch(now);
            member.synced = false;
            if let Some(token) = member.joining.take() {
                self.answers.push(Answer::Join(token, answer));
            }
        }
    }

    fn become_empty(&mut self) {
        self.state = State::Empty;
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.protocol = None;
        self.leader = None;
        self.instances.clear();
        self.rebalance_deadline = Millis::MAX;
    }

    /// Of the protocols that every member has, the one most members like best.
    fn vote(&self) -> Option<StrBytes> {
        let mut votes: Vec<(StrBytes, usize)> = Vec::new();
        for member in self.members.values() {
            let favourite =
                member.protocols.iter().find(|(name, _)| self.members.values().all(|m| m.supports(name)));
            if let Some((name, _)) = favourite {
                match votes.iter_mut().find(|(voted, _)| voted == name) {
                    Some((_, count)) => *count += 1,
                    None => votes.push((name.clone(), 1)),
                }
            }
        }
        votes.into_iter().max_by_key(|(_, count)| *count).map(|(name, _)| name)
    }

    pub(super) fn join_answer(&self, member_id: &StrBytes) -> JoinAnswer {
        let leads = self.leader.as_ref() == Some(member_id);
        let protocol = self.protocol.clone().unwrap_or_default();
        let entry = |m: &Member| (m.id.clone(), m.instance_id.clone(), m.metadata(&protocol));
        JoinAnswer {
            error: None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            member_id: member_id.clone(),
            members: if leads { self.members.values().map(entry).collect() } else { Vec::new() },
            skip_assignment: false,
        }
    }

    /// A member goes, whatever the reason; the group rebalances without it.
    pub(super) fn remove(&mut self, now: Millis, member_id: &StrBytes) {
        let Some(member) = self.members.remove(member_id) else { return };
        if let Some(instance) = &member.instance_id {
            self.instances.remove(instance);
        }
        if let Some(token) = member.joining {
            let answer = JoinAnswer::failed(ResponseError::UnknownMemberId, member.id.clone());
            self.answers.push(Answer::Join(token, answer));
        }
        if let Some(token) = member.syncing {
            let answer = SyncAnswer::failed(ResponseError::UnknownMemberId);
            self.answers.push(Answer::Sync(token, answer));
        }
        if self.leader.as_ref() == Some(member_id) {
            self.leader = None;
        }
        if self.members.is_empty() && self.pending.is_empty() {
            self.become_empty();
        } else if self.state != State::Empty {
            self.rebalance(now, 0);
        }
    }

    pub(super) fn tick(&mut self, now: Millis) {
        self.pending.retain(|_, void_at| now < *void_at);
        let expired: Vec<StrBytes> =
            self.members.values().filter(|m| m.is_expired(now)).map(|m| m.id.clone()).collect();
        for id in expired {
            self.remove(now, &id);
        }
        if self.state == State::CompletingRebalance && now >= self.rebalance_deadline {
            let late: Vec<StrBytes> =
                self.members.values().filter(|m| !m.synced).map(|m| m.id.clone()).collect();
            for id in late {
                self.remove(now, &id);
            }
            // The leader's assignment never came: whoever waited for it joins again.
            if self.state == State::CompletingRebalance {
                self.rebalance(now, 0);
            }
        }
        if self.state == State::PreparingRebalance && self.members.is_empty() && self.pending.is_empty() {
            self.become_empty();
        }
        self.complete_join_if_ready(now);
    }
}
