//! Which certificate a client gets: by the name it asks for (SNI, RFC 6066), then by the signatures it can check.
//!
//! What always holds: an exact name goes before a wildcard, and a name that no certificate has, or no name at all, gets the
//! first certificate of the configuration, as other servers do; the client then says what it thinks of it.

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct Resolver {
    /// By DNS name in lower case, as it stands in the certificate, wildcards with their `*`. Several to a name: one may
    /// be RSA, another ECDSA.
    by_name: HashMap<String, Vec<Arc<CertifiedKey>>>,
    all: Vec<Arc<CertifiedKey>>,
}

impl Resolver {
    /// `certificates` in the order of the configuration.
    pub(crate) fn new(certificates: Vec<CertifiedKey>) -> Result<Resolver, rustls::Error> {
        let mut by_name: HashMap<String, Vec<Arc<CertifiedKey>>> = HashMap::new();
        let mut all = Vec::new();
        for certificate in certificates {
            let certificate = Arc::new(certificate);
            for name in names(&certificate)? {
                by_name.entry(name).or_default().push(certificate.clone());
            }
            all.push(certificate);
        }
        Ok(Resolver { by_name, all })
    }

    /// Best first.
    fn candidates(&self, server_name: Option<&str>) -> impl Iterator<Item = &Arc<CertifiedKey>> {
        let exact = server_name.map(str::to_ascii_lowercase);
        // One label, the first, stands for the `*` (RFC 9525, 6.3).
        let wildcard =
            exact.as_deref().and_then(|name| name.split_once('.')).map(|(_, rest)| format!("*.{rest}"));
        let named =
            [exact, wildcard].into_iter().flatten().filter_map(|name| self.by_name.get(&name)).flatten();
        named.chain(&self.all)
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.candidates(hello.server_name())
            .find(|certificate| certificate.key.choose_scheme(hello.signature_schemes()).is_some())
            .cloned()
    }
}

/// The DNS names of the leaf (its subjectAltName; the subject's common name no longer counts).
fn names(certificate: &CertifiedKey) -> Result<Vec<String>, rustls::Error> {
    let leaf = webpki::EndEntityCert::try_from(certificate.end_entity_cert()?)
        .map_err(|error| rustls::Error::General(format!("not an X.509 certificate for a server: {error}")))?;
    Ok(leaf.valid_dns_names().map(str::to_ascii_lowercase).collect())
}
