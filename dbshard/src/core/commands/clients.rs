//! CLIENT: who is connected, what they are called, and closing them.

use crate::core::command::{Call, Reply};
use crate::core::session::{Replies, Session};
use crate::core::shard::Refusal;
use wire::resp::number;

pub(crate) fn id(call: &mut Call<'_>) -> Reply {
    call.out.integer(call.session.id as i64);
    Ok(())
}

pub(crate) fn getname(call: &mut Call<'_>) -> Reply {
    match call.session.name.is_empty() {
        true => call.out.null(),
        false => call.out.bulk(&call.session.name),
    }
    Ok(())
}

/// A name or version as it may stand in CLIENT LIST.
fn printable(text: &[u8]) -> bool {
    text.len() <= 1024 && text.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

pub(crate) fn checked_name(name: &[u8]) -> Result<Box<[u8]>, Refusal> {
    match printable(name) {
        true => Ok(name.into()),
        false => Err("ERR Client names cannot contain spaces, newlines or special characters.".into()),
    }
}

pub(crate) fn setname(call: &mut Call<'_>) -> Reply {
    call.session.name = checked_name(&call.arguments[2])?;
    call.out.ok();
    Ok(())
}

pub(crate) fn setinfo(call: &mut Call<'_>) -> Reply {
    let value = &call.arguments[3];
    let option = call.word(2);
    let kept = match &option[..] {
        b"lib-name" => &mut call.session.library,
        b"lib-ver" => &mut call.session.library_version,
        _ => {
            let option = String::from_utf8_lossy(&call.arguments[2]).into_owned();
            return Err(format!("ERR Unrecognized option '{option}'").into());
        }
    };
    if !printable(value) {
        let option = String::from_utf8_lossy(&option).into_owned();
        return Err(format!("ERR {option} cannot contain spaces, newlines or special characters.").into());
    }
    *kept = value.into();
    call.out.ok();
    Ok(())
}

/// Visits every connection of the shard, this one too.
fn each(call: &Call<'_>, mut visit: impl FnMut(&Session)) {
    for (id, session) in &call.shard.clients {
        if *id == call.session.id {
            visit(call.session);
        } else if let Ok(session) = session.try_borrow() {
            visit(&session);
        }
    }
}

fn client_type(name: &[u8]) -> Result<bool, Refusal> {
    match name {
        b"normal" => Ok(true),
        b"master" | b"slave" | b"replica" | b"pubsub" => Ok(false),
        _ => Err(format!("ERR Unknown client type '{}'", String::from_utf8_lossy(name)).into()),
    }
}

pub(crate) fn list(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    let mut wanted: Option<Vec<i64>> = None;
    let mut any = true;
    match (&call.word(2)[..], arguments.len()) {
        (_, 2) => {}
        (b"type", 4) => any = client_type(&call.word(3))?,
        (b"id", 4..) => {
            let ids = arguments.from(3).iter().map(number::integer).collect::<Option<_>>();
            wanted = Some(ids.ok_or("ERR Invalid client ID")?);
        }
        _ => return Err(Refusal::SYNTAX),
    }
    let (mut lines, now_ms) = (String::new(), call.now_ms);
    each(call, |session| {
        if any && wanted.as_ref().is_none_or(|ids| ids.contains(&(session.id as i64))) {
            lines.push_str(&session.line(now_ms));
        }
    });
    call.out.verbatim(&lines);
    Ok(())
}

pub(crate) fn info(call: &mut Call<'_>) -> Reply {
    let line = call.session.line(call.now_ms);
    call.out.verbatim(&line);
    Ok(())
}

pub(crate) fn kill(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    let by_address = arguments.len() == 3;
    let (mut id, mut address, mut local_address, mut skip_me, mut any) = (None, None, None, true, true);
    if by_address {
        address = Some(arguments[2].to_vec());
        skip_me = false;
    } else {
        for at in (2..arguments.len()).step_by(2) {
            let value = arguments.get(at + 1).ok_or(Refusal::SYNTAX)?;
            match &call.word(at)[..] {
                b"id" => {
                    let number = number::integer(value).filter(|id| *id > 0);
                    id = Some(number.ok_or("ERR client-id should be greater than 0")? as u64);
                }
                b"addr" => address = Some(value.to_vec()),
                b"laddr" => local_address = Some(value.to_vec()),
                b"type" => any = client_type(&value.to_ascii_lowercase())?,
                b"user" if value == b"default" => {}
                b"user" => {
                    return Err(format!("ERR No such user '{}'", String::from_utf8_lossy(value)).into());
                }
                b"skipme" => {
                    skip_me = match &value.to_ascii_lowercase()[..] {
                        b"yes" => true,
                        b"no" => false,
                        _ => return Err(Refusal::SYNTAX),
                    }
                }
                _ => return Err(Refusal::SYNTAX),
            }
        }
    }
    let mut victims = Vec::new();
    each(call, |session| {
        let matches = any
            && id.is_none_or(|id| id == session.id)
            && address.as_ref().is_none_or(|address| session.address.to_string().as_bytes() == address)
            && local_address
                .as_ref()
                .is_none_or(|address| session.local_address.to_string().as_bytes() == address)
            && !(skip_me && session.id == call.session.id);
        if matches {
            victims.push(session.id);
        }
    });
    if by_address && victims.is_empty() {
        return Err("ERR No such client".into());
    }
    for victim in &victims {
        if *victim == call.session.id {
            call.session.close = true;
        } else {
            call.shard.killed.push(*victim);
        }
    }
    match by_address {
        true => call.out.ok(),
        false => call.out.integer(victims.len() as i64),
    }
    Ok(())
}

fn on_or_off(call: &Call<'_>) -> Result<bool, Refusal> {
    match &call.word(2)[..] {
        b"on" => Ok(true),
        b"off" => Ok(false),
        _ => Err(Refusal::SYNTAX),
    }
}

pub(crate) fn no_evict(call: &mut Call<'_>) -> Reply {
    call.session.no_evict = on_or_off(call)?;
    call.out.ok();
    Ok(())
}

pub(crate) fn no_touch(call: &mut Call<'_>) -> Reply {
    call.session.no_touch = on_or_off(call)?;
    call.out.ok();
    Ok(())
}

pub(crate) fn reply(call: &mut Call<'_>) -> Reply {
    match &call.word(2)[..] {
        b"on" => {
            call.session.replies = Replies::On;
            call.out.ok();
        }
        b"off" => call.session.replies = Replies::Off,
        b"skip" if call.session.replies != Replies::Off => call.session.replies = Replies::SkipNext,
        b"skip" => {}
        _ => return Err(Refusal::SYNTAX),
    }
    Ok(())
}

pub(crate) fn getredir(call: &mut Call<'_>) -> Reply {
    call.out.integer(-1);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::core::console::{Console, session};
    use std::cell::RefCell;
    use std::rc::Rc;

    #[test]
    fn naming_listing_and_killing() {
        let mut console = Console::new();
        let mut other = session(7);
        other.name = (*b"other").into();
        for session in [other, session(1)] {
            console.shard.register(Rc::new(RefCell::new(session)));
        }
        console.script(
            "CLIENT ID -> (1)
             CLIENT SETNAME \"a b\" -> ERR Client names cannot contain spaces, newlines or special characters.
             CLIENT SETNAME me -> OK
             CLIENT GETNAME -> me
             CLIENT SETINFO LIB-NAME lib -> OK
             CLIENT SETINFO FOO x -> ERR Unrecognized option 'FOO'
             CLIENT NO-EVICT ON -> OK
             CLIENT NO-EVICT maybe -> ERR syntax error
             CLIENT NO-TOUCH OFF -> OK
             CLIENT LIST TYPE pubsub -> 
             CLIENT LIST TYPE foo -> ERR Unknown client type 'foo'
             CLIENT KILL 1.2.3.4:5 -> ERR No such client
             CLIENT KILL ID 0 -> ERR client-id should be greater than 0
             CLIENT KILL ID 7 -> (1)
             CLIENT KILL ADDR 127.0.0.1:4007 -> (1)
             CLIENT KILL 127.0.0.1:4007 -> OK",
        );
        assert_eq!(console.shard.take_killed(), [7, 7, 7]);
        let list = console.ask("CLIENT LIST");
        assert_eq!(list.lines().count(), 2);
        assert!(list.contains("id=7 addr=127.0.0.1:4007 laddr=127.0.0.1:7001 fd=-1 name=other"), "{list}");
        assert!(console.ask("CLIENT LIST ID 7").starts_with("id=7 "));
        assert!(console.ask("CLIENT INFO").contains("name=me") && !console.session.close);
        console.script("CLIENT KILL ID 1 -> (0)\nCLIENT KILL ID 1 SKIPME no -> (1)");
        assert!(console.session.close);
    }
}
