//! rustls configurations from PEM files.

use crate::resolver::Resolver;
use crate::{Error, pem};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A certificate with its chain, and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertifiedFiles {
    /// The leaf first, then what leads to a root.
    pub cert: PathBuf,
    /// PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key: PathBuf,
}

/// Makes server configurations.
pub enum ServerConfig {}

impl ServerConfig {
    /// A server with these certificates; a client gets the one that has the name it asks for (SNI), else the first.
    /// `alpn` in the order of preference, such as `[b"h2", b"http/1.1"]`; empty for none. Sessions resume by tickets, for
    /// six hours, whose keys live in this configuration: share one among all cores.
    pub fn from_pem(files: &[CertifiedFiles], alpn: &[&[u8]]) -> Result<Arc<rustls::ServerConfig>, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        if files.is_empty() {
            return Err(Error::NoCertificate);
        }
        let certificates: Result<Vec<_>, _> = files.iter().map(|files| load(files, &provider)).collect();
        let resolver = Resolver::new(certificates?).map_err(Error::Setup)?;
        let builder = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(Error::Setup)?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(Error::Setup)?;
        Ok(Arc::new(config))
    }
}

/// Makes client configurations.
pub enum ClientConfig {}

impl ClientConfig {
    /// A client that trusts the certificates of these files and no others. `alpn` as for the server.
    pub fn from_pem_roots(roots: &[&Path], alpn: &[&[u8]]) -> Result<Arc<rustls::ClientConfig>, Error> {
        let builder = rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(Error::Setup)?;
        let mut config = builder.with_root_certificates(root_store(roots)?).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Arc::new(config))
    }
}

pub(crate) fn root_store(files: &[&Path]) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    for path in files {
        for certificate in pem::certificates(path)? {
            store.add(certificate).map_err(|source| Error::Unusable { path: (*path).to_owned(), source })?;
        }
    }
    Ok(store)
}

pub(crate) fn load(files: &CertifiedFiles, provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
    let chain = pem::certificates(&files.cert)?;
    let key = pem::key(&files.key)?;
    let unusable = |path: &Path, source| Error::Unusable { path: path.to_owned(), source };
    let key = provider.key_provider.load_private_key(key).map_err(|error| unusable(&files.key, error))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(Error::Mismatch { cert: files.cert.clone(), key: files.key.clone() })
        }
        Err(error) => Err(unusable(&files.cert, error)),
    }
}
