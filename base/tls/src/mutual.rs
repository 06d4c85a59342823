//! Mutual TLS between the nodes of a cluster: each shows a certificate of the cluster's own CA.
//!
//! What always holds: TLS 1.3; a peer without a certificate that one of the roots has signed gets nowhere, on either side;
//! sessions are not resumed, as connections between nodes are few and long. What a certificate is trusted for is that its
//! owner is a node: which one, the node says itself.

use crate::config::{load, root_store};
use crate::{CertifiedFiles, Error, TlsStream, stream};
use runtime::net::Stream;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use std::path::Path;
use std::sync::Arc;

/// What a node shows its peers, and what it wants to be shown. Clones share it.
#[derive(Clone, Debug)]
pub struct Mutual {
    server: Arc<rustls::ServerConfig>,
    client: Arc<rustls::ClientConfig>,
}

impl Mutual {
    /// A node with this certificate, which is both a server's and a client's (extended key usage, if it has one) and names
    /// the host, or IP address, that its peers connect to. Peers show certificates that lead to one of `roots`: a CA that
    /// signs for nothing but this cluster.
    ///
    /// # Errors
    /// Those of the files, by name.
    pub fn from_pem(roots: &[&Path], files: &CertifiedFiles) -> Result<Mutual, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let roots = Arc::new(root_store(roots)?);
        let certificate = Arc::new(SingleCertAndKey::from(load(files, &provider)?));
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
        let verifier =
            verifier.build().map_err(|error| Error::Setup(rustls::Error::General(error.to_string())))?;
        let mut server = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(Error::Setup)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(certificate.clone());
        server.send_tls13_tickets = 0;
        let mut client = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(Error::Setup)?
            .with_root_certificates(roots)
            .with_client_cert_resolver(certificate);
        client.resumption = Resumption::disabled();
        Ok(Mutual { server: Arc::new(server), client: Arc::new(client) })
    }

    /// As [`accept`](crate::accept), from a peer that has to show its certificate.
    ///
    /// # Errors
    /// As there; [`Error::Handshake`] without a certificate that is trusted.
    pub async fn accept(&self, stream: Stream) -> Result<TlsStream, Error> {
        stream::accept(stream, self.server.clone()).await
    }

    /// As [`connect`](crate::connect), showing the node's certificate. A peer that does not trust it says so, or closes,
    /// only after this has succeeded (TLS 1.3).
    ///
    /// # Errors
    /// As there.
    pub async fn connect(&self, stream: Stream, server_name: &str) -> Result<TlsStream, Error> {
        stream::connect(stream, server_name, self.client.clone()).await
    }
}
