//! A connection's own affairs: PING, HELLO, AUTH, SELECT, RESET, QUIT, WAIT.

use crate::core::command::{Call, Reply};
use crate::core::commands::clients;
use crate::core::session::{Replies, Wait};
use crate::core::shard::Refusal;
use wire::resp::{Protocol, number};

/// The version of Redis whose behaviour this follows; clients look at it to know what they may ask.
pub const REDIS_VERSION: &str = "7.0.15";

const WRONG_PASS: &str = "WRONGPASS invalid username-password pair or user is disabled.";

pub(crate) fn ping(call: &mut Call<'_>) -> Reply {
    match call.arguments.len() {
        1 => call.out.simple("PONG"),
        2 => call.out.bulk(&call.arguments[1]),
        _ => return Err(Refusal::arity("ping")),
    }
    Ok(())
}

pub(crate) fn echo(call: &mut Call<'_>) -> Reply {
    call.out.bulk(&call.arguments[1]);
    Ok(())
}

pub(crate) fn select(call: &mut Call<'_>) -> Reply {
    match number::integer(&call.arguments[1]) {
        None => return Err(Refusal::NOT_AN_INTEGER),
        Some(0) => call.out.ok(),
        Some(number) if i32::try_from(number).is_err() => {
            return Err("ERR value is out of range, value must between -2147483648 and 2147483647".into());
        }
        Some(_) => return Err("ERR SELECT is not allowed in cluster mode".into()),
    }
    Ok(())
}

/// Equal, in a time that does not tell where they differ.
fn same_secret(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

fn authenticate(call: &mut Call<'_>, user: &[u8], password: &[u8]) -> Result<(), Refusal> {
    let right = match &call.shard.settings.password {
        None => true,
        Some(wanted) => same_secret(wanted.as_bytes(), password),
    };
    if user != b"default" || !right {
        return Err(WRONG_PASS.into());
    }
    call.session.authenticated = true;
    Ok(())
}

pub(crate) fn auth(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    match arguments.len() {
        2 if call.shard.settings.password.is_none() => {
            return Err("ERR AUTH <password> called without any password configured for the default user. Are you sure \
                        your configuration is correct?"
                .into());
        }
        2 => authenticate(call, b"default", &arguments[1])?,
        3 => authenticate(call, &arguments[1], &arguments[2])?,
        _ => return Err(Refusal::SYNTAX),
    }
    call.out.ok();
    Ok(())
}

pub(crate) fn hello(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    let protocol = match arguments.get(1).map(number::integer) {
        None => None,
        Some(None) => return Err("ERR Protocol version is not an integer or out of range".into()),
        Some(Some(2)) => Some(Protocol::Resp2),
        Some(Some(3)) => Some(Protocol::Resp3),
        Some(Some(_)) => return Err("NOPROTO unsupported protocol version".into()),
    };
    let (mut user, mut name) = (None, None);
    let mut at = 2;
    while at < arguments.len() {
        match (&call.word(at)[..], arguments.len() - at - 1) {
            (b"auth", 2..) => {
                user = Some((&arguments[at + 1], &arguments[at + 2]));
                at += 3;
            }
            (b"setname", 1..) => {
                name = Some(&arguments[at + 1]);
                at += 2;
            }
            _ => {
                let option = String::from_utf8_lossy(&arguments[at]).into_owned();
                return Err(format!("ERR Syntax error in HELLO option '{option}'").into());
            }
        }
    }
    if let Some((user, password)) = user {
        authenticate(call, user, password)?;
    }
    if !call.session.authenticated {
        return Err("NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH \
                    <user> <pass> option can be used to authenticate the client and select the RESP protocol version at \
                    the same time"
            .into());
    }
    if let Some(name) = name {
        call.session.name = clients::checked_name(name)?;
    }
    if let Some(protocol) = protocol {
        call.session.protocol = protocol;
        call.out.protocol = protocol;
    }
    let (id, version) = (call.session.id, if call.out.protocol == Protocol::Resp2 { 2 } else { 3 });
    let out = &mut call.out;
    out.map(7);
    for (name, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        out.bulk(name.as_bytes());
        out.bulk(value.as_bytes());
    }
    for (name, value) in [("proto", version), ("id", id as i64)] {
        out.bulk(name.as_bytes());
        out.integer(value);
    }
    let role = if call.shard.leads() { "master" } else { "replica" };
    for (name, value) in [("mode", "cluster"), ("role", role)] {
        out.bulk(name.as_bytes());
        out.bulk(value.as_bytes());
    }
    out.bulk(b"modules");
    out.array(0);
    Ok(())
}

pub(crate) fn quit(call: &mut Call<'_>) -> Reply {
    call.session.close = true;
    call.out.ok();
    Ok(())
}

pub(crate) fn reset(call: &mut Call<'_>) -> Reply {
    let session = &mut *call.session;
    session.transaction = None;
    session.watched = Vec::new();
    session.name = Box::default();
    session.readonly = false;
    session.no_evict = false;
    session.no_touch = false;
    session.replies = Replies::On;
    session.authenticated = call.shard.settings.password.is_none();
    session.protocol = Protocol::Resp2;
    call.out.protocol = Protocol::Resp2;
    call.out.simple("RESET");
    Ok(())
}

/// Waits until so many other replicas have all that was written here. What is answered is on a majority already.
pub(crate) fn wait(call: &mut Call<'_>) -> Reply {
    let replicas = number::integer(&call.arguments[1]).ok_or(Refusal::NOT_AN_INTEGER)?;
    let timeout =
        number::integer(&call.arguments[2]).ok_or("ERR timeout is not an integer or out of range")?;
    let timeout_ms = u64::try_from(timeout).map_err(|_| Refusal::from("ERR timeout is negative"))?;
    if !call.shard.leads() {
        return Err("ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica is \
                    configured to be writable (which is not the default) writes to replicas are just local and are not propagated."
            .into());
    }
    call.rest_on_all();
    // What is not proposed yet will have the next place.
    let index = call.shard.last_index() + u64::from(call.shard.batch().is_some());
    let acknowledged = call.shard.acknowledged(index).max(call.shard.others_of_majority());
    if usize::try_from(replicas).is_ok_and(|wanted| wanted > acknowledged) && !call.session.executing {
        let until_ms = if timeout_ms == 0 { u64::MAX } else { call.now_ms.saturating_add(timeout_ms) };
        call.session.wait = Some(Wait { index, replicas: replicas as usize, until_ms, is_silent: false });
        call.gate = u64::MAX;
        return Ok(());
    }
    call.out.integer(acknowledged as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::core::console::{Console, replicated};
    use crate::core::shard::{Follower, Settings};

    #[test]
    fn greetings() {
        let mut console = Console::new();
        console.script(
            "PING -> PONG
             PING hi -> hi
             PING a b -> ERR wrong number of arguments for 'ping' command
             ECHO x -> x
             SELECT 0 -> OK
             SELECT 1 -> ERR SELECT is not allowed in cluster mode
             SELECT a -> ERR value is not an integer or out of range
             HELLO 4 -> NOPROTO unsupported protocol version
             HELLO a -> ERR Protocol version is not an integer or out of range
             HELLO 3 FOO -> ERR Syntax error in HELLO option 'FOO'
             HELLO 2 SETNAME me -> [server redis version 7.0.15 proto (2) id (1) mode cluster role master modules []]
             CLIENT GETNAME -> me
             HELLO 3 AUTH default x -> {server:redis version:7.0.15 proto:(3) id:(1) mode:cluster role:master modules:[]}
             RESET -> RESET
             CLIENT GETNAME -> nil
             AUTH x -> ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?
             AUTH who x -> WRONGPASS invalid username-password pair or user is disabled.
             WAIT 0 0 -> (0)
             WAIT a 0 -> ERR value is not an integer or out of range
             WAIT 1 -1 -> ERR timeout is negative
             QUIT -> OK",
        );
        assert!(console.session.close);
        assert_eq!(
            console.ask("nosuch a b"),
            "ERR unknown command 'nosuch', with args beginning with: 'a' 'b' "
        );
    }

    #[test]
    fn a_password_opens() {
        let settings = Settings { password: Some("secret".into()), ..Settings::default() };
        let mut console = Console::of(1, settings);
        console.session.authenticated = false;
        console.script(
            "GET k -> NOAUTH Authentication required.
             AUTH wrong -> WRONGPASS invalid username-password pair or user is disabled.
             HELLO 3 AUTH default secret SETNAME n -> {server:redis version:7.0.15 proto:(3) id:(1) mode:cluster role:master modules:[]}
             GET k -> nil
             RESET -> RESET
             GET k -> NOAUTH Authentication required.
             AUTH secret -> OK
             GET k -> nil",
        );
    }

    #[test]
    fn replies_can_be_turned_off() {
        let mut console = Console::new();
        console.execute(b"CLIENT REPLY OFF\r\nSET k v\r\nNOSUCH\r\nCLIENT REPLY ON\r\nGET k\r\n");
        assert_eq!(console.answer(), "OK; v");
        console.execute(b"CLIENT REPLY SKIP\r\nSET k w\r\nGET k\r\n");
        assert_eq!(console.answer(), "w");
    }

    #[test]
    fn waiting_for_replicas_waits() {
        let mut console = Console::new();
        console.execute(b"WAIT 1 100\r\n");
        console.commit();
        assert_eq!(console.sent(), b"");
        let wait = console.session.wait.take().expect("it waits");
        assert_eq!((wait.replicas, wait.until_ms), (1, console.now_ms + 100));
        console.out.lift();
        console.script("WAIT 0 0 -> (0)");
    }

    #[test]
    fn a_majority_has_what_is_answered() {
        let mut console = Console::on(replicated(1, 3), Settings::default());
        let follower = |node, has| Follower { node, has, silent_ms: 0 };
        console.shard.replication.followers = vec![follower(2, 0), follower(3, 0)];
        console.execute(b"SET k v\r\nWAIT 1 0\r\n");
        assert_eq!(console.sent(), b"", "not before the commit");
        assert_eq!(console.answer(), "OK; (1)");
        console.execute(b"SET k w\r\nWAIT 2 100\r\n");
        let wait = console.session.wait.take().expect("it waits");
        assert_eq!((wait.index, console.shard.acknowledged(wait.index)), (2, 0));
        console.out.lift();
        assert_eq!(console.answer(), "OK");
        assert_eq!(console.shard.acknowledged(wait.index), 1);
        console.shard.replication.followers = vec![follower(2, 2), follower(3, 2)];
        console.script("WAIT 2 100 -> (2)");
    }
}
