//! What the shard knows of one connection, beside its bytes.

use std::net::SocketAddr;
use wire::resp::Protocol;
use wire::resp::request::Arguments;

/// A connection's state.
#[derive(Debug)]
pub struct Session {
    /// Its number, never given twice while the process runs.
    pub id: u64,
    /// The peer.
    pub address: SocketAddr,
    /// Our end.
    pub local_address: SocketAddr,
    /// When it began, Unix milliseconds.
    pub created_ms: u64,
    /// When it last asked for something, Unix milliseconds.
    pub active_ms: u64,
    /// `CLIENT SETNAME`; empty for none.
    pub name: Box<[u8]>,
    /// `CLIENT SETINFO LIB-NAME`.
    pub library: Box<[u8]>,
    /// `CLIENT SETINFO LIB-VER`.
    pub library_version: Box<[u8]>,
    /// Whether it gave the password, or none is asked.
    pub authenticated: bool,
    /// `READONLY`.
    pub readonly: bool,
    /// The version of the protocol, as in the connection's output.
    pub protocol: Protocol,
    /// `CLIENT NO-EVICT`.
    pub no_evict: bool,
    /// `CLIENT NO-TOUCH`.
    pub no_touch: bool,
    /// `CLIENT REPLY`.
    pub replies: Replies,
    /// `MULTI`, until `EXEC` or `DISCARD`.
    pub transaction: Option<Box<Transaction>>,
    /// `EXEC` is under way: no command may wait.
    pub executing: bool,
    /// `WATCH`: the place of each key's last write, and the count of writes when the watch began.
    pub watched: Vec<Watch>,
    /// The connection closes once its replies are sent.
    pub close: bool,
    /// The command before, for `CLIENT LIST`.
    pub last_command: &'static str,
    /// `WAIT`: nothing more is done for this connection before it is over.
    pub wait: Option<Wait>,
}

/// What `WAIT` waits for. Its reply is written when it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The replicas must have everything up to this entry.
    pub index: u64,
    /// So many replicas besides this one.
    pub replicas: usize,
    /// It is over at this time at the latest, Unix milliseconds.
    pub until_ms: u64,
    /// There will be no reply.
    pub is_silent: bool,
}

/// A watched key.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// Its place in the table of last writes.
    pub place: usize,
    /// The last write when the watch began.
    pub sequence: u64,
    /// When the key expires, 0 for never or not there.
    pub expire_at_ms: u64,
}

/// Whether replies are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replies {
    /// All.
    On,
    /// None.
    Off,
    /// Not that of the next command.
    SkipNext,
    /// Not that of this command.
    Skip,
}

/// Commands between `MULTI` and `EXEC`.
#[derive(Debug, Default)]
pub struct Transaction {
    /// Each command with its arguments.
    pub requests: Vec<Owned>,
    /// Their sizes together.
    pub bytes: usize,
    /// A command was refused: `EXEC` will be too.
    pub broken: bool,
}

/// Arguments kept past their request.
#[derive(Debug)]
pub struct Owned {
    bytes: Box<[u8]>,
    ranges: Box<[(u32, u32)]>,
}

impl Owned {
    /// Copies arguments.
    #[must_use]
    pub fn new(arguments: Arguments<'_>) -> Self {
        let mut bytes = Vec::with_capacity(arguments.iter().map(<[u8]>::len).sum());
        let mut ranges = Vec::with_capacity(arguments.len());
        for argument in arguments.iter() {
            let start = bytes.len() as u32;
            bytes.extend_from_slice(argument);
            ranges.push((start, bytes.len() as u32));
        }
        Self { bytes: bytes.into(), ranges: ranges.into() }
    }

    /// The arguments.
    #[must_use]
    pub fn arguments(&self) -> Arguments<'_> {
        Arguments::new(&self.bytes, &self.ranges)
    }

    /// What it takes in memory, about.
    #[must_use]
    pub fn cost_bytes(&self) -> usize {
        self.bytes.len() + self.ranges.len() * 8 + 48
    }
}

impl Session {
    /// A new connection.
    #[must_use]
    pub fn new(
        id: u64,
        address: SocketAddr,
        local_address: SocketAddr,
        authenticated: bool,
        now_ms: u64,
    ) -> Self {
        Self {
            id,
            address,
            local_address,
            created_ms: now_ms,
            active_ms: now_ms,
            name: Box::default(),
            library: Box::default(),
            library_version: Box::default(),
            authenticated,
            readonly: false,
            protocol: Protocol::Resp2,
            no_evict: false,
            no_touch: false,
            replies: Replies::On,
            transaction: None,
            executing: false,
            watched: Vec::new(),
            close: false,
            last_command: "NULL",
            wait: None,
        }
    }

    /// What its transaction and watches take in memory, about.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        let queued = self.transaction.as_ref().map_or(0, |transaction| transaction.bytes);
        queued + self.watched.capacity() * size_of::<Watch>()
    }

    /// The line that `CLIENT LIST` and `CLIENT INFO` give.
    #[must_use]
    pub fn line(&self, now_ms: u64) -> String {
        let mut flags = String::new();
        if self.transaction.is_some() {
            flags.push('x');
        }
        if self.readonly {
            flags.push('r');
        }
        if self.no_evict {
            flags.push('e');
        }
        if self.no_touch {
            flags.push('T');
        }
        if flags.is_empty() {
            flags.push('N');
        }
        let multi = self.transaction.as_ref().map_or(-1, |transaction| transaction.requests.len() as i64);
        format!(
            "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={flags} db=0 sub=0 psub=0 ssub=0 multi={multi} \
             qbuf=0 qbuf-free=0 argv-mem=0 multi-mem={} rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd={} \
             user=default redir=-1 resp={} lib-name={} lib-ver={}\n",
            self.id,
            self.address,
            self.local_address,
            String::from_utf8_lossy(&self.name),
            now_ms.saturating_sub(self.created_ms) / 1000,
            now_ms.saturating_sub(self.active_ms) / 1000,
            self.transaction.as_ref().map_or(0, |transaction| transaction.bytes),
            self.last_command,
            if self.protocol == Protocol::Resp2 { 2 } else { 3 },
            String::from_utf8_lossy(&self.library),
            String::from_utf8_lossy(&self.library_version),
        )
    }
}
