//! Waiting: for a local event ([`Notify`]), and for messages from other cores and threads ([`mailbox`]).

mod mailbox;
mod notify;

pub use mailbox::{Closed, Full, MailReceiver, MailSender, mailbox};
pub use notify::Notify;
