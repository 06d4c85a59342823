//! What the proxy decides, without sockets, tasks or clocks.
//!
//! | module | decides |
//! |---|---|
//! | [`route`] | which upstream a request goes to |
//! | [`balance`] | which server of the upstream, one file per policy |
//! | [`health`] | whether a server gets requests, from checks and failed connections |
//! | [`attempt`] | after a failure: another server, an error answer, or cutting the client off |
//! | [`forward`] | the head a server gets |
//! | [`answer`] | the head the client gets, how its body ends, which connections live on |
//! | [`refusal`] | the answers the proxy gives itself |
//! | [`hop`] | which fields are for one connection only |
//! | [`trust`] | whom to believe about the client |
//! | [`idle`] | which unused connections to keep |
//! | [`date`] | the Date field |

pub mod answer;
pub mod attempt;
pub mod balance;
pub mod date;
pub mod forward;
pub mod health;
pub mod hop;
pub mod idle;
pub mod refusal;
pub mod route;
pub mod trust;
