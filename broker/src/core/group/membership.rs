//! SyncGroup, Heartbeat, LeaveGroup, and who may commit offsets.

use std::collections::HashMap;

use bytes::Bytes;
use wire::kafka::{ResponseError, StrBytes};

use super::{Answer, Group, Groups, Millis, NAME_BYTES_MAX, State, SyncAnswer, Token};

/// Who says so: a member, of a generation.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The group.
    pub group: StrBytes,
    /// The member.
    pub member_id: StrBytes,
    /// Of a static member.
    pub instance_id: Option<StrBytes>,
    /// The generation it believes to be in.
    pub generation: i32,
}

/// A SyncGroup request.
#[derive(Debug, Clone)]
pub struct SyncRequest {
    /// Who asks.
    pub identity: Identity,
    /// What the member believes the group's type to be; from version 5.
    pub protocol_type: Option<StrBytes>,
    /// What the member believes was chosen; from version 5.
    pub protocol: Option<StrBytes>,
    /// From the leader: member id, assignment.
    pub assignments: Vec<(StrBytes, Bytes)>,
}

impl SyncAnswer {
    /// A refusal.
    #[must_use]
    pub fn failed(error: ResponseError) -> Self {
        Self { error: Some(error), protocol_type: None, protocol: None, assignment: Bytes::new() }
    }
}

impl Groups {
    /// Takes a sync; its answer comes with `token`, now or later.
    pub fn sync(&mut self, now: Millis, request: SyncRequest, token: Token) {
        let id = request.identity.group.clone();
        let assigned = request.assignments.iter().map(|(_, assignment)| assignment.len()).sum();
        let result = match self.take_room(assigned) {
            true => self.with(&id, |group, _| group.sync(now, request, token)),
            false => Some(Err(ResponseError::CoordinatorNotAvailable)),
        };
        let error = match result {
            Some(Ok(())) => return,
            Some(Err(error)) => error,
            None if id.is_empty() => ResponseError::InvalidGroupId,
            None => ResponseError::UnknownMemberId,
        };
        self.answers.push(Answer::Sync(token, SyncAnswer::failed(error)));
    }

    /// A member lives.
    ///
    /// # Errors
    /// What the member has to be told, REBALANCE_IN_PROGRESS among it.
    pub fn heartbeat(&mut self, now: Millis, identity: &Identity) -> Result<(), ResponseError> {
        if identity.group.is_empty() {
            return Err(ResponseError::InvalidGroupId);
        }
        self.with(&identity.group, |group, _| {
            group.identify(identity)?;
            group.touch(now, &identity.member_id);
            match group.state {
                State::Empty => Err(ResponseError::UnknownMemberId),
                State::PreparingRebalance => Err(ResponseError::RebalanceInProgress),
                State::CompletingRebalance | State::Stable => Ok(()),
            }
        })
        .unwrap_or(Err(ResponseError::UnknownMemberId))
    }

    /// A member leaves; a static one may be named by its instance id alone.
    ///
    /// # Errors
    /// UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID.
    pub fn leave(
        &mut self,
        now: Millis,
        group: &str,
        member_id: &StrBytes,
        instance_id: Option<&StrBytes>,
    ) -> Result<(), ResponseError> {
        self.with(group, |group, _| {
            let member_id = match instance_id {
                None => member_id.clone(),
                Some(instance) => {
                    let known = group.instances.get(instance).ok_or(ResponseError::UnknownMemberId)?;
                    if !member_id.is_empty() && known != member_id {
                        return Err(ResponseError::FencedInstanceId);
                    }
                    known.clone()
                }
            };
            if group.pending.remove(&member_id).is_some() {
                group.complete_join_if_ready(now);
                return Ok(());
            }
            if !group.members.contains_key(&member_id) {
                return Err(ResponseError::UnknownMemberId);
            }
            group.remove(now, &member_id);
            Ok(())
        })
        .unwrap_or(Err(ResponseError::UnknownMemberId))
    }

    /// Whether the asking member may commit offsets now; it counts as a sign of life.
    ///
    /// # Errors
    /// What the member has to be told.
    pub fn may_commit(&mut self, now: Millis, identity: &Identity) -> Result<(), ResponseError> {
        if identity.group.is_empty() || identity.group.len() > NAME_BYTES_MAX {
            return Err(ResponseError::InvalidGroupId);
        }
        self.with(&identity.group, |group, _| {
            if identity.generation < 0 && group.members.is_empty() {
                return Ok(());
            }
            group.identify(identity)?;
            group.touch(now, &identity.member_id);
            match group.state {
                State::Empty => Err(ResponseError::UnknownMemberId),
                State::CompletingRebalance => Err(ResponseError::RebalanceInProgress),
                State::PreparingRebalance | State::Stable => Ok(()),
            }
        })
        .unwrap_or(if identity.generation < 0 {
            Ok(())
        } else {
            Err(ResponseError::IllegalGeneration)
        })
    }
}

impl Group {
    fn touch(&mut self, now: Millis, member_id: &StrBytes) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.touch(now);
        }
    }

    fn identify(&self, identity: &Identity) -> Result<(), ResponseError> {
        if let Some(instance) = &identity.instance_id {
            match self.instances.get(instance) {
                None => return Err(ResponseError::UnknownMemberId),
                Some(member_id) if *member_id != identity.member_id => {
                    return Err(ResponseError::FencedInstanceId);
                }
                Some(_) => {}
            }
        }
        if !self.members.contains_key(&identity.member_id) {
            return Err(ResponseError::UnknownMemberId);
        }
        if identity.generation != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        Ok(())
    }

    fn sync(&mut self, now: Millis, request: SyncRequest, token: Token) -> Result<(), ResponseError> {
        self.identify(&request.identity)?;
        let differs = |said: &Option<StrBytes>, is: &Option<StrBytes>| said.is_some() && said != is;
        if differs(&request.protocol_type, &self.protocol_type) || differs(&request.protocol, &self.protocol)
        {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        let member_id = request.identity.member_id;
        self.touch(now, &member_id);
        match self.state {
            State::Empty => Err(ResponseError::UnknownMemberId),
            State::PreparingRebalance => Err(ResponseError::RebalanceInProgress),
            State::Stable => {
                self.answer_sync(&member_id, token);
                Ok(())
            }
            State::CompletingRebalance => {
                let member = self.members.get_mut(&member_id).ok_or(ResponseError::UnknownMemberId)?;
                member.synced = true;
                if let Some(old) = member.syncing.replace(token) {
                    let answer = SyncAnswer::failed(ResponseError::RebalanceInProgress);
                    self.answers.push(Answer::Sync(old, answer));
                }
                if self.leader.as_ref() == Some(&member_id) {
                    self.assign(now, request.assignments);
                }
                Ok(())
            }
        }
    }

    /// The leader has spoken: everybody who waits gets its share.
    fn assign(&mut self, now: Millis, assignments: Vec<(StrBytes, Bytes)>) {
        let mut assignments: HashMap<StrBytes, Bytes> = assignments.into_iter().collect();
        self.state = State::Stable;
        self.rebalance_deadline = Millis::MAX;
        let mut waiting = Vec::new();
        for member in self.members.values_mut() {
            // A copy, because the request goes.
            member.assignment =
                assignments.remove(&member.id).map(|a| Bytes::copy_from_slice(&a)).unwrap_or_default();
            if let Some(token) = member.syncing.take() {
                member.touch(now);
                waiting.push((member.id.clone(), token));
            }
        }
        for (member_id, token) in waiting {
            self.answer_sync(&member_id, token);
        }
    }

    fn answer_sync(&mut self, member_id: &StrBytes, token: Token) {
        let assignment = self.members.get(member_id).map(|m| m.assignment.clone()).unwrap_or_default();
        let answer = SyncAnswer {
            error: None,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment,
        };
        self.answers.push(Answer::Sync(token, answer));
    }
}
