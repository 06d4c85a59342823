//! Streams (TCP and Unix), listeners and UDP sockets.

mod address;
mod listener;
mod stream;
mod udp;

pub use address::{Address, AddressError};
pub use listener::{BoundListener, ListenOptions, Listener, listen};
pub use stream::Stream;
pub use udp::{BoundUdp, DatagramBatch, UdpSocket, bind_udp};

pub(crate) use stream::SendQueue;

use crate::limits;
use std::io;
use std::time::{Duration, Instant};

/// Tries `bind` again while the address is in use, for [`limits::BIND_PATIENCE`].
fn bind_patiently<T>(bind: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let begun = Instant::now();
    loop {
        match bind() {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && begun.elapsed() < limits::BIND_PATIENCE =>
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}
