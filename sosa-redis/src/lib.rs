#![doc = include_str!("../README.md")]

mod client;
mod collection;
mod commands;
mod connections;
mod error;
mod keys;
mod migrating;
mod page;
mod store;
mod transport;
mod url;

pub use collection::RedisCollection;
pub use connections::Connections;
#[cfg(feature = "deadpool")]
pub use deadpool_redis;
pub use redis;
#[cfg(feature = "tls-rustls")]
pub use rustls;
pub use sosa;
pub use store::{RedisStore, from_url, new};

#[doc = include_str!("../SCALING.md")]
pub mod scaling {}
