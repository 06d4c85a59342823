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
