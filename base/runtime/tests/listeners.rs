//! The contract of listeners: a dropped accept loses no connection and no descriptor; two owners of a port are refused.

mod backends;

use backends::{any_port, on_each, open_descriptors, recv_exactly};
use runtime::net::{Address, ListenOptions, Stream, listen};
use std::future::Future;
use std::io::ErrorKind;
use std::task::Poll;
use std::time::Duration;

async fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

#[test]
fn a_dropped_accept_loses_no_connection_and_no_descriptor() {
    on_each(|| async {
        let before = open_descriptors();
        let listener = any_port();
        let mut accepted = Vec::new();
        let mut clients = Vec::new();
        for number in 0..300u32 {
            accepted.extend(poll_once(listener.accept()).await); // dropped at once if pending
            let client = Stream::connect(&listener.local_addr()).await.unwrap();
            client.send(number.to_be_bytes().to_vec()).await.unwrap();
            clients.push(client);
        }
        while accepted.len() < clients.len() {
            accepted.push(listener.accept().await);
        }
        for (number, result) in accepted.iter().enumerate() {
            let (stream, _) = result.as_ref().unwrap();
            assert_eq!(recv_exactly(stream, 4).await, (number as u32).to_be_bytes());
        }
        // Some that nobody accepts: they are closed with the listener.
        assert!(poll_once(listener.accept()).await.is_none());
        let mut forgotten = Vec::new();
        for _ in 0..20 {
            forgotten.push(Stream::connect(&listener.local_addr()).await.unwrap());
        }
        drop(listener);
        for stream in &forgotten {
            let ended = runtime::time::timeout(Duration::from_secs(10), stream.recv()).await.unwrap();
            assert!(ended.is_err() || ended.unwrap().is_empty());
        }
        drop((accepted, clients, forgotten));
        let closed = async {
            while open_descriptors() > before {
                runtime::time::sleep(Duration::from_millis(5)).await;
            }
        };
        runtime::time::timeout(Duration::from_secs(10), closed).await.expect("a descriptor is left open");
    });
}

#[test]
fn more_connections_than_the_queue_holds_are_all_accepted() {
    on_each(|| async {
        let listener = any_port();
        assert!(poll_once(listener.accept()).await.is_none()); // from now on the kernel hands connections over
        let mut clients = Vec::new();
        for _ in 0..runtime::limits::ACCEPT_QUEUE_MAX * 3 {
            clients.push(Stream::connect(&listener.local_addr()).await.unwrap());
        }
        for _ in &clients {
            let accept = runtime::time::timeout(Duration::from_secs(10), listener.accept());
            accept.await.expect("every connection is handed over").unwrap();
        }
    });
}

#[test]
fn a_port_in_use_is_refused_though_it_could_be_shared() {
    on_each(|| async {
        let any: Address = "127.0.0.1:0".parse().unwrap();
        let first = listen(&any, 2, &ListenOptions::default()).unwrap();
        assert_eq!(first[0].local_addr(), first[1].local_addr());
        let error = listen(&first[0].local_addr(), 2, &ListenOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
    });
}

#[cfg(not(sim))] // sockets and files of the host
#[test]
fn unix_sockets_replace_stale_files_but_no_live_listener() {
    on_each(|| async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let address = Address::Unix(path.clone());
        let options = ListenOptions { unix_mode: Some(0o600), ..ListenOptions::default() };
        // Left behind by a killed process: std does not remove it.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listener = listen(&address, 1, &options).unwrap().remove(0).open().unwrap();
        assert_eq!(listen(&address, 1, &options).unwrap_err().kind(), ErrorKind::AddrInUse);
        let probe = listener.accept().await.unwrap().0; // of the second `listen`
        assert!(probe.recv().await.unwrap().is_empty());
        let client = Stream::connect(&address).await.unwrap();
        let server = listener.accept().await.unwrap().0;
        client.send("over a file").await.unwrap();
        assert_eq!(recv_exactly(&server, 11).await, b"over a file");
        drop((client, server, listener));
        assert!(!path.exists());
    });
}
