//! COMMAND and the HELP of every container: what commands there are.

use crate::core::command::{self, Call, Command, Reply, TABLE, flags};
use crate::core::glob;
use crate::core::output::Output;
use crate::core::shard::Refusal;

/// A container without a subcommand.
pub(crate) fn alone(call: &mut Call<'_>) -> Reply {
    Err(Refusal::arity(call.command.name))
}

pub(crate) fn help(call: &mut Call<'_>) -> Reply {
    let container = call.command.name.split('|').next().unwrap_or_default();
    let command = TABLE.get(container.as_bytes()).expect("a subcommand has a container");
    let mut lines = vec![format!(
        "{} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        container.to_ascii_uppercase()
    )];
    for subcommand in &command.subcommands {
        lines.push(subcommand.name[container.len() + 1..].to_ascii_uppercase());
        lines.push(format!("    {}", subcommand.summary));
    }
    call.out.array(lines.len());
    for line in lines {
        call.out.simple(&line);
    }
    Ok(())
}

/// The categories that follow from a command's flags and group, in Redis's order.
fn categories(command: &Command) -> Vec<&'static str> {
    let has = |flag| command.has(flag);
    let dangerous =
        has(flags::ADMIN) || command.name.starts_with("flush") || ["keys", "info"].contains(&command.name);
    [
        (
            "@keyspace",
            command.group == "generic" || command.name.starts_with("flush") || command.name == "dbsize",
        ),
        ("@read", has(flags::READONLY)),
        ("@write", has(flags::WRITE)),
        ("@hash", command.group == "hash"),
        ("@string", command.group == "string"),
        ("@admin", has(flags::ADMIN)),
        ("@fast", has(flags::FAST)),
        ("@slow", !has(flags::FAST)),
        ("@dangerous", dangerous),
        ("@connection", command.group == "connection"),
        ("@transaction", command.group == "transactions"),
    ]
    .into_iter()
    .filter_map(|(name, is)| is.then_some(name))
    .collect()
}

/// How clients may spread a command over shards and join the replies.
fn tips(command: &Command) -> &'static [&'static str] {
    match command.name {
        "del" | "unlink" | "exists" | "touch" => &["request_policy:multi_shard", "response_policy:agg_sum"],
        "mget" => &["request_policy:multi_shard"],
        "mset" => &["request_policy:multi_shard", "response_policy:all_succeeded"],
        "msetnx" => &["request_policy:multi_shard", "response_policy:agg_min"],
        "dbsize" => &["request_policy:all_shards", "response_policy:agg_sum"],
        "flushall" | "flushdb" | "ping" => &["request_policy:all_shards", "response_policy:all_succeeded"],
        "keys" => &["request_policy:all_shards", "nondeterministic_output_order"],
        "randomkey" => &["request_policy:all_shards", "response_policy:special", "nondeterministic_output"],
        "wait" => &["request_policy:all_shards", "response_policy:agg_min"],
        "info" => &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        "scan" => &["nondeterministic_output", "request_policy:special"],
        "hgetall" | "hkeys" | "hvals" => &["nondeterministic_output_order"],
        "hscan" | "time" | "ttl" | "pttl" => &["nondeterministic_output"],
        _ => &[],
    }
}

fn describe(out: &mut Output, command: &Command) {
    out.array(10);
    out.bulk(command.name.as_bytes());
    out.integer(i64::from(command.arity));
    let names: Vec<&str> =
        flags::NAMES.iter().filter(|(flag, _)| command.has(*flag)).map(|(_, name)| *name).collect();
    out.set(names.len());
    names.iter().for_each(|name| out.simple(name));
    let (first, last, step) = command.positions;
    for number in [first, last, step] {
        out.integer(i64::from(number));
    }
    let categories = categories(command);
    out.set(categories.len());
    categories.iter().for_each(|name| out.simple(name));
    let tips = tips(command);
    out.set(tips.len());
    tips.iter().for_each(|tip| out.bulk(tip.as_bytes()));
    key_specifications(out, command);
    out.set(command.subcommands.len());
    command.subcommands.iter().for_each(|subcommand| describe(out, subcommand));
}

/// One specification, by index and range, for a command with keys.
fn key_specifications(out: &mut Output, command: &Command) {
    let (first, last, step) = command.positions;
    if first == 0 {
        out.set(0);
        return;
    }
    let flags: &[&str] = match command.name {
        "del" | "unlink" => &["RM", "delete"],
        "mset" | "msetnx" | "setnx" | "setex" | "psetex" => &["OW", "update"],
        _ if command.has(flags::WRITE) && command.group == "generic" => &["RW", "update"],
        _ if command.has(flags::WRITE) => &["RW", "access", "update"],
        _ => &["RO", "access"],
    };
    out.set(1);
    out.map(3);
    out.bulk(b"flags");
    out.set(flags.len());
    flags.iter().for_each(|flag| out.simple(flag));
    out.bulk(b"begin_search");
    out.map(2);
    out.bulk(b"type");
    out.bulk(b"index");
    out.bulk(b"spec");
    out.map(1);
    out.bulk(b"index");
    out.integer(i64::from(first));
    out.bulk(b"find_keys");
    out.map(2);
    out.bulk(b"type");
    out.bulk(b"range");
    out.bulk(b"spec");
    out.map(3);
    // Counted from the first key.
    for (name, number) in
        [("lastkey", if last < 0 { last } else { last - first }), ("keystep", step), ("limit", 0)]
    {
        out.bulk(name.as_bytes());
        out.integer(i64::from(number));
    }
}

/// A command by its name, or a subcommand by `container|name`.
fn by_name(name: &[u8]) -> Option<&'static Command> {
    let name = name.to_ascii_lowercase();
    let container = name.split(|byte| *byte == b'|').next()?;
    let command = TABLE.get(container)?;
    if container.len() == name.len() {
        return Some(command);
    }
    command.subcommands.iter().find(|subcommand| subcommand.name.as_bytes() == name)
}

pub(crate) fn command(call: &mut Call<'_>) -> Reply {
    call.out.array(TABLE.all().len());
    TABLE.all().iter().for_each(|command| describe(call.out, command));
    Ok(())
}

pub(crate) fn count(call: &mut Call<'_>) -> Reply {
    call.out.integer(TABLE.all().len() as i64);
    Ok(())
}

pub(crate) fn info(call: &mut Call<'_>) -> Reply {
    if call.arguments.len() == 2 {
        return command(call);
    }
    call.out.array(call.arguments.len() - 2);
    for name in call.arguments.from(2).iter() {
        match by_name(name) {
            Some(command) => describe(call.out, command),
            None => call.out.null(),
        }
    }
    Ok(())
}

fn document(out: &mut Output, command: &Command) {
    out.bulk(command.name.as_bytes());
    out.map(if command.subcommands.is_empty() { 4 } else { 5 });
    for (name, value) in [
        ("summary", command.summary),
        ("since", command.since),
        ("group", command.group),
        ("complexity", command.complexity),
    ] {
        out.bulk(name.as_bytes());
        out.bulk(value.as_bytes());
    }
    if !command.subcommands.is_empty() {
        out.bulk(b"subcommands");
        out.map(command.subcommands.len());
        command.subcommands.iter().for_each(|subcommand| document(out, subcommand));
    }
}

pub(crate) fn docs(call: &mut Call<'_>) -> Reply {
    let commands: Vec<&Command> = match call.arguments.len() {
        2 => TABLE.all().iter().collect(),
        _ => call.arguments.from(2).iter().filter_map(by_name).collect(),
    };
    call.out.map(commands.len());
    commands.into_iter().for_each(|command| document(call.out, command));
    Ok(())
}

pub(crate) fn list(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    let wanted: Box<dyn Fn(&Command) -> bool> = match (arguments.len(), &call.word(2)[..], &call.word(3)[..])
    {
        (2, _, _) => Box::new(|_| true),
        (5, b"filterby", b"module") => Box::new(|_| false),
        (5, b"filterby", b"aclcat") => {
            let category = format!("@{}", String::from_utf8_lossy(&call.word(4)));
            Box::new(move |command| categories(command).iter().any(|name| *name == category))
        }
        (5, b"filterby", b"pattern") => {
            let pattern = arguments[4].to_vec();
            Box::new(move |command| glob::matches(&pattern, command.name.as_bytes(), true))
        }
        _ => return Err(Refusal::SYNTAX),
    };
    let names: Vec<&str> =
        TABLE.all().iter().filter(|command| wanted(command)).map(|command| command.name).collect();
    call.out.array(names.len());
    names.iter().for_each(|name| call.out.bulk(name.as_bytes()));
    Ok(())
}

pub(crate) fn getkeys(call: &mut Call<'_>) -> Reply {
    let request = call.arguments.from(2);
    let command = command::find(request).map_err(|_| Refusal::from("ERR Invalid command specified"))?;
    if command.positions.0 == 0 {
        return Err("ERR The command has no key arguments".into());
    }
    if !command.takes(request.len()) {
        return Err("ERR Invalid number of arguments specified for command".into());
    }
    let keys: Vec<&[u8]> = command.keys(request).filter_map(|at| request.get(at)).collect();
    call.out.array(keys.len());
    keys.iter().for_each(|key| call.out.bulk(key));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::core::command::TABLE;
    use crate::core::console::Console;

    #[test]
    fn commands_are_told() {
        let mut console = Console::new();
        let count = TABLE.all().len();
        console.script(&format!("COMMAND COUNT -> ({count})"));
        console.script(
            "COMMAND INFO get nosuch -> [[get (2) [readonly fast] (1) (1) (1) [@read @string @fast] [] [[flags [RO access] \
             begin_search [type index spec [index (1)]] find_keys [type range spec [lastkey (0) keystep (1) limit (0)]]]] []] nil]
             COMMAND GETKEYS MSET a 1 b 2 -> [a b]
             COMMAND GETKEYS PING x -> ERR The command has no key arguments
             COMMAND GETKEYS NOSUCH x -> ERR Invalid command specified
             COMMAND GETKEYS GET -> ERR wrong number of arguments for 'command|getkeys' command
             COMMAND GETKEYS GET a b -> ERR Invalid number of arguments specified for command
             COMMAND LIST FILTERBY PATTERN hg* -> [hget hgetall]
             COMMAND LIST FOO -> ERR syntax error
             COMMAND DOCS nosuch -> []
             CONFIG GET maxmem* -> [maxmemory 0 maxmemory-policy noeviction]
             CONFIG GET nosuch -> []
             CONFIG SET maxmemory 1mb -> OK
             CONFIG GET MAXMEMORY -> [maxmemory 1048576]
             CONFIG SET maxmemory x -> ERR CONFIG SET failed (possibly related to argument 'maxmemory') - argument must be a memory value
             CONFIG SET port 1 -> ERR CONFIG SET failed (possibly related to argument 'port') - can't set immutable config
             CONFIG SET nosuch 1 -> ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'
             CONFIG SET maxmemory -> ERR wrong number of arguments for 'config|set' command
             CONFIG RESETSTAT -> OK
             SLOWLOG GET 10 -> []",
        );
        assert!(console.ask("COMMAND").len() > 10_000);
        assert!(console.ask("COMMAND DOCS").contains("summary"));
        assert!(console.ask("CONFIG HELP").starts_with("[CONFIG <subcommand>"));
        assert!(console.ask("INFO").contains("redis_mode:cluster"));
        assert!(console.ask("INFO keyspace commandstats").contains("cmdstat_command:"));
    }
}
