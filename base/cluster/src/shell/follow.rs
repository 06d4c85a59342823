//! How a node follows the map: it asks others for newer ones, in case it does not hear of them in the metadata group.
//!
//! Always holds: a map that is followed gets newer only; the last one is kept in a file, so that a node that starts knows
//! whom to ask.

use std::rc::Rc;
use std::sync::Arc;

use runtime::time;

use super::hub::Hub;
use super::machine::files;
use crate::core::entry::Entry;
use crate::core::wire::{Question, Reply};
use crate::limits::{ASK_AGAIN, LOOK_EVERY};
use crate::{META, Map};

/// Follows, whenever this node has to, until it is aborted.
pub(crate) async fn run(hub: Rc<Hub>) {
    let mut wait = ASK_AGAIN.0;
    // The likeliest, until it has nothing new: it may be cut off.
    let mut next = 0;
    loop {
        // A member of the group hears of it from its leader, mostly sooner; but not of what came after it was put out.
        if hub.leads() {
            time::sleep(LOOK_EVERY).await;
            continue;
        }
        let others = hub.others();
        let map = hub.map();
        let newer = match others.get(next % others.len().max(1)) {
            Some(address) => match hub.ask_node(address, &Question::Newer(map.version)).await {
                Ok(reply) => apply(&map, reply),
                Err(error) => Err(error.to_string()),
            },
            None => Err("no other node is known".to_owned()),
        };
        match newer {
            Ok(Some(newer)) => {
                hub.take_map(&newer);
                // A member keeps the group's.
                if hub.replicas.members(META).is_none() {
                    files::keep_seen(&hub.options, &newer).await;
                }
                wait = ASK_AGAIN.0;
            }
            Ok(None) => next += 1,
            Err(why) => {
                tracing::debug!(%why, "no newer map");
                time::sleep(wait).await;
                wait = (wait * 2).min(ASK_AGAIN.1);
                next += 1;
            }
        }
    }
}

/// The map that comes of a reply.
fn apply(map: &Arc<Map>, reply: Reply) -> Result<Option<Arc<Map>>, String> {
    match reply {
        Reply::Entries(entries) if entries.is_empty() => Ok(None),
        Reply::Entries(entries) => {
            let mut newer = Map::clone(map);
            for entry in entries {
                let entry = Entry::decode(&entry).ok_or("an entry that this release does not know")?;
                if !newer.take_entry(&entry) {
                    return Err("entries of another version".to_owned());
                }
            }
            Ok(Some(Arc::new(newer)))
        }
        Reply::Whole(newer) if newer.version > map.version => Ok(Some(newer)),
        other => Err(format!("an answer that fits no question: {other:?}").chars().take(200).collect()),
    }
}
