//! The service seen from the cores: the stop reaches all, pulses are kept.

use ops::{Options, Service};
use runtime::time;
use std::time::Duration;

#[test]
fn a_stop_wakes_every_core() {
    let service = Service::start(Options { name: "testd", ..Options::default() }).unwrap();
    let cores: Vec<_> = (0..3)
        .map(|number| {
            let service = service.clone();
            let run = move || async move {
                let beating = runtime::spawn(service.pulse().keep(&format!("core-{number}"), service.stop()));
                let waiters: Vec<_> = (0..5)
                    .map(|_| {
                        let stop = service.stop().clone();
                        runtime::spawn(async move { stop.requested().await })
                    })
                    .collect();
                service.stop().requested().await;
                for waiter in waiters {
                    waiter.await;
                }
                beating.await;
                number
            };
            runtime::spawn_core(&format!("core-{number}"), runtime::Options::default(), run).unwrap()
        })
        .collect();
    // Once asked for in the midst, whatever each core is at.
    service.stop().request();
    let ended: Vec<i32> = cores.into_iter().map(|core| core.join().unwrap().unwrap()).collect();
    assert_eq!(ended, [0, 1, 2]);
    service.shutdown();
    service.shutdown();
}

#[test]
fn a_stop_from_another_thread_wakes_a_core_that_sleeps() {
    let service = Service::start(Options { name: "testd", ..Options::default() }).unwrap();
    let stop = service.stop().clone();
    let waited = runtime::block_on(&runtime::Options::default(), async move {
        let requesting = stop.clone();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let other = std::thread::Builder::new().spawn(move || {
            is_ready.recv().unwrap();
            requesting.request();
        });
        runtime::spawn(async move {
            // After a turn, when this core has nothing left to do.
            time::sleep(Duration::from_millis(5)).await;
            ready.send(()).unwrap();
        });
        let waited = time::timeout(Duration::from_secs(30), stop.requested()).await;
        other.unwrap().join().unwrap();
        waited
    });
    assert!(waited.unwrap().is_ok());
    service.shutdown();
}
