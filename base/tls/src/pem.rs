//! Certificates and keys from PEM files (RFC 7468); every error names the file.

use crate::Error;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// A PEM file may be this large; a larger one is refused.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// All certificates of a file, at least one: a leaf and its chain, or roots.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let certificates = certificates.map_err(|error| problem(path, describe(&error)))?;
    if certificates.is_empty() {
        return Err(problem(path, "no certificate in it (-----BEGIN CERTIFICATE-----)".to_owned()));
    }
    Ok(certificates)
}

/// The first private key of a file.
pub(crate) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let text = read(path)?;
    match PrivateKeyDer::from_pem_slice(&text) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => {
            let encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";
            let is_encrypted = text.windows(encrypted.len()).any(|window| window == encrypted);
            let message = match is_encrypted {
                true => "the private key is encrypted; decrypt it first (openssl pkey)",
                false => "no private key in it (-----BEGIN PRIVATE KEY-----, or RSA or EC PRIVATE KEY)",
            };
            Err(problem(path, message.to_owned()))
        }
        Err(error) => Err(problem(path, describe(&error))),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let read = || {
        let mut text = Vec::new();
        File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
        match text.len() as u64 > FILE_BYTES_MAX {
            true => Err(io::Error::new(io::ErrorKind::FileTooLarge, "too large for a PEM file")),
            false => Ok(text),
        }
    };
    read().map_err(|source| Error::File { path: path.to_owned(), source })
}

fn problem(path: &Path, problem: String) -> Error {
    Error::Pem { path: path.to_owned(), problem }
}

/// The library's own words show bytes as numbers; and no line of a key is shown.
fn describe(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { end_marker } => {
            format!("cut off: no -----END {}-----", String::from_utf8_lossy(end_marker).trim_end())
        }
        pem::Error::IllegalSectionStart { .. } => {
            "a line that begins a section (-----BEGIN …) is broken".to_owned()
        }
        pem::Error::Base64Decode(_) => "a section is not base64".to_owned(),
        error => error.to_string(),
    }
}
