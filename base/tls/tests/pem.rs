//! What an operator reads when a certificate or key file is wrong.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use tls::{CertifiedFiles, ClientConfig, ServerConfig};

struct Files {
    folder: tempfile::TempDir,
    good: CertifiedFiles,
}

impl Files {
    fn new() -> Files {
        let folder = tempfile::tempdir().unwrap();
        let ca = tls::dev::ensure(&folder.path().join("good"), &["a.test"]).unwrap();
        Files { folder, good: CertifiedFiles { cert: ca.cert_pem, key: ca.key_pem } }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        path
    }

    /// What is said of these files, after the name of the one that is wrong.
    #[track_caller]
    fn complaint(&self, cert: &Path, key: &Path, wrong: &Path) -> String {
        let files = CertifiedFiles { cert: cert.to_owned(), key: key.to_owned() };
        let line = ServerConfig::from_pem(&[self.good.clone(), files], &[]).unwrap_err().to_string();
        assert!(!line.contains('\n'), "{line}");
        match line.strip_prefix(&format!("{}: ", wrong.display())) {
            Some(complaint) => complaint.to_owned(),
            None => panic!("{} is not named: {line}", wrong.display()),
        }
    }
}

#[test]
fn certificate_files() {
    let files = Files::new();
    let complaint = |path: &Path| files.complaint(path, &files.good.key, path);
    assert_eq!(complaint(&files.folder.path().join("none.pem")), "No such file or directory (os error 2)");
    assert_eq!(complaint(&files.file("empty.pem", "")), "no certificate in it (-----BEGIN CERTIFICATE-----)");
    assert_eq!(complaint(&files.good.key), "no certificate in it (-----BEGIN CERTIFICATE-----)");
    let text = std::fs::read_to_string(&files.good.cert).unwrap();
    let cut = files.file("cut.pem", &text[..text.len() / 2]);
    assert_eq!(complaint(&cut), "cut off: no -----END CERTIFICATE-----");
    let garbled = files.file("garbled.pem", "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n");
    assert_eq!(complaint(&garbled), "a section is not base64");
    let no_x509 = files.file("no_x509.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert!(complaint(&no_x509).starts_with("invalid peer certificate"), "{}", complaint(&no_x509));
}

#[test]
fn key_files() {
    let files = Files::new();
    let complaint = |path: &Path| files.complaint(&files.good.cert, path, path);
    assert_eq!(
        complaint(&files.good.cert),
        "no private key in it (-----BEGIN PRIVATE KEY-----, or RSA or EC PRIVATE KEY)"
    );
    let sealed = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    assert_eq!(
        complaint(&files.file("sealed.pem", sealed)),
        "the private key is encrypted; decrypt it first (openssl pkey)"
    );
    let broken = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert!(!complaint(&files.file("broken.pem", broken)).is_empty());
    let other = tls::dev::ensure(&files.folder.path().join("other"), &["a.test"]).unwrap();
    assert_eq!(
        complaint(&other.key_pem),
        format!("this key does not belong to the certificate {}", files.good.cert.display())
    );
}

#[test]
fn a_server_needs_a_certificate_and_a_client_its_roots() {
    assert_eq!(
        ServerConfig::from_pem(&[], &[]).unwrap_err().to_string(),
        "TLS needs at least one certificate"
    );
    let files = Files::new();
    let empty = files.file("empty.pem", "");
    let line = ClientConfig::from_pem_roots(&[&empty], &[]).unwrap_err().to_string();
    assert_eq!(line, format!("{}: no certificate in it (-----BEGIN CERTIFICATE-----)", empty.display()));
}
