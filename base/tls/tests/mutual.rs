//! Nodes that show each other certificates, over real sockets.

use futures_util::future::join;
use runtime::net::{self, Address, ListenOptions, Stream};
use runtime::time;
use std::time::Duration;
use tls::dev::DevCa;
use tls::{CertifiedFiles, ClientConfig, Error, Mutual};

const PATIENCE: Duration = Duration::from_secs(30);

fn run<T>(test: impl Future<Output = T>) -> T {
    let limited = time::timeout(PATIENCE, test);
    match runtime::block_on(&runtime::Options::default(), limited).unwrap() {
        Ok(value) => value,
        Err(_) => panic!("the test has not ended in {PATIENCE:?}"),
    }
}

/// A CA with one node.
struct Cluster {
    _folder: tempfile::TempDir,
    ca: DevCa,
    node: Mutual,
}

fn cluster() -> Cluster {
    let folder = tempfile::tempdir().unwrap();
    let ca = tls::dev::ensure(folder.path(), &[]).unwrap();
    let node = mutual(&ca, &ca);
    Cluster { _folder: folder, ca, node }
}

/// A node of one CA that trusts another.
fn mutual(own: &DevCa, trusted: &DevCa) -> Mutual {
    let files = CertifiedFiles { cert: own.cert_pem.clone(), key: own.key_pem.clone() };
    Mutual::from_pem(&[&trusted.ca_pem], &files).unwrap()
}

/// The two ends of a connection: who accepted, who connected.
async fn sockets() -> (Stream, Stream) {
    let address: Address = "127.0.0.1:0".parse().unwrap();
    let bound = net::listen(&address, 1, &ListenOptions::default()).unwrap().remove(0);
    let (address, listener) = (bound.local_addr(), bound.open().unwrap());
    let (accepted, connected) = join(listener.accept(), Stream::connect(&address)).await;
    (accepted.unwrap().0, connected.unwrap())
}

#[test]
fn nodes_of_one_ca_talk() {
    run(async {
        let cluster = cluster();
        let (accepted, connected) = sockets().await;
        let both = join(cluster.node.accept(accepted), cluster.node.connect(connected, "127.0.0.1"));
        let (accepted, connected) = both.await;
        let (accepted, connected) = (accepted.unwrap(), connected.unwrap());
        connected.send("hello").await.unwrap();
        assert_eq!(&*accepted.recv().await.unwrap(), b"hello");
        accepted.send("welcome").await.unwrap();
        assert_eq!(&*connected.recv().await.unwrap(), b"welcome");
    });
}

#[test]
fn a_stranger_gets_nowhere() {
    run(async {
        let (ours, theirs) = (cluster(), cluster());
        // It trusts us, we do not trust it.
        let stranger = mutual(&theirs.ca, &ours.ca);
        let (accepted, connected) = sockets().await;
        let (accepted, connected) =
            join(ours.node.accept(accepted), stranger.connect(connected, "127.0.0.1")).await;
        assert!(matches!(accepted, Err(Error::Handshake(_))), "{:?}", accepted.err());
        assert!(connected.unwrap().recv().await.is_err());
        // We do not talk to it either.
        let (accepted, connected) = sockets().await;
        let (_, connected) = join(stranger.accept(accepted), ours.node.connect(connected, "127.0.0.1")).await;
        assert!(matches!(connected, Err(Error::Handshake(_))), "{:?}", connected.err());
    });
}

#[test]
fn one_without_a_certificate_gets_nowhere() {
    run(async {
        let cluster = cluster();
        let client = ClientConfig::from_pem_roots(&[&cluster.ca.ca_pem], &[]).unwrap();
        let (accepted, connected) = sockets().await;
        let (accepted, connected) =
            join(cluster.node.accept(accepted), tls::connect(connected, "127.0.0.1", client)).await;
        assert!(matches!(accepted, Err(Error::Handshake(_))), "{:?}", accepted.err());
        assert!(connected.unwrap().recv().await.is_err());
    });
}
