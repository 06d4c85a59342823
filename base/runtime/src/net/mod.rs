//! Streams (TCP and Unix), listeners and UDP sockets.

mod address;
mod listener;
mod stream;
#[cfg(not(sim))]
mod system;
#[cfg(not(sim))]
mod udp;

#[cfg(sim)]
pub use crate::sim::net::udp::{BoundUdp, DatagramBatch, UdpSocket, bind_udp};
pub use address::{Address, AddressError};
pub use listener::{BoundListener, ListenOptions, Listener, listen};
pub use stream::Stream;
#[cfg(not(sim))]
pub use udp::{BoundUdp, DatagramBatch, UdpSocket, bind_udp};

#[cfg(sim)]
use crate::sim::net::socket as system;
pub(crate) use stream::SendQueue;
