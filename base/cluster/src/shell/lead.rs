//! The work of the metadata group's leader: requests, who is heard, and what is to be moved, together in one entry.
//!
//! Always holds: one entry is under way at a time, made from everything that was committed before it; who asked hears what
//! became of it only when it is applied here.

use std::collections::BTreeMap;
use std::rc::Rc;

use replog::Error;
use runtime::sync::MailSender;
use runtime::time;

use super::hub::Hub;
use crate::core::entry::{Effect, Entry};
use crate::core::execute::{Batch, found, is_small};
use crate::core::health::{Patience, health};
use crate::core::plan::plan;
use crate::core::request::{Joining, Refusal, Request};
use crate::core::wire::Reply;
use crate::limits::{COMMANDS_MAX, LOOK_EVERY, REQUEST_BYTES_MAX};
use crate::{META, Map};

/// Requests that are decided together.
const TOGETHER_MAX: usize = 256;

/// Leads, whenever this node does, until it is aborted.
pub(crate) async fn run(hub: Rc<Hub>) {
    loop {
        let _ = time::timeout(LOOK_EVERY, hub.work.notified()).await;
        let requests = take(&hub);
        if !hub.leads() {
            answer_all(requests, &Reply::Elsewhere(None));
        } else if requests.is_empty() && is_idle(&hub) {
            // The group may fall quiet.
        } else if let Err(error) = hub.replicas.read(META).await {
            // What was committed before may not be applied here.
            answer_all(requests, &Reply::Again(error.to_string()));
        } else {
            turn(&hub, requests).await;
        }
    }
}

/// Whether nothing has changed, and nobody has gone or come.
fn is_idle(hub: &Hub) -> bool {
    let map = hub.meta.borrow().map.clone();
    map.version > 0 && hub.planned.get() == map.version && look_who_is_heard(hub, &map).is_empty()
}

fn look_who_is_heard(hub: &Hub, map: &Map) -> Vec<Effect> {
    let others = map.nodes.keys().filter_map(|node| Some((*node, hub.replicas.unheard(*node)?)));
    let unheard: BTreeMap<_, _> = others.collect();
    let options = &hub.options;
    let patience = Patience { down_after: options.down_after, replace_after: options.replace_after };
    health(map, hub.node, &unheard, &patience)
}

type Waiting = Vec<(Request, MailSender<Reply>)>;

fn take(hub: &Hub) -> Waiting {
    let mut queue = hub.queue.borrow_mut();
    let mut bytes = 0;
    let mut taken = Waiting::new();
    while taken.len() < TOGETHER_MAX && bytes < REQUEST_BYTES_MAX {
        let Some(next) = queue.pop_front() else { break };
        if let Request::Change(commands) = &next.0 {
            bytes += commands.len() * REQUEST_BYTES_MAX / COMMANDS_MAX;
        }
        taken.push(next);
    }
    if !queue.is_empty() {
        hub.work.notify_one();
    }
    taken
}

fn answer_all(waiting: Waiting, reply: &Reply) {
    for (_, answer) in waiting {
        let _ = answer.try_send(reply.clone());
    }
}

async fn turn(hub: &Rc<Hub>, requests: Waiting) {
    let map = hub.meta.borrow().map.clone();
    let mut batch = Batch::new(&map);
    if map.version == 0 {
        let identity = hub.identity.borrow();
        let (token, kind) = (identity.token, identity.kind.clone());
        let joining = Joining { token, name: hub.options.name.clone(), kind };
        batch.add(found(identity.cluster, &joining, hub.options.meta_replicas));
    }
    let mut outcomes = Vec::new();
    for (request, answer) in requests {
        let decided = match is_small(&request) {
            true => batch.take(&request),
            false => Err(Refusal::Full("bytes in one request".to_owned())),
        };
        match decided {
            Ok(outcome) => outcomes.push((outcome, answer)),
            Err(refusal) => drop(answer.try_send(Reply::Refused(refusal))),
        }
    }
    let heard = look_who_is_heard(hub, batch.map());
    batch.add(heard);
    // Not at each change: with thousands of groups it takes a while.
    let due = time::now() - hub.planned_at.get() >= LOOK_EVERY;
    if due && (!batch.is_empty() || hub.planned.get() != map.version) {
        hub.planned_at.set(time::now());
        let planned = plan(batch.map(), hub.options.moves_max);
        batch.add(planned);
    }
    let Some(entry) = batch.into_entry() else {
        if due {
            hub.planned.set(map.version);
        }
        for (outcome, answer) in outcomes {
            let _ = answer.try_send(Reply::Done(outcome));
        }
        return;
    };
    let logged = log(hub, &entry).await;
    for (outcome, answer) in outcomes {
        let reply = match &logged {
            Ok(true) => Reply::Done(outcome),
            Ok(false) => Reply::Again("another change came first".to_owned()),
            Err((true, why)) => Reply::Unknown(why.clone()),
            Err((false, why)) => Reply::Again(why.clone()),
        };
        let _ = answer.try_send(reply);
    }
}

/// Whether the entry was taken; otherwise whether it may have been, and why that is not known.
async fn log(hub: &Hub, entry: &Entry) -> Result<bool, (bool, String)> {
    let proposal = hub.replicas.propose(META, entry.encode()).map_err(|error| (false, error.to_string()))?;
    match proposal.applied().await {
        Ok(index) => {
            let taken = hub.meta.borrow().was_taken(index);
            taken.ok_or_else(|| (true, "a snapshot has passed it".to_owned()))
        }
        Err(error @ Error::Lost { .. }) => Err((false, error.to_string())),
        Err(error) => Err((true, error.to_string())),
    }
}
