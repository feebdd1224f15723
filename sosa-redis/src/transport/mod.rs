//! Sends requests and returns answers. From the top down: `link` is over all kinds of connections; `single`, `sentinel`,
//! `cluster` (over `node`) and `manager` are one kind each; `reconnect` keeps one connection, which `connector` makes;
//! `request`, `refusal`, `tls` and `limits` hold for all.

#[cfg(feature = "cluster")]
pub(crate) mod cluster;
mod connector;
mod idle;
pub(crate) mod limits;
pub(crate) mod link;
mod manager;
#[cfg(feature = "cluster")]
mod node;
mod reconnect;
mod refusal;
pub(crate) mod request;
#[cfg(feature = "sentinel")]
mod sentinel;
mod single;
pub(crate) mod tls;
