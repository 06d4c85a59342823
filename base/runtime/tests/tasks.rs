//! Tasks, turns, timers, and messages between cores.

mod backends;

use backends::on_each;
use runtime::sync::{Full, Notify, mailbox};
use runtime::{Options, spawn, time, turn_end, yield_now};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

#[test]
fn the_end_of_a_turn_comes_after_all_that_was_ready() {
    on_each(|| async {
        let log = Rc::new(RefCell::new(Vec::new()));
        let at_end = spawn({
            let log = log.clone();
            async move {
                turn_end().await;
                log.borrow_mut().push("end");
            }
        });
        for _ in 0..100 {
            let log = log.clone();
            spawn(async move {
                log.borrow_mut().push("ready");
            });
        }
        at_end.await;
        let log = log.borrow();
        assert_eq!(log.len(), 101);
        assert_eq!(*log.last().unwrap(), "end");
    });
}

#[test]
fn a_dropped_handle_lets_the_task_run_and_abort_ends_it() {
    on_each(|| async {
        let runs = Rc::new(Cell::new(0));
        let count = |runs: Rc<Cell<u32>>| async move {
            loop {
                runs.set(runs.get() + 1);
                yield_now().await;
            }
        };
        drop(spawn(count(runs.clone())));
        while runs.get() < 10 {
            yield_now().await;
        }
        let other = Rc::new(Cell::new(0));
        let handle = spawn(count(other.clone()));
        yield_now().await;
        handle.abort();
        yield_now().await;
        assert_eq!(Rc::strong_count(&other), 1, "an aborted task's future is dropped");
    });
}

#[test]
fn the_end_of_a_core_drops_its_tasks() {
    struct Flag(Rc<Cell<bool>>);
    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    let dropped = Rc::new(Cell::new(false));
    on_each(|| {
        dropped.set(false);
        let flag = Flag(dropped.clone());
        async move {
            spawn(async move {
                let _flag = flag;
                std::future::pending::<()>().await;
            });
            yield_now().await;
        }
    });
    assert!(dropped.get());
}

#[test]
fn timers_fire_in_order_and_never_early() {
    on_each(|| async {
        let order = Rc::new(RefCell::new(Vec::new()));
        let sleepers: Vec<_> = [30u64, 5, 80, 1, 12]
            .map(|ms| {
                let order = order.clone();
                spawn(async move {
                    let start = time::now();
                    time::sleep(Duration::from_millis(ms)).await;
                    assert!(time::now() - start >= Duration::from_millis(ms));
                    order.borrow_mut().push(ms);
                })
            })
            .into();
        for sleeper in sleepers {
            sleeper.await;
        }
        assert_eq!(*order.borrow(), [1, 5, 12, 30, 80]);
        assert!(time::timeout(Duration::from_millis(5), std::future::pending::<()>()).await.is_err());
        assert_eq!(time::timeout(Duration::MAX, async { 7 }).await, Ok(7));
    });
}

#[test]
fn cores_exchange_messages_in_order_and_a_full_mailbox_waits() {
    on_each(|| async {
        const MESSAGES: u32 = 100_000;
        let (requests, inbox) = mailbox::<u32>(64);
        let (answers, outbox) = mailbox::<u32>(64);
        let other = runtime::spawn_core("other", Options::default(), move || async move {
            let mut batch = Vec::new();
            while inbox.recv_batch(&mut batch).await {
                assert!(batch.len() <= 64);
                for number in batch.drain(..) {
                    answers.send(number * 2).await.unwrap();
                }
            }
        })
        .unwrap();
        let sender = spawn(async move {
            for number in 0..MESSAGES {
                requests.send(number).await.unwrap();
            }
        });
        let mut expected = 0;
        let mut batch = Vec::new();
        while outbox.recv_batch(&mut batch).await {
            for number in batch.drain(..) {
                assert_eq!(number, expected * 2);
                expected += 1;
            }
        }
        assert_eq!(expected, MESSAGES);
        sender.await;
        other.join().unwrap().unwrap();
    });
}

#[test]
fn a_full_or_closed_mailbox_refuses() {
    on_each(|| async {
        let (sender, receiver) = mailbox(2);
        assert_eq!(sender.try_send(1), Ok(()));
        assert_eq!(sender.try_send(2), Ok(()));
        assert_eq!(sender.try_send(3), Err(Full(3)));
        let mut batch = Vec::new();
        assert!(receiver.recv_batch(&mut batch).await);
        assert_eq!(batch, [1, 2]);
        assert_eq!(sender.try_send(4), Ok(()));
        drop(receiver);
        assert_eq!(sender.try_send(5), Err(Full(5)));
        assert!(sender.send(6).await.is_err());
    });
}

#[test]
fn a_notification_is_kept_for_one_and_passed_on_when_its_waiter_goes() {
    on_each(|| async {
        let notify = Rc::new(Notify::new());
        notify.notify_one();
        notify.notify_one();
        notify.notified().await; // the kept one
        assert!(
            time::timeout(Duration::from_millis(2), notify.notified()).await.is_err(),
            "only one is kept"
        );
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let notify = notify.clone();
                spawn(async move { notify.notified().await })
            })
            .collect();
        yield_now().await;
        notify.notify_one();
        let [first, second] = <[_; 2]>::try_from(waiters).ok().unwrap();
        first.abort(); // notified, but gone before it ran: the second is woken instead
        second.await;
        notify.notify_all();
        assert!(time::timeout(Duration::from_millis(2), notify.notified()).await.is_err(), "none is kept");
    });
}

#[cfg(not(sim))] // a channel of std blocks the simulator's only thread
#[test]
fn a_blocking_call_does_not_hold_up_the_core() {
    on_each(|| async {
        let (release, released) = std::sync::mpsc::channel();
        let call = spawn(runtime::blocking(move || released.recv().unwrap()));
        for _ in 0..100 {
            yield_now().await;
        }
        release.send(42).unwrap();
        assert_eq!(call.await, 42);
    });
}
