//! TLS on one stream.
//!
//! What always holds:
//! - As on the runtime's [`Stream`]: dropping a pending `recv` loses nothing; what one `send` took goes out whole and in
//!   call order; one task may receive while another sends.
//! - Records leave in the order in which they were encrypted: encrypting and queueing are one step without an await, taken
//!   when the stream has room.
//! - Memory: at most one receive buffer of plaintext waits to be received, and at most the stream's send queue limit and
//!   one call's ciphertext wait to be sent.
//! - An end of the connection without the peer's close_notify is an error (`UnexpectedEof`), never an end of data: it may
//!   be an attacker's cut (RFC 8446, 6.1).

use crate::Error;
use futures_util::FutureExt;
use runtime::net::{Address, Stream};
use runtime::{Lease, Segment};
use rustls::Connection;
use rustls_pki_types::ServerName;
use std::cell::RefCell;
use std::io::{self, BufRead, IoSlice, Write};
use std::sync::Arc;

/// The server's half of a handshake on `stream`. Set a deadline around it: a peer may send nothing.
pub async fn accept(stream: Stream, config: Arc<rustls::ServerConfig>) -> Result<TlsStream, Error> {
    let connection = rustls::ServerConnection::new(config).map_err(Error::Setup)?;
    handshake(stream, connection.into()).await
}

/// The client's half. `server_name` is a DNS name or an IP address, which the server's certificate must have.
pub async fn connect(
    stream: Stream,
    server_name: &str,
    config: Arc<rustls::ClientConfig>,
) -> Result<TlsStream, Error> {
    let name = ServerName::try_from(server_name.to_owned());
    let name = name.map_err(|_| Error::ServerName(server_name.to_owned()))?;
    let connection = rustls::ClientConnection::new(config, name).map_err(Error::Setup)?;
    handshake(stream, connection.into()).await
}

async fn handshake(stream: Stream, mut connection: Connection) -> Result<TlsStream, Error> {
    // Plaintext is encrypted when there is room for it, all of a call; nothing stays inside.
    connection.set_buffer_limit(None);
    let session = Box::new(RefCell::new(Session { connection, plaintext: Vec::new(), end: None }));
    let mut tls = TlsStream { stream, session, alpn: None, server_name: None };
    loop {
        tls.room().await?;
        tls.queue_records()?;
        let is_done = {
            let session = tls.session.borrow();
            !session.connection.is_handshaking() && !session.connection.wants_write()
        };
        if is_done {
            break;
        }
        let lease = tls.stream.recv().await?;
        if lease.is_empty() {
            return Err(Error::Closed);
        }
        let taken = tls.session.borrow_mut().take_in(&lease);
        if let Err(error) = taken {
            // The alert that says why; the stream sends it even if nobody waits.
            tls.queue_records_if_room();
            return Err(Error::Handshake(error));
        }
    }
    tls.remember();
    Ok(tls)
}

/// An encrypted stream. Methods take `&self`: share it by `Rc`.
pub struct TlsStream {
    stream: Stream,
    // Boxed: a connection of rustls is over a kilobyte, and this is moved about.
    session: Box<RefCell<Session>>,
    alpn: Option<Vec<u8>>,
    server_name: Option<String>,
}

struct Session {
    connection: Connection,
    /// Received, decrypted, not yet taken.
    plaintext: Vec<u8>,
    /// Nothing more will be received, and why.
    end: Option<End>,
}

enum End {
    /// The peer said so.
    Closed,
    /// The connection ended and the peer had not said so.
    Truncated,
    /// What the peer sent is not TLS.
    Failed(rustls::Error),
}

impl TlsStream {
    /// The next bytes, at most one receive buffer of them; an empty lease once the peer has finished sending.
    ///
    /// # Errors
    /// Those of the stream; `UnexpectedEof` when the connection ended without the peer's close_notify; `InvalidData` when
    /// the peer broke the protocol (it has been told, and nothing more is received).
    pub async fn recv(&self) -> io::Result<Lease> {
        loop {
            if let Some(received) = self.session.borrow_mut().received() {
                return received;
            }
            let lease = self.stream.recv().await?;
            {
                let mut session = self.session.borrow_mut();
                if lease.is_empty() {
                    session.end = Some(End::Truncated);
                } else if let Err(error) = session.take_in(&lease) {
                    session.end = Some(End::Failed(error));
                }
            }
            // Alerts, and new keys that the peer asked for. Without room they go before the next that is sent: waiting here
            // could be for a peer that waits for us to receive.
            self.queue_records_if_room();
        }
    }

    /// Encrypts and takes `segment` to send; resolves at once unless more than the stream's limit waits to be sent. What
    /// was taken is sent whole even if nothing awaits it.
    ///
    /// # Errors
    /// Those of the stream: the connection is of no use any more.
    pub async fn send(&self, segment: impl Into<Segment>) -> io::Result<()> {
        self.room().await?;
        self.encrypt(&[segment.into()])
    }

    /// [`TlsStream::send`] of several segments as one: nothing comes between them, and they share records.
    ///
    /// # Errors
    /// As [`TlsStream::send`].
    pub async fn send_all(&self, segments: impl IntoIterator<Item = Segment>) -> io::Result<()> {
        let segments: Vec<Segment> = segments.into_iter().collect();
        self.room().await?;
        self.encrypt(&segments)
    }

    /// Resolves when the kernel has taken all that was sent so far.
    ///
    /// # Errors
    /// Those of the stream.
    pub async fn flush(&self) -> io::Result<()> {
        self.room().await?;
        self.queue_records()?;
        self.stream.flush().await
    }

    /// Tells the peer that nothing more will come (close_notify, then FIN). Receiving goes on.
    ///
    /// # Errors
    /// Those of the stream.
    pub async fn shutdown(&self) -> io::Result<()> {
        self.room().await?;
        self.session.borrow_mut().connection.send_close_notify();
        self.queue_records()?;
        self.stream.shutdown().await
    }

    /// Ends the connection now: the peer sees a reset.
    pub fn abort(&self) {
        self.stream.abort();
    }

    /// Encrypted bytes that the kernel has not taken yet.
    pub fn send_queue_bytes(&self) -> usize {
        self.stream.send_queue_bytes()
    }

    /// Sets what [`TlsStream::send_queue_bytes`] may reach before `send` waits.
    pub fn set_send_queue_limit(&self, bytes: usize) {
        self.stream.set_send_queue_limit(bytes);
    }

    /// Whether small segments leave at once (they do at first).
    pub fn set_nodelay(&self, on: bool) {
        self.stream.set_nodelay(on);
    }

    /// The peer's address.
    ///
    /// # Errors
    /// `NotConnected` when the peer has gone.
    pub fn peer_addr(&self) -> io::Result<Address> {
        self.stream.peer_addr()
    }

    /// Our own address.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<Address> {
        self.stream.local_addr()
    }

    /// The protocol agreed on by ALPN (RFC 7301).
    pub fn alpn(&self) -> Option<&[u8]> {
        self.alpn.as_deref()
    }

    /// The name that the client asked for (SNI), on the server's side.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// Whether the handshake took up an earlier session (RFC 8446 section 2.2): no certificate was sent.
    pub fn is_resumed(&self) -> bool {
        self.session.borrow().connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    fn remember(&mut self) {
        let session = self.session.borrow();
        self.alpn = session.connection.alpn_protocol().map(<[u8]>::to_vec);
        self.server_name = match &session.connection {
            Connection::Server(connection) => connection.server_name().map(str::to_owned),
            Connection::Client(_) => None,
        };
    }

    /// Waits until the stream would take a segment. Sending nothing waits for just that.
    async fn room(&self) -> io::Result<()> {
        self.stream.send(Segment::from(Vec::new())).await
    }

    /// Called with room.
    fn encrypt(&self, segments: &[Segment]) -> io::Result<()> {
        self.session.borrow_mut().encrypt(segments)?;
        self.queue_records()
    }

    /// Moves what rustls has to send to the stream's queue. Called with room, since when nothing was awaited, so the stream
    /// takes it at the first poll.
    fn queue_records(&self) -> io::Result<()> {
        let records = self.session.borrow_mut().records();
        if records.is_empty() {
            return Ok(());
        }
        self.stream.send(records).now_or_never().expect("a stream with room takes a segment at once")
    }

    fn queue_records_if_room(&self) {
        // An error of the stream will meet the next that sends.
        if let Some(Ok(())) = self.room().now_or_never() {
            let _ = self.queue_records();
        }
    }
}

impl Session {
    /// What `recv` gives now, if anything: plaintext first, then why there is no more.
    fn received(&mut self) -> Option<io::Result<Lease>> {
        if !self.plaintext.is_empty() {
            return Some(Ok(Lease::from_vec(std::mem::take(&mut self.plaintext))));
        }
        Some(match self.end.as_ref()? {
            End::Closed => Ok(Lease::from_vec(Vec::new())),
            End::Truncated => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "connection cut: no TLS close_notify came before",
            )),
            End::Failed(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error.clone())),
        })
    }

    /// Takes what the stream received, all of it.
    fn take_in(&mut self, mut records: &[u8]) -> Result<(), rustls::Error> {
        while !records.is_empty() {
            let taken = self.connection.read_tls(&mut records);
            // Its buffers are emptied after each call, so neither refuses more; after a close_notify it takes nothing.
            if taken.map_err(|error| rustls::Error::General(error.to_string()))? == 0 {
                break;
            }
            let state = self.connection.process_new_packets();
            self.take_plaintext();
            if state?.peer_has_closed() {
                self.end = Some(End::Closed);
                break;
            }
        }
        Ok(())
    }

    fn take_plaintext(&mut self) {
        let mut reader = self.connection.reader();
        // An error here is WouldBlock, nothing more now; or the end, which the state tells.
        while let Ok(chunk) = reader.fill_buf() {
            if chunk.is_empty() {
                return;
            }
            self.plaintext.extend_from_slice(chunk);
            let length = chunk.len();
            reader.consume(length);
        }
    }

    fn encrypt(&mut self, segments: &[Segment]) -> io::Result<()> {
        let mut writer = self.connection.writer();
        if let [segment] = segments {
            return writer.write_all(segment);
        }
        let slices: Vec<IoSlice<'_>> = segments.iter().map(|segment| IoSlice::new(segment)).collect();
        let length: usize = segments.iter().map(|segment| segment.len()).sum();
        let written = writer.write_vectored(&slices)?;
        assert_eq!(written, length, "without a limit rustls takes all");
        Ok(())
    }

    fn records(&mut self) -> Vec<u8> {
        let mut records = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut records).expect("writing to a Vec does not fail");
        }
        records
    }
}
