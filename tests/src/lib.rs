//! What the tests of the whole share: servers as processes, the `rest` example as another, a network that
//! fails, and a client that can send what no well-behaved client would.

mod client;
mod cluster;
mod distant;
mod load;
mod log;
mod nginx;
mod proxy;
mod redis;
pub mod rivals;
mod sentinel;
mod service;
mod tls;
pub mod transcript;
mod written;

pub use client::{Client, Response};
pub use cluster::{Cluster, SLOTS};
pub use distant::{Asked, Distance, Distant};
pub use load::{Load, Report, SLACK, TASKS, Things};
pub use log::Log;
pub use nginx::Nginx;
pub use proxy::{Fault, Proxy};
pub use redis::{Redis, user};
pub use sentinel::Sentinels;
pub use service::{Service, node};
pub use tls::Tls;
pub use written::Written;

/// The README's programs, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
