//! From a head's bytes to what will be done about it: a job for an upstream, or an answer of our own.

use super::local::Local;
use super::setup::Setup;
use crate::core::answer::Asked;
use crate::core::attempt::Attempts;
use crate::core::forward::{self, Client, Extra};
use bytes::Bytes;
use std::time::Instant;
use wire::http1::{Body, FieldStorage, Framing, Request, Version};

/// A request to be forwarded.
pub(super) struct Job {
    pub(super) upstream: usize,
    /// The head as every server gets it.
    pub(super) head: Bytes,
    pub(super) asked: Asked,
    pub(super) attempts: Attempts,
    pub(super) body: RequestBody,
    pub(super) began: Instant,
    /// The server tried last.
    pub(super) server: Option<usize>,
    /// For the access log, if it is logged.
    pub(super) line: Option<String>,
}

/// A request's body, how far it was read, and what is kept of it.
pub(super) struct RequestBody {
    /// Where the client's bytes stand.
    pub(super) decoder: Body,
    /// It goes to the server in chunks.
    pub(super) chunked: bool,
    /// Bytes of content read from the client.
    pub(super) content_bytes: u64,
    /// Any of it was read from the client.
    pub(super) begun: bool,
    /// What was sent to the server, kept to be sent again; `None` once that is too much, or useless.
    pub(super) replay: Option<Vec<u8>>,
}

impl RequestBody {
    fn new(framing: Framing, is_kept: bool) -> RequestBody {
        RequestBody {
            decoder: Body::new(framing),
            chunked: framing == Framing::Chunked,
            content_bytes: 0,
            begun: false,
            replay: is_kept.then(Vec::new),
        }
    }

    /// What was read of it is kept nowhere.
    pub(super) fn is_lost(&self) -> bool {
        self.begun && self.replay.is_none()
    }
}

/// An answer of our own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused {
    pub(super) status: u16,
    pub(super) version: Version,
    pub(super) head: bool,
    pub(super) keep: bool,
}

impl Refused {
    /// Of what is no request: nothing after it can be read.
    pub(super) fn closing(status: u16) -> Refused {
        Refused { status, version: Version::Http11, head: false, keep: false }
    }

    /// Of a job that came to nothing.
    pub(super) fn of(job: &Job, status: u16) -> Refused {
        let keep = job.asked.persists && job.body.decoder.is_done();
        Refused { status, version: job.asked.version, head: job.asked.head, keep }
    }
}

/// Decides about one whole head, its connection's first or not.
pub(super) fn prepare(local: &Local, client: &Client, bytes: &[u8], first: bool) -> Result<Job, Refused> {
    let setup: &Setup = &local.setup;
    let mut storage = FieldStorage::new();
    let request = Request::parse(bytes, &mut storage, &setup.request_head)
        .map_err(|error| Refused::closing(error.status()))?;
    let head = request.method == "HEAD";
    let refused = |status| Refused {
        status,
        version: request.version,
        head,
        keep: request.persists() && request.framing == Framing::None,
    };
    // CONNECT would make a tunnel to anywhere; a reverse proxy has servers of its own (RFC 9110 section 9.3.6).
    if request.method == "CONNECT" {
        return Err(Refused { keep: false, ..refused(501) });
    }
    if request.expects_other {
        return Err(refused(417));
    }
    if matches!(request.framing, Framing::Length(length) if length > setup.body_bytes_max) {
        return Err(Refused { keep: false, ..refused(413) });
    }
    let path = forward::origin_form(&request.target);
    let upstream = setup.routes.find(request.host.unwrap_or_default(), path).ok_or_else(|| refused(404))?;
    let settings = &setup.upstreams[upstream];
    // Other protocols (h2c for one) would carry requests past every rule here.
    let upgrade = request.framing == Framing::None
        && request.upgrade.is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket"));
    let request_id = if setup.forward.request_id_field.is_some() { runtime::random_u64() } else { 0 };
    let extra = Extra { default_host: &settings.name, request_id, upgrade };
    let mut out = Vec::with_capacity(bytes.len() + 192);
    forward::write_head(&mut out, &request, client, &setup.forward, extra);
    let body_is_kept = match request.framing {
        Framing::None => true,
        Framing::Length(length) => length <= setup.hold_bytes_max as u64,
        Framing::Chunked | Framing::UntilClose => false,
    };
    let attempts = Attempts::new(request.method, settings.retries, body_is_kept, first);
    Ok(Job {
        upstream,
        head: out.into(),
        asked: Asked { version: request.version, head, persists: request.persists(), upgrade },
        attempts,
        body: RequestBody::new(request.framing, attempts.is_idempotent()),
        began: runtime::time::turn_now(),
        server: None,
        line: local.is_logged().then(|| format!("{} {path}", request.method)),
    })
}
