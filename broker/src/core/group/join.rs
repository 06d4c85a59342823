//! JoinGroup: new members, known members, static members that come back.

use bytes::Bytes;
use wire::kafka::{ResponseError, StrBytes};

use super::{
    Answer, Group, Groups, JoinAnswer, Limits, MEMBER_BYTES_MAX, Member, Millis, NAME_BYTES_MAX, State,
    SyncAnswer, Token,
};

/// The part of a client id that goes into a member id, bytes.
const CLIENT_ID_BYTES_SHOWN: usize = 255;

/// A member's own structures, and those of each of its protocols, bytes.
const MEMBER_BYTES: usize = 512;
const PROTOCOL_BYTES: usize = 64;

/// What a member takes that is called so and offers this, bytes, about.
pub(super) fn offer_bytes(client_id: &str, protocols: &[(StrBytes, Bytes)]) -> usize {
    let offered = protocols.iter().map(|(name, metadata)| PROTOCOL_BYTES + name.len() + metadata.len());
    MEMBER_BYTES + client_id.len() + offered.sum::<usize>()
}

/// A JoinGroup request.
#[derive(Debug, Clone)]
pub struct Join {
    /// The group.
    pub group: StrBytes,
    /// Empty for a new member.
    pub member_id: StrBytes,
    /// Of a static member.
    pub instance_id: Option<StrBytes>,
    /// Who the client says it is.
    pub client_id: StrBytes,
    /// Where it connects from.
    pub client_host: StrBytes,
    /// Milliseconds without a heartbeat after which the member is gone.
    pub session_ms: i32,
    /// Milliseconds the member may take to join a rebalance.
    pub rebalance_ms: i32,
    /// "consumer", mostly.
    pub protocol_type: StrBytes,
    /// By preference, with metadata.
    pub protocols: Vec<(StrBytes, Bytes)>,
    /// From version 4 on a new member is first told its id (MEMBER_ID_REQUIRED).
    pub needs_known_id: bool,
    /// From version 9 on a leader may be told to skip the assignment.
    pub may_skip_assignment: bool,
    /// Text that no other member id has, should one be given out.
    pub fresh_id: StrBytes,
}

impl JoinAnswer {
    /// A refusal of a member of this id, which may be empty.
    #[must_use]
    pub fn failed(error: ResponseError, member_id: StrBytes) -> Self {
        Self {
            error: Some(error),
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: StrBytes::new(),
            member_id,
            members: Vec::new(),
            skip_assignment: false,
        }
    }
}

impl Groups {
    /// Takes a join; its answer comes with `token`, now or later.
    pub fn join(&mut self, now: Millis, join: Join, token: Token) {
        if let Err(error) = self.admit(&join) {
            self.answers.push(Answer::Join(token, JoinAnswer::failed(error, join.member_id)));
            return;
        }
        self.by_id.entry(join.group.clone()).or_insert_with(Group::new);
        let id = join.group.clone();
        let refused = self.with(&id, |group, limits| {
            let member_id = join.member_id.clone();
            group.join(now, join, token, limits).map_err(|(error, id)| (error, id.unwrap_or(member_id)))
        });
        if let Some(Err((error, member_id))) = refused {
            self.answers.push(Answer::Join(token, JoinAnswer::failed(error, member_id)));
        }
    }

    fn admit(&mut self, join: &Join) -> Result<(), ResponseError> {
        let session = u32::try_from(join.session_ms).unwrap_or(0);
        if join.group.is_empty() || join.group.len() > NAME_BYTES_MAX {
            return Err(ResponseError::InvalidGroupId);
        }
        let mut names = join.protocols.iter().map(|(name, _)| name);
        let instance_id = join.instance_id.as_deref().unwrap_or_default();
        let bytes = offer_bytes(&join.client_id, &join.protocols);
        if names.any(|name| name.len() > NAME_BYTES_MAX)
            || instance_id.len().max(join.protocol_type.len()) > NAME_BYTES_MAX
            || bytes > MEMBER_BYTES_MAX
        {
            return Err(ResponseError::InvalidRequest);
        }
        if !(self.limits.session_ms_min..=self.limits.session_ms_max).contains(&session) {
            return Err(ResponseError::InvalidSessionTimeout);
        }
        if !self.by_id.contains_key(&join.group) {
            if !join.member_id.is_empty() {
                return Err(ResponseError::UnknownMemberId);
            }
            if self.by_id.len() >= self.limits.groups_max {
                self.by_id.retain(|_, group| !group.is_unused());
            }
            if self.by_id.len() >= self.limits.groups_max {
                return Err(ResponseError::CoordinatorNotAvailable);
            }
        }
        if self.take_room(bytes) { Ok(()) } else { Err(ResponseError::CoordinatorNotAvailable) }
    }
}

type Refused = (ResponseError, Option<StrBytes>);

impl Group {
    fn join(&mut self, now: Millis, join: Join, token: Token, limits: &Limits) -> Result<(), Refused> {
        if !self.agrees_with(&join) {
            return Err((ResponseError::InconsistentGroupProtocol, None));
        }
        if join.member_id.is_empty() {
            return self.join_new(now, join, token, limits);
        }
        if let Some(instance) = &join.instance_id {
            match self.instances.get(instance) {
                Some(member_id) if *member_id != join.member_id => {
                    return Err((ResponseError::FencedInstanceId, None));
                }
                None => return Err((ResponseError::UnknownMemberId, None)),
                Some(_) => {}
            }
        }
        if self.members.contains_key(&join.member_id) {
            self.join_known(now, join, token);
            return Ok(());
        }
        if self.pending.contains_key(&join.member_id) {
            self.check_room(limits, 1)?;
            self.pending.remove(&join.member_id);
            let id = join.member_id.clone();
            self.add(now, id, join, token, limits);
            return Ok(());
        }
        Err((ResponseError::UnknownMemberId, None))
    }

    /// A member without protocols, of another type, or without a protocol that all others have, can't take part.
    fn agrees_with(&self, join: &Join) -> bool {
        if join.protocols.is_empty() || join.protocol_type.is_empty() {
            return false;
        }
        let mut others = self.members.values().filter(|m| m.id != join.member_id).peekable();
        if others.peek().is_none() {
            return true;
        }
        let same_type = self.protocol_type.as_ref().is_none_or(|t| *t == join.protocol_type);
        let mut others: Vec<&Member> = others.collect();
        others.retain(|m| m.instance_id.is_none() || m.instance_id != join.instance_id);
        same_type && join.protocols.iter().any(|(name, _)| others.iter().all(|m| m.supports(name)))
    }

    fn check_room(&self, limits: &Limits, more: usize) -> Result<(), Refused> {
        let full = self.members.len() + more > limits.members_max;
        if full { Err((ResponseError::GroupMaxSizeReached, None)) } else { Ok(()) }
    }

    fn join_new(&mut self, now: Millis, join: Join, token: Token, limits: &Limits) -> Result<(), Refused> {
        let client = crate::core::api::cut(&join.client_id, CLIENT_ID_BYTES_SHOWN);
        let id = StrBytes::from_string(format!("{client}-{}", &*join.fresh_id));
        if let Some(instance) = &join.instance_id {
            if let Some(old) = self.instances.get(instance).cloned() {
                self.replace_static(now, &old, &id, join, token);
                return Ok(());
            }
        } else if join.needs_known_id {
            self.check_room(limits, self.pending.len() + 1)?;
            self.pending.insert(id.clone(), now + Millis::from(join.session_ms.unsigned_abs()));
            return Err((ResponseError::MemberIdRequired, Some(id)));
        }
        self.check_room(limits, 1)?;
        self.add(now, id, join, token, limits);
        Ok(())
    }

    fn add(&mut self, now: Millis, id: StrBytes, join: Join, token: Token, limits: &Limits) {
        let session_ms = join.session_ms.unsigned_abs();
        let member = Member {
            id: id.clone(),
            instance_id: join.instance_id.clone(),
            client_id: join.client_id,
            client_host: join.client_host,
            assignment: Bytes::new(),
            protocols: join.protocols,
            session_ms,
            rebalance_ms: rebalance_ms(join.rebalance_ms, session_ms),
            session_deadline: now + Millis::from(session_ms),
            joining: Some(token),
            syncing: None,
            synced: false,
            joined_at: self.members.values().map(|m| m.joined_at + 1).max().unwrap_or(0),
        };
        if let Some(instance) = join.instance_id {
            self.instances.insert(instance, id.clone());
        }
        self.protocol_type = Some(join.protocol_type);
        self.members.insert(id, member);
        self.rebalance(now, limits.initial_delay_ms);
    }

    fn join_known(&mut self, now: Millis, join: Join, token: Token) {
        let is_leader = self.leader.as_ref() == Some(&join.member_id);
        let changed = self.members.get(&join.member_id).is_none_or(|m| m.protocols != join.protocols);
        let member_id = join.member_id.clone();
        self.update(now, &member_id, join);
        let settled = match self.state {
            // It didn't see the answer to its first join: the same answer again.
            State::CompletingRebalance => !changed,
            State::Stable => !changed && !is_leader,
            State::Empty | State::PreparingRebalance => false,
        };
        if settled {
            let answer = self.join_answer(&member_id);
            self.answers.push(Answer::Join(token, answer));
            return;
        }
        self.supersede_join(&member_id, Some(token));
        self.rebalance(now, 0);
    }

    fn update(&mut self, now: Millis, member_id: &StrBytes, join: Join) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.session_ms = join.session_ms.unsigned_abs();
            member.rebalance_ms = rebalance_ms(join.rebalance_ms, member.session_ms);
            member.protocols = join.protocols;
            member.client_id = join.client_id;
            member.client_host = join.client_host;
            member.touch(now);
        }
    }

    /// Only the last of a member's joins waits; an earlier one is told to come again.
    fn supersede_join(&mut self, member_id: &StrBytes, token: Option<Token>) {
        if let Some(member) = self.members.get_mut(member_id)
            && let Some(old) = std::mem::replace(&mut member.joining, token)
        {
            let answer = JoinAnswer::failed(ResponseError::UnknownMemberId, member_id.clone());
            self.answers.push(Answer::Join(old, answer));
        }
    }

    /// A static member came back without its id: it gets a new one, and the old one is fenced. Unless its protocols
    /// changed, a stable group goes on without a rebalance.
    fn replace_static(&mut self, now: Millis, old: &StrBytes, id: &StrBytes, join: Join, token: Token) {
        let Some(mut member) = self.members.remove(old) else { return };
        if let Some(waiting) = member.joining.take() {
            let answer = JoinAnswer::failed(ResponseError::FencedInstanceId, old.clone());
            self.answers.push(Answer::Join(waiting, answer));
        }
        if let Some(waiting) = member.syncing.take() {
            let answer = SyncAnswer::failed(ResponseError::FencedInstanceId);
            self.answers.push(Answer::Sync(waiting, answer));
        }
        let same = member.protocols == join.protocols;
        let was_leader = self.leader.as_ref() == Some(old);
        let may_skip = join.may_skip_assignment;
        member.id = id.clone();
        if let Some(instance) = &join.instance_id {
            self.instances.insert(instance.clone(), id.clone());
        }
        self.members.insert(id.clone(), member);
        if was_leader {
            self.leader = Some(id.clone());
        }
        self.update(now, id, join);
        if self.state == State::Stable && same {
            let mut answer = self.join_answer(id);
            if was_leader && may_skip {
                answer.skip_assignment = true;
            } else if was_leader {
                // An older client would assign anew: it is told that its former self leads.
                answer.leader = old.clone();
                answer.members.clear();
            }
            self.answers.push(Answer::Join(token, answer));
            return;
        }
        if let Some(member) = self.members.get_mut(id) {
            member.joining = Some(token);
        }
        self.rebalance(now, 0);
    }
}

/// Version 0 sends no rebalance timeout: the session timeout stands for it.
fn rebalance_ms(sent: i32, session_ms: u32) -> u32 {
    u32::try_from(sent).ok().filter(|ms| *ms > 0).unwrap_or(session_ms)
}
