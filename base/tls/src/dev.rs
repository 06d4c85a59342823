//! Certificates for a site on one machine: a CA of its own, made once, and a leaf for the names asked for.
//!
//! What always holds: keys are readable by their owner only (mode 0600); a file appears whole or not at all; the CA, which
//! a user may have told a browser to trust, stays, and the leaf is made anew when a client that trusts
//! the CA would not accept it for each of the names, now or in [`MARGIN`].
//!
//! Not for a site that others reach: who has `ca-key.pem` can be any server to whoever trusts `ca.pem`.

use crate::config::root_store;
use crate::{Error, pem};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::{ServerName, UnixTime};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the CA is valid.
const CA_LIFE: Duration = Duration::from_secs(3650 * DAY.as_secs());

/// How long a leaf is valid; some clients refuse more than 398 days.
const LEAF_LIFE: Duration = Duration::from_secs(397 * DAY.as_secs());

/// A leaf with less time left is made anew.
pub const MARGIN: Duration = Duration::from_secs(7 * DAY.as_secs());

/// Clocks of a machine and its containers may differ by this.
const CLOCK_SKEW: Duration = DAY;

/// The files of a development CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevCa {
    /// What clients trust.
    pub ca_pem: PathBuf,
    /// The leaf.
    pub cert_pem: PathBuf,
    /// The leaf's key.
    pub key_pem: PathBuf,
}

/// The development CA in `dir` (made if it is not there) with a leaf for `names`, 127.0.0.1 and ::1; made when missing,
/// else reused. A name is a DNS name, possibly with a leading `*.`, or an IP address. It reads and writes files: call it
/// before the cores run.
pub fn ensure(dir: &Path, names: &[&str]) -> Result<DevCa, Error> {
    let file = |source| Error::File { path: dir.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(file)?;
    let ca =
        DevCa { ca_pem: dir.join("ca.pem"), cert_pem: dir.join("cert.pem"), key_pem: dir.join("key.pem") };
    let ca_key = dir.join("ca-key.pem");
    let now = runtime::time::wall_clock();
    let names = all_names(names);
    let ca_is_new = !(exists(&ca.ca_pem)? && exists(&ca_key)?);
    if ca_is_new {
        make_ca(&ca.ca_pem, &ca_key, now)?;
    }
    if ca_is_new || !is_leaf_good(&ca, &names, now)? {
        make_leaf(&ca, &ca_key, &names, now)?;
        if !is_leaf_good(&ca, &names, now)? {
            let problem = "not the key of the CA in ca.pem; delete both to have them made anew".to_owned();
            return Err(Error::Pem { path: ca_key, problem });
        }
    }
    Ok(ca)
}

fn all_names(names: &[&str]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for name in names.iter().chain(&["127.0.0.1", "::1"]) {
        if !all.iter().any(|other| other == name) {
            all.push((*name).to_owned());
        }
    }
    all
}

fn exists(path: &Path) -> Result<bool, Error> {
    path.try_exists().map_err(|source| Error::File { path: path.to_owned(), source })
}

/// The CA's name is in every leaf, so the parameters are the same each time; key and serial number tell two CAs apart.
fn ca_params(now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name("Millrace development CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_life(&mut params, now, CA_LIFE);
    params
}

fn make_ca(cert_path: &Path, key_path: &Path, now: SystemTime) -> Result<(), Error> {
    let key = KeyPair::generate()?;
    let certificate = ca_params(now).self_signed(&key)?;
    write_private(key_path, &key.serialize_pem())?;
    write_private(cert_path, &certificate.pem())
}

fn make_leaf(ca: &DevCa, ca_key: &Path, names: &[String], now: SystemTime) -> Result<(), Error> {
    let key_text =
        fs::read_to_string(ca_key).map_err(|source| Error::File { path: ca_key.to_owned(), source })?;
    let ca_key = KeyPair::from_pem(&key_text).map_err(|error| Error::Pem {
        path: ca_key.to_owned(),
        problem: format!(
            "not the key of a development CA ({error}); delete it and ca.pem to have both made anew"
        ),
    })?;
    let issuer = Issuer::new(ca_params(now), ca_key);
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(&names[0]);
    params.subject_alt_names = names.iter().map(|name| alt_name(name)).collect::<Result<_, _>>()?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Daemons are clients of each other, too.
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    set_life(&mut params, now, LEAF_LIFE);
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    write_private(&ca.key_pem, &key.serialize_pem())?;
    write_private(&ca.cert_pem, &certificate.pem())
}

fn set_life(params: &mut CertificateParams, now: SystemTime, life: Duration) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    params.not_before = epoch + since_epoch.saturating_sub(CLOCK_SKEW);
    params.not_after = epoch + since_epoch + life;
    let mut serial = [0; 16];
    runtime::random_bytes(&mut serial);
    serial[0] &= 0x7f; // positive, RFC 5280, 4.1.2.2
    params.serial_number = Some(SerialNumber::from_slice(&serial));
}

fn distinguished_name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn alt_name(name: &str) -> Result<SanType, Error> {
    let wrong = || Error::ServerName(name.to_owned());
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let checked = name.strip_prefix("*.").unwrap_or(name);
    ServerName::try_from(checked).map_err(|_| wrong())?;
    Ok(SanType::DnsName(name.try_into().map_err(|_| wrong())?))
}

/// Whether a client that trusts the CA takes the leaf for each name, now and in [`MARGIN`], and the key is the leaf's. A
/// file that is not PEM is an error: it is not ours to overwrite.
fn is_leaf_good(ca: &DevCa, names: &[String], now: SystemTime) -> Result<bool, Error> {
    if !(exists(&ca.cert_pem)? && exists(&ca.key_pem)?) {
        return Ok(false);
    }
    let chain = pem::certificates(&ca.cert_pem)?;
    let key = pem::key(&ca.key_pem)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    if rustls::sign::CertifiedKey::from_der(chain.clone(), key, &provider).is_err() {
        return Ok(false);
    }
    let roots = Arc::new(root_store(&[&ca.ca_pem])?);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider)
        .build()
        .map_err(|error| Error::Setup(rustls::Error::General(error.to_string())))?;
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    for name in names {
        // What `*.mysite.com` stands for is any one label.
        let server_name = ServerName::try_from(name.replacen('*', "any", 1));
        let server_name = server_name.map_err(|_| Error::ServerName(name.clone()))?;
        for time in [since_epoch, since_epoch + MARGIN] {
            let time = UnixTime::since_unix_epoch(time);
            if verifier.verify_server_cert(&chain[0], &chain[1..], &server_name, &[], time).is_err() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// The file whole and on disk, or as it was; readable by its owner only.
fn write_private(path: &Path, text: &str) -> Result<(), Error> {
    let write = || -> io::Result<()> {
        let temporary = path.with_extension("pem.new");
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {} // left by a process that was killed
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        replace(&temporary, path)
    };
    write().map_err(|source| Error::File { path: path.to_owned(), source })
}

#[expect(
    clippy::disallowed_methods,
    reason = "there is no core yet to run runtime::fs on; the folder is synced here"
)]
fn replace(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    File::open(to.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn made_once_and_reused() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("certs");
        let names = ["www.mysite.com", "*.mysite.com"];
        let ca = ensure(&dir, &names).unwrap();
        for path in [&ca.key_pem, &dir.join("ca-key.pem")] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{path:?}");
        }
        let before = (read(&ca.ca_pem), read(&ca.cert_pem), read(&ca.key_pem));
        assert_eq!(ensure(&dir, &names).unwrap(), ca);
        assert_eq!(before, (read(&ca.ca_pem), read(&ca.cert_pem), read(&ca.key_pem)));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 4, "nothing temporary is left");
    }

    #[test]
    fn another_name_makes_another_leaf_under_the_same_ca() {
        let folder = tempfile::tempdir().unwrap();
        let ca = ensure(folder.path(), &["a.test"]).unwrap();
        let before = (read(&ca.ca_pem), read(&ca.cert_pem));
        ensure(folder.path(), &["a.test", "b.test"]).unwrap();
        assert_eq!(before.0, read(&ca.ca_pem));
        assert_ne!(before.1, read(&ca.cert_pem));
        let now = runtime::time::wall_clock();
        assert!(is_leaf_good(&ca, &all_names(&["a.test", "b.test"]), now).unwrap());
        assert!(!is_leaf_good(&ca, &all_names(&["c.test"]), now).unwrap());
    }

    #[test]
    fn a_leaf_near_its_end_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let ca = ensure(folder.path(), &["a.test"]).unwrap();
        let names = all_names(&["a.test"]);
        let now = runtime::time::wall_clock();
        assert!(is_leaf_good(&ca, &names, now + LEAF_LIFE - MARGIN - DAY).unwrap());
        assert!(!is_leaf_good(&ca, &names, now + LEAF_LIFE - MARGIN + DAY).unwrap());
    }

    #[test]
    fn a_key_of_another_leaf_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let ca = ensure(folder.path(), &["a.test"]).unwrap();
        write_private(&ca.key_pem, &KeyPair::generate().unwrap().serialize_pem()).unwrap();
        assert!(!is_leaf_good(&ca, &all_names(&["a.test"]), runtime::time::wall_clock()).unwrap());
        ensure(folder.path(), &["a.test"]).unwrap();
        assert!(is_leaf_good(&ca, &all_names(&["a.test"]), runtime::time::wall_clock()).unwrap());
    }

    #[test]
    fn a_ca_whose_key_is_not_its_own_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        ensure(folder.path(), &["a.test"]).unwrap();
        write_private(&folder.path().join("ca-key.pem"), &KeyPair::generate().unwrap().serialize_pem())
            .unwrap();
        let error = ensure(folder.path(), &["b.test"]).unwrap_err().to_string();
        assert!(
            error
                .ends_with("ca-key.pem: not the key of the CA in ca.pem; delete both to have them made anew")
        );
    }

    #[test]
    fn broken_files_and_names_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let ca = ensure(folder.path(), &["a.test"]).unwrap();
        write_private(&ca.cert_pem, "my notes").unwrap();
        let error = ensure(folder.path(), &["a.test"]).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("{}: no certificate in it (-----BEGIN CERTIFICATE-----)", ca.cert_pem.display())
        );
        assert_eq!(read(&ca.cert_pem), "my notes");

        let error = ensure(&folder.path().join("other"), &["not a name"]).unwrap_err().to_string();
        assert_eq!(error, "`not a name` is no server name: a DNS name or an IP address is expected");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = ensure(&file.path().join("certs"), &["a.test"]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}/certs: ", file.path().display())), "{error}");
    }
}
