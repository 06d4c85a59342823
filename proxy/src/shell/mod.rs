//! Moves bytes between clients and servers; what to do with them is decided in [`crate::core`].
//!
//! | module | what |
//! |---|---|
//! | [`setup`] | the configuration as the cores use it |
//! | [`cores`] | binding, one thread per core, stop and drain |
//! | [`local`] | what one core holds: policies, idle connections, counts |
//! | [`upstream`] | getting a connection to a server, giving it back |
//! | [`client`] | one client connection: request after request |
//! | [`request`] | from a head's bytes to what will be done about it |
//! | [`exchange`] | one request on one server after another |
//! | [`body`] | the request's body on its way to the server |
//! | [`answer`] | the answer on its way to the client |
//! | [`tunnel`] | after an upgrade: bytes both ways |
//! | [`input`] | received bytes not yet used |
//! | [`drain`] | what waits for a peer and ends when the proxy stops |
//! | [`watch`] | checks of servers, on the first core |
//! | [`within`] | deadlines that read no clock |

mod answer;
mod body;
mod client;
mod cores;
mod drain;
mod exchange;
mod input;
mod local;
mod request;
mod setup;
mod tunnel;
mod upstream;
mod watch;
mod within;

pub use cores::Bound;
