//! Datagrams: up to 64 received by one system call, all answered, all answers sent by one.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};
use runtime::net::{DatagramBatch, UdpSocket};

use super::CoreState;
use crate::core::Transport;
use crate::metrics::Tally;

/// The longest query taken whole, in octets; a longer one is cut, and so malformed.
const QUERY_BYTES_MAX: usize = 4096;
/// How long to wait after the socket failed before it is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Answers until the stop is requested.
pub(super) async fn serve(socket: UdpSocket, state: Rc<CoreState>) {
    let mut batch = DatagramBatch::new(QUERY_BYTES_MAX);
    let mut tally = Tally::default();
    let mut stopped = pin!(state.stop.requested());
    while !state.stop.is_requested() {
        let received = match select(pin!(socket.recv_batch(&mut batch)), &mut stopped).await {
            Either::Left((received, _)) => received,
            Either::Right(_) => return,
        };
        let sent = match received {
            Ok(_) => {
                answer(&mut batch, &state, &mut tally);
                socket.send_batch(&mut batch).await
            }
            Err(why) => Err(why),
        };
        if let Err(why) = sent {
            tracing::warn!("UDP socket {}: {why}", socket.local_addr());
            runtime::time::sleep(RETRY_AFTER).await;
        }
    }
}

fn answer(batch: &mut DatagramBatch, state: &CoreState, tally: &mut Tally) {
    let mut view = state.view.borrow_mut();
    let responder = view.get();
    for i in 0..batch.len() {
        let (query, _, response) = batch.exchange(i);
        tally.count(responder.respond(query, Transport::Udp, runtime::random_u64(), response));
    }
    state.metrics.add(tally, Transport::Udp);
}
